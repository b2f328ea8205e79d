"""What delta-rs 1.6 and polars 2.1 really do, and that the lake fences it; also an alarm for their upgrades.

Each test is named after the trap in the platform notes (3.2 casts and constraints, 3.3 transactions, 3.4 types,
3.5 maintenance).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, DeltaProtocolError, SchemaMismatchError

from mld_pipelines.exceptions import ContractError, InvalidInputError
from mld_pipelines.lake import Batch
from mld_pipelines.lake._schema import delta_schema
from mld_pipelines.tables import CATALOGUE, LANDING_TRACES, OPS_QUARANTINE, TRACES_INPUTS, Column

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "plain")


def test_trap_3_2_1_lossy_casts_are_silent(path, lake, rows):
    write_deltalake(path, pl.DataFrame({"n": [1]}, schema={"n": pl.Int32}))
    write_deltalake(path, pl.DataFrame({"n": [1.7]}), mode="append")
    assert sorted(DeltaTable(path).scan().read_all().column("n").to_pylist()) == [1, 1]

    with pytest.raises(ContractError, match="'row' is Float64, declared Int32"):
        lake.append(LANDING_TRACES, rows().with_columns(row=pl.Series([0.0, 1.7, 2.0])))
    with pytest.raises(ContractError, match="'seq' is Int32, declared Int64"):
        lake.append(LANDING_TRACES, rows().with_columns(pl.col("seq").cast(pl.Int32)))
    assert lake.version(LANDING_TRACES) is None


def test_trap_3_2_1_text_is_parsed_into_numbers(path, lake, rows):
    write_deltalake(path, pl.DataFrame({"x": [1.0]}))
    write_deltalake(path, pl.DataFrame({"x": ["1.5"]}), mode="append")
    assert sorted(DeltaTable(path).scan().read_all().column("x").to_pylist()) == [1.0, 1.5]

    with pytest.raises(ContractError, match="'confidence' is String"):
        lake.append(LANDING_TRACES, rows().with_columns(confidence=pl.lit("0.5")))


def test_trap_3_2_2_a_missing_nullable_column_is_an_error(path, lake, rows):
    write_deltalake(path, pl.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises((SchemaMismatchError, DeltaError)):
        write_deltalake(path, pl.DataFrame({"a": [1]}), mode="append")

    lake.append(LANDING_TRACES, rows().drop("label", "logits", "n_epoch"))
    assert lake.read(LANDING_TRACES).select("label", "logits", "n_epoch").null_count().row(0) == (3, 3, 3)


def test_trap_3_2_3_null_fails_a_constraint_and_nan_passes(path, lake, rows):
    write_deltalake(path, pl.DataFrame({"v": [1.0]}))
    DeltaTable(path).alter.add_constraint({"positive": "v >= 0"})
    with pytest.raises(DeltaError):
        write_deltalake(path, pl.DataFrame({"v": [None]}, schema={"v": pl.Float64}), mode="append")
    write_deltalake(path, pl.DataFrame({"v": [float("nan")]}), mode="append")

    frame = rows().with_columns(confidence=pl.Series([None, float("nan"), 0.5], dtype=pl.Float32))
    commit = lake.append(LANDING_TRACES, frame)
    assert (commit.rows, commit.quarantined) == (2, 1)
    assert lake.read(OPS_QUARANTINE)["rule"].to_list() == ["confidence|finite"]


def test_trap_3_2_4_constraints_cannot_be_given_at_creation(path, lake, rows):
    with pytest.raises(DeltaError, match="Error parsing property"):
        DeltaTable.create(
            path, schema=delta_schema([Column("v", pl.Int64, "")]), configuration={"delta.constraints.c": "v > 0"}
        )

    lake.append(LANDING_TRACES, rows())
    stored = DeltaTable(lake.uri(LANDING_TRACES)).metadata().configuration
    assert {f"delta.constraints.{name}" for name in LANDING_TRACES.constraints} <= set(stored)


def test_trap_3_2_4_constraints_are_enforced_on_writers_that_bypass_the_lake(lake, rows):
    lake.append(LANDING_TRACES, rows())
    with pytest.raises(DeltaError, match="confidence"):
        write_deltalake(
            lake.uri(LANDING_TRACES), rows().with_columns(confidence=pl.lit(2.0, dtype=pl.Float32)), mode="append"
        )


def test_trap_3_2_5_append_only_refuses_delete_and_overwrite_but_compacts(lake, rows):
    for seq in range(3):
        lake.append(LANDING_TRACES, rows(seq=seq))
    table = DeltaTable(lake.uri(LANDING_TRACES))
    with pytest.raises((CommitFailedError, DeltaError)):
        table.delete()
    with pytest.raises((CommitFailedError, DeltaError)):
        write_deltalake(table, rows(), mode="overwrite")

    with pytest.raises(InvalidInputError, match="append-only"):
        lake.replace(LANDING_TRACES, rows(), where={"ingest_day": date(2026, 11, 21)})
    assert lake.compact(LANDING_TRACES, min_files=2).files_removed == 3
    assert lake.read(LANDING_TRACES).height == 9


def test_trap_3_2_6_required_fields_refuse_null(lake, rows):
    broken = rows().with_columns(stream_id=pl.Series(["a", None, "c"]))
    lake.append(LANDING_TRACES, rows())
    with pytest.raises(DeltaError):
        write_deltalake(lake.uri(LANDING_TRACES), broken, mode="append")

    commit = lake.append(LANDING_TRACES, broken)
    assert (commit.rows, commit.quarantined) == (2, 1)


def test_trap_3_2_7_naive_times_are_refused(path, lake, rows):
    write_deltalake(path, pl.DataFrame({"t": [datetime(2026, 1, 1, tzinfo=UTC)]}))
    with pytest.raises((DeltaError, DeltaProtocolError)):
        write_deltalake(path, pl.DataFrame({"t": [datetime(2026, 1, 1)]}), mode="append")  # noqa: DTZ001

    with pytest.raises(ContractError, match="captured_at"):
        lake.append(LANDING_TRACES, rows().with_columns(captured_at=pl.lit(datetime(2026, 1, 1))))  # noqa: DTZ001


def test_trap_3_3_a_transaction_is_recorded_and_not_enforced(path, lake, rows):
    properties = CommitProperties(app_transactions=[Transaction("a", 5)])
    for _ in range(2):
        write_deltalake(path, pl.DataFrame({"x": [1]}), mode="append", commit_properties=properties)
    assert DeltaTable(path).count() == 2
    back = CommitProperties(app_transactions=[Transaction("a", 3)])
    write_deltalake(path, pl.DataFrame({"x": [1]}), mode="append", commit_properties=back)
    assert DeltaTable(path).transaction_version("a") == 3

    for _ in range(2):
        lake.commit_once(LANDING_TRACES, [Batch("s", 0, rows())])
    assert lake.read(LANDING_TRACES).height == 3


def test_trap_3_3_two_stale_handles_of_one_application_conflict(path):
    write_deltalake(path, pl.DataFrame({"x": [1]}))
    first, second = DeltaTable(path), DeltaTable(path)
    properties = CommitProperties(app_transactions=[Transaction("a", 1)], max_commit_retries=20)
    write_deltalake(first, pl.DataFrame({"x": [1]}), mode="append", commit_properties=properties)
    with pytest.raises(CommitFailedError):
        write_deltalake(second, pl.DataFrame({"x": [1]}), mode="append", commit_properties=properties)


def test_trap_3_3_a_stale_overwrite_passes_over_a_concurrent_append(path):
    # Why `Lake.upsert` guards its overwrite with a transaction.
    write_deltalake(path, pl.DataFrame({"x": [1]}))
    first, second = DeltaTable(path), DeltaTable(path)
    write_deltalake(first, pl.DataFrame({"x": [2]}), mode="append")
    write_deltalake(second, pl.DataFrame({"x": [3]}), mode="overwrite")
    assert sorted(DeltaTable(path).scan().read_all().column("x").to_pylist()) == [2, 3]


def test_trap_3_4_arrays_cannot_be_read_back(path, lake, rows):
    write_deltalake(path, pl.DataFrame({"v": [[1.0, 2.0]]}, schema={"v": pl.Array(pl.Float32, 2)}))
    with pytest.raises(Exception, match=r"Array|List"):
        pl.scan_delta(DeltaTable(path)).with_columns(pl.col("v").arr.get(0)).collect()

    with pytest.raises(ContractError, match="'feature' is Array"):
        lake.append(LANDING_TRACES, rows().with_columns(pl.col("feature").list.to_array(2)))


def test_trap_3_4_unsigned_and_categorical_columns_are_refused(lake, rows):
    with pytest.raises(ContractError, match="UInt64"):
        lake.append(LANDING_TRACES, rows().with_columns(label=pl.Series([1, 2, 3], dtype=pl.UInt64)))
    with pytest.raises(ContractError, match="Categorical"):
        lake.append(LANDING_TRACES, rows().with_columns(pl.col("task").cast(pl.Categorical)))


def test_trap_3_4_a_column_of_nulls_gets_its_declared_type(lake, rows):
    lake.append(LANDING_TRACES, rows().with_columns(label=pl.lit(None), logits=pl.lit(None)))
    assert lake.read(LANDING_TRACES).schema == LANDING_TRACES.polars_schema


def test_trap_3_4_no_table_declares_a_type_that_delta_cannot_hold():
    refused = (pl.Array, pl.Categorical, pl.Enum, pl.Duration, pl.Time, pl.Decimal, pl.Null)
    for spec in CATALOGUE.values():
        for name, dtype in spec.polars_schema.items():
            inner = dtype.inner if isinstance(dtype, pl.List) else dtype
            assert not isinstance(inner, refused), f"{spec.name}.{name}"
            assert not inner.is_unsigned_integer(), f"{spec.name}.{name}"


def test_trap_3_4_statistics_are_kept_for_what_files_are_skipped_by_and_nothing_else(lake, rows):
    lake.append(LANDING_TRACES, rows(seq=7))
    actions = pl.DataFrame(DeltaTable(lake.uri(LANDING_TRACES)).get_add_actions(flatten=True))
    assert actions["max.seq"].to_list() == [7]
    assert actions["min.model_key"].to_list() == actions["max.model_key"].to_list() == rows()["model_key"][:1].to_list()
    assert actions["min.captured_at"].null_count() == 0
    # every further column makes every later commit dearer, and those of lists are wrong
    assert not {"max.confidence", "min.feature", "max.feature", "min.logits", "max.logits"} & set(actions.columns)


def test_trap_3_1_partition_values_survive_quotes_unicode_and_separators(lake, rows):
    keys = ["a/b c=ü%20&#x?@v", "日本語@v", "o'brien@v", 'q"q@v', "plain@v"]
    for key in keys:
        lake.replace(TRACES_INPUTS, rows(key=key), where={"model_key": key})
        lake.replace(TRACES_INPUTS, rows(2, key=key), where={"model_key": key})
    for key in keys:
        assert lake.read(TRACES_INPUTS, model_key=key).height == 2
    counted = lake.changes(TRACES_INPUTS, since=0).group_by("model_key").len()
    assert dict(counted.iter_rows()) == dict.fromkeys(keys, 5)


def test_trap_local_paths_are_percent_encoded_by_delta(tmp_path, rows):
    from mld_pipelines.lake import Lake

    root = tmp_path / "a b" / "ü日本 #1 & 50%"
    lake = Lake(str(root), code_version="test")
    lake.append(LANDING_TRACES, rows())
    with pytest.raises(FileNotFoundError):
        pl.scan_delta(DeltaTable(lake.uri(LANDING_TRACES))).collect()

    assert lake.read(LANDING_TRACES).height == 3
    assert (root / "landing" / "traces" / "_delta_log").is_dir()


def test_trap_an_update_does_not_notice_that_a_table_was_made_anew(path):
    # Why the lake compares the identity of the first log file.
    import shutil

    for _ in range(5):
        write_deltalake(path, pl.DataFrame({"x": [1]}), mode="append")
    handle = DeltaTable(path)
    shutil.rmtree(path)
    write_deltalake(path, pl.DataFrame({"x": [1]}))
    handle.update_incremental()
    assert handle.version() == 4
