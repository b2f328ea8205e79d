from __future__ import annotations

import itertools
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.windows import plan_days

days = st.lists(st.integers(0, 60).map(lambda k: date(2026, 1, 1) + timedelta(days=k)), max_size=40)


@given(days)
def test_ranges_hold_exactly_the_touched_days_once(touched: list[date]) -> None:
    planned = [
        first + timedelta(days=k)
        for first, last in plan_days(touched, limit=100)
        for k in range((last - first).days + 1)
    ]
    assert sorted(planned) == sorted(set(touched))


@given(days)
def test_ranges_are_newest_first_and_never_adjacent(touched: list[date]) -> None:
    ranges = plan_days(touched, limit=100)
    for (first, _), (_, older_last) in itertools.pairwise(ranges):
        assert first - older_last > timedelta(days=1)


def test_the_limit_keeps_the_newest() -> None:
    touched = [date(2026, 1, 1) + timedelta(days=2 * k) for k in range(30)]
    ranges = plan_days(touched)
    assert len(ranges) == 25
    assert ranges[0] == (touched[-1], touched[-1])


def test_a_limit_without_progress_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="limit is 0"):
        plan_days([], limit=0)
