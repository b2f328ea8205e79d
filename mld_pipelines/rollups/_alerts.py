"""`monitoring/alerts`: judged from the windows, up to the newest."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.rollups._values import References, Refresh
from mld_pipelines.tables import LANDING_INFERENCES, MONITORING_ALERTS, MONITORING_WINDOWS, OPS_QUARANTINE
from mld_pipelines.windows import derive, evaluate_alerts, merge, roll_up

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from mld_pipelines.lake import Lake, Provenance

__all__ = ["alert_days", "refresh_alerts"]

_HISTORY_DAYS = 8
"""Days before the first touched one that alerts look at: usual volume and latency of seven days, one to close it."""


def refresh_alerts(
    lake: Lake, days: Sequence[date], *, references: References, provenance: Provenance | None = None
) -> tuple[Refresh, pl.DataFrame]:
    """Judge the windows of some event days; returns what was done and the alerts that were touched.

    Args:
        lake: The lake.
        days: Event days.
        references: Baselines and window references by result name.
        provenance: Written with the commit.
    """
    since = min(days) - timedelta(days=1)
    span = alert_days(lake, days)
    states = lake.read(MONITORING_WINDOWS, event_day=span).drop("schema_version")
    derived = derive(merge([states, roll_up(states)]), references.baselines, references.windows, references.maps)
    alerts = evaluate_alerts(
        derived.join(_quarantined(lake, span), on=["event_day", "hour", "model_key", "result_name"], how="left",
                     nulls_equal=True),
        previous=lake.read(MONITORING_ALERTS).drop("schema_version"),
        since=datetime.combine(since, time(), UTC),
        versions={name: v for name in ("windows",) if (v := lake.version(MONITORING_WINDOWS)) is not None},
    )  # fmt: skip
    if alerts.is_empty():
        return Refresh(lake.version(MONITORING_ALERTS), read=states.height), alerts
    commit = lake.upsert(MONITORING_ALERTS, alerts, provenance=provenance)
    return Refresh(commit.version, alerts.height, states.height), alerts


def alert_days(lake: Lake, days: Sequence[date]) -> list[date]:
    """Return the days whose windows the alerts of some days look at: the history before, and all that followed.

    Args:
        lake: The lake.
        days: Touched event days; an alert's state depends on every window after them too.
    """
    first = min(days) - timedelta(days=_HISTORY_DAYS)
    newest = lake.scan(MONITORING_WINDOWS).select(pl.col("event_day").max()).collect().item()
    last = max(*days, newest) if newest is not None else max(days)
    return [first + timedelta(days=later) for later in range((last - first).days + 1)]


def _quarantined(lake: Lake, days: Sequence[date]) -> pl.DataFrame:
    """Refused inferences per ingest day and model, shaped to join daily basic windows."""
    refused = lake.scan(OPS_QUARANTINE, ingest_day=list(days), table=LANDING_INFERENCES.name)
    return (
        refused.filter(pl.col("model_key").is_not_null())
        .group_by(pl.col("ingest_day").alias("event_day"), "model_key")
        .agg(pl.len().cast(pl.Int64).alias("n_quarantined"))
        .with_columns(pl.lit(None, dtype=pl.Int32).alias("hour"), pl.lit(None, dtype=pl.String).alias("result_name"))
        .collect()
    )
