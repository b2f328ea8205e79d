"""Loggers: stand in for a model in production and log what it does."""

from __future__ import annotations

from mld_pipelines.monitoring._classification import ClassificationLogger
from mld_pipelines.monitoring._detection3d import Detection3DLogger, ObjectDetection3DLogger
from mld_pipelines.monitoring._labels import LabelReceipt, log_labels
from mld_pipelines.monitoring._logger import Logger

__all__ = [
    "ClassificationLogger",
    "Detection3DLogger",
    "LabelReceipt",
    "Logger",
    "ObjectDetection3DLogger",
    "log_labels",
]
