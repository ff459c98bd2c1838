"""What the figures in docs/explanation/performance.md were measured with; `make bench` runs all of it."""
