"""The monitoring tables kept up to date: only what is new is read, every row counts exactly once.

`windows/` computes, this room reads and writes. Every step keeps a mark per event day in its own commit: the version of
its source up to which the day is done. A repeated, crashed or concurrent run therefore adds nothing twice and misses
nothing, whatever the sensors asked for.
"""

from __future__ import annotations

from mld_pipelines.rollups._alerts import alert_days, refresh_alerts
from mld_pipelines.rollups._codes import refresh_codes
from mld_pipelines.rollups._increments import labelled_days
from mld_pipelines.rollups._reevaluation import due_reevaluations, is_scored_otherwise, recent_days
from mld_pipelines.rollups._scored import score_days
from mld_pipelines.rollups._scorers import Scorers
from mld_pipelines.rollups._values import References, Refresh
from mld_pipelines.rollups._windows import refresh_windows

__all__ = [
    "References",
    "Refresh",
    "Scorers",
    "alert_days",
    "due_reevaluations",
    "is_scored_otherwise",
    "labelled_days",
    "recent_days",
    "refresh_alerts",
    "refresh_codes",
    "refresh_windows",
    "score_days",
]
