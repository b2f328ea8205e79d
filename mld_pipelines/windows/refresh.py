"""Bringing the monitoring tables up to date: only what is new is read, every row counts exactly once.

Every step keeps a mark per event day in its own commit: the version of its source up to which the day is done. A
repeated, crashed or concurrent run therefore adds nothing twice and misses nothing, whatever the sensors asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.tables import (
    LANDING_FEEDBACK,
    LANDING_INFERENCES,
    MONITORING_ALERTS,
    MONITORING_CODES,
    MONITORING_SCORED,
    MONITORING_WINDOWS,
    OPS_QUARANTINE,
)
from mld_pipelines.windows._aggregate import aggregate, input_columns
from mld_pipelines.windows._alerts import evaluate_alerts
from mld_pipelines.windows._codes import compare_codes
from mld_pipelines.windows._derive import derive
from mld_pipelines.windows._merge import merge, roll_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date

    from mld_pipelines.diagnosis import WindowReference
    from mld_pipelines.lake import Lake, Provenance
    from mld_pipelines.tables import TableSpec
    from mld_pipelines.windows._baseline import Baseline

    Score = Callable[[str, pl.DataFrame], pl.DataFrame]

__all__ = [
    "References",
    "Refresh",
    "alert_days",
    "labelled_days",
    "refresh_alerts",
    "refresh_codes",
    "refresh_windows",
    "score_days",
]

_HISTORY_DAYS = 8
"""Days before the first touched one that alerts look at: usual volume and latency of seven days, one to close it."""

_ARRIVAL = ("stream_id", "seq", "row")

_INVALID = pl.all_horizontal(pl.col("prediction", "confidence").is_null())
"""A row whose output was not finite lands without prediction and confidence: counted, never scored."""


@dataclass(frozen=True, slots=True)
class References:
    """What production is compared with, by result name."""

    baselines: Mapping[str, Baseline]
    windows: Mapping[str, WindowReference]


@dataclass(frozen=True, slots=True)
class Refresh:
    """What one step did.

    Attributes:
        version: Delta version of the table that holds the rows, None before its first commit.
        rows: Rows written.
        read: Rows of the source that were read.
        quarantined: Rows that broke the contract.
    """

    version: int | None
    rows: int = 0
    read: int = 0
    quarantined: int = 0


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
    from mld_pipelines.lake import Batch

    batches: list[Batch] = []
    read = 0
    wanted = {(day, model): f"scored:{day}:{result}" for day in days for model, result in current.items()}
    for since, pairs in _by_mark(lake, MONITORING_SCORED, wanted, until).items():
        rows = _rows(lake, LANDING_INFERENCES, {day for day, _ in pairs}, since=since, until=until)
        rows = rows.filter(pl.col("result_name").is_not_null())
        read += rows.height
        for (day, model), part in _parts(rows, "event_day", "model_key"):
            if (day, model) in pairs:
                fresh = part if since is not None else _unknown(lake, part, current[model])
                batches.append(Batch(pairs[day, model], until, _scored(fresh, current[model], score)))
    if not batches:
        return Refresh(lake.version(MONITORING_SCORED), read=read)
    commit = lake.commit_once(MONITORING_SCORED, batches, provenance=provenance)
    return Refresh(commit.version, commit.rows, read, commit.quarantined)


def refresh_windows(
    lake: Lake,
    days: Sequence[date],
    *,
    references: Mapping[str, WindowReference],
    provenance: Provenance | None = None,
) -> Refresh:
    """Add what is new of some event days to their windows; days with new labels are computed anew.

    Args:
        lake: The lake.
        days: Event days.
        references: Window references by result name, for the counts over thresholds.
        provenance: Written with the commit.
    """
    specs = {"basic": LANDING_INFERENCES, "scored": MONITORING_SCORED, "labels": LANDING_FEEDBACK}
    versions = {name: version for name, spec in specs.items() if (version := lake.version(spec)) is not None}
    if "basic" not in versions:
        return Refresh(lake.version(MONITORING_WINDOWS))
    anew = _days_to_recompute(lake, days, versions)
    marks: dict[str, int] = {f"{name}:{day}": version for day in days for name, version in versions.items()}
    states, read = [], 0
    for name in ("basic", "scored"):
        if name in versions:
            part, rows = _states(lake, name, specs[name], days, anew=anew, versions=versions, references=references)
            states += part
            read += rows
    kept = lake.read(MONITORING_WINDOWS, event_day=[day for day in days if day not in anew]).drop("schema_version")
    merged = merge([kept, *states])
    commit = lake.replace(
        MONITORING_WINDOWS, merged, where={"event_day": list(days)}, provenance=provenance, marks=marks
    )
    return Refresh(commit.version, commit.rows, read, commit.quarantined)


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
    derived = derive(merge([states, roll_up(states)]), references.baselines, references.windows)
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


def labelled_days(lake: Lake, request_ids: Iterable[str], *, among: Iterable[date] | None = None) -> list[date]:
    """Return the event days of some requests, sorted: the days that their labels touch.

    Args:
        lake: The lake.
        request_ids: Requests that were labelled.
        among: Look at these event days only; None is all of them, and reads the request ids of the whole history.
    """
    wanted = pl.Series("request_id", list(request_ids), dtype=pl.String)
    if wanted.is_empty():
        return []
    landed = lake.scan(LANDING_INFERENCES)
    if among is not None:
        landed = landed.filter(pl.col("event_day").is_in(list(among)))
    found = landed.filter(pl.col("request_id").is_in(wanted.implode()))
    return found.select(pl.col("event_day").unique().sort()).collect()["event_day"].to_list()


def _by_mark(
    lake: Lake, spec: TableSpec, wanted: Mapping[tuple[date, str], str], until: int
) -> dict[int | None, dict[tuple[date, str], str]]:
    """Group streams by how far they are; those that are up to date are left out."""
    groups: dict[int | None, dict[tuple[date, str], str]] = {}
    for pair, stream in wanted.items():
        mark = lake.mark(spec, stream)
        if mark is None or mark < until:
            groups.setdefault(mark, {})[pair] = stream
    return groups


def _rows(
    lake: Lake,
    spec: TableSpec,
    days: Iterable[date],
    *,
    since: int | None,
    until: int,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return the rows of some event days, of one version or those added after another; vectors only if asked for."""
    wanted = pl.col("event_day").is_in(list(days))
    names = spec.column_names if columns is None else columns
    if since is None:  # the statistics of the log skip the files of other days
        return lake.scan(spec, version=until).filter(wanted).select(names).collect()
    read = [*names, *({"event_day"} - {*names})]
    return lake.changes(spec, since=since, until=until, columns=read).filter(wanted).select(names)


