"""Jobs that sensors, schedules and people launch."""

from __future__ import annotations

import dagster as dg

__all__ = [
    "EVALUATION_JOB",
    "JOBS",
    "MAINTENANCE_JOB",
    "MONITORING_JOB",
    "QUALITY_JOB",
    "STRESS_JOB",
    "STRESS_TRACES_JOB",
    "TRACES_JOB",
]

#: Deduplicates a model's traces and checks them: a failed contract blocks the evaluation of a new model.
TRACES_JOB = dg.define_asset_job(
    "traces",
    selection=dg.AssetSelection.assets(["traces", "inputs"]),
    description="Promote a model's traces.",
)

#: A pass holds its workers for its whole life, so it takes turns with trace runs.
STRESS_JOB = dg.define_asset_job(
    "stress",
    selection=dg.AssetSelection.assets(["stress", "passes"], ["traces", "stress"]),
    tags={"mld/gpu": "stress"},
    description="Run a registered model on corrupted copies of its traced inputs, and promote them.",
)

STRESS_TRACES_JOB = dg.define_asset_job(
    "stress_traces",
    selection=dg.AssetSelection.assets(["traces", "stress"]),
    description="Promote a model's stressed copies.",
)

EVALUATION_JOB = dg.define_asset_job(
    "evaluation",
    selection=dg.AssetSelection.groups("evaluation", "estimators"),
    description="Evaluate a model and check the rows of the result.",
)

#: Without the suites: the exact contract has judged every row before its commit, and loading Great Expectations would
#: triple the time of a run every few seconds. The nightly quality job runs them.
MONITORING_JOB = dg.define_asset_job(
    "monitoring",
    selection=dg.AssetSelection.groups("monitoring").without_checks(),
    description="Score new inferences of some days and refresh their windows, codes and alerts.",
)

MAINTENANCE_JOB = dg.define_asset_job(
    "maintenance",
    selection=dg.AssetSelection.groups("maintenance"),
    description="Compact, vacuum and profile every table.",
)

QUALITY_JOB = dg.define_asset_job(
    "quality",
    selection=dg.AssetSelection.all_asset_checks(),
    description="Run every quality suite on the newest part of its table.",
)

JOBS = [TRACES_JOB, STRESS_JOB, STRESS_TRACES_JOB, EVALUATION_JOB, MONITORING_JOB, MAINTENANCE_JOB, QUALITY_JOB]
