"""Sums of a window that the stress map of its result judges by, as columns of a state (docs/storage.md#shift-sums).

They are taken where production is scored, because that is where outputs and features are at hand: the rows of one
commit and hour carry their sums in the first of them. Rounded to a grid, they add up exactly in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import StressWindowState
from mld_pipelines.tables import MONITORING_WINDOWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["SHIFT_COLUMNS", "SHIFT_LISTS", "SHIFT_SCALARS", "add_shift_lists", "shift_columns", "shift_state"]

#: Column of a state → attribute of `StressWindowState`.
_ATTRIBUTES = {
    "shift_n": "n",
    "shift_proba_sum": "sum_stressed_proba",
    "shift_score_sums": "sum_scores",
    "shift_tail_counts": "n_tail",
    "shift_class_counts": "predicted_counts",
    "shift_probability_sums": "sum_probabilities",
    "shift_product_sums": "sum_products",
    "shift_feature_sums": "sum_features",
    "shift_square_sums": "sum_squares",
}
SHIFT_COLUMNS = pl.Schema({name: MONITORING_WINDOWS.column(name).data_type for name in _ATTRIBUTES})
"""Columns of these sums and their dtypes, in `monitoring/scored` and `monitoring/windows` alike."""

SHIFT_SCALARS, SHIFT_LISTS = tuple(_ATTRIBUTES)[:2], tuple(_ATTRIBUTES)[2:]

#: Sums are multiples of it, so adding them is exact up to 2^33 (standardised values of a million units at 8,000 each).
_STEP = 2.0**-20


def shift_columns(state: StressWindowState) -> dict[str, Any]:
    """Return the columns of some units' sums, real ones on the grid; nulls where the sums are no numbers."""
    if not np.isfinite(state.sum_stressed_proba):
        return dict.fromkeys(_ATTRIBUTES)
    rounded = {}
    for column, attribute in _ATTRIBUTES.items():
        value = np.asarray(getattr(state, attribute))
        if value.dtype.kind == "f":
            value = np.round(value / _STEP) * _STEP
        rounded[column] = value.tolist()
    return rounded


def shift_state(columns: Mapping[str, Any]) -> StressWindowState | None:
    """Return the sums in a row of `monitoring/windows`; None where it has none, or where units of it are not in them.

    Args:
        columns: A window state as a mapping of columns.
    """
    if columns.get("shift_n") is None or columns["shift_n"] != columns["n_scored"]:
        return None
    if any(columns[name] is None for name in SHIFT_LISTS):
        return None
    return StressWindowState.from_dict({attribute: columns[name] for name, attribute in _ATTRIBUTES.items()})


def add_shift_lists(rows: pl.DataFrame, groups: NDArray[np.int64], n_groups: int) -> list[pl.Series]:
    """Add the lists of these sums element by element within groups.

    Args:
        rows: Frame with the list columns; null rows are skipped.
        groups: Group number of each row.
        n_groups: Number of groups.

    Returns:
        One column of `n_groups` rows per list; null where a group has only nulls, or lists of various lengths.
    """
    known = rows["shift_n"].is_not_null()
    if not known.any():
        return [pl.Series(name, [None] * n_groups, dtype=SHIFT_COLUMNS[name]) for name in SHIFT_LISTS]
    own = groups[known.to_numpy()]
    return [_added(rows[name].filter(known), own, n_groups) for name in SHIFT_LISTS]


def _added(lists: pl.Series, groups: NDArray[np.int64], n_groups: int) -> pl.Series:
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    shortest, longest = np.full(n_groups, np.iinfo(np.int64).max), np.full(n_groups, -1)
    np.minimum.at(shortest, groups, lengths)
    np.maximum.at(longest, groups, lengths)
    size = max(int(lengths.max(initial=0)), 1)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = np.repeat(groups * size, lengths) + np.arange(lengths.sum()) - starts
    values = lists.filter(lists.list.len() > 0).explode().to_numpy().astype(np.float64)
    sums = np.bincount(places, weights=values, minlength=n_groups * size).reshape(n_groups, size)
    dtype = SHIFT_COLUMNS[lists.name]
    typed = sums.astype(np.int64) if dtype == pl.List(pl.Int64) else sums
    found = [
        typed[group, : longest[group]].tolist() if longest[group] == shortest[group] else None
        for group in range(n_groups)
    ]
    return pl.Series(lists.name, found, dtype=dtype)
