"""What the figures in docs/performance.md were measured with; `make bench` runs all of it."""
