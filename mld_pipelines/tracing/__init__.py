"""Registered models and datasets, and trace runs over them on a pool of workers."""

from __future__ import annotations

from mld_pipelines.tracing._datasets import DatasetReader, Examples, LabeledDataset, open_dataset
from mld_pipelines.tracing._registry import (
    Registration,
    find_registration,
    list_registrations,
    register_dataset,
    register_model,
)
from mld_pipelines.tracing._report import TraceRunReport
from mld_pipelines.tracing._run import trace_run

__all__ = [
    "DatasetReader",
    "Examples",
    "LabeledDataset",
    "Registration",
    "TraceRunReport",
    "find_registration",
    "list_registrations",
    "open_dataset",
    "register_dataset",
    "register_model",
    "trace_run",
]
