"""Measures of a model against its labels: pure functions over numpy."""

from __future__ import annotations

from mld_pipelines.metrics._classification import ClassificationMetrics, classification_metrics
from mld_pipelines.metrics._error_types import BEV_IOU, CENTRE_DISTANCE, IMAGE_IOU, MATCH_RULES, MatchRule
from mld_pipelines.metrics._kitti import (
    KITTI_DIFFICULTIES,
    KittiAp,
    KittiClass,
    kitti_ap,
    kitti_classes,
    kitti_difficulty,
)
from mld_pipelines.metrics._kitti_images import KittiImages
from mld_pipelines.metrics._matches import ERROR_TYPES, OUTCOMES, SUB_TYPES, Matches
from mld_pipelines.metrics._matching import match_frames, match_overlaps
from mld_pipelines.metrics._nuscenes import NuScenesMetrics, nuscenes_metrics
from mld_pipelines.metrics._nuscenes_state import (
    NUSCENES,
    NUSCENES_CLASSES,
    TP_ERRORS,
    NuScenesPolicy,
    NuScenesState,
)
from mld_pipelines.metrics._operating_point import OperatingPoint, operating_point
from mld_pipelines.metrics._paired import (
    PAIRED_METRICS,
    McNemar,
    ModelOutcomes,
    PairedDifference,
    compare_paired,
    mcnemar,
)
from mld_pipelines.metrics._paired_frames import FRAME_METRICS, FrameSums, compare_frames, mcnemar_frames
from mld_pipelines.metrics._ranking import average_precision, macro_ranking, roc_auc
from mld_pipelines.metrics._statistics import UnitStatistics, unit_statistics

__all__ = [
    "BEV_IOU",
    "CENTRE_DISTANCE",
    "ERROR_TYPES",
    "FRAME_METRICS",
    "IMAGE_IOU",
    "KITTI_DIFFICULTIES",
    "MATCH_RULES",
    "NUSCENES",
    "NUSCENES_CLASSES",
    "OUTCOMES",
    "PAIRED_METRICS",
    "SUB_TYPES",
    "TP_ERRORS",
    "ClassificationMetrics",
    "FrameSums",
    "KittiAp",
    "KittiClass",
    "KittiImages",
    "MatchRule",
    "Matches",
    "McNemar",
    "ModelOutcomes",
    "NuScenesMetrics",
    "NuScenesPolicy",
    "NuScenesState",
    "OperatingPoint",
    "PairedDifference",
    "UnitStatistics",
    "average_precision",
    "classification_metrics",
    "compare_frames",
    "compare_paired",
    "kitti_ap",
    "kitti_classes",
    "kitti_difficulty",
    "macro_ranking",
    "match_frames",
    "match_overlaps",
    "mcnemar",
    "mcnemar_frames",
    "nuscenes_metrics",
    "operating_point",
    "roc_auc",
    "unit_statistics",
]
