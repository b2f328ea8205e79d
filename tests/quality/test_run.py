"""Judging a version of a table."""

from __future__ import annotations

import json
import math
from datetime import date

import polars as pl
import pytest

from mld_pipelines.exceptions import NotFoundError
from mld_pipelines.quality import QualityOutcome, expectations, outcomes_frame, run_suite
from mld_pipelines.tables import (
    OPS_QUALITY,
    Between,
    Column,
    Finite,
    Matches,
    NotBefore,
    OneOf,
    TableSpec,
    Unique,
    check,
)

SPEC = TableSpec(
    "gold/things",
    "gold",
    "A thing.",
    (
        Column("id", pl.Int64, "id", required=True),
        Column("kind", pl.String, "kind", rules=(OneOf(("a", "b")),)),
        Column("code", pl.String, "code", rules=(Matches("^E[0-9]+$", "`E…`"),)),
        Column("p", pl.Float64, "p", rules=(Finite(), Between(0.0, 1.0))),
        Column("flag", pl.Boolean, "flag"),
        Column("day", pl.Date, "day", rules=(NotBefore(date(2026, 1, 1)),)),
        Column("vector", pl.List(pl.Float32), "v", required=True, rules=(Finite(),)),
    ),
    key=("id",),
    rules=(Unique(("id",)),),
)


def frame(**columns):
    good = {
        "id": [1, 2, 3],
        "kind": ["a", "b", None],
        "code": ["E1", None, "E22"],
        "p": [0.0, 1.0, None],
        "flag": [True, None, False],
        "day": [date(2026, 1, 1), None, date(2026, 1, 2)],
        "vector": [[1.0], [2.0], []],
    }
    return pl.DataFrame(good | columns, schema=SPEC.polars_schema)


def by_name(outcomes):
    return {one.name: one for one in outcomes}


def test_rows_that_obey_the_spec_pass_everything():
    outcomes = run_suite(SPEC, frame(), version=4)
    assert [one.name for one in outcomes] == [one.name for one in expectations(SPEC)]
    assert all(one.passed for one in outcomes)
    assert {one.version for one in outcomes} == {4}


@pytest.mark.parametrize(
    ("column", "values", "failing"),
    [
        ("id", [1, None, 3], {"id_required"}),
        ("id", [1, 1, 3], {"unique"}),
        ("kind", ["a", "z", None], {"kind_one_of"}),
        ("code", ["E1", "x", None], {"code_matches"}),
        ("p", [0.5, 1.5, None], {"p_between"}),
        ("day", [date(2026, 1, 1), None, date(2025, 12, 31)], {"day_not_before"}),
        ("vector", [[1.0], [math.nan], []], {"vector_finite"}),
        ("vector", [[1.0], None, []], {"vector_required"}),
    ],
)
def test_one_broken_rule_fails_exactly_its_expectation(column, values, failing):
    outcomes = by_name(run_suite(SPEC, frame(**{column: values}), version=0))
    assert {name for name, one in outcomes.items() if not one.passed} == failing
    one = outcomes[failing.pop()]
    assert one.blocks
    assert one.unexpected == (2 if one.name == "unique" else 1)


def test_nan_that_pandas_takes_for_null_is_caught_by_polars():
    outcomes = by_name(run_suite(SPEC, frame(p=[0.1, math.nan, None]), version=0))
    assert not outcomes["p_finite"].passed
    assert outcomes["p_finite"].unexpected == 1
    assert outcomes["p_between"].passed, "pandas reads NaN as missing: the reason why polars judges first"


def test_the_suite_and_the_contract_agree_on_which_rules_break():
    rows = frame(kind=["a", "z", None], p=[2.0, 0.5, math.nan])
    failing = {one.name for one in run_suite(SPEC, rows, version=0) if not one.passed}
    contract = {name.replace("|", "_") for name in check(SPEC, rows).counts}
    # The contract lets polars judge NaN twice; pandas sees NaN as missing.
    assert failing == contract == {"kind_one_of", "p_between", "p_finite"}


def test_an_empty_table_is_a_warning_and_nothing_else():
    failed = [one for one in run_suite(SPEC, SPEC.empty(), version=0) if not one.passed]
    assert [(one.name, one.severity, one.blocks) for one in failed] == [("row_count", "warning", False)]


def test_a_failure_shows_some_values():
    outcomes = by_name(run_suite(SPEC, frame(kind=["a", "z", "y"]), version=0))
    assert sorted(json.loads(outcomes["kind_one_of"].sample)) == ["y", "z"]


def test_a_large_table_reaches_the_suite_as_a_stable_sample_while_polars_sees_every_row():
    n = 1000
    rows = pl.DataFrame(
        {"id": range(n), "p": [math.nan, *([0.5] * (n - 1))], "vector": [[0.0]] * n},
        schema={"id": pl.Int64, "p": pl.Float64, "vector": pl.List(pl.Float32)},
    )
    rows = SPEC.align(rows.select(name for name in SPEC.column_names if name in rows.columns))
    outcomes = by_name(run_suite(SPEC, rows, version=0, max_rows=100))
    assert outcomes["p_finite"].rows == n
    assert outcomes["p_finite"].unexpected == 1
    assert outcomes["p_between"].rows == 100
    shuffled = run_suite(SPEC, rows.sample(fraction=1.0, shuffle=True, seed=1), version=0, max_rows=100)
    assert by_name(shuffled)["p_between"] == outcomes["p_between"]


def test_a_subset_of_names_is_judged_alone():
    assert [one.name for one in run_suite(SPEC, frame(), version=0, names={"unique", "p_between"})] == [
        "unique",
        "p_between",
    ]
    with pytest.raises(NotFoundError, match="nope"):
        run_suite(SPEC, frame(), version=0, names={"nope"})


def test_outcomes_become_rows_of_ops_quality():
    rows = outcomes_frame(run_suite(SPEC, frame(p=[2.0, 0.1, 0.2]), version=7, partition="m@v"), run_id="r")
    assert rows.schema == OPS_QUALITY.polars_schema
    assert check(OPS_QUALITY, rows).counts == {}
    broken = rows.filter(~pl.col("passed"))
    assert broken.select("table", "version", "partition", "check", "severity", "run_id").rows() == [
        ("gold/things", 7, "m@v", "p_between", "critical", "r")
    ]


def test_no_outcomes_make_a_typed_empty_frame():
    assert outcomes_frame([]).schema == OPS_QUALITY.polars_schema


def test_only_a_failed_critical_outcome_blocks():
    def one(severity, passed):
        return QualityOutcome("t", 0, None, "n", "gx", severity, passed, 1)

    assert [one(s, p).blocks for s in ("critical", "warning", "info") for p in (True, False)] == [
        False,
        True,
        False,
        False,
        False,
        False,
    ]
