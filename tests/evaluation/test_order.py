"""Errors beyond the average rate put a small broken code before a large ordinary one."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mld_pipelines.evaluation import excess_errors

CODES = pl.DataFrame(
    {
        "dataset": ["val"] * 3 + ["test"] * 2,
        "error_code": ["large", "broken", "clean", "large", "broken"],
        "counts": [700, 100, 200, 50, 50],
        "errors": [70, 60, 0, 10, 5],
    }
)


def test_a_small_broken_code_comes_before_a_large_one_with_more_errors() -> None:
    """By hand: r0 = 130 / 1000 in val, so 70 − 91, 60 − 13, 0 − 26; 15 / 100 in test, so 10 − 7.5 and 5 − 7.5."""
    excess = CODES.select(excess_errors("dataset"))["errors"]
    assert excess.to_list() == pytest.approx([-21.0, 47.0, -26.0, 2.5, -2.5])


def test_without_groups_the_frame_is_one() -> None:
    """By hand: r0 = 145 / 1100."""
    excess = CODES.select(excess_errors())["errors"]
    assert excess[1] == pytest.approx(60 - 100 * 145 / 1100)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_excess_of_a_group_sums_to_zero(codes: list[tuple[int, float]]) -> None:
    frame = pl.DataFrame({"counts": [n for n, _ in codes], "errors": [int(n * share) for n, share in codes]})
    excess = frame.select(excess_errors())["errors"]
    assert excess.is_finite().all()
    assert excess.sum() == pytest.approx(0.0, abs=1e-6)
