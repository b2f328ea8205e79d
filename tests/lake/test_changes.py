"""`Lake.changes`: what was added after a version, through compaction, replacement and clean-up."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import ContractError, VersionUnavailableError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_TRACES, OPS_PROMOTIONS, TIMESTAMP, TRACES_INPUTS

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def seqs(frame: pl.DataFrame) -> list[int]:
    return frame["seq"].unique(maintain_order=True).to_list()


def test_only_rows_after_the_version_come_back_oldest_first(lake, rows):
    versions = [lake.append(LANDING_TRACES, rows(seq=seq)).version for seq in range(5)]
    assert seqs(lake.changes(LANDING_TRACES, since=versions[1])) == [2, 3, 4]
    assert lake.changes(LANDING_TRACES, since=versions[4]).is_empty()


def test_changes_have_the_declared_schema_even_when_there_are_none(lake, rows):
    assert lake.changes(LANDING_TRACES, since=None).schema == LANDING_TRACES.polars_schema
    version = lake.append(LANDING_TRACES, rows()).version
    assert lake.changes(LANDING_TRACES, since=version).schema == LANDING_TRACES.polars_schema
    assert lake.changes(LANDING_TRACES, since=0).schema == LANDING_TRACES.polars_schema


def test_changes_equal_the_rows_that_were_written(lake, rows):
    lake.append(LANDING_TRACES, rows(seq=0))
    version = lake.version(LANDING_TRACES)
    frame = rows(5, seq=1).with_columns(n_epoch=pl.lit(3, dtype=pl.Int64))
    lake.append(LANDING_TRACES, frame)
    assert lake.changes(LANDING_TRACES, since=version).equals(frame)


def test_a_compaction_adds_no_rows(lake, rows):
    versions = [lake.append(LANDING_TRACES, rows(seq=seq)).version for seq in range(4)]
    assert lake.compact(LANDING_TRACES, min_files=2).files_removed == 4
    assert lake.changes(LANDING_TRACES, since=versions[3]).is_empty()
    assert seqs(lake.changes(LANDING_TRACES, since=versions[0])) == [1, 2, 3]


def test_until_bounds_the_range_so_that_cursors_meet(lake, rows):
    versions = [lake.append(LANDING_TRACES, rows(seq=seq)).version for seq in range(5)]
    first = lake.changes(LANDING_TRACES, since=None, until=versions[1])
    second = lake.changes(LANDING_TRACES, since=versions[1], until=versions[3])
    assert (sorted(seqs(first)), seqs(second)) == ([0, 1], [2, 3])


def test_a_replaced_partition_brings_its_new_rows(lake, rows):
    lake.replace(TRACES_INPUTS, rows(), where={"model_key": "m@v"})
    version = lake.version(TRACES_INPUTS)
    lake.replace(TRACES_INPUTS, rows(1, seq=9), where={"model_key": "m@v"})
    assert seqs(lake.changes(TRACES_INPUTS, since=version)) == [9]


def test_a_cursor_of_another_lake_is_refused(lake, rows):
    lake.append(LANDING_TRACES, rows())
    with pytest.raises(VersionUnavailableError, match="newest is"):
        lake.changes(LANDING_TRACES, since=99)


def test_a_cleaned_log_is_an_error_or_a_full_read(lake, rows):
    for seq in range(4):
        lake.append(LANDING_TRACES, rows(seq=seq))
    since = lake.version(LANDING_TRACES) - 2
    DeltaTable(lake.uri(LANDING_TRACES)).create_checkpoint()
    Path(lake.uri(LANDING_TRACES), "_delta_log", f"{since + 1:020d}.json").unlink()
    with pytest.raises(VersionUnavailableError, match="read the whole table once"):
        lake.changes(LANDING_TRACES, since=since)
    assert lake.changes(LANDING_TRACES, since=since, reread=True).height == 12


def test_vacuumed_files_are_an_error_or_a_full_read(lake, rows):
    for seq in range(3):
        lake.append(LANDING_TRACES, rows(seq=seq))
    lake.compact(LANDING_TRACES, min_files=2)
    DeltaTable(lake.uri(LANDING_TRACES)).vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(VersionUnavailableError, match="vacuumed"):
        lake.changes(LANDING_TRACES, since=0)
    assert lake.changes(LANDING_TRACES, since=0, reread=True).height == 9


def test_a_lazy_frame_keeps_its_version_while_writers_go_on(lake, rows):
    lake.append(LANDING_TRACES, rows(seq=0))
    lazy = lake.scan(LANDING_TRACES)
    lake.append(LANDING_TRACES, rows(seq=1))
    lake.compact(LANDING_TRACES, min_files=2)
    assert lazy.collect().height == 3
    assert lake.scan(LANDING_TRACES).collect().height == 6


def test_an_older_version_can_be_read(lake, rows):
    versions = [lake.append(LANDING_TRACES, rows(seq=seq)).version for seq in range(3)]
    assert sorted(seqs(lake.read(LANDING_TRACES, version=versions[1]))) == [0, 1]
    for missing in (99, -1):
        with pytest.raises(VersionUnavailableError, match=f"no version {missing} .* versions are 0 … {versions[-1]}"):
            lake.read(LANDING_TRACES, version=missing)


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ({"seq": 1}, 3),
        ({"seq": [0, 1]}, 6),
        ({"n_epoch": None}, 9),
        ({"n_epoch": [None, 7]}, 9),
        ({"seq": 1, "row": 0}, 1),
    ],
)
def test_conditions_select_values_lists_and_nulls(lake, rows, condition, count):
    for seq in range(3):
        lake.append(LANDING_TRACES, rows(seq=seq))
    assert lake.read(LANDING_TRACES, **condition).height == count


def test_a_condition_on_an_unknown_column_is_an_error(lake):
    with pytest.raises(ContractError, match="no column 'nothing'"):
        lake.read(LANDING_TRACES, nothing=1)


def promotion(number: int) -> pl.DataFrame:
    return pl.DataFrame({"result_name": [str(number)]}).with_columns(
        model_key=pl.lit("m@v"), promoted_by=pl.lit("me"), promoted_at=pl.lit(MOMENT, dtype=TIMESTAMP)
    )


STEPS = st.lists(
    st.sampled_from(["append", "append", "append elsewhere", "compact", "compact elsewhere", "vacuum", "follow"]),
    min_size=12,
    max_size=24,
)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(steps=STEPS)
def test_a_follower_sees_every_row_once_whatever_happens_to_the_files(steps):
    with tempfile.TemporaryDirectory() as folder:
        writer, elsewhere, reader = (Lake(folder, code_version=name) for name in "wer")
        written, seen, cursor = 0, [], None
        for step in [*steps, "follow"]:
            lake = elsewhere if step.endswith("elsewhere") else writer
            if step.startswith("append"):
                lake.append(OPS_PROMOTIONS, promotion(written))
                written += 1
            elif step.startswith("compact"):
                lake.compact(OPS_PROMOTIONS, min_files=2)
            elif step == "vacuum":
                lake.vacuum(OPS_PROMOTIONS, retention=timedelta(days=7))
            else:
                until = reader.version(OPS_PROMOTIONS)
                seen += reader.changes(OPS_PROMOTIONS, since=cursor, until=until)["result_name"].to_list()
                cursor = until
        assert sorted(seen, key=int) == [str(number) for number in range(written)]
        assert reader.read(OPS_PROMOTIONS).height == written


@pytest.mark.parametrize("columns", [["label"], ["ingest_day"], ["seq", "ingest_day", "row"]])
def test_changes_read_the_columns_that_were_asked_for(lake, rows, columns):
    version = lake.append(LANDING_TRACES, rows(seq=0)).version
    lake.append(LANDING_TRACES, rows(seq=1))
    narrow = lake.changes(LANDING_TRACES, since=version, columns=columns)
    assert narrow.columns == columns
    assert narrow.equals(rows(seq=1).select(columns))
    assert lake.changes(LANDING_TRACES, since=version + 1, columns=columns).columns == columns
