"""`monitoring/codes`: the error codes of a day against the reference of their result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.rollups._values import Refresh
from mld_pipelines.tables import MONITORING_CODES, MONITORING_WINDOWS
from mld_pipelines.windows import compare_codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from mld_pipelines.lake import Lake, Provenance
    from mld_pipelines.windows import Baseline

__all__ = ["refresh_codes"]


def refresh_codes(
    lake: Lake, days: Sequence[date], *, baselines: Mapping[str, Baseline], provenance: Provenance | None = None
) -> Refresh:
    """Replace the code comparison of some event days.

    Args:
        lake: The lake.
        days: Event days.
        baselines: Reference counts by result name.
        provenance: Written with the commit.
    """
    states = lake.read(MONITORING_WINDOWS, event_day=list(days))
    if states.is_empty():
        return Refresh(lake.version(MONITORING_CODES))
    rows = compare_codes(states.drop("schema_version"), baselines)
    commit = lake.replace(MONITORING_CODES, rows, where={"event_day": list(days)}, provenance=provenance)
    return Refresh(commit.version, commit.rows, states.height, commit.quarantined)
