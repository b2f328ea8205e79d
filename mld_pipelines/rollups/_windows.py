"""`monitoring/windows`: hourly states to which new rows are added."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.diagnosis import DetectionWindowReference
from mld_pipelines.rollups._increments import (
    ARRIVAL,
    IS_FRAME,
    IS_INVALID,
    group_by_mark,
    labelled_days,
    rows_of_days,
)
from mld_pipelines.rollups._values import Refresh
from mld_pipelines.tables import LANDING_FEEDBACK, LANDING_INFERENCES, MONITORING_SCORED, MONITORING_WINDOWS
from mld_pipelines.windows import aggregate, aggregate_frames, frame_columns, input_columns, merge, ranges_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from mld_pipelines.diagnosis import WindowReference
    from mld_pipelines.lake import Lake, Provenance
    from mld_pipelines.tables import TableSpec

__all__ = ["refresh_windows"]

_RAW = ("task", "boxes_3d")
"""What tells frames, and how far their boxes are, where nothing has been scored."""


def refresh_windows(
    lake: Lake,
    days: Sequence[date],
    *,
    references: Mapping[str, WindowReference | DetectionWindowReference],
    has_maps: bool = False,
    provenance: Provenance | None = None,
) -> Refresh:
    """Add what is new of some event days to their windows; days with new labels are computed anew.

    Args:
        lake: The lake.
        days: Event days.
        references: Window references by result name, for the counts over thresholds.
        has_maps: Whether any of the results has a window map: only then the sums for it are read.
        provenance: Written with the commit.
    """
    specs = {"basic": LANDING_INFERENCES, "scored": MONITORING_SCORED, "labels": LANDING_FEEDBACK}
    versions = {name: version for name, spec in specs.items() if (version := lake.version(spec)) is not None}
    if "basic" not in versions:
        return Refresh(lake.version(MONITORING_WINDOWS))
    anew = _days_to_recompute(lake, days, versions)
    marks: dict[str, int] = {f"{name}:{day}": version for day in days for name, version in versions.items()}
    with ThreadPoolExecutor(2) as pool:  # either half is mostly one thread of polars
        parts = pool.map(
            lambda name: _states(
                lake, name, specs[name], days, anew=anew, versions=versions, references=references, has_maps=has_maps
            ),
            [name for name in ("basic", "scored") if name in versions],
        )
        done = list(parts)
    states, read = [state for part, _ in done for state in part], sum(rows for _, rows in done)
    kept = lake.read(MONITORING_WINDOWS, event_day=[day for day in days if day not in anew]).drop("schema_version")
    merged = merge([kept, *states])
    commit = lake.replace(
        MONITORING_WINDOWS, merged, where={"event_day": list(days)}, provenance=provenance, marks=marks
    )
    return Refresh(commit.version, commit.rows, read, commit.quarantined)


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
    references: Mapping[str, WindowReference | DetectionWindowReference],
    has_maps: bool,
) -> tuple[list[pl.DataFrame], int]:
    """Return the states to add, and the number of rows they were made of."""
    until, states, read = versions[name], [], 0
    wanted = {(day, name): f"{name}:{day}" for day in days if day not in anew}
    groups: dict[int | None, set[date]] = {None: anew}
    for since, pairs in group_by_mark(lake, MONITORING_WINDOWS, wanted, until).items():
        groups[since] = groups.get(since, set()) | {day for day, _ in pairs}
    for since, group in groups.items():
        if group:
            rows = _inputs(lake, spec, group, since=since, until=until, has_maps=has_maps)
            read += rows.height
            is_frame = _is_frame(rows, references)
            if is_frame.any():
                frames = _frames(lake, spec, group, since=since, until=until, references=references)
                states.append(aggregate_frames(frames, references=_of_frames(references), errors=name == "scored"))
                rows = rows.filter(~is_frame)
            if name == "scored":
                rows = rows.join(_labels(lake, rows, min(group), versions), on="request_id", how="left")
            states.append(aggregate(rows, references=_of_inputs(references), errors=name == "scored"))
    return states, read


def _inputs(
    lake: Lake, spec: TableSpec, days: set[date], *, since: int | None, until: int, has_maps: bool
) -> pl.DataFrame:
    """Return what the windows are made of, and the request ids that join labels."""
    is_scored = spec is MONITORING_SCORED
    beside = "request_id" if is_scored else "task"
    read = {*input_columns(errors=is_scored, shift=is_scored and has_maps), beside}
    names = [name for name in spec.column_names if name in read]
    rows = rows_of_days(lake, spec, days, since=since, until=until, columns=names)
    return rows if is_scored else rows.with_columns(is_invalid=IS_INVALID)


def _is_frame(rows: pl.DataFrame, references: Mapping[str, WindowReference | DetectionWindowReference]) -> pl.Series:
    """Which rows are frames of a detector: they have boxes to count, in columns that classifiers need not read."""
    if "task" in rows.columns:
        return rows.select(IS_FRAME).to_series()
    return rows["result_name"].is_in([*_of_frames(references)])


def _frames(
    lake: Lake,
    spec: TableSpec,
    days: set[date],
    *,
    since: int | None,
    until: int,
    references: Mapping[str, WindowReference | DetectionWindowReference],
) -> pl.DataFrame:
    """Return the frames of detectors with what windows count of their boxes."""
    is_scored = spec is MONITORING_SCORED
    wanted = {*frame_columns(errors=is_scored), "result_name"} if is_scored else {*frame_columns(errors=False), *_RAW}
    names = [name for name in spec.column_names if name in wanted]
    rows = rows_of_days(lake, spec, days, since=since, until=until, columns=names)
    frames = rows.filter(_is_frame(rows, references))
    return frames if is_scored else frames.with_columns(ranges_of())


def _of_frames(
    references: Mapping[str, WindowReference | DetectionWindowReference],
) -> dict[str, DetectionWindowReference]:
    return {name: one for name, one in references.items() if isinstance(one, DetectionWindowReference)}


def _of_inputs(references: Mapping[str, WindowReference | DetectionWindowReference]) -> dict[str, WindowReference]:
    return {name: one for name, one in references.items() if not isinstance(one, DetectionWindowReference)}


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
    mine = recent.join(asked, on="request_id", how="semi").sort("labelled_at", "ingested_at", *ARRIVAL)
    return mine.group_by("request_id").agg(pl.col("label").last()).collect()
