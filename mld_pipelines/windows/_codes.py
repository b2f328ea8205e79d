"""Error codes of a day against the reference of their result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.tables.monitoring import MONITORING_CODES
from mld_pipelines.windows._drift import MIN_UNITS
from mld_pipelines.windows._merge import roll_up
from mld_pipelines.windows._proportions import benjamini_hochberg, difference_interval, difference_p_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.windows._baseline import Baseline

__all__ = ["compare_codes"]

_DAY = ["event_day", "model_key", "result_name"]


def compare_codes(
    states: pl.DataFrame, baselines: Mapping[str, Baseline], *, min_units: int = MIN_UNITS
) -> pl.DataFrame:
    """Compare the code shares of each day with the reference of the result.

    Every day and result lists all codes of either side, so the counts sum to the coded units and the deltas to zero.
    The interval is Newcombe's, the q-value Benjamini-Hochberg over the codes of the day and result. A code with fewer
    than `min_units` units on either side keeps its numbers but `is_masked` says that they are no verdict.

    Args:
        states: Window states of any grain, slice `all`; other slices and states without a result are left out.
        baselines: Baselines by result name. Without one, reference columns are zero or null and every row is masked.
        min_units: Units of the cell that each side needs.

    Returns:
        Rows of `monitoring/codes`, sorted by key.
    """
    chosen = states.filter((pl.col("slice") == "all") & pl.col("result_name").is_not_null())
    days = roll_up(chosen).filter(pl.col("code_counts").list.sum() > 0)
    frames = [_compare_day(day, baselines.get(day["result_name"]), min_units) for day in days.iter_rows(named=True)]
    empty = MONITORING_CODES.empty().drop("schema_version")
    if not frames:
        return empty
    return pl.concat(frames).select(empty.columns).cast(empty.schema).sort(*_DAY, "error_code")


def _compare_day(day: dict[str, object], baseline: Baseline | None, min_units: int) -> pl.DataFrame:
    observed = dict(zip(day["codes"], day["code_counts"], strict=True))  # type: ignore[call-overload]
    risk = dict(zip(day["codes"], day["code_error_proba_sums"], strict=True))  # type: ignore[call-overload]
    reference = dict(baseline.codes) if baseline else {}
    categories = dict(baseline.categories) if baseline else {}
    names = sorted({*observed, *reference})
    counts = np.array([observed.get(name, 0) for name in names], np.int64)
    expected = np.array([reference.get(name, 0) for name in names], np.int64)
    return pl.DataFrame(
        {
            **{name: [day[name]] * len(names) for name in _DAY},
            "unit_kind": ["input"] * len(names),
            "error_code": names,
            "category": pl.Series([categories.get(name) for name in names], dtype=pl.String),
            "mean_error_proba": pl.Series(
                [risk[name] / observed[name] if observed.get(name) else None for name in names], dtype=pl.Float64
            ),
            "is_masked": (counts < min_units) | (expected < min_units),
            **_differences(counts, expected),
        }
    )


def _differences(counts: np.ndarray, expected: np.ndarray) -> dict[str, pl.Series | np.ndarray]:
    n, reference_n = int(counts.sum()), int(expected.sum())
    columns: dict[str, pl.Series | np.ndarray] = {
        "counts": counts,
        "n": np.full(len(counts), n),
        "share": counts / n,
        "reference_counts": expected,
        "reference_n": np.full(len(counts), reference_n),
    }
    if reference_n == 0:
        missing = ("reference_share", "delta", "delta_low", "delta_high", "q_value")
        return columns | {name: pl.Series([None] * len(counts), dtype=pl.Float64) for name in missing}
    low, high = difference_interval(counts, n, expected, reference_n)
    return columns | {
        "reference_share": expected / reference_n,
        "delta": 100 * (counts / n - expected / reference_n),
        "delta_low": 100 * low,
        "delta_high": 100 * high,
        "q_value": benjamini_hochberg(difference_p_value(counts, n, expected, reference_n)),
    }
