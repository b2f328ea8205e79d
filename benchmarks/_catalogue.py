"""The benchmarks by name, each in a module of its own with `run(*, quick, full) -> Report`."""

from __future__ import annotations

__all__ = ["BENCHMARKS", "GROUPS"]

BENCHMARKS: dict[str, str] = {
    "logging": "benchmarks.logger",
    "commits": "benchmarks.commits",
    "monitoring": "benchmarks.monitoring",
    "evaluation": "benchmarks.evaluation",
    "interactive": "benchmarks.interactive",
    "imports": "benchmarks.imports",
    "estimator": "benchmarks.estimator",
    "detection": "benchmarks.detection_metrics",
    "geometry": "benchmarks.geometry",
    "geometry_errors": "benchmarks.geometry_errors",
    "throughput": "benchmarks.throughput",
    "gpu": "benchmarks.gpu",
}

GROUPS: dict[str, tuple[str, ...]] = {
    "detection3d": ("geometry_errors", "geometry", "detection", "throughput", "gpu"),
}
"""Benchmarks that are run by one name and summed up in one table of parity and one of speed."""
