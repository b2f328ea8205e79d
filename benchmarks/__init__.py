"""Speed of the hot paths as ratios taken in one run: `python -m benchmarks`, or `make bench`."""
