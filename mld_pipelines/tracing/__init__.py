"""Registered models and datasets, and trace and stress runs over them on a pool of workers."""

from __future__ import annotations

from mld_pipelines.tracing._corruptor import Corruptor, input_array, stack_inputs
from mld_pipelines.tracing._datasets import DatasetReader, Examples, LabeledDataset, open_dataset
from mld_pipelines.tracing._families import REFERENCE_ROWS, FamilySource
from mld_pipelines.tracing._progress import Progress, reporting
from mld_pipelines.tracing._registry import (
    Registration,
    find_registration,
    list_registrations,
    register_dataset,
    register_model,
)
from mld_pipelines.tracing._report import TraceRunReport
from mld_pipelines.tracing._run import trace_run
from mld_pipelines.tracing._seeds import seeded
from mld_pipelines.tracing._source import is_stress_due
from mld_pipelines.tracing._stress_job import StressOptions
from mld_pipelines.tracing._stress_report import StressCost, StressRunReport
from mld_pipelines.tracing._stress_run import stress_cost, stress_run
from mld_pipelines.tracing._stress_status import (
    StressCoverage,
    stress_coverage,
    stress_error_rates,
    stress_passes,
)

__all__ = [
    "REFERENCE_ROWS",
    "Corruptor",
    "DatasetReader",
    "Examples",
    "FamilySource",
    "LabeledDataset",
    "Progress",
    "Registration",
    "StressCost",
    "StressCoverage",
    "StressOptions",
    "StressRunReport",
    "TraceRunReport",
    "find_registration",
    "input_array",
    "is_stress_due",
    "list_registrations",
    "open_dataset",
    "register_dataset",
    "register_model",
    "reporting",
    "seeded",
    "stack_inputs",
    "stress_cost",
    "stress_coverage",
    "stress_error_rates",
    "stress_passes",
    "stress_run",
    "trace_run",
]
