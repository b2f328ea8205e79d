"""`monitoring/scored`: production seen through the current results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.lake import Batch
from mld_pipelines.rollups._increments import ARRIVAL, IS_INVALID, group_by_mark, rows_of_days, split_by
from mld_pipelines.rollups._values import Refresh
from mld_pipelines.tables import LANDING_INFERENCES, MONITORING_SCORED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from mld_pipelines.lake import Lake, Provenance

    Score = Callable[[str, pl.DataFrame], pl.DataFrame]

__all__ = ["score_days"]


def score_days(
    lake: Lake, days: Sequence[date], *, current: Mapping[str, str], score: Score, provenance: Provenance | None = None
) -> Refresh:
    """Append the inferences of some event days that the current results have not scored yet.

    Args:
        lake: The lake.
        days: Event days.
        current: Current result by model key; models without one are left out.
        score: Called with a result name and rows of `landing/inferences`; returns them with their score columns and
            `confidence_t`, taking over what the Logger scored with the same result.
        provenance: Written with the commit.
    """
    until = lake.version(LANDING_INFERENCES)
    if until is None or not current:
        return Refresh(lake.version(MONITORING_SCORED))
    batches: list[Batch] = []
    read = 0
    wanted = {(day, model): f"scored:{day}:{result}" for day in days for model, result in current.items()}
    for since, pairs in group_by_mark(lake, MONITORING_SCORED, wanted, until).items():
        rows = rows_of_days(lake, LANDING_INFERENCES, {day for day, _ in pairs}, since=since, until=until)
        rows = rows.filter(pl.col("result_name").is_not_null())
        read += rows.height
        for (day, model), part in split_by(rows, "event_day", "model_key"):
            if (day, model) in pairs:
                fresh = part if since is not None else _unknown(lake, part, current[model])
                batches.append(Batch(pairs[day, model], until, _scored(fresh, current[model], score)))
    if not batches:
        return Refresh(lake.version(MONITORING_SCORED), read=read)
    commit = lake.commit_once(MONITORING_SCORED, batches, provenance=provenance)
    return Refresh(commit.version, commit.rows, read, commit.quarantined)


def _unknown(lake: Lake, rows: pl.DataFrame, result: str) -> pl.DataFrame:
    """Leave out what is there although its mark is not (marks expire with the log's retention)."""
    days = rows["event_day"].unique().to_list()
    known = lake.scan(MONITORING_SCORED, event_day=days, result_name=result).select(ARRIVAL).collect()
    return rows.join(known, on=ARRIVAL, how="anti")


def _scored(rows: pl.DataFrame, result: str, score: Score) -> pl.DataFrame:
    filled = score(result, rows).with_columns(result_name=pl.lit(result, dtype=pl.String), is_invalid=IS_INVALID)
    present = {*filled.columns} - {"schema_version"}
    return filled.select(name for name in MONITORING_SCORED.column_names if name in present)
