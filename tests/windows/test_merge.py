from __future__ import annotations

import itertools
from collections.abc import Callable

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_pipelines.windows import STATE_SCHEMA, aggregate, empty_states, merge, roll_up

Rows = Callable[..., pl.DataFrame]
_quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_quick
@given(data=st.data())
def test_any_split_and_order_of_the_rows_merges_to_equal_states(
    make_rows: Rows, limits: dict, data: st.DataObject
) -> None:
    rows = pl.concat([make_rows(120, seed=1, days=2), make_rows(60, seed=2, result_name=None)])
    whole = aggregate(rows, references=limits)
    order = data.draw(st.permutations(range(len(rows))))
    shuffled = rows[list(order)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    bounds = [0, *cuts, len(rows)]
    parts = [aggregate(shuffled[a:b], references=limits) for a, b in itertools.pairwise(bounds)]
    assert merge(parts).equals(whole)


@_quick
@given(sizes=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40)))
def test_merge_is_associative_and_commutative(make_rows: Rows, sizes: tuple[int, int, int]) -> None:
    a, b, c = (aggregate(make_rows(n, seed=i)) for i, n in enumerate(sizes))
    assert merge([merge([a, b]), c]).equals(merge([a, merge([b, c])]))
    assert merge([a, b]).equals(merge([b, a]))


def test_merging_one_state_changes_nothing(make_rows: Rows) -> None:
    states = aggregate(make_rows(500, days=2))
    assert merge(states).equals(states)
    assert merge([states, empty_states()]).equals(states)


def test_days_are_the_sum_of_their_hours(make_rows: Rows) -> None:
    states = aggregate(make_rows(3000, days=2))
    days = roll_up(states)
    assert days["hour"].null_count() == len(days) == 2
    hours = states.group_by("event_day").agg(pl.col("n").sum(), pl.col("latency_max_ms").max()).sort("event_day")
    assert days["n"].to_list() == hours["n"].to_list()
    assert days["latency_max_ms"].to_list() == hours["latency_max_ms"].to_list()
    assert roll_up(days).equals(days)


def test_class_lists_of_different_lengths_add_up(make_rows: Rows) -> None:
    few = aggregate(make_rows(1, result_name=None).with_columns(pl.lit(0, pl.Int64).alias("prediction")))
    many = aggregate(make_rows(1, result_name=None).with_columns(pl.lit(3, pl.Int64).alias("prediction")))
    assert merge([few, many])["class_counts"].to_list() == [[1, 0, 0, 1]]


def test_states_without_codes_keep_empty_lists(make_rows: Rows) -> None:
    rows = make_rows(10).with_columns(pl.lit(None, pl.String).alias("error_code"))
    states = aggregate(rows)
    assert merge([states, states])["codes"].to_list() == [[]] * len(states)


def test_no_states_merge_to_no_states() -> None:
    assert merge([]).equals(empty_states())
    assert merge(empty_states()).schema == STATE_SCHEMA


def test_a_late_row_changes_only_its_own_window(make_rows: Rows) -> None:
    states = aggregate(make_rows(2000, days=2))
    late = make_rows(1, seed=9)
    merged = merge([states, aggregate(late)])
    hour = late["event_at"][0]
    touched = (pl.col("event_day") == hour.date()) & (pl.col("hour") == hour.hour)
    assert merged.filter(~touched).equals(states.filter(~touched))
    assert merged.filter(touched)["n"][0] == states.filter(touched)["n"][0] + 1
