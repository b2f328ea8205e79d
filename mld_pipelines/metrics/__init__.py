"""Measures of a model against its labels: pure functions over numpy."""

from __future__ import annotations

from mld_pipelines.metrics._classification import ClassificationMetrics, classification_metrics
from mld_pipelines.metrics._paired import (
    PAIRED_METRICS,
    McNemar,
    ModelOutcomes,
    PairedDifference,
    compare_paired,
    mcnemar,
)
from mld_pipelines.metrics._ranking import average_precision, macro_ranking, roc_auc
from mld_pipelines.metrics._statistics import UnitStatistics, unit_statistics

__all__ = [
    "PAIRED_METRICS",
    "ClassificationMetrics",
    "McNemar",
    "ModelOutcomes",
    "PairedDifference",
    "UnitStatistics",
    "average_precision",
    "classification_metrics",
    "compare_paired",
    "macro_ranking",
    "mcnemar",
    "roc_auc",
    "unit_statistics",
]
