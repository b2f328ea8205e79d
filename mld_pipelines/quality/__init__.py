"""Expectations derived from the table specs, judged by polars (exact) and Great Expectations (suites and profiles).

Great Expectations is imported inside functions only: it costs seconds and comes with the `platform` extra.
"""

from __future__ import annotations

from mld_pipelines.quality._expectations import Engine, Expectation, Severity, expectations
from mld_pipelines.quality._outcomes import QualityOutcome, outcomes_frame
from mld_pipelines.quality._profile import PROFILE_SCHEMA, profile, profile_expectations, reference_profile, run_profile
from mld_pipelines.quality._run import MAX_ROWS, run_suite
from mld_pipelines.quality._suites import load_suite, suite_document, suite_path, write_suites

__all__ = [
    "MAX_ROWS",
    "PROFILE_SCHEMA",
    "Engine",
    "Expectation",
    "QualityOutcome",
    "Severity",
    "expectations",
    "load_suite",
    "outcomes_frame",
    "profile",
    "profile_expectations",
    "reference_profile",
    "run_profile",
    "run_suite",
    "suite_document",
    "suite_path",
    "write_suites",
]
