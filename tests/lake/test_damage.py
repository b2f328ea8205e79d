"""Damaged files, full disks, forbidden folders: clear errors that say what to do, and no harm done."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from mld_pipelines.exceptions import CorruptTableError, LakeError, StorageError
from mld_pipelines.lake import Lake, damaged_tables, explaining
from mld_pipelines.tables import LANDING_TRACES

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def table(lake, rows) -> Path:
    """A table of three appends."""
    for seq in range(3):
        lake.append(LANDING_TRACES, rows(seq=seq))
    return Path(lake.uri(LANDING_TRACES))


def log_file(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020d}.json"


def fresh(lake: Lake) -> Lake:
    return Lake(lake.root, code_version="test")


@pytest.mark.parametrize("content", ['{"add": {"pa', "garbage\n", "[1, 2]"])
def test_a_broken_log_file_is_named(lake, table, content):
    log_file(table, 3).write_text(content)
    with pytest.raises(CorruptTableError, match=rf"{log_file(table, 3)} is not valid JSON") as caught:
        fresh(lake).read(LANDING_TRACES)
    assert "Restore the file" in str(caught.value)


def test_a_missing_log_file_is_named(lake, table):
    log_file(table, 4).unlink()
    with pytest.raises(CorruptTableError, match=rf"{log_file(table, 4)} is missing"):
        fresh(lake).read(LANDING_TRACES)


def test_a_missing_first_log_file_is_named(lake, table):
    for version in range(3):  # the commits that hold schema and constraints
        log_file(table, version).unlink()
    with pytest.raises(CorruptTableError, match=rf"{log_file(table, 0)} is missing"):
        fresh(lake).read(LANDING_TRACES)


def test_a_broken_checkpoint_is_named(lake, rows, table):
    from deltalake import DeltaTable

    DeltaTable(str(table)).create_checkpoint()
    checkpoint = next((table / "_delta_log").glob("*.checkpoint.parquet"))
    checkpoint.write_bytes(b"garbage")
    with pytest.raises(CorruptTableError, match=rf"{checkpoint} is not a Parquet file"):
        fresh(lake).read(LANDING_TRACES)


def test_a_missing_data_file_is_named(lake, table):
    gone = next(table.glob("ingest_day=*/*.parquet"))
    gone.unlink()
    with pytest.raises(CorruptTableError, match=rf"data file {gone} is missing"):
        lake.read(LANDING_TRACES)


@pytest.mark.parametrize("cut", [None, 100])
def test_a_damaged_data_file_behind_a_lazy_frame_is_named(lake, table, cut):
    damaged = next(table.glob("ingest_day=*/*.parquet"))
    rows = lake.scan(LANDING_TRACES)
    damaged.unlink() if cut is None else os.truncate(damaged, cut)
    with pytest.raises(CorruptTableError, match=rf"data file {damaged} is "), explaining(lake):
        rows.collect()
    assert list(damaged_tables(lake)) == [LANDING_TRACES.name]


def test_errors_that_no_damage_explains_stay_what_they_are(lake, table):
    with pytest.raises(pl.exceptions.ColumnNotFoundError), explaining(lake):
        lake.scan(LANDING_TRACES).select("nope").collect()
    with pytest.raises(ZeroDivisionError), explaining(lake):
        raise ZeroDivisionError
    assert damaged_tables(lake) == {}


def test_a_writer_meets_a_broken_log_without_changing_it(lake, rows, table):
    log_file(table, 3).write_text("garbage\n")
    before = sorted(path.name for path in (table / "_delta_log").iterdir())
    with pytest.raises(CorruptTableError):
        fresh(lake).append(LANDING_TRACES, rows())
    assert sorted(path.name for path in (table / "_delta_log").iterdir()) == before


def test_a_broken_table_leaves_the_others_readable(lake, rows, table, model_rows):
    from mld_pipelines.tables import OPS_MODELS

    lake.upsert(OPS_MODELS, model_rows("a"))
    log_file(table, 3).write_text("garbage\n")
    assert fresh(lake).read(OPS_MODELS).height == 1


def test_a_folder_without_a_log_is_no_table(lake, rows):
    Path(lake.uri(LANDING_TRACES)).mkdir(parents=True)
    assert lake.version(LANDING_TRACES) is None
    assert lake.read(LANDING_TRACES).is_empty()


def test_a_log_folder_without_a_commit_is_no_table_yet(lake, rows):
    # Another process is just making it.
    Path(lake.uri(LANDING_TRACES), "_delta_log").mkdir(parents=True)
    assert lake.version(LANDING_TRACES) is None
    assert lake.append(LANDING_TRACES, rows()).rows == 3


def test_a_file_in_the_way_is_a_storage_error(tmp_path, rows):
    (tmp_path / "lake").write_text("not a folder")
    with pytest.raises(LakeError, match="landing/traces"):
        Lake(str(tmp_path / "lake"), code_version="test").append(LANDING_TRACES, rows())


def run_limited(code: str, *arguments: str) -> str:
    """Run code in a process of its own, so that limits and users do not leak."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_is_a_storage_error_and_the_table_stays_readable(lake, rows, table):
    # RLIMIT_FSIZE stands for the full disk: the write of the data file fails half-way.
    output = run_limited(
        """
        import resource, signal, sys
        import polars as pl
        from mld_pipelines.exceptions import StorageError
        from mld_pipelines.lake import Batch, Lake
        from mld_pipelines.tables import LANDING_TRACES
        lake = Lake(sys.argv[1], code_version="limited")
        big = pl.concat([lake.read(LANDING_TRACES)] * 3000).with_columns(
            input_id=pl.int_range(pl.len()).hash(1).cast(pl.String),
            input_uri=pl.int_range(pl.len()).hash(7).cast(pl.String),
        )
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            lake.commit_once(LANDING_TRACES, [Batch("s", 0, big)])
        except StorageError as error:
            print("refused:", error)
        print("rows:", lake.read(LANDING_TRACES).height, "mark:", lake.mark(LANDING_TRACES, "s"))
        """,
        lake.root,
    )
    assert "refused: commit of table landing/traces" in output
    assert "The table is unchanged" in output
    assert "rows: 9 mark: None" in output
    assert lake.append(LANDING_TRACES, rows(seq=7)).rows == 3


