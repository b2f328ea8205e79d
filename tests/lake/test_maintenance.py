"""Compaction, vacuum, log clean-up."""

from __future__ import annotations

import os
import threading
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from mld_pipelines.exceptions import InvalidInputError, VersionUnavailableError
from mld_pipelines.lake import Batch, Lake
from mld_pipelines.lake import _maintenance as maintenance
from mld_pipelines.tables import LANDING_TRACES, TRACES_INPUTS


@pytest.fixture
def no_floor(monkeypatch):
    """Let a test vacuum files of this second."""
    monkeypatch.setattr(maintenance, "MINIMUM_RETENTION", timedelta(0))


def test_only_crowded_partitions_are_compacted(lake, rows):
    for seq in range(4):
        lake.append(LANDING_TRACES, rows(seq=seq, day=date(2026, 1, 1)))
    lake.append(LANDING_TRACES, rows(seq=9, day=date(2026, 1, 2)))
    done = lake.compact(LANDING_TRACES, min_files=3)
    assert (done.partitions, done.files_removed, done.files_added) == (1, 4, 1)
    assert lake.files(LANDING_TRACES).group_by("ingest_day").len().sort("ingest_day")["len"].to_list() == [1, 1]
    assert lake.read(LANDING_TRACES).height == 15


def test_below_the_threshold_nothing_is_compacted(lake, rows):
    version = lake.append(LANDING_TRACES, rows()).version
    assert lake.compact(LANDING_TRACES).partitions == 0
    assert lake.version(LANDING_TRACES) == version


def test_compaction_of_partitions_with_difficult_names(lake, rows):
    for key in ("o'brien@1", "日本 ü/%20@1"):
        for seq in range(3):
            lake.append(TRACES_INPUTS, rows(seq=seq, key=key))
    assert lake.compact(TRACES_INPUTS, min_files=2).files_removed == 6
    assert lake.read(TRACES_INPUTS, model_key="o'brien@1").height == 9


def test_a_missing_table_needs_no_maintenance(lake):
    assert lake.compact(LANDING_TRACES).partitions == 0
    assert lake.vacuum(LANDING_TRACES).files == ()


def test_compaction_beside_writers_loses_and_doubles_nothing(lake, rows):
    stop, failures = threading.Event(), []

    def compact() -> None:
        other = Lake(lake.root, code_version="maintenance")
        while not stop.is_set():
            try:
                other.compact(LANDING_TRACES, min_files=2)
            except Exception as error:
                failures.append(error)
            time.sleep(0.005)

    worker = threading.Thread(target=compact)
    worker.start()
    for seq in range(30):
        lake.commit_once(LANDING_TRACES, [Batch("s", seq, rows(seq=seq))])
    stop.set()
    worker.join()
    assert failures == []
    stored = lake.read(LANDING_TRACES)
    assert (stored.height, stored["input_id"].n_unique()) == (90, 90)


def test_compaction_beside_replacements_leaves_the_last_one(lake, rows):
    other = Lake(lake.root, code_version="maintenance")
    for seq in range(6):
        lake.append(TRACES_INPUTS, rows(seq=seq))
        if seq % 2:
            other.compact(TRACES_INPUTS, min_files=2)
        lake.replace(TRACES_INPUTS, rows(seq=100 + seq), where={"model_key": "m@v"})
    assert lake.read(TRACES_INPUTS)["seq"].unique().to_list() == [105]


@pytest.mark.parametrize("hours", [0, 1, 167])
def test_a_short_retention_is_refused(lake, rows, hours):
    lake.append(LANDING_TRACES, rows())
    with pytest.raises(InvalidInputError, match="shorter than"):
        lake.vacuum(LANDING_TRACES, retention=timedelta(hours=hours))


def test_vacuum_deletes_what_nothing_refers_to(lake, rows, no_floor):
    for seq in range(3):
        lake.replace(TRACES_INPUTS, rows(seq=seq), where={"model_key": "m@v"})
    listed = lake.vacuum(TRACES_INPUTS, retention=timedelta(0), dry_run=True)
    assert listed.dry_run
    assert len(listed.files) == 2
    assert len(list(Path(lake.uri(TRACES_INPUTS)).rglob("part-*.parquet"))) == 3
    assert lake.vacuum(TRACES_INPUTS, retention=timedelta(0)).files == listed.files
    assert len(list(Path(lake.uri(TRACES_INPUTS)).rglob("part-*.parquet"))) == 1
    assert lake.read(TRACES_INPUTS)["seq"].unique().to_list() == [2]


def test_vacuum_keeps_pinned_versions_until_they_are_unpinned(lake, rows, no_floor):
    versions = [lake.replace(TRACES_INPUTS, rows(seq=seq), where={"model_key": "m@v"}).version for seq in range(4)]
    lake.pin("result", {"traces/inputs": versions[1]})
    assert lake.vacuum(TRACES_INPUTS, retention=timedelta(0)).kept_versions == (versions[1],)
    assert lake.read(TRACES_INPUTS, version=versions[1])["seq"].unique().to_list() == [1]
    with pytest.raises(VersionUnavailableError, match="vacuumed"):
        lake.read(TRACES_INPUTS, version=versions[0])

    lake.unpin("result")
    lake.vacuum(TRACES_INPUTS, retention=timedelta(0))
    with pytest.raises(VersionUnavailableError):
        lake.read(TRACES_INPUTS, version=versions[1])


def test_vacuum_ignores_pins_of_versions_that_never_were(lake, rows, no_floor):
    lake.replace(TRACES_INPUTS, rows(), where={"model_key": "m@v"})
    lake.pin("result", {"traces/inputs": 999, "landing/traces": 1})
    assert lake.vacuum(TRACES_INPUTS, retention=timedelta(0)).kept_versions == ()


def age_log(lake: Lake, days: int) -> None:
    moment = time.time() - days * 86_400
    for path in Path(lake.uri(TRACES_INPUTS), "_delta_log").iterdir():
        os.utime(path, (moment, moment))


def test_the_log_of_pinned_versions_outlives_its_retention(lake, rows):
    versions = [lake.replace(TRACES_INPUTS, rows(seq=seq), where={"model_key": "m@v"}).version for seq in range(4)]
    lake.pin("result", {"traces/inputs": versions[0]})
    age_log(lake, 60)
    lake.vacuum(TRACES_INPUTS)
    assert Lake(lake.root, code_version="x").read(TRACES_INPUTS, version=versions[0])["seq"].unique().to_list() == [0]


def test_an_old_log_that_nothing_pins_is_cleaned_and_the_table_works_on(lake, rows):
    versions = [lake.replace(TRACES_INPUTS, rows(seq=seq), where={"model_key": "m@v"}).version for seq in range(4)]
    DeltaTable(lake.uri(TRACES_INPUTS)).create_checkpoint()
    lake.replace(TRACES_INPUTS, rows(seq=4), where={"model_key": "m@v"})
    age_log(lake, 60)
    lake.vacuum(TRACES_INPUTS)
    assert not Path(lake.uri(TRACES_INPUTS), "_delta_log", f"{0:020d}.json").exists()
    for view in (lake, Lake(lake.root, code_version="x")):
        assert view.read(TRACES_INPUTS)["seq"].unique().to_list() == [4]
        with pytest.raises(VersionUnavailableError):
            view.read(TRACES_INPUTS, version=versions[0])
    assert lake.replace(TRACES_INPUTS, rows(seq=5), where={"model_key": "m@v"}).rows == 3
    assert lake.read(TRACES_INPUTS)["seq"].unique().to_list() == [5]
