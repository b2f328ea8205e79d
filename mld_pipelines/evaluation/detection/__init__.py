"""Evaluation of 3D detectors: from traced frames to units, codes, verdicts and metrics."""
