"""How well the error estimate, the window estimate and the codes do, beside every peer (`python -m benchmarks.estimation`)."""