def _parts(rows: pl.DataFrame, *keys: str) -> Iterable[tuple[tuple[date, str], pl.DataFrame]]:
    for part in rows.partition_by(*keys, maintain_order=True):
        yield (part[keys[0]][0], part[keys[1]][0]), part


def _unknown(lake: Lake, rows: pl.DataFrame, result: str) -> pl.DataFrame:
    """Leave out what is there although its mark is not (marks expire with the log's retention)."""
    days = rows["event_day"].unique().to_list()
    known = lake.scan(MONITORING_SCORED, event_day=days, result_name=result).select(_ARRIVAL).collect()
    return rows.join(known, on=_ARRIVAL, how="anti")


def _scored(rows: pl.DataFrame, result: str, score: Score) -> pl.DataFrame:
    filled = score(result, rows).with_columns(result_name=pl.lit(result, dtype=pl.String), is_invalid=_INVALID)
    return filled.select(name for name in MONITORING_SCORED.column_names if name != "schema_version")


def _days_to_recompute(lake: Lake, days: Sequence[date], versions: Mapping[str, int]) -> set[date]:
    """Days without marks, and days whose labels changed since."""
    anew, since_by_day = set(), {}
    for day in days:
        marks = {name: lake.mark(MONITORING_WINDOWS, f"{name}:{day}") for name in versions}
        if marks["basic"] is None:
            anew.add(day)
        elif "labels" in versions and marks["labels"] != versions["labels"]:
            since_by_day[day] = marks["labels"]
    for since in set(since_by_day.values()):
        new = lake.changes(LANDING_FEEDBACK, since=since, until=versions["labels"], columns=["request_id"])
        concerned = [day for day, mark in since_by_day.items() if mark == since]
        anew |= {*labelled_days(lake, new["request_id"].unique(), among=concerned)}
    return anew


def _states(
    lake: Lake,
    name: str,
    spec: TableSpec,
    days: Sequence[date],
    *,
    anew: set[date],
    versions: Mapping[str, int],
    references: Mapping[str, WindowReference],
) -> tuple[list[pl.DataFrame], int]:
    """Return the states to add, and the number of rows they were made of."""
    until, states, read = versions[name], [], 0
    wanted = {(day, name): f"{name}:{day}" for day in days if day not in anew}
    groups: dict[int | None, set[date]] = {None: anew}
    for since, pairs in _by_mark(lake, MONITORING_WINDOWS, wanted, until).items():
        groups[since] = groups.get(since, set()) | {day for day, _ in pairs}
    for since, group in groups.items():
        if group:
            rows = _inputs(lake, spec, group, since=since, until=until)
            if name == "scored":
                rows = rows.join(_labels(lake, rows, min(group), versions), on="request_id", how="left")
            states.append(aggregate(rows, references=references, errors=name == "scored"))
            read += rows.height
    return states, read


def _inputs(lake: Lake, spec: TableSpec, days: set[date], *, since: int | None, until: int) -> pl.DataFrame:
    """Return what the windows are made of, and the request ids that join labels."""
    is_scored = spec is MONITORING_SCORED
    read = {*input_columns(errors=is_scored), *(("request_id",) if is_scored else ())}
    names = [name for name in spec.column_names if name in read]
    rows = _rows(lake, spec, days, since=since, until=until, columns=names)
    return rows if is_scored else rows.with_columns(is_invalid=_INVALID)


def _labels(lake: Lake, rows: pl.DataFrame, first_day: date, versions: Mapping[str, int]) -> pl.DataFrame:
    """Latest label of each of the rows' requests, of the version that the marks will name.

    A label cannot arrive before its inference happened (clocks ahead are set back at ingestion), so what was labelled
    before the first day is not read: the cost does not follow the history of labels.
    """
    if "labels" not in versions:
        return pl.DataFrame(schema={"request_id": pl.String, "label": pl.Int64})
    feedback = lake.scan(LANDING_FEEDBACK, version=versions["labels"])
    asked = rows.lazy().select("request_id")
    recent = feedback.filter(pl.col("ingest_day") >= first_day - timedelta(days=1))
    mine = recent.join(asked, on="request_id", how="semi").sort("labelled_at", "ingested_at", *_ARRIVAL)
    return mine.group_by("request_id").agg(pl.col("label").last()).collect()


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
