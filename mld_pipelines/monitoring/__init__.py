"""Loggers: stand in for a model in production and log what it does."""

from __future__ import annotations

from mld_pipelines.monitoring._classification import ClassificationLogger
from mld_pipelines.monitoring._labels import LabelReceipt, log_labels

__all__ = ["ClassificationLogger", "LabelReceipt", "log_labels"]