def test_a_read_only_lake_is_read_and_refuses_writes(lake, rows, table):
    # As root, modes do not bind: the child gives its rights away first.
    for path in (Path(lake.root), *Path(lake.root).rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in Path(lake.root).parents:
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o005:
            parent.chmod(parent.stat().st_mode | 0o055)
    output = run_limited(
        """
        import os, sys
        from mld_pipelines.exceptions import StorageError
        from mld_pipelines.lake import Lake, damaged_tables, explaining
        from mld_pipelines.tables import LANDING_TRACES
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        lake = Lake(sys.argv[1], code_version="nobody")
        frame = lake.read(LANDING_TRACES)
        try:
            lake.append(LANDING_TRACES, frame)
        except StorageError as error:
            print("refused:", error)
        print("rows:", lake.read(LANDING_TRACES).height)
        """,
        lake.root,
    )
    for path in (Path(lake.root), *Path(lake.root).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert "permission was denied" in output
    assert "rows: 9" in output


def test_a_forked_child_is_told_to_spawn(lake, rows, table):
    output = run_limited(
        """
        import os, sys
        from mld_pipelines.exceptions import LakeError
        from mld_pipelines.lake import Lake, damaged_tables, explaining
        from mld_pipelines.tables import LANDING_TRACES
        lake = Lake(sys.argv[1], code_version="parent")
        lake.version(LANDING_TRACES)
        pid = os.fork()
        if pid == 0:
            try:
                lake.version(LANDING_TRACES)
            except LakeError as error:
                os.write(1, str(error).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        """,
        lake.root,
    )
    assert "'spawn'" in output


def test_storage_errors_are_told_apart(lake):
    from mld_pipelines.lake._errors import translated
    from mld_pipelines.lake._storage import Storage

    storage = Storage(lake.root)
    with pytest.raises(StorageError, match="disk is full"), translated(storage, "landing/traces", "append"):
        raise OSError(28, "No space left on device")
    with pytest.raises(StorageError, match="mounted read-only"), translated(storage, "landing/traces", "append"):
        raise OSError(30, "Read-only file system")
    with pytest.raises(StorageError, match="EMFILE"), translated(storage, "landing/traces", "append"):
        raise OSError(24, "Too many open files")
