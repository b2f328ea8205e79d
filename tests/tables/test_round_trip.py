"""Every declared table survives the way to disk and back: spec → Delta → scan."""

from __future__ import annotations

import json

import polars as pl
import pytest
from deltalake import DeltaTable

from mld_pipelines.lake import Lake
from mld_pipelines.tables import CATALOGUE, Column, TableSpec, check

ALL = pytest.mark.parametrize("spec", CATALOGUE.values(), ids=CATALOGUE)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"), code_version="test")


def write(lake: Lake, spec: TableSpec, frame: pl.DataFrame) -> None:
    done = lake.append(spec, frame)
    assert (done.rows, done.quarantined) == (frame.height, 0)


@ALL
def test_a_table_reads_back_as_it_was_written(lake, spec, sample):
    frame = sample(spec)
    write(lake, spec, frame)
    assert pl.scan_delta(DeltaTable(lake.uri(spec))).collect_schema().to_python().keys() == spec.polars_schema.keys()
    assert dict(pl.scan_delta(DeltaTable(lake.uri(spec))).collect_schema()) == dict(spec.polars_schema)
    order = [name for name in spec.column_names if not spec.column(name).data_type.is_nested()]
    stored = lake.read(spec)
    assert stored.schema == spec.polars_schema
    assert stored.sort(order).equals(spec.align(frame).sort(order))
    assert lake.changes(spec, since=0).sort(order).equals(stored.sort(order))


@ALL
def test_optional_columns_hold_null(lake, spec, sample):
    frame = sample(spec).select(column.name for column in spec.columns if column.required)
    write(lake, spec, frame)
    optional = [column.name for column in spec.columns if not column.required]
    assert [lake.read(spec)[name].null_count() for name in optional] == [3] * len(optional)


@ALL
def test_the_delta_schema_says_what_is_required_and_what_it_means(lake, spec, sample):
    write(lake, spec, sample(spec))
    fields = json.loads(DeltaTable(lake.uri(spec)).schema().to_json())["fields"]
    assert [field["name"] for field in fields] == spec.column_names
    for field in fields:
        column = spec.column(field["name"])
        assert field["nullable"] is not column.required
        assert field["metadata"]["comment"] == column.description


@ALL
def test_every_constraint_is_accepted_by_delta_and_by_the_valid_rows(lake, spec, sample):
    write(lake, spec, sample(spec))
    table = DeltaTable(lake.uri(spec))
    stored = {key for key in table.metadata().configuration if key.startswith("delta.constraints.")}
    assert stored == {f"delta.constraints.{name}" for name in spec.constraints}
    assert table.metadata().partition_columns == list(spec.partition_by)


@ALL
def test_the_contract_accepts_valid_rows(spec: TableSpec, sample):
    checked = check(spec, spec.align(sample(spec)))
    assert checked.invalid.is_empty()
    assert checked.counts == {}


@ALL
def test_declarations_are_complete(spec: TableSpec):
    assert spec.description.endswith((".", "…"))
    assert spec.writer
    assert spec.key
    assert all(column.description for column in spec.columns)
    assert {name for rule in spec.rules for name in rule.columns} <= set(spec.column_names)
    assert all(spec.column(name).required for name in spec.partition_by)


@ALL
def test_vectors_come_last_among_each_tables_columns(spec: TableSpec):
    # Statistics are collected for the first columns only.
    kinds = [column.vector for column in spec.columns]
    assert kinds == sorted(kinds)


def test_names_of_tables_are_folders():
    for name, spec in CATALOGUE.items():
        assert name == spec.name
        group, table = name.split("/")
        assert (group + table).replace("_", "").isalpha()
        assert spec.group == group


def test_no_two_tables_disagree_on_the_type_of_a_column():
    types: dict[str, set[str]] = {}
    for spec in CATALOGUE.values():
        for name, dtype in spec.polars_schema.items():
            types.setdefault(name, set()).add(str(dtype))
    different = {name: found for name, found in types.items() if len(found) > 1}
    # an alert's severity is a word, a corruption's a number
    assert different.keys() <= {"row", "hour", "metrics", "version", "severity"}, different


def test_a_column_knows_its_instance_dtype():
    assert Column("x", pl.Int64, "x").data_type == pl.Int64()
    assert Column("x", pl.List(pl.Float32), "x").data_type == pl.List(pl.Float32)
