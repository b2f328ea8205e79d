"""Sums for window maps as columns of a state: they add up exactly, and only where they are complete."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.diagnosis import StressWindowState
from mld_pipelines.windows import SHIFT_COLUMNS, aggregate, merge, roll_up, shift_columns
from mld_pipelines.windows._shift import shift_state

START = datetime(2026, 5, 1, tzinfo=UTC)
K, W = 3, 2


def sums(seed: int, *, n: int = 7, scale: float = 10.0, width: int = W) -> StressWindowState:
    rng = np.random.default_rng(seed)
    return StressWindowState(
        n=n,
        sum_stressed_proba=float(scale * rng.random()),
        sum_scores=scale * rng.normal(size=9),
        n_tail=rng.integers(0, 9, 9),
        predicted_counts=rng.integers(0, 9, K),
        sum_probabilities=scale * rng.random(K),
        sum_products=scale * rng.random(K * (K + 1) // 2),
        sum_features=scale * rng.normal(size=width),
        sum_squares=scale * rng.random(width),
    )


def carriers(seeds: list[int], *, hours: list[int] | None = None, scale: float = 10.0, width: int = W) -> pl.DataFrame:
    """Scored rows, each with the sums of seven units, as `monitoring/scored` holds them."""
    rows = [
        {
            "event_at": START + timedelta(hours=(hours or [0] * len(seeds))[i], minutes=i),
            "model_key": "m@v1",
            "result_name": "r1",
            "error_proba": 0.5,
            **shift_columns(sums(seed, scale=scale, width=width)),
        }
        for i, seed in enumerate(seeds)
    ]
    types = {"event_at": pl.Datetime("us", "UTC"), "model_key": pl.String, "result_name": pl.String}
    return pl.DataFrame(rows, schema={**types, "error_proba": pl.Float32, **SHIFT_COLUMNS})


def total(states: list[StressWindowState]) -> dict[str, Any]:
    added = StressWindowState()
    for one in states:
        added += one
    return {name: np.asarray(value) for name, value in zip(SHIFT_COLUMNS, added.to_dict().values(), strict=True)}


def test_sums_survive_the_way_through_columns() -> None:
    state = sums(1)
    found = shift_state({**shift_columns(state), "n_scored": 7})
    assert found.n == 7
    for name, value in state.to_dict().items():
        np.testing.assert_allclose(getattr(found, name), value, atol=2.0**-21, err_msg=name)


def test_an_hour_adds_the_sums_of_its_carriers() -> None:
    states = aggregate(carriers([1, 2, 3], hours=[0, 5, 0]))
    assert states["hour"].to_list() == [0, 5]
    for row, seeds in zip(states.iter_rows(named=True), ([1, 3], [2]), strict=True):
        expected = total([sums(seed) for seed in seeds])
        for name in SHIFT_COLUMNS:
            np.testing.assert_allclose(row[name], expected[name], atol=1e-5, err_msg=name)


def test_rows_without_sums_do_not_count() -> None:
    plain = carriers([1]).with_columns(pl.lit(None, dtype).alias(name) for name, dtype in SHIFT_COLUMNS.items())
    both = aggregate(pl.concat([carriers([2]), plain, plain]))
    assert both["n"].to_list() == [3]
    assert both.select(SHIFT_COLUMNS.names()).equals(aggregate(carriers([2])).select(SHIFT_COLUMNS.names()))
    assert aggregate(plain)["shift_n"].to_list() == [None]


def test_basic_metrics_have_no_sums() -> None:
    assert aggregate(carriers([1, 2]), errors=False)["shift_n"].to_list() == [None]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_any_split_in_any_order_gives_the_same_bits(drawn: list[tuple[int, int]], choose: Any, scale: float) -> None:
    rows = carriers([seed for seed, _ in drawn], hours=[hour for _, hour in drawn], scale=scale)
    order = list(range(rows.height))
    choose.shuffle(order)
    cut = choose.randint(0, rows.height)
    shuffled = rows[order]
    parts = [aggregate(part) for part in (shuffled[:cut], shuffled[cut:]) if part.height]
    once = aggregate(rows)
    assert merge(parts).select(SHIFT_COLUMNS.names()).equals(once.select(SHIFT_COLUMNS.names()))
    day = roll_up(once).row(0, named=True)
    assert day["shift_n"] == 7 * rows.height
    again = roll_up(merge(parts)).row(0, named=True)
    assert {name: day[name] for name in SHIFT_COLUMNS} == {name: again[name] for name in SHIFT_COLUMNS}


def test_a_score_without_a_value_stays_without() -> None:
    state = sums(1)
    state.sum_scores[4] = np.nan
    columns = shift_columns(state)
    rows = carriers([2]).with_columns(
        pl.Series("shift_score_sums", [columns["shift_score_sums"]], dtype=SHIFT_COLUMNS["shift_score_sums"])
    )
    added = aggregate(pl.concat([rows, carriers([3])]))["shift_score_sums"][0].to_list()
    assert np.flatnonzero(np.isnan(added)).tolist() == [4]


def test_sums_that_are_no_numbers_are_not_stored() -> None:
    broken = StressWindowState(n=3, sum_stressed_proba=float("nan"))
    assert set(shift_columns(broken).values()) == {None}


def test_lists_of_various_lengths_are_no_sum() -> None:
    """Two results cannot share a window, so this is damage: the window keeps its counts and loses the map."""
    states = aggregate(pl.concat([carriers([1]), carriers([2], width=W + 1)]))
    assert states["shift_n"].to_list() == [14]
    assert states["shift_feature_sums"].to_list() == [None]
    assert shift_state({**states.row(0, named=True), "n_scored": 14}) is None


@pytest.mark.parametrize(
    ("changes", "usable"),
    [
        pytest.param({}, True, id="complete"),
        pytest.param({"n_scored": 8}, False, id="a unit that is in no sum"),
        pytest.param({"shift_n": None}, False, id="no sums"),
        pytest.param({"shift_square_sums": None}, False, id="a list is missing"),
    ],
)
def test_only_complete_sums_are_used(changes: dict[str, Any], usable: bool) -> None:
    row = {**shift_columns(sums(1)), "n_scored": 7, **changes}
    assert (shift_state(row) is not None) is usable


def test_a_stored_state_without_the_columns_of_newer_code_has_no_sums() -> None:
    assert shift_state({"n_scored": 7, "event_day": date(2026, 5, 1)}) is None
