"""`mld labels import`, `mld ingest`."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from mld_pipelines.capture import EmbeddedSink, Recorder
from mld_pipelines.cli._exits import Exit
from mld_pipelines.exceptions import StorageError
from mld_pipelines.tables import LANDING_FEEDBACK

LABELS = pl.DataFrame({"request_id": ["a", "b", "c"], "label": [0, 2, None]})


class FullDisk(EmbeddedSink):
    def deliver(self, segments):
        raise StorageError("the disk is full")


@pytest.fixture
def spooled(lake):
    """Two acknowledged labels that could not be committed."""
    recorder = Recorder(
        "landing/feedback",
        FullDisk(lake),
        encode=lambda calls: [([len(columns["label"])], columns) for columns in calls],
        overflow="block",
        max_buffer_bytes=1 << 20,
        stream_id="waiting",
    )
    columns = {
        "request_id": ["a", "b"],
        "label": np.array([0, 1]),
        "source": "test",
        "labelled_at": 1_700_000_000_000_000,
    }
    recorder.put(columns, 2, 100)
    recorder.flush(2.0, is_patient=False)
    recorder.close()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_labels_are_imported_from_every_format(mld, lake, tmp_path, suffix):
    file = tmp_path / f"labels.{suffix}"
    {"csv": LABELS.write_csv, "parquet": LABELS.write_parquet, "jsonl": LABELS.write_ndjson}[suffix](file)
    done = mld("labels", "import", str(file), "--source", "oracle", "--json")
    assert done.exit == 0
    assert (done.document["labels"], done.document["left_out"]) == (2, 1)
    stored = lake.read(LANDING_FEEDBACK).sort("request_id")
    assert stored.select("request_id", "label", "source").rows() == [("a", 0, "oracle"), ("b", 2, "oracle")]


def test_importing_a_file_again_changes_nothing(lake, tmp_path):
    file = tmp_path / "labels.csv"
    LABELS.write_csv(file)
    command = [sys.executable, "-m", "mld_pipelines.cli", "labels", "import", str(file), "--json"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, Exit.NOTHING_TO_DO), (first.stderr, second.stderr)
    assert json.loads(second.stdout)["known"] == 2
    assert lake.read(LANDING_FEEDBACK).height == 2


def test_columns_may_have_other_names(mld, lake, tmp_path):
    file = tmp_path / "labels.csv"
    pl.DataFrame({"id": [1, 2], "truth": [3, 4]}).write_csv(file)
    assert mld("labels", "import", str(file), "--request-id-column", "id", "--label-column", "truth").exit == 0
    assert sorted(lake.read(LANDING_FEEDBACK)["request_id"]) == ["1", "2"]


def test_a_missing_column_is_named(mld, lake, tmp_path):
    file = tmp_path / "labels.csv"
    pl.DataFrame({"id": [1], "label": [3]}).write_csv(file)
    done = mld("labels", "import", str(file))
    assert done.exit == Exit.USAGE
    assert "request_id" in done.stderr
    assert lake.version(LANDING_FEEDBACK) is None


def test_labels_that_are_no_class_indices_are_refused(mld, lake, tmp_path):
    file = tmp_path / "labels.csv"
    pl.DataFrame({"request_id": ["a"], "label": ["cat"]}).write_csv(file)
    assert mld("labels", "import", str(file)).exit == Exit.USAGE


def test_request_ids_of_a_csv_keep_their_zeros(mld, lake, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("request_id,label\n007,1\n1e5,2\n")
    assert mld("labels", "import", str(file)).exit == 0
    assert sorted(lake.read(LANDING_FEEDBACK)["request_id"]) == ["007", "1e5"]


def test_request_ids_of_a_csv_may_be_numbers_at_first_and_text_later(mld, lake, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("request_id,label\n" + "".join(f"{i},1\n" for i in range(300)) + "abc,2\n")
    assert mld("labels", "import", str(file)).exit == 0
    assert lake.read(LANDING_FEEDBACK).height == 301


def test_the_first_label_that_is_no_class_index_is_named(mld, lake, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("request_id,label\n" + "".join(f"r{i},1\n" for i in range(300)) + "abc,oops\nabd,1.5\n")
    done = mld("labels", "import", str(file))
    assert done.exit == Exit.USAGE
    assert "'oops' in row 301" in done.stderr
    assert "2 of 302 rows" in done.stderr
    assert lake.version(LANDING_FEEDBACK) is None


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_whole_numbers_that_a_missing_label_made_floats_are_labels(mld, lake, tmp_path, suffix):
    file = tmp_path / f"labels.{suffix}"
    frame = pl.DataFrame({"request_id": ["a", "b", "c"], "label": [0.0, 2.0, None]})
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[suffix](file)
    assert mld("labels", "import", str(file), "--json").document["left_out"] == 1
    assert sorted(lake.read(LANDING_FEEDBACK)["label"]) == [0, 2]


def test_quarantined_labels_are_told_from_the_imported_ones(mld, lake, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(f"request_id,label\n{'x' * 5000},1\nok,1\n")
    done = mld("labels", "import", str(file), "--json")
    assert done.exit == Exit.CHECK_FAILED
    assert (done.document["labels"], done.document["quarantined"]) == (1, 1)
    assert lake.read(LANDING_FEEDBACK)["request_id"].to_list() == ["ok"]


def test_a_file_without_rows_has_nothing_to_do(mld, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("request_id,label\n")
    assert mld("labels", "import", str(file)).exit == Exit.NOTHING_TO_DO


def test_a_row_of_too_many_fields_is_refused_in_one_sentence(mld, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("request_id,label\na,1,9\n")
    done = mld("labels", "import", str(file))
    assert done.exit == Exit.USAGE
    assert "truncate_ragged_lines" not in done.stderr


def test_a_missing_file_is_status_three(mld):
    assert mld("labels", "import", "nowhere.csv").exit == Exit.NOT_FOUND


def test_an_empty_spool_has_nothing_to_do(mld):
    assert mld("ingest", "status", "--json").document == {"rows": 0, "streams": []}
    assert mld("ingest", "replay").exit == Exit.NOTHING_TO_DO


def test_status_shows_what_waits(mld, spooled):
    (stream,) = mld("ingest", "status", "--json").document["streams"]
    assert (stream["stream_id"], stream["rows"]) == ("waiting", 2)


def test_doctor_tells_what_waits(mld, spooled):
    (found,) = [check for check in mld("doctor", "--json").document["checks"] if check["check"] == "spool"]
    assert (found["status"], found["detail"]) == ("warning", "2 rows of 1 streams wait")


def test_doctor_finds_an_empty_spool_in_order(mld):
    (found,) = [check for check in mld("doctor", "--json").document["checks"] if check["check"] == "spool"]
    assert (found["status"], found["remedy"]) == ("ok", None)


def test_replay_ships_what_waits_once(mld, spooled, lake):
    done = mld("ingest", "replay", "--json")
    assert (done.exit, done.document["shipped"]) == (0, 2)
    assert lake.read(LANDING_FEEDBACK).height == 2
    assert mld("ingest", "replay").exit == Exit.NOTHING_TO_DO
