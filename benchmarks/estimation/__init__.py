"""Error estimates, window estimates and codes beside every peer (`python -m benchmarks.estimation`)."""
