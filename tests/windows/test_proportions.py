from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mld_pipelines.windows import benjamini_hochberg, difference_interval, difference_p_value, wilson_interval


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (81, 263), (1, 1000)])
def test_wilson_interval_equals_scipy(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(k, n)
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_seen_allows_everything() -> None:
    low, high = wilson_interval(0, 0)
    assert (float(low), float(high)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("cells", "expected"),
    # Newcombe 1998, Statistics in Medicine 17:873-890, Table II, method 10
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((10, 10, 0, 20), (0.6791, 1.0)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
    ],
)
def test_difference_interval_equals_newcombes_table(cells: tuple[int, ...], expected: tuple[float, float]) -> None:
    low, high = difference_interval(*cells)
    assert (float(low), float(high)) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(("k1", "n1", "k2", "n2"), [(30, 100, 45, 200), (1, 50, 400, 3000), (10, 10, 3, 9)])
def test_p_value_equals_pearsons_chi_square(k1: int, n1: int, k2: int, n2: int) -> None:
    expected = stats.chi2_contingency([[k1, n1 - k1], [k2, n2 - k2]], correction=False).pvalue
    assert float(difference_p_value(k1, n1, k2, n2)) == pytest.approx(expected, rel=1e-9)


def test_equal_or_missing_sides_are_never_significant() -> None:
    assert difference_p_value([0, 5, 0], [10, 5, 0], [0, 7, 3], [20, 7, 9]).tolist() == [1.0, 1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_q_values_equal_scipy(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values), abs=1e-12)


def test_q_values_of_nothing_are_nothing() -> None:
    assert benjamini_hochberg(np.array([])).size == 0
