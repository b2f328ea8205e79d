"""Measures of a model against its labels: pure functions over numpy."""

from __future__ import annotations

from mld_pipelines.metrics._classification import ClassificationMetrics, classification_metrics
from mld_pipelines.metrics._nuscenes import NuScenesMetrics, nuscenes_metrics
from mld_pipelines.metrics._nuscenes_state import (
    NUSCENES,
    NUSCENES_CLASSES,
    TP_ERRORS,
    NuScenesPolicy,
    NuScenesState,
)
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
    "NUSCENES",
    "NUSCENES_CLASSES",
    "PAIRED_METRICS",
    "TP_ERRORS",
    "ClassificationMetrics",
    "McNemar",
    "ModelOutcomes",
    "NuScenesMetrics",
    "NuScenesPolicy",
    "NuScenesState",
    "PairedDifference",
    "UnitStatistics",
    "average_precision",
    "classification_metrics",
    "compare_paired",
    "macro_ranking",
    "mcnemar",
    "nuscenes_metrics",
    "roc_auc",
    "unit_statistics",
]
