"""`mld models`, `mld trace`."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mld_pipelines.cli._exits import Exit
from mld_pipelines.evaluation import promote, unfinished_streams
from mld_pipelines.tables import TRACES_INPUTS
from tests.support.traced import MODEL, START, toy_outputs, write_trace

FACTORIES = """
import torch
from torch import nn


def model(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, classes))


def dataset(n=10):
    return [(torch.full((1, 2, 2), float(i)), i % 3, f"item-{i}") for i in range(n)]


def alike():
    return [(torch.full((1, 2, 2), float(i)), i % 3, "twice" if i > 7 else f"item-{i}") for i in range(10)]


def spoilt():
    return [(torch.full((1, 2, 2), float(i)), "no label" if i > 7 else i % 3, f"item-{i}") for i in range(12)]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with the user's own module."""
    (tmp_path / "my_factories_of_cli.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_factories_of_cli"


@pytest.fixture
def registered(mld, here):
    mld("models", "register", "net", f"{here}:model", "--version-name", "v1", "--params", '{"classes": 3}')
    mld("models", "register", "digits", f"{here}:dataset", "--dataset")
    mld("models", "register", "spoilt", f"{here}:spoilt", "--dataset")


def test_what_was_registered_is_listed(mld, registered):
    rows = {row["name"]: row for row in mld("models", "list", "--json").document["registrations"]}
    assert rows["net"]["model_key"] == "net@v1"
    assert rows["net"]["params"] == {"classes": 3}
    assert rows["digits"]["kind"] == "dataset"


def test_a_model_needs_a_version(mld, here):
    done = mld("models", "register", "net", f"{here}:model")
    assert done.exit == Exit.USAGE
    assert "--version-name" in done.stderr


def test_a_factory_that_is_not_there_is_refused(mld, here):
    assert mld("models", "register", "net", f"{here}:nothing", "--version-name", "v1").exit == Exit.NOT_SET_UP


def test_parameters_must_be_a_json_object(mld, here):
    done = mld("models", "register", "net", f"{here}:model", "--version-name", "v1", "--params", "[1]")
    assert done.exit == Exit.USAGE
    assert "[1]" in done.stderr


def test_a_detector_is_registered_with_what_it_does_not_say(mld, here):
    settings = '{"architecture": "structural", "pc_range": [0, -40, -3, 70, 40, 1]}'
    done = mld("models", "register", "net", f"{here}:model", "--version-name", "v1", "--settings", settings)
    assert done.exit == 0
    (row,) = mld("models", "list", "--json").document["registrations"]
    assert row["settings"] == {"architecture": "structural", "pc_range": [0, -40, -3, 70, 40, 1]}


def test_settings_belong_to_models(mld, here):
    done = mld("models", "register", "digits", f"{here}:dataset", "--dataset", "--settings", '{"score_thresh": 0.2}')
    assert done.exit == Exit.USAGE
    assert "--settings" in done.stderr


def test_run_traces_what_was_registered(mld, registered):
    done = mld("trace", "run", "net", "digits", "--dataset-type", "val", "--backend", "inline", "--json")
    assert done.exit == 0
    assert (done.document["rows"], done.document["complete"]) == (10, True)
    (finished,) = mld("trace", "list", "net@v1", "--json").document["finished"]
    assert (finished["dataset_type"], finished["rows"], finished["state"]) == ("val", 10, "complete")


def test_the_dataset_may_be_given_as_an_option(mld, registered):
    done = mld("trace", "run", "net", "--dataset", "digits", "--dataset-type", "val", "--backend", "inline", "--json")
    assert (done.exit, done.document["rows"]) == (0, 10)


@pytest.mark.parametrize("given", [(), ("digits", "--dataset", "digits")])
def test_exactly_one_dataset_is_named(mld, registered, given):
    done = mld("trace", "run", "net", *given, "--dataset-type", "val")
    assert done.exit == Exit.USAGE
    assert "name one" in done.stderr


def test_a_folder_in_a_public_format_is_found_without_registering(mld, registered, tmp_path):
    (tmp_path / "velodyne").mkdir()
    done = mld("trace", "run", "net", "--dataset", f"kitti:{tmp_path}", "--dataset-type", "val")
    assert done.exit == Exit.NOT_FOUND
    assert "has no frames" in done.stderr


def test_a_cluster_without_an_address_is_refused_before_anything_runs(mld, registered, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    done = mld("trace", "run", "net", "digits", "--dataset-type", "val", "--backend", "cluster")
    assert done.exit == Exit.NOT_SET_UP
    assert "RAY_ADDRESS" in done.stderr


def test_a_run_with_quarantined_batches_says_so(mld, registered):
    command = ("trace", "run", "net", "spoilt", "--dataset-type", "val", "--backend", "inline", "--batch-size", "4")
    done = mld(*command, "--json")
    assert done.exit == Exit.CHECK_FAILED
    assert (done.document["rows"], done.document["quarantined_batches"]) == (8, 1)


def test_a_run_whose_items_share_an_id_says_so(mld, registered, here):
    mld("models", "register", "alike", f"{here}:alike", "--dataset")
    command = ("trace", "run", "net", "alike", "--dataset-type", "val", "--backend", "inline")
    assert mld(*command, "--json").document["repeated_ids"] == {"twice": 2}
    words = "1 input id stands for several rows, of which an evaluation counts the last: twice (2 rows)"
    assert words in " ".join(mld(*command).stdout.split())
    assert {one["note"] for one in mld("trace", "list", "net@v1", "--json").document["finished"]} == {words}


def test_run_of_an_unregistered_model_names_the_registered(mld, registered):
    done = mld("trace", "run", "other", "digits", "--dataset-type", "val")
    assert done.exit == Exit.NOT_FOUND
    assert "'net'" in done.stderr


def test_list_shows_what_blocks_an_evaluation(mld, lake):
    stream = write_trace(lake, "val", 20, receipt=False)
    (unfinished,) = mld("trace", "list", MODEL, "--json").document["unfinished"]
    assert (unfinished["stream_id"], unfinished["rows"]) == (stream, 20)


def test_list_shows_how_many_rows_of_a_finished_trace_were_refused(mld, lake):
    logits = toy_outputs(20, seed=0)[2]
    logits[[3, 7], 1] = float("nan")
    write_trace(lake, "val", 20, logits=logits)
    write_trace(lake, "train", 20, at=START + timedelta(hours=1))
    finished = mld("trace", "list", MODEL, "--json").document["finished"]
    shown = [(one["dataset_type"], one["rows"], one["refused"]) for one in finished]
    assert shown == [
        ("val", 20, 2),
        ("train", 20, 0),
    ]


def test_an_accepted_trace_is_evaluated(mld, lake):
    stream = write_trace(lake, "val", 120, receipt=False)
    assert mld("evaluate", MODEL).exit == Exit.FAILED
    assert mld("trace", "accept", stream).exit == 0
    assert unfinished_streams(lake, MODEL) == []
    assert mld("evaluate", MODEL).exit == 0


def test_a_discarded_trace_stays_out_of_evaluations(mld, lake):
    write_trace(lake, "val", 120, seed=1)
    stream = write_trace(lake, "test", 30, seed=2, receipt=False)
    assert mld("trace", "discard", stream).exit == 0
    promote(lake, MODEL)
    assert lake.read(TRACES_INPUTS)["dataset_type"].unique().to_list() == ["val"]


def test_settling_covers_every_dataset_of_a_stream(mld, lake):
    write_trace(lake, "val", 30, stream="s", receipt=False)
    write_trace(lake, "test", 20, stream="s", seq=1, receipt=False)
    receipts = mld("trace", "accept", "s", "--json").document["receipts"]
    assert {(row["dataset_type"], row["rows"], row["last_seq"]) for row in receipts} == {
        ("val", 30, 0),
        ("test", 20, 1),
    }


def test_a_finished_trace_has_nothing_to_settle(mld, lake):
    stream = write_trace(lake, "val", 20)
    done = mld("trace", "discard", stream)
    assert done.exit == Exit.NOT_FOUND
    assert promote(lake, MODEL).rows == 20


def test_an_unknown_stream_names_the_unfinished(mld, lake):
    stream = write_trace(lake, "val", 20, receipt=False)
    done = mld("trace", "accept", "nothing")
    assert done.exit == Exit.NOT_FOUND
    assert stream in done.stderr
    assert lake.scan(TRACES_INPUTS).select(pl.len()).collect().item() == 0
