"""Error codes of a day against the reference of their result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.tables.monitoring import MONITORING_CODES
from mld_pipelines.windows._drift import MIN_UNITS
from mld_pipelines.windows._merge import roll_up
from mld_pipelines.windows._proportions import benjamini_hochberg, difference_interval, difference_p_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mld_pipelines.windows._baseline import Baseline

__all__ = ["compare_codes"]

_DAY = ["event_day", "model_key", "result_name"]


def compare_codes(
    states: pl.DataFrame, baselines: Mapping[str, Baseline], *, min_units: int = MIN_UNITS
) -> pl.DataFrame:
    """Compare the code shares of each day with the reference of the result.

    Every day and result lists all codes of either side, so the counts sum to the coded units and the deltas to zero.
    A detector's predictions and the objects it probably missed (`object`: Σ of their probabilities, rounded) are two
    lists of their own.
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
    days = roll_up(chosen)
    frames = [
        _compare_day(side, min_units)
        for day in days.iter_rows(named=True)
        for side in _sides(day, baselines.get(day["result_name"]))
        if sum(side.observed.values()) > 0
    ]
    empty = MONITORING_CODES.empty().drop("schema_version")
    if not frames:
        return empty
    return pl.concat(frames).select(empty.columns).cast(empty.schema).sort(*_DAY, "unit_kind", "error_code")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """The codes of one kind of unit on one day, and those of the reference."""

    key: Mapping[str, Any]
    unit_kind: str
    observed: Mapping[str, int]
    mean: Mapping[str, float]
    reference: Mapping[str, int]
    categories: Mapping[str, str]


def _sides(day: Mapping[str, Any], baseline: Baseline | None) -> Iterator[_Side]:
    """Yield the inputs of a classifier, or the predictions of a detector and the objects that it probably missed."""
    key = {name: day[name] for name in _DAY}
    counts = dict(zip(day["codes"], day["code_counts"], strict=True))
    sums = dict(zip(day["codes"], day["code_error_proba_sums"], strict=True))
    yield _Side(
        key=key,
        unit_kind="input" if day["n_frames"] is None else "prediction",
        observed=counts,
        mean={name: sums[name] / count for name, count in counts.items() if count},
        reference=baseline.codes if baseline else {},
        categories=baseline.categories if baseline else {},
    )
    if day["missed_codes"]:
        candidates = dict(zip(day["missed_codes"], day["missed_code_counts"], strict=True))
        expected = dict(zip(day["missed_codes"], day["missed_code_proba_sums"], strict=True))
        yield _Side(
            key=key,
            unit_kind="object",
            observed={name: round(value) for name, value in expected.items()},
            mean={name: expected[name] / count for name, count in candidates.items() if count},
            reference=baseline.missed_codes if baseline else {},
            categories=baseline.missed_categories if baseline else {},
        )


def _compare_day(side: _Side, min_units: int) -> pl.DataFrame:
    names = sorted({*side.observed, *side.reference})
    counts = np.array([side.observed.get(name, 0) for name in names], np.int64)
    expected = np.array([side.reference.get(name, 0) for name in names], np.int64)
    return pl.DataFrame(
        {
            **{name: [value] * len(names) for name, value in side.key.items()},
            "unit_kind": [side.unit_kind] * len(names),
            "error_code": names,
            "category": pl.Series([side.categories.get(name) for name in names], dtype=pl.String),
            "mean_error_proba": pl.Series([side.mean.get(name) for name in names], dtype=pl.Float64),
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
