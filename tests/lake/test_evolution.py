"""Tables of other versions of the code: additive columns both ways, newer schemas, changed rules."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from mld_pipelines.exceptions import ContractError, ReadOnlyLakeError
from mld_pipelines.lake import Batch, Lake
from mld_pipelines.lake._schema import CONSTRAINTS_KEY, SCHEMA_VERSION_KEY
from mld_pipelines.tables import LANDING_TRACES, SCHEMA_VERSION, TRACES_INPUTS, AtLeast, Between, Column, TableSpec


def with_columns(spec: TableSpec, *columns: Column) -> TableSpec:
    return dataclasses.replace(spec, columns=(*spec.columns, *columns))


def without_columns(spec: TableSpec, *names: str) -> TableSpec:
    return dataclasses.replace(spec, columns=tuple(c for c in spec.columns if c.name not in names))


NEWER = with_columns(
    LANDING_TRACES,
    Column("weight", pl.Float64, "New", rules=(AtLeast(0.0),)),
    Column("source", pl.String, "New and required", required=True),
    Column("extra", pl.List(pl.Float32), "New vector", vector=True),
)


def test_a_column_younger_than_the_table_reads_as_typed_nulls(lake, rows):
    lake.append(LANDING_TRACES, rows())
    frame = lake.read(NEWER)
    assert frame.schema == NEWER.polars_schema
    assert frame.select("weight", "source", "extra").null_count().row(0) == (3, 3, 3)
    assert lake.read(NEWER, weight=None).height == 3
    assert lake.read(NEWER, weight=1.0).is_empty()


def test_the_first_write_of_newer_code_adds_its_columns_and_constraints(lake, rows):
    lake.append(LANDING_TRACES, rows())
    frame = rows(seq=1).with_columns(weight=pl.lit(2.0), source=pl.lit("x"))
    lake.append(NEWER, frame)
    assert sorted(lake.read(NEWER)["weight"].to_list(), key=str) == [2.0, 2.0, 2.0, None, None, None]
    bad = NEWER.align(frame.with_columns(weight=pl.lit(-1.0)))
    with pytest.raises(DeltaError, match="weight"):
        from deltalake import write_deltalake

        write_deltalake(lake.uri(NEWER), bad, mode="append")


def test_older_code_goes_on_writing_beside_a_newer_column(lake, rows):
    lake.append(NEWER, rows(seq=0).with_columns(weight=pl.lit(2.0), source=pl.lit("x")))
    older = without_columns(LANDING_TRACES, "input_uri")
    # `source` was created as required, so older code cannot leave it out; an optional column it can.
    optional = with_columns(LANDING_TRACES, Column("weight", pl.Float64, "New"))
    other = Lake(lake.root + "2", code_version="x")
    other.append(optional, rows(seq=0).with_columns(weight=pl.lit(2.0)))
    other.append(older, rows(seq=1).drop("input_uri"))
    assert other.read(optional).sort("seq")["weight"].to_list() == [2.0, 2.0, 2.0, None, None, None]
    assert other.read(older).schema == older.polars_schema


def test_changes_read_across_a_new_column(lake, rows):
    lake.append(LANDING_TRACES, rows(seq=0))
    lake.append(NEWER, rows(seq=1).with_columns(weight=pl.lit(2.0), source=pl.lit("x")))
    assert lake.changes(NEWER, since=0).sort("seq")["weight"].to_list() == [None, None, None, 2.0, 2.0, 2.0]
    assert lake.changes(LANDING_TRACES, since=0).schema == LANDING_TRACES.polars_schema


def test_a_table_of_newer_code_is_read_and_not_written(lake, rows):
    lake.append(LANDING_TRACES, rows())
    table = DeltaTable(lake.uri(LANDING_TRACES))
    table.alter.set_table_properties({SCHEMA_VERSION_KEY: str(SCHEMA_VERSION + 1)}, raise_if_not_exists=False)
    other = Lake(lake.root, code_version="old")
    assert other.read(LANDING_TRACES).height == 3
    for write in (
        lambda: other.append(LANDING_TRACES, rows()),
        lambda: other.commit_once(LANDING_TRACES, [Batch("s", 0, rows())]),
        lambda: other.compact(LANDING_TRACES, min_files=1) and other.vacuum(LANDING_TRACES),
    ):
        with pytest.raises(ReadOnlyLakeError, match="Upgrade mld-pipelines"):
            write()


def test_a_kept_writer_notices_that_the_table_was_upgraded(lake, rows):
    lake.append(LANDING_TRACES, rows())
    table = DeltaTable(lake.uri(LANDING_TRACES))
    table.alter.set_table_properties({SCHEMA_VERSION_KEY: str(SCHEMA_VERSION + 1)}, raise_if_not_exists=False)
    with pytest.raises(ReadOnlyLakeError):
        lake.append(LANDING_TRACES, rows(seq=1))


def test_a_changed_dtype_asks_for_a_migration(lake, rows):
    lake.append(LANDING_TRACES, rows())
    columns = tuple(
        dataclasses.replace(column, dtype=pl.Int64) if column.name == "input_uri" else column
        for column in LANDING_TRACES.columns
    )
    changed = dataclasses.replace(LANDING_TRACES, columns=columns)
    with pytest.raises(ContractError, match=r"input_uri is String, declared Int64.*mld lake migrate"):
        Lake(lake.root, code_version="x").append(changed, rows().drop("input_uri"))


def test_a_changed_rule_replaces_its_constraint(lake, rows):
    lake.append(LANDING_TRACES, rows())
    columns = tuple(
        dataclasses.replace(column, rules=(Between(0.0, 2.0),)) if column.name == "confidence" else column
        for column in LANDING_TRACES.columns
    )
    looser = dataclasses.replace(LANDING_TRACES, columns=columns)
    frame = rows(seq=1).with_columns(confidence=pl.lit(1.5, dtype=pl.Float32))
    assert Lake(lake.root, code_version="x").append(looser, frame).rows == 3


def test_a_table_whose_creation_was_cut_short_is_completed(lake, rows):
    from mld_pipelines.lake._schema import configuration, delta_schema

    DeltaTable.create(
        lake.uri(LANDING_TRACES),
        schema=delta_schema(LANDING_TRACES.columns),
        partition_by=list(LANDING_TRACES.partition_by),
        configuration=configuration(LANDING_TRACES),
    )
    lake.append(LANDING_TRACES, rows())
    stored = DeltaTable(lake.uri(LANDING_TRACES)).metadata().configuration
    assert {SCHEMA_VERSION_KEY, CONSTRAINTS_KEY, "delta.constraints.label_at_least"} <= set(stored)


def test_append_only_can_be_lifted_by_newer_code(lake, rows):
    strict = dataclasses.replace(TRACES_INPUTS, append_only=True)
    lake.append(strict, rows())
    other = Lake(lake.root, code_version="x")
    assert other.replace(TRACES_INPUTS, rows(1), where={"model_key": "m@v"}).rows == 1
    assert other.read(TRACES_INPUTS).height == 1
