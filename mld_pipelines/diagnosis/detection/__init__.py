"""Diagnosis of detectors: the boxes they keep, the objects they miss, and windows of their frames."""
