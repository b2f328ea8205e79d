"""Rules judged by polars, and the same rules judged by Delta."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from hypothesis import given
from hypothesis import strategies as st

from mld_pipelines.tables import (
    CATALOGUE,
    AtLeast,
    Between,
    Column,
    Finite,
    LengthIs,
    Matches,
    NotBefore,
    OneOf,
    TableSpec,
    check,
)

FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=32)


def spec_of(dtype: pl.DataType | type[pl.DataType], *rules: object, required: bool = False) -> TableSpec:
    return TableSpec(
        name="test/table", layer="ops", description="", key=("x",),
        columns=(Column("x", dtype, "x", required, tuple(rules)),),
    )  # fmt: skip


def verdicts(spec: TableSpec, values: list) -> list[bool]:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=spec.column("x").data_type)}).with_row_index()
    valid = set(check(spec, frame).valid["index"].to_list())
    return [row in valid for row in range(frame.height)]


@given(st.lists(st.none() | FLOATS, max_size=30))
def test_between_is_what_python_says(values):
    expected = [value is None or (not math.isnan(value) and 0.0 <= value <= 1.0) for value in values]
    assert verdicts(spec_of(pl.Float64, Finite(), Between(0.0, 1.0)), values) == expected


@given(st.lists(st.none() | FLOATS, max_size=30))
def test_finite_is_what_python_says(values):
    assert verdicts(spec_of(pl.Float64, Finite()), values) == [v is None or math.isfinite(v) for v in values]


@given(st.lists(st.none() | st.lists(FLOATS, max_size=4), max_size=15))
def test_finite_looks_into_lists(values):
    expected = [v is None or all(math.isfinite(e) for e in v) for v in values]
    assert verdicts(spec_of(pl.List(pl.Float32), Finite()), values) == expected


@given(st.lists(st.none() | st.lists(st.integers(-3, 3), max_size=4), max_size=15))
def test_at_least_looks_into_lists(values):
    expected = [v is None or all(e >= 0 for e in v) for v in values]
    assert verdicts(spec_of(pl.List(pl.Int64), AtLeast(0)), values) == expected


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=30))
def test_at_least_is_what_python_says(values):
    assert verdicts(spec_of(pl.Int64, AtLeast(0)), values) == [v is None or v >= 0 for v in values]


@given(st.lists(st.none() | st.sampled_from(["a", "b", "A", "", "a "]), max_size=20))
def test_one_of_is_what_python_says(values):
    assert verdicts(spec_of(pl.String, OneOf(("a", "b"))), values) == [v is None or v in ("a", "b") for v in values]


@given(st.lists(st.none() | st.text(max_size=5), max_size=20))
def test_length_counts_characters_not_bytes(values):
    assert verdicts(spec_of(pl.String, LengthIs(1, 3)), values) == [v is None or 1 <= len(v) <= 3 for v in values]


@given(st.lists(st.none() | st.lists(st.integers(0, 9), max_size=5), max_size=20))
def test_length_counts_elements(values):
    expected = [v is None or 1 <= len(v) <= 3 for v in values]
    assert verdicts(spec_of(pl.List(pl.Int64), LengthIs(1, 3)), values) == expected


@given(st.lists(st.none() | st.dates(), max_size=20))
def test_not_before_is_what_python_says(values):
    first = date(2020, 1, 1)
    assert verdicts(spec_of(pl.Date, NotBefore(first)), values) == [v is None or v >= first for v in values]


def test_not_before_judges_instants_by_the_start_of_the_day():
    instants = [datetime(2019, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)]
    assert verdicts(spec_of(pl.Datetime("us", "UTC"), NotBefore(date(2020, 1, 1))), instants) == [False, True]


def test_a_length_is_described_in_the_unit_of_its_column():
    columns = [column for spec in CATALOGUE.values() for column in spec.columns]
    found = {(column.data_type.is_nested(), rule.describe()) for column in columns for rule in column.rules
             if isinstance(rule, LengthIs)}  # fmt: skip
    assert found
    assert all(text.endswith("elements" if is_list else "characters") for is_list, text in found)


@pytest.mark.parametrize("value", ["m@v", "m@", "@v", "m", "a@b@c", "m@v\n", "\nm@v", ""])
def test_matches_means_the_whole_text(value):
    rule = Matches(r"^[^@]+@[^@]+$", "`name@version`")
    assert verdicts(spec_of(pl.String, rule), [value]) == [re.fullmatch(r"[^@]+@[^@]+", value) is not None]


def test_required_refuses_null():
    assert verdicts(spec_of(pl.Int64, required=True), [1, None]) == [True, False]


def test_the_first_broken_rule_and_all_counts_are_reported():
    spec = spec_of(pl.Float64, Finite(), Between(0.0, 1.0))
    checked = check(spec, pl.DataFrame({"x": [0.5, 2.0, float("inf"), float("nan")]}))
    assert checked.valid["x"].to_list() == [0.5]
    assert checked.invalid["_rule"].to_list() == ["x|between", "x|finite", "x|finite"]
    assert checked.invalid["_reason"][0] == "value of column 'x' breaks the rule 'between'"
    assert checked.counts == {"x|finite": 2, "x|between": 3}


def test_valid_and_invalid_rows_keep_their_order():
    checked = check(spec_of(pl.Int64, AtLeast(0)), pl.DataFrame({"x": [3, -1, 2, -5, 1]}))
    assert (checked.valid["x"].to_list(), checked.invalid["x"].to_list()) == ([3, 2, 1], [-1, -5])


def test_a_frame_without_rows_is_valid():
    spec = spec_of(pl.Int64, AtLeast(0))
    checked = check(spec, spec.empty())
    assert (checked.valid.height, checked.invalid.height, checked.counts) == (0, 0, {})


@pytest.mark.parametrize(
    ("dtype", "rule", "values"),
    [
        (pl.Float64, Between(0.0, 1.0), [None, -0.5, 0.0, 1.0, 1.5]),
        (pl.Int64, AtLeast(0), [None, -1, 0, 1]),
        (pl.Int64, Between(0, 23), [None, -1, 0, 23, 24]),
        (pl.String, OneOf(("a", "it's")), [None, "a", "it's", "b"]),
    ],
)
def test_delta_and_polars_agree_on_every_value(tmp_path, dtype, rule, values):
    spec = spec_of(dtype, rule)
    path = str(tmp_path / "table")
    write_deltalake(path, spec.empty())
    DeltaTable(path).alter.add_constraint(spec.constraints)

    def delta_accepts(value: object) -> bool:
        try:
            write_deltalake(path, pl.DataFrame({"x": pl.Series([value], dtype=dtype)}), mode="append")
        except DeltaError:
            return False
        return True

    assert [delta_accepts(value) for value in values] == verdicts(spec, values)
