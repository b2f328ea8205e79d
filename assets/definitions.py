"""The code location: everything Dagster loads. Kept cheap to import, because every run and tick pays for it."""

from __future__ import annotations

import dagster as dg

from assets.automation import AUTOMATION
from assets.checks import CHECKS
from assets.evaluation import evaluation_tables
from assets.jobs import JOBS
from assets.landing import LANDING
from assets.maintenance import MAINTENANCE
from assets.monitoring import monitoring_alerts, monitoring_codes, monitoring_scored, monitoring_windows
from assets.recovery import run_recovery
from assets.schedules import SCHEDULES
from assets.sensors import SENSORS
from assets.stress import stress_model
from assets.traces import traces_inputs, traces_stress
from assets.tracing import trace_model
from resources import ClockResource, LakeResource, PoolResource

__all__ = ["defs"]

defs = dg.Definitions(
    assets=[
        *LANDING,
        traces_inputs,
        stress_model,
        traces_stress,
        evaluation_tables,
        monitoring_scored,
        monitoring_windows,
        monitoring_codes,
        monitoring_alerts,
        *MAINTENANCE,
    ],
    asset_checks=CHECKS,
    jobs=[*JOBS, trace_model],
    sensors=[*SENSORS, run_recovery, AUTOMATION],
    schedules=SCHEDULES,
    resources={
        "lake": LakeResource(),
        "pool": PoolResource(),
        "clock": ClockResource(),
    },
    executor=dg.in_process_executor,
)
