"""Monitoring windows: mergeable aggregates, drift, alert and re-evaluation decisions. Pure functions."""

from __future__ import annotations

from mld_pipelines.windows._aggregate import UNSEEN, WindowThresholds, aggregate
from mld_pipelines.windows._bins import LATENCY_EDGES_MS, LATENCY_RELATIVE_ERROR, UNIT_EDGES
from mld_pipelines.windows._merge import merge, roll_up
from mld_pipelines.windows._state import KEY, STATE_SCHEMA, empty_states

__all__ = [
    "KEY",
    "LATENCY_EDGES_MS",
    "LATENCY_RELATIVE_ERROR",
    "STATE_SCHEMA",
    "UNIT_EDGES",
    "UNSEEN",
    "WindowThresholds",
    "aggregate",
    "empty_states",
    "merge",
    "roll_up",
]
