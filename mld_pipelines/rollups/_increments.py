"""Reading only what is new: every step keeps, per event day, the version of its source up to which it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.tables import LANDING_INFERENCES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from mld_pipelines.lake import Lake
    from mld_pipelines.tables import TableSpec

__all__ = ["ARRIVAL", "IS_FRAME", "IS_INVALID", "group_by_mark", "labelled_days", "rows_of_days", "split_by"]

ARRIVAL = ("stream_id", "seq", "row")

_IS_GENERATED = pl.col("request_id").str.strip_prefix(pl.col("stream_id")).str.contains(r"^-\d+-\d+$")
"""Stream, number of the call, row: an id of the logger's own making, which no other inference has."""

IS_FRAME = pl.col("task") != "classification"
"""A row of a detector: it has boxes instead of a prediction, and one that is not finite never lands."""

IS_INVALID = pl.all_horizontal(pl.col("prediction", "confidence").is_null()) & ~IS_FRAME
"""A row whose output was not finite lands without prediction and confidence: counted, never scored."""


def group_by_mark(
    lake: Lake, spec: TableSpec, wanted: Mapping[tuple[date, str], str], until: int
) -> dict[int | None, dict[tuple[date, str], str]]:
    """Group streams by how far they are; those that are up to date are left out."""
    groups: dict[int | None, dict[tuple[date, str], str]] = {}
    for pair, stream in wanted.items():
        mark = lake.mark(spec, stream)
        if mark is None or mark < until:
            groups.setdefault(mark, {})[pair] = stream
    return groups


def rows_of_days(
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


def split_by(rows: pl.DataFrame, *keys: str) -> Iterator[tuple[tuple[date, str], pl.DataFrame]]:
    """Yield rows by the values of two columns, a day and a name."""
    for part in rows.partition_by(*keys, maintain_order=True):
        yield (part[keys[0]][0], part[keys[1]][0]), part


def labelled_days(lake: Lake, request_ids: Iterable[str], *, among: Iterable[date] | None = None) -> list[date]:
    """Return the event days of some requests, sorted: the days that their labels touch.

    Newest ingest days are read first, and no more than it takes to find the requests: labels follow their inferences
    by days, not by the whole history. A generated id occurs once; ids of the caller's own may occur again on another
    day, so for them every day is looked at.

    Args:
        lake: The lake.
        request_ids: Requests that were labelled.
        among: Look at these event days only; None is all of them.
    """
    wanted = pl.Series("request_id", list(request_ids), dtype=pl.String).unique()
    landed = lake.scan(LANDING_INFERENCES).select("request_id", "stream_id", "event_day", "ingest_day")
    if among is not None:
        landed = landed.filter(pl.col("event_day").is_in(list(among)))
    touched: set[date] = set()
    for newest, oldest in _spans(lake):
        if wanted.is_empty():
            break
        of_span = landed.filter(pl.col("ingest_day").is_between(oldest, newest))
        found = of_span.filter(pl.col("request_id").is_in(wanted.implode())).collect()
        touched |= {*found["event_day"]}
        wanted = wanted.filter(~wanted.is_in(found.filter(_IS_GENERATED)["request_id"].implode()))
    return sorted(touched)


def _spans(lake: Lake) -> Iterator[tuple[date, date]]:
    """Yield ranges of ingest days (last, first) from the newest backwards: 1, 2, 4, … days that hold rows."""
    days = lake.files(LANDING_INFERENCES)["ingest_day"].cast(pl.Date).unique().sort(descending=True).to_list()
    start, size = 0, 1
    while start < len(days):
        span = days[start : start + size]
        yield span[0], span[-1]
        start, size = start + size, 2 * size
