"""`TableSpec`: alignment without casts, self-contradictions, constraints."""

from __future__ import annotations

import polars as pl
import pytest

from mld_pipelines.exceptions import ContractError
from mld_pipelines.tables import SCHEMA_VERSION, AtLeast, Between, Column, Finite, OneOf, TableSpec, Unique

SPEC = TableSpec(
    name="test/table",
    layer="silver",
    description="A table.",
    columns=(
        Column("schema_version", pl.Int32, "Version", True),
        Column("name", pl.String, "Name", True),
        Column("count", pl.Int64, "Count", rules=(AtLeast(0),)),
        Column("share", pl.Float64, "Share", rules=(Finite(), Between(0.0, 1.0))),
        Column("kind", pl.String, "Kind", rules=(OneOf(("a", "it's")),)),
        Column("vector", pl.List(pl.Float32), "Vector", rules=(AtLeast(0.0),), vector=True),
    ),
    key=("name",),
)


def test_alignment_orders_columns_and_fills_typed_nulls():
    frame = SPEC.align(pl.DataFrame({"count": [1], "name": ["x"]}))
    assert frame.schema == SPEC.polars_schema
    assert frame.row(0) == (SCHEMA_VERSION, "x", 1, None, None, None)


def test_alignment_keeps_a_given_schema_version():
    frame = SPEC.align(pl.DataFrame({"name": ["x"], "schema_version": pl.Series([7], dtype=pl.Int32)}))
    assert frame["schema_version"].to_list() == [7]


def test_an_untyped_null_column_takes_the_declared_type():
    assert SPEC.align(pl.DataFrame({"name": ["x"], "vector": [None]})).schema == SPEC.polars_schema


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("count", pl.Series([1.0]), "'count' is Float64, declared Int64"),
        ("count", pl.Series([1], dtype=pl.Int32), "'count' is Int32, declared Int64"),
        ("count", pl.Series([1], dtype=pl.UInt64), "'count' is UInt64"),
        ("share", pl.Series([1.0], dtype=pl.Float32), "'share' is Float32, declared Float64"),
        ("share", pl.Series(["0.5"]), "'share' is String"),
        ("vector", pl.Series([[1.0]]), r"'vector' is List\(Float64\)"),
        ("vector", pl.Series([[1.0]], dtype=pl.Array(pl.Float32, 1)), "'vector' is Array"),
        ("kind", pl.Series(["a"], dtype=pl.Categorical), "'kind' is Categorical"),
    ],
)
def test_alignment_refuses_every_cast(column, values, message):
    with pytest.raises(ContractError, match=message):
        SPEC.align(pl.DataFrame({"name": ["x"], column: values}))


def test_alignment_names_all_problems_at_once():
    with pytest.raises(ContractError) as caught:
        SPEC.align(pl.DataFrame({"count": ["x"], "other": [1]}))
    for part in (
        "unknown column 'other'",
        "required column 'name' is missing",
        "'count' is String",
        "nothing was written",
    ):
        assert part in str(caught.value)


def test_an_empty_frame_is_aligned():
    assert SPEC.align(pl.DataFrame({"name": []}, schema={"name": pl.String})).equals(SPEC.empty())


def test_constraints_let_null_pass_and_quote_text():
    assert SPEC.constraints == {
        "count_at_least": "count IS NULL OR count >= 0",
        "share_between": "share IS NULL OR (share >= 0.0 AND share <= 1.0)",
        "kind_one_of": "kind IS NULL OR kind IN ('a', 'it''s')",
    }


def test_a_column_declared_twice_is_refused():
    column = Column("x", pl.Int64, "x")
    with pytest.raises(ContractError, match="twice"):
        TableSpec(name="t/t", layer="ops", description="", columns=(column, column), key=("x",))


@pytest.mark.parametrize("field", ["key", "partition_by", "zorder"])
def test_references_to_undeclared_columns_are_refused(field):
    declared = {"key": ("x",), field: ("y",)}
    with pytest.raises(ContractError, match="undeclared columns"):
        TableSpec(name="t/t", layer="ops", description="", columns=(Column("x", pl.Int64, "x"),), **declared)


def test_an_unknown_column_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ContractError, match=r"no column 'nothing'; it has \['schema_version'"):
        SPEC.column("nothing")


def test_unique_describes_itself():
    assert Unique(("a", "b")).describe() == "unique: `a`, `b`"
