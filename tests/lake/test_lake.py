"""The lake as a whole: where it lies, what it tells about itself, threads, processes and pickles."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from mld_pipelines.exceptions import ConfigurationError, InvalidInputError
from mld_pipelines.lake import Batch, Lake, Provenance
from mld_pipelines.lake._storage import Storage
from mld_pipelines.tables import CATALOGUE, LANDING_TRACES, OPS_MODELS, TRACES_INPUTS

REPOSITORY = Path(__file__).resolve().parents[2]


def test_an_empty_lake_has_typed_empty_tables(lake):
    for spec in CATALOGUE.values():
        assert lake.read(spec).schema == spec.polars_schema
        assert lake.scan(spec).collect_schema() == spec.polars_schema
        assert lake.version(spec) is None
        assert lake.mark(spec, "s") is None
        assert lake.files(spec).is_empty()
        assert lake.history(spec).is_empty()
    assert lake.tables().is_empty()
    assert not Path(lake.root).exists()


def test_reading_makes_no_folder(lake):
    lake.read(LANDING_TRACES)
    lake.changes(LANDING_TRACES, since=None)
    assert not Path(lake.root).exists()


def test_the_same_lake_opens_from_another_directory(tmp_path, monkeypatch, rows):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    Lake("a/lake", code_version="x").append(LANDING_TRACES, rows())
    monkeypatch.chdir(tmp_path / "a")
    assert Lake("lake", code_version="x").read(LANDING_TRACES).height == 3
    assert Lake(str(tmp_path / "a" / "lake") + "/", code_version="x").read(LANDING_TRACES).height == 3


def test_a_lake_works_after_its_folder_was_moved(tmp_path, rows):
    Lake(str(tmp_path / "old"), code_version="x").append(LANDING_TRACES, rows())
    (tmp_path / "old").rename(tmp_path / "new")
    moved = Lake(str(tmp_path / "new"), code_version="x")
    assert moved.read(LANDING_TRACES).height == 3
    assert moved.append(LANDING_TRACES, rows(seq=1)).rows == 3


def test_open_reads_the_endpoint_at_the_call(tmp_path, monkeypatch):
    monkeypatch.setenv("MLD_API_ENDPOINT", (tmp_path / "my lake").as_uri())
    assert Lake.open().root == str(tmp_path / "my lake")
    monkeypatch.delenv("MLD_API_ENDPOINT")
    assert Lake.open().root == str(Path(os.environ["MLD_HOME"]) / "lake")
    assert Lake.open("s3://bucket/lake/").root == "s3://bucket/lake"


@pytest.mark.parametrize("name", ["a%20b", "a[b]"])
def test_a_root_that_delta_would_mistake_is_refused(tmp_path, name):
    with pytest.raises(ConfigurationError, match="cannot address"):
        Lake(str(tmp_path / name), code_version="x")


def test_object_stores_commit_by_conditional_put():
    assert Storage("s3://bucket/lake").options["conditional_put"] == "etag"
    assert Storage("s3://bucket/lake", {"conditional_put": "x"}).options["conditional_put"] == "x"
    assert Storage("/data/lake").options == {}


def test_the_raw_log_reads_through_the_object_store_client(lake, rows):
    lake.append(LANDING_TRACES, rows())
    storage = Storage(lake.root)
    name = storage.commit_name(0)
    plain = storage.read("landing/traces", name)
    assert storage._read_object("landing/traces", name) == plain
    with pytest.raises(FileNotFoundError):
        storage._read_object("landing/traces", "_delta_log/none.json")


def test_a_table_that_was_deleted_under_a_running_process_is_made_anew(lake, rows):
    for seq in range(5):
        lake.append(LANDING_TRACES, rows(seq=seq))
    shutil.rmtree(lake.root)
    assert lake.read(LANDING_TRACES).is_empty()
    assert lake.commit_once(LANDING_TRACES, [Batch("s", 0, rows())]).rows == 3
    assert lake.read(LANDING_TRACES).height == 3


@pytest.mark.parametrize("n", [1, 5, 9])
def test_a_table_that_another_process_made_anew_is_noticed(lake, rows, n):
    for seq in range(5):
        lake.commit_once(LANDING_TRACES, [Batch("s", seq, rows(seq=seq))])
    assert lake.mark(LANDING_TRACES, "s") == 4
    shutil.rmtree(lake.root)
    other = Lake(lake.root, code_version="other")
    for seq in range(n):
        other.commit_once(LANDING_TRACES, [Batch("t", seq, rows(seq=seq, stream="t"))])
    assert lake.mark(LANDING_TRACES, "s") is None
    assert lake.read(LANDING_TRACES).height == 3 * n
    assert lake.commit_once(LANDING_TRACES, [Batch("s", 0, rows())]).rows == 3
    assert other.read(LANDING_TRACES).height == 3 * n + 3


def test_a_pickled_lake_reads_the_same_tables(lake, rows):
    lake.append(LANDING_TRACES, rows())
    copy = pickle.loads(pickle.dumps(lake))
    assert (copy.root, copy.code_version) == (lake.root, "test")
    assert copy.read(LANDING_TRACES).equals(lake.read(LANDING_TRACES))


def test_threads_share_one_lake(lake, rows):
    def work(number: int) -> int:
        for seq in range(6):
            lake.commit_once(LANDING_TRACES, [Batch(f"t{number}", seq, rows(stream=f"t{number}", seq=seq))])
            lake.read(LANDING_TRACES, stream_id=f"t{number}")
        return lake.read(LANDING_TRACES, stream_id=f"t{number}").height

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [18] * 4
    assert lake.read(LANDING_TRACES).select("stream_id", "seq", "row").is_unique().all()


def test_racing_creators_make_one_table(tmp_path, rows):
    lakes = [Lake(str(tmp_path / "lake"), code_version=str(number)) for number in range(6)]

    def create(number: int) -> None:
        lakes[number].commit_once(LANDING_TRACES, [Batch(f"t{number}", 0, rows(stream=f"t{number}"))])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(create, range(6)))
    assert lakes[0].read(LANDING_TRACES).height == 18


def test_provenance_is_in_the_history_of_every_kind_of_commit(lake, rows, model_rows):
    who = Provenance(run_id="run-1", extra={"inputs": "landing/traces@7"})
    lake.append(LANDING_TRACES, rows(), provenance=who)
    lake.replace(TRACES_INPUTS, rows(), where={"model_key": "m@v"}, provenance=who)
    lake.upsert(OPS_MODELS, model_rows("a"), provenance=who)
    lake.commit_once(LANDING_TRACES, [Batch("s", 0, rows())], provenance=Provenance(code_version="other"))
    for spec in (TRACES_INPUTS, OPS_MODELS):
        newest = lake.history(spec, limit=1).row(0, named=True)
        assert (newest["run_id"], newest["code_version"]) == ("run-1", "test")
        assert newest["extra"] == '{"inputs": "landing/traces@7"}'
    assert lake.history(LANDING_TRACES, limit=2)["run_id"].to_list() == [None, "run-1"]
    assert lake.history(LANDING_TRACES, limit=1)["code_version"].to_list() == ["other"]


def test_reserved_names_are_refused_in_provenance():
    with pytest.raises(InvalidInputError, match="operation"):
        Provenance(extra={"operation": "x"})


def test_history_is_newest_first_with_rows(lake, rows):
    for n in (1, 2, 3):
        lake.append(LANDING_TRACES, rows(n, seq=n))
    history = lake.history(LANDING_TRACES)
    assert history["version"].to_list() == list(range(lake.version(LANDING_TRACES), -1, -1))
    assert history["rows"].to_list()[:3] == [3, 2, 1]
    assert history.schema["timestamp"] == pl.Datetime("us", "UTC")


def test_tables_and_files_come_from_the_log(lake, rows):
    lake.append(LANDING_TRACES, rows(2, day=date(2026, 1, 1)))
    lake.append(LANDING_TRACES, rows(3, day=date(2026, 1, 2)))
    files = lake.files(LANDING_TRACES).sort("ingest_day")
    assert files.select("rows", "ingest_day").rows() == [(2, date(2026, 1, 1)), (3, date(2026, 1, 2))]
    assert files["modified_at"].dt.year().to_list() == [datetime.now(UTC).year] * 2
    row = lake.tables().row(0, named=True)
    assert (row["table"], row["layer"], row["rows"], row["files"]) == ("landing/traces", "landing", 5, 2)
    assert row["bytes"] == sum(path.stat().st_size for path in Path(lake.root).rglob("part-*.parquet"))
    assert row["version"] == lake.version(LANDING_TRACES)


def test_a_commit_is_not_larger_than_its_rows_need(lake, rows):
    # 256 random floats per row are 1 kB and barely compress; dictionaries would add 15-20 %.
    import numpy as np

    vectors = np.random.default_rng(0).normal(size=(500, 256)).astype(np.float32)
    frame = rows(500).with_columns(feature=pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32)))
    lake.append(LANDING_TRACES, frame)
    assert lake.files(LANDING_TRACES)["size_bytes"].sum() < 1.02 * vectors.nbytes


def test_commits_cost_the_same_at_any_version(lake, rows):
    # A kept handle gathers every commit since it was opened; the lake reopens it. Counted, not timed.
    opened = []
    handle = lake._tables._handle
    lake._tables._handle = lambda *arguments: opened.append(arguments) or handle(*arguments)
    for seq in range(60):
        lake.commit_once(LANDING_TRACES, [Batch("s", seq, rows(1, seq=seq))])
    assert 3 <= len(opened) <= 8


def test_importing_the_lake_loads_no_heavy_package():
    heavy = "torch ray dagster great_expectations pandas sklearn scipy"
    code = f"import sys, mld_pipelines.lake; print([name for name in {heavy.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_commit_of_a_table_names_the_code_that_made_it(lake, rows):
    lake.append(LANDING_TRACES, rows())
    lake.append(LANDING_TRACES, rows())
    lake.compact(LANDING_TRACES, min_files=2)
    history = lake.history(LANDING_TRACES, limit=None)
    assert {"CREATE TABLE", "WRITE", "OPTIMIZE"} <= set(history["operation"])
    assert set(history["code_version"]) == {"test"}
