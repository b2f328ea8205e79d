"""`Lake.changes`: what was added after a version, through compaction, replacement and clean-up."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
        with pytest.raises(VersionUnavailableError, match="cannot be read"):
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


class FollowedTable(RuleBasedStateMachine):
    """A reader follows a table by versions while writers append, compact and clean up."""

    @initialize()
    def open_lake(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.writer, self.other = (Lake(self.folder, code_version=name) for name in "ab")
        self.reader = Lake(self.folder, code_version="r")
        self.written = 0
        self.seen: list[str] = []
        self.cursor: int | None = None

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(n=st.integers(0, 3), other=st.booleans())
    def append(self, n: int, other: bool) -> None:
        names = pl.DataFrame(
            {"result_name": [str(self.written + row) for row in range(n)]}, schema={"result_name": pl.String}
        )
        frame = names.with_columns(
            model_key=pl.lit("m@v"), promoted_by=pl.lit("me"), promoted_at=pl.lit(MOMENT, dtype=TIMESTAMP)
        )
        (self.other if other else self.writer).append(OPS_PROMOTIONS, frame)
        self.written += n

    @rule(other=st.booleans())
    def compact(self, other: bool) -> None:
        (self.other if other else self.writer).compact(OPS_PROMOTIONS, min_files=2)

    @rule()
    def vacuum(self) -> None:
        self.writer.vacuum(OPS_PROMOTIONS, retention=timedelta(days=7))

    @rule()
    def follow(self) -> None:
        until = self.reader.version(OPS_PROMOTIONS)
        self.seen += self.reader.changes(OPS_PROMOTIONS, since=self.cursor, until=until)["result_name"].to_list()
        self.cursor = until

    @invariant()
    def nothing_is_seen_twice(self) -> None:
        if hasattr(self, "seen"):
            assert len(self.seen) == len(set(self.seen))

    @precondition(lambda self: self.written)
    @rule()
    def a_reader_that_catches_up_has_everything(self) -> None:
        self.follow()
        assert sorted(self.seen, key=int) == [str(number) for number in range(self.written)]
        assert self.reader.read(OPS_PROMOTIONS).height == self.written


TestFollowedTable = FollowedTable.TestCase
TestFollowedTable.settings = settings(
    max_examples=12, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
