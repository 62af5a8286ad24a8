"""This project beside its peers on the same grids: `python -m benchmarks`."""
