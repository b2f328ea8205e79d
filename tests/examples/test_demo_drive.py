"""Steps of the demo's 3D part that need no platform; `tests/e2e/test_demo_drive.py` runs the whole."""

from __future__ import annotations

import polars as pl
import pytest

torch = pytest.importorskip("torch")

from examples.demo import drive  # noqa: E402
from examples.demo.console import interval_of  # noqa: E402
from examples.demo.week import Week, shots  # noqa: E402
from examples.drive.model import drive_model  # noqa: E402
from mld_pipelines.capture import Stats  # noqa: E402
from mld_pipelines.lake import Lake  # noqa: E402
from mld_pipelines.settings import state_directory  # noqa: E402
from mld_pipelines.tables import LANDING_INFERENCES, LANDING_RECEIPTS, LANDING_TRACES  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def lake():
    return Lake(str(state_directory() / "lake"), code_version="test")


@pytest.fixture
def few(monkeypatch):
    """A handful of scenes, all in this process."""
    monkeypatch.setattr(drive, "SCENES", {"train": ("train", 2), "val": ("mixed", 3)})


@pytest.mark.usefixtures("few")
def test_tracing_again_continues_the_same_streams(lake):
    first, again = drive.trace(lake), drive.trace(lake)
    assert [(one.dataset_type, one.rows, one.known_batches) for one in first] == [("train", 2, 0), ("val", 3, 0)]
    assert [(one.dataset_type, one.rows, one.known_batches) for one in again] == [("train", 2, 1), ("val", 3, 1)]
    assert lake.read(LANDING_TRACES, model_key="pillars@v1").height == 5
    assert sorted(lake.read(LANDING_RECEIPTS)["dataset_type"]) == ["train", "val"]
    week = Week((), None, None)  # type: ignore[arg-type]
    counts = drive.Driven(None, week, tuple(again), Stats(emitted=7, known=4)).counts  # type: ignore[arg-type]
    assert counts == {
        "drive-train": {"rows": 2, "known": 2, "quarantined": 0},
        "drive-val": {"rows": 3, "known": 3, "quarantined": 0},
        "drive-logger": {"rows": 7, "known": 4, "quarantined": 0},
    }


def test_there_is_no_result_and_no_window_before_the_platform_made_one(lake):
    assert drive.first_result() is None
    assert not drive.monitored(lake, "some_od3d_result")


def test_a_week_served_twice_is_stored_once_and_tells_the_same_truth(lake):
    frames = [shot for shot, _ in zip(shots(), range(3), strict=False)]
    threads = torch.get_num_threads()
    (week, first), (same, again) = (drive.serve_week(drive_model(), frames, "r_od3d") for _ in range(2))
    assert (first.stored, first.known, again.stored, again.known) == (3, 0, 3, 3)
    rows = lake.read(LANDING_INFERENCES).sort("request_id")
    assert rows["request_id"].to_list() == ["0202-000", "0202-001", "0202-002"]
    assert rows["result_name"].unique().to_list() == ["r_od3d"]
    assert rows["scores"].list.len().to_list() == [len(week.found.frame(number)) for number in range(3)]
    assert week.found == same.found
    assert torch.get_num_threads() == threads


def test_ends_of_an_interval_have_three_digits():
    frame = pl.DataFrame({"low": [0.98, 0.5], "high": [1.0, 0.12345]})
    assert interval_of(frame, ("low", "high")).to_list() == ["0.980 – 1.000", "0.500 – 0.123"]
