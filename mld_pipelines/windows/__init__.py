"""Monitoring windows: mergeable aggregates, drift, alert and re-evaluation decisions. Pure functions."""

from __future__ import annotations

from mld_pipelines.windows._aggregate import UNSEEN, Thresholds, aggregate, input_columns
from mld_pipelines.windows._alerts import evaluate_alerts, resolve_run_failures, run_failure_alert
from mld_pipelines.windows._baseline import Baseline, fit_baseline
from mld_pipelines.windows._bins import (
    BOX_COUNT_EDGES,
    LATENCY_EDGES_MS,
    LATENCY_RELATIVE_ERROR,
    RANGE_EDGES_M,
    UNIT_EDGES,
)
from mld_pipelines.windows._codes import compare_codes
from mld_pipelines.windows._days import plan_days
from mld_pipelines.windows._derive import DERIVED_SCHEMA, derive
from mld_pipelines.windows._detection_baseline import fit_detection_baseline
from mld_pipelines.windows._drift import MIN_UNITS, drift_threshold, jensen_shannon
from mld_pipelines.windows._frames import aggregate_frames, frame_columns, ranges_of
from mld_pipelines.windows._merge import merge, roll_up
from mld_pipelines.windows._proportions import (
    benjamini_hochberg,
    difference_interval,
    difference_p_value,
    wilson_interval,
)
from mld_pipelines.windows._reevaluation import (
    Decision,
    ReevaluationFacts,
    ReevaluationState,
    decide_reevaluation,
    gather_windows,
)
from mld_pipelines.windows._rules import ALERT_FRAMES, ALERT_UNITS, DEFAULT_RULES, AlertRule, prepare_windows
from mld_pipelines.windows._shift import SHIFT_COLUMNS, shift_columns
from mld_pipelines.windows._state import KEY, STATE_SCHEMA, empty_states

__all__ = [
    "ALERT_FRAMES",
    "ALERT_UNITS",
    "BOX_COUNT_EDGES",
    "DEFAULT_RULES",
    "DERIVED_SCHEMA",
    "KEY",
    "LATENCY_EDGES_MS",
    "LATENCY_RELATIVE_ERROR",
    "MIN_UNITS",
    "RANGE_EDGES_M",
    "SHIFT_COLUMNS",
    "STATE_SCHEMA",
    "UNIT_EDGES",
    "UNSEEN",
    "AlertRule",
    "Baseline",
    "Decision",
    "ReevaluationFacts",
    "ReevaluationState",
    "Thresholds",
    "aggregate",
    "aggregate_frames",
    "benjamini_hochberg",
    "compare_codes",
    "decide_reevaluation",
    "derive",
    "difference_interval",
    "difference_p_value",
    "drift_threshold",
    "empty_states",
    "evaluate_alerts",
    "fit_baseline",
    "fit_detection_baseline",
    "frame_columns",
    "gather_windows",
    "input_columns",
    "jensen_shannon",
    "merge",
    "plan_days",
    "prepare_windows",
    "ranges_of",
    "resolve_run_failures",
    "roll_up",
    "run_failure_alert",
    "shift_columns",
    "wilson_interval",
]
