"""The order in which error codes deserve attention."""

from __future__ import annotations

import polars as pl

__all__ = ["excess_errors"]


def excess_errors(*groups: str) -> pl.Expr:
    """Return the errors of a code beyond those of as many units at the rate of its group: errors − counts · r₀.

    Codes by falling errors put a large code of ordinary quality before a small one that is always wrong
    (docs/estimation.md: planted slices of tables are found less often by it).

    Args:
        *groups: Columns that name a group; r₀ is the errors of all its codes by their units. Without any, the frame.

    Returns:
        float64; the sum over a group is 0. Needs the columns `errors` and `counts`.
    """
    units, wrong = pl.col("counts").sum(), pl.col("errors").sum()
    rate = wrong.over(*groups) / units.over(*groups) if groups else wrong / units
    return pl.col("errors") - pl.col("counts") * rate.fill_nan(0.0)
