"""Statistics per column, and drift between two of them."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from mld_pipelines.quality import PROFILE_SCHEMA, outcomes_frame, profile, reference_profile, run_profile
from mld_pipelines.tables import Column, TableSpec

SPEC = TableSpec(
    "gold/numbers",
    "gold",
    "A number.",
    (
        Column("id", pl.String, "id"),
        Column("x", pl.Float64, "x"),
        Column("hit", pl.Boolean, "hit"),
        Column("v", pl.List(pl.Float32), "v"),
    ),
    key=("id",),
)


def frame(x, hit=None):
    n = len(x)
    hits = [True] * n if hit is None else hit
    columns = {"id": [str(i) for i in range(n)], "x": x, "hit": hits, "v": [[0.0]] * n}
    return pl.DataFrame(columns, schema=SPEC.polars_schema)


def failed(outcomes):
    return {one.name: json.loads(one.observed) for one in outcomes if not one.passed}


def test_the_numbers_are_those_of_numpy():
    x = np.random.default_rng(0).normal(3, 2, 501)
    row = profile(SPEC, frame(x)).row(by_predicate=pl.col("column") == "x", named=True)
    assert row["mean"] == pytest.approx(np.mean(x))
    assert row["sd"] == pytest.approx(np.std(x, ddof=1))
    assert row["p50"] == pytest.approx(np.median(x))
    assert (row["minimum"], row["maximum"]) == (x.min(), x.max())
    assert row["distinct"] == 501


def test_nan_and_null_are_counted_apart_and_left_out_of_the_moments():
    row = profile(SPEC, frame([1.0, 3.0, float("nan"), None])).row(by_predicate=pl.col("column") == "x", named=True)
    assert (row["null_share"], row["nan_share"], row["mean"]) == (0.25, 0.25, 2.0)


def test_lists_and_bytes_are_not_profiled():
    assert profile(SPEC, frame([1.0]))["column"].to_list() == ["id", "x", "hit"]


def test_an_empty_table_has_a_profile():
    empty = profile(SPEC, SPEC.empty())
    assert empty.schema == PROFILE_SCHEMA
    assert failed(run_profile(SPEC, empty, None, version=0)) == {}


def test_two_draws_of_the_same_distribution_do_not_drift():
    rng = np.random.default_rng(1)
    for n in (5, 50, 1000):
        for _ in range(5):
            a, b = profile(SPEC, frame(rng.normal(0, 1, n))), profile(SPEC, frame(rng.normal(0, 1, n)))
            assert failed(run_profile(SPEC, b, a, version=1)) == {}


def test_a_shifted_mean_is_named_and_does_not_block():
    rng = np.random.default_rng(2)
    before, after = profile(SPEC, frame(rng.normal(0, 1, 1000))), profile(SPEC, frame(rng.normal(1, 1, 1000)))
    outcomes = run_profile(SPEC, after, before, version=1)
    assert failed(outcomes) == {"profile_mean_high": ["x"]}
    assert not any(one.blocks for one in outcomes)
    assert failed(run_profile(SPEC, before, after, version=1)) == {"profile_mean_low": ["x"]}


def test_a_rise_of_nulls_is_named():
    before = profile(SPEC, frame([1.0, 2.0] * 100))
    after = profile(SPEC, frame([1.0, 2.0, None, None] * 50))
    assert failed(run_profile(SPEC, after, before, version=1)) == {"profile_null_share": ["x"]}


def test_nan_blocks():
    outcomes = run_profile(SPEC, profile(SPEC, frame([1.0, float("nan")])), None, version=1)
    assert failed(outcomes) == {"profile_nan_share": ["x"]}
    assert any(one.blocks for one in outcomes)


def test_a_profile_is_read_back_from_ops_quality():
    first, second = profile(SPEC, frame([1.0, 2.0])), profile(SPEC, frame([5.0, 6.0]))
    stored = pl.concat(
        [
            outcomes_frame(run_profile(SPEC, first, None, version=1)),
            outcomes_frame(run_profile(SPEC, second, first, version=2)),
            outcomes_frame(run_profile(SPEC, first, None, version=3, partition="other")),
        ]
    )
    assert reference_profile(stored, SPEC).equals(second)
    assert reference_profile(stored, SPEC, "other").equals(first)
    assert reference_profile(stored, SPEC, "none") is None
