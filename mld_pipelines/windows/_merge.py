"""Adding window states: associative, commutative, exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.windows._lists import add_lists
from mld_pipelines.windows._shift import add_shift_lists
from mld_pipelines.windows._state import (
    CODE_LISTS,
    COUNT_COLUMNS,
    DETECTOR_COLUMNS,
    HISTOGRAM_COLUMNS,
    KEY,
    STATE_SCHEMA,
    SUM_COLUMNS,
    empty_states,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["merge", "roll_up"]


def merge(states: pl.DataFrame | Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Add the states that share a key.

    Any split of the same inferences, in any order, merges to the same states: counts are integers and sums lie on a
    binary grid (exact up to 2^23 units per state, to 1e-9 relative beyond).

    Args:
        states: One frame of states, or several.

    Returns:
        One state per key, sorted by key.
    """
    frame = states if isinstance(states, pl.DataFrame) else pl.concat([empty_states(), *states])
    if frame.is_empty():
        return empty_states()
    # where no detector is among them, its columns are not looked at again
    absent = {} if frame["n_frames"].count() else DETECTOR_COLUMNS
    numbered = frame.select(name for name in STATE_SCHEMA if name not in absent).with_columns(_group_numbers(frame))
    firsts = [pl.col(name).first() for name in KEY]
    sums = numbered.group_by("group").agg(*firsts, *_scalar_sums(numbered.columns)).sort("group")
    groups = numbered["group"].to_numpy()
    histograms = [
        add_lists(numbered[name], groups, len(sums), width=width).alias(name)
        for name, width in HISTOGRAM_COLUMNS.items()
        if name not in absent
    ]
    histograms += add_shift_lists(numbered, groups, len(sums))
    merged = sums.with_columns(*histograms, *(pl.lit(None, dtype).alias(name) for name, dtype in absent.items()))
    for lists in CODE_LISTS:
        if lists[0] not in absent:
            merged = merged.join(_merge_codes(numbered, *lists), on="group", how="left")
    return merged.select(STATE_SCHEMA.names()).sort(KEY)


def roll_up(states: pl.DataFrame) -> pl.DataFrame:
    """Add the hours of each day: states whose `hour` is null."""
    return merge(states.with_columns(pl.lit(None, pl.Int32).alias("hour")))


def _group_numbers(frame: pl.DataFrame) -> pl.Series:
    keys = frame.select(KEY).unique(maintain_order=True).with_row_index("group")
    numbered = frame.select(KEY).join(keys, on=list(KEY), how="left", nulls_equal=True, maintain_order="left")
    return numbered["group"].cast(pl.Int64)


def _scalar_sums(present: list[str]) -> list[pl.Expr]:
    added = [
        pl.when(pl.col(name).is_not_null().any()).then(pl.col(name).sum()).alias(name)
        for name in (*COUNT_COLUMNS, *SUM_COLUMNS)
        if name in present
    ]
    return [*added, pl.col("first_at").min(), pl.col("last_at").max(), pl.col("latency_max_ms").max()]


def _merge_codes(numbered: pl.DataFrame, names: str, counts: str, totals: str) -> pl.DataFrame:
    """Code lists by group; null where a group has only nulls, empty lists where it has no code."""
    lists = [names, counts, totals]
    known = numbered.filter(pl.col(names).is_not_null())
    added = (
        known.filter(pl.col(names).list.len() > 0)
        .select("group", *lists)
        .explode(lists)
        .group_by("group", names)
        .agg(pl.col(counts).sum(), pl.col(totals).sum())
        .sort("group", names)
        .group_by("group", maintain_order=True)
        .agg(lists)
    )
    empty = [pl.lit([], dtype=STATE_SCHEMA[name]) for name in lists]
    return (
        known.select("group")
        .unique()
        .join(added, on="group", how="left")
        .with_columns(pl.coalesce(name, nothing).alias(name) for name, nothing in zip(lists, empty, strict=True))
    )
