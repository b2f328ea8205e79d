"""List columns as count matrices and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_lists", "count_bins", "to_lists", "to_trimmed_lists"]


def count_bins(bins: pl.Series, width: int) -> NDArray[np.int64]:
    """Count the bin numbers of each row of a list column.

    Args:
        bins: List column of G rows with integers in [0, width); no row may be empty or null.
        width: Number of bins.

    Returns:
        Counts, shape (G, width).
    """
    group = np.repeat(np.arange(len(bins), dtype=np.int64) * width, bins.list.len().to_numpy())
    flat = group + bins.explode(empty_as_null=False).to_numpy()
    return np.bincount(flat, minlength=len(bins) * width).reshape(len(bins), width).astype(np.int64, copy=False)


def add_lists(lists: pl.Series, groups: NDArray[np.int64], n_groups: int, *, width: int | None) -> pl.Series:
    """Add integer lists element by element within groups; shorter lists count as padded with zeros.

    Args:
        lists: List(Int64) column; null rows are skipped.
        groups: Group number of each row.
        n_groups: Number of groups.
        width: Fixed length of the result, or None for the longest list without trailing zeros.

    Returns:
        List(Int64) column of `n_groups` rows; null where a group has only nulls.
    """
    if lists.null_count() == len(lists):
        return pl.Series([None] * n_groups, dtype=pl.List(pl.Int64))
    present = lists.is_not_null().to_numpy()
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    values = lists.filter(lists.is_not_null() & (lists.list.len() > 0)).explode().to_numpy()
    size = max(width or 0, int(lengths.max(initial=0)), 1)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    position = np.arange(lengths.sum()) - starts
    # float64 weights are exact for counts below 2^53
    sums = np.bincount(np.repeat(groups * size, lengths) + position, weights=values, minlength=n_groups * size)
    matrix = sums.reshape(n_groups, size).astype(np.int64)
    merged = to_lists(matrix) if width is not None else to_trimmed_lists(matrix)
    known = pl.Series(np.bincount(groups[present], minlength=n_groups) > 0)
    return pl.select(pl.when(known).then(merged)).to_series()


def to_lists(matrix: NDArray[np.int64]) -> pl.Series:
    """Return the rows of a matrix as a List(Int64) column."""
    if matrix.size == 0:
        return pl.Series([[]] * len(matrix), dtype=pl.List(pl.Int64))
    return pl.Series(matrix, dtype=pl.Array(pl.Int64, matrix.shape[1])).arr.to_list()


def to_trimmed_lists(matrix: NDArray[np.int64]) -> pl.Series:
    """Return the rows of a matrix as a List(Int64) column without their trailing zeros."""
    used = np.where(matrix > 0, np.arange(1, matrix.shape[1] + 1), 0).max(axis=1, initial=0)
    return pl.select(pl.lit(to_lists(matrix)).list.head(pl.lit(pl.Series(used)))).to_series()
