"""What the figures in docs/explanation/comparison.md were measured with; `make bench` runs all of it."""
