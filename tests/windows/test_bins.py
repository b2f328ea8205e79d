from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mld_pipelines.windows import LATENCY_EDGES_MS, LATENCY_RELATIVE_ERROR
from mld_pipelines.windows._bins import batch_bin, latency_bin, latency_quantiles, unit_bin, unit_quantiles


def _bins(expression: pl.Expr, values: list[float | None], dtype: type[pl.DataType] = pl.Float64) -> list[int | None]:
    return pl.DataFrame({"x": pl.Series(values, dtype=dtype)}).select(expression).to_series().to_list()


def test_latency_bins_match_a_search_in_the_published_edges() -> None:
    values = np.random.default_rng(0).lognormal(1.0, 3.0, 5000)
    expected = np.searchsorted(np.asarray(LATENCY_EDGES_MS), values, side="right")
    assert _bins(latency_bin("x"), values.tolist()) == expected.tolist()


def test_latency_bins_take_extremes_and_leave_missing_values_out() -> None:
    assert _bins(latency_bin("x"), [0.0, -1.0, 1e-9, 1e9, None, float("nan"), float("inf")]) == [
        0, 0, 0, 63, None, None, None,
    ]  # fmt: skip


def test_unit_bins_close_the_last_bin() -> None:
    assert _bins(unit_bin("x"), [0.0, 0.05, 0.999, 1.0, None, float("nan")]) == [0, 1, 19, 19, None, None]


def test_batch_bins_are_powers_of_two() -> None:
    assert _bins(batch_bin("x"), [1, 2, 3, 4, 63, 64, 10**6, 0, None], pl.Int64) == [0, 1, 1, 2, 5, 6, 15, None, None]


@given(st.lists(st.floats(0.02, 2e4), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_latency_quantile_is_within_half_a_bin_of_the_exact_one(values: list[float], level: float) -> None:
    counts = np.bincount(_bins(latency_bin("x"), values), minlength=64)
    (found,) = latency_quantiles(counts.tolist(), [level], largest=max(values))
    exact = float(np.quantile(values, level, method="inverted_cdf"))
    assert found == pytest.approx(exact, rel=LATENCY_RELATIVE_ERROR + 1e-9)


def test_latency_quantile_never_exceeds_the_largest_latency() -> None:
    counts = [0] * 64
    counts[63] = 5
    assert latency_quantiles(counts, [0.5], largest=90_000.0) == [90_000.0]
    assert latency_quantiles([0] * 64, [0.5, 0.9], largest=None) == [None, None]


def test_confidence_quantile_is_the_middle_of_its_bin() -> None:
    assert unit_quantiles([10] + [0] * 18 + [10], [0.5, 0.95]) == [0.025, 0.975]
