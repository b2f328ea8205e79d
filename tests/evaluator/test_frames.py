"""`Result.get_frames`: what is wrong in each frame, and what was expected to be."""

from __future__ import annotations

import logging
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluation import evaluate
from mld_pipelines.evaluator import Result
from mld_pipelines.evaluator._frames import FRAME_COLUMNS, FRAME_ORDERS
from mld_pipelines.exceptions import InvalidInputError, LakeError, UnknownEpochError
from mld_pipelines.lake import Batch, Lake
from mld_pipelines.tables import LANDING_TRACES
from tests.support.traced import write_receipt, write_trace
from tests.support.traced_frames import FINGERPRINT, MODEL, START, WIDTH, made_up_frame, write_frames

if TYPE_CHECKING:
    from pathlib import Path

SIZE = [1.9, 4.5, 1.6]
SEEN = {
    "val-00000": (["a"], ["a"], 0.9),  # a car that was found
    "val-00001": ([], ["b"], 0.9),  # a false positive
    "val-00002": (["a", "c"], ["a"], 0.9),  # one found, one missed
    "val-00003": ([], [], 0.9),  # nothing, rightly
    "val-00004": (["a"], ["a"], 0.1),  # a candidate below the operating point, so a missed car
    "val-00005": (["a"], ["a", "b", "c"], 0.9),  # one right, two wrong
    "val-00006": ([], ["a"], 0.1),  # nothing at the operating point
}
PLACES = {"a": (10.0, 0.0), "b": (0.0, 20.0), "c": (-15.0, -15.0)}


def by_hand(truths: list[str], found: list[str], score: float) -> dict[str, Any]:
    def boxes(names: list[str]) -> list[list[float]]:
        return [[*PLACES[name], 0.8, *SIZE, 0.0] for name in names]

    n, nothing = len(found), np.full((len(found), 2), np.nan)
    return {
        "truth_boxes_3d": boxes(truths), "truth_labels": [0] * len(truths), "truth_points": [40] * len(truths),
        "truth_velocities": np.full((len(truths), 2), np.nan), "boxes_3d": boxes(found), "labels": [0] * n,
        "scores": [score] * n, "velocities": nothing, "features": np.ones((n, WIDTH)), "candidate_index": range(n),
        "class_scores": np.tile([score, 0.05, 0.02], (n, 1)),
        "suppressed_boxes_3d": [], "suppressed_labels": [], "suppressed_scores": [],
    }  # fmt: skip


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Seven frames told by hand, at an operating point of 0.5."""
    lake = Lake.open(str(tmp_path_factory.mktemp("frames") / "lake"))
    write_frames(lake, "val", 0, frames=[by_hand(*frame) for frame in SEEN.values()])
    return Result(evaluate(lake, "pillars@v1", result_name="counted", policy=Policy(score_threshold=0.5)))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Two datasets of made-up frames; in some of them is nothing."""
    lake = Lake.open(str(tmp_path_factory.mktemp("frames") / "lake"))
    rng = np.random.default_rng(5)
    empty = [by_hand([], [], 0.9) for _ in range(7)]
    for dataset in ("train", "val"):
        write_frames(lake, dataset, 0, frames=[made_up_frame(rng) for _ in range(50)] + empty)
    return Result(evaluate(lake, "pillars@v1", result_name="first"))


def test_every_frame_is_counted(counted: Result) -> None:
    rows = counted.get_frames(order="input_id")
    names = ["input_id", "predictions", "objects", "true_positives", "false_positives", "missed", "is_error"]
    assert rows.select(names).rows() == [
        ("val-00000", 1, 1, 1, 0, 0, False),
        ("val-00001", 1, 0, 0, 1, 0, True),
        ("val-00002", 1, 2, 1, 0, 1, True),
        ("val-00003", 0, 0, 0, 0, 0, False),
        ("val-00004", 0, 1, 0, 0, 1, True),
        ("val-00005", 3, 1, 1, 2, 0, True),
        ("val-00006", 0, 0, 0, 0, 0, False),
    ]
    assert rows.columns == list(FRAME_COLUMNS)
    assert rows["error_code"].is_null().to_list() == [False, False, False, True, False, False, True]


def test_frames_with_most_errors_come_first(counted: Result) -> None:
    assert counted.get_frames(limit=1)["input_id"].to_list() == ["val-00005"]
    assert counted.get_frames(order="missed", limit=2)["input_id"].to_list() == ["val-00002", "val-00004"]


def test_a_mistaken_place_is_one_error(tmp_path: Path) -> None:
    """3 m beside a car: the prediction is wrong, and the car is not missed as well."""
    frame = by_hand(["a"], ["a"], 0.9)
    frame["boxes_3d"] = [[10.0, 3.0, 0.8, *SIZE, 0.0]]
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 0, frames=[frame])
    row = Result(evaluate(lake, "pillars@v1", policy=Policy(score_threshold=0.5))).get_frames().row(0, named=True)
    assert (row["objects"], row["true_positives"], row["false_positives"], row["missed"]) == (1, 0, 1, 0)


def test_expectations_are_those_of_the_predictions(result: Result) -> None:
    units = result._stored.units().filter(pl.col("unit_kind") == "prediction").collect()
    rows = result.get_frames("val", order="input_id")
    assert rows.height == 57
    for row in rows.iter_rows(named=True):
        own = units.filter(pl.col("dataset_type") == "val", pl.col("input_id") == row["input_id"])["error_proba"]
        assert row["expected_errors"] == pytest.approx(math.fsum(own), abs=1e-9)
        assert row["error_proba"] == pytest.approx(1 - math.prod(1 - p for p in own), abs=1e-9)


def test_frames_add_up_to_the_summary(result: Result) -> None:
    for row in result.metrics_summary().iter_rows(named=True):
        frames = result.get_frames(row["dataset"])
        assert frames.height == row["n_inputs"]
        assert frames["missed"].sum() == row["n_missed"]
        assert frames["predictions"].sum() + frames["missed"].sum() == row["counts"]
        assert frames["is_error"].mean() == pytest.approx(row["frame_error_rate"])
        assert frames["true_positives"].sum() / frames["predictions"].sum() == pytest.approx(row["precision"])


def test_the_code_is_that_of_the_worst_unit(result: Result) -> None:
    units = result.get_samples(dataset="val", reasons=False)
    for row in result.get_frames("val", limit=20).iter_rows(named=True):
        own = units.filter(pl.col("input_id") == row["input_id"])
        wrong = own.filter((pl.col("unit_kind") == "prediction") & pl.col("is_error"))
        missed = own.filter((pl.col("unit_kind") == "object") & pl.col("is_error"))
        if wrong.height:
            assert row["error_code"] == wrong.sort("error_proba", descending=True)["error_code"][0]
        else:
            assert row["error_code"] in missed["error_code"].to_list()


@pytest.mark.parametrize("order", FRAME_ORDERS)
def test_orders_do_not_depend_on_how_rows_were_stored(result: Result, order: str) -> None:
    expected = result.get_frames(order=order)
    other = Result(result._stored)
    other.__dict__["_units"] = result._units.sample(fraction=1.0, shuffle=True, seed=1)
    assert other.get_frames(order=order).equals(expected)
    if order in expected.columns and order != "input_id":
        assert expected[order].is_sorted(descending=True)


@pytest.mark.feature("H25")
def test_frames_are_filtered_by_what_stands_in_them(result: Result) -> None:
    rows = result.get_frames(filters=["missed > 2", "dataset == 'val'"])
    assert 0 < rows.height < 57
    assert rows["missed"].min() == 3
    assert result.get_frames("val", filters="objects == 0 and predictions == 0").height == 7


def test_metadata_and_places_of_raw_inputs_are_columns(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 0, frames=[by_hand(*frame) for frame in SEEN.values()])
    rows = lake.scan(LANDING_TRACES, model_key="pillars@v1").collect()
    night = [f'{{"light": "{"night" if i % 2 else "day"}", "missed": {i}}}' for i in range(rows.height)]
    other = rows.with_columns(
        pl.lit("test").alias("dataset_type"), pl.lit("other").alias("stream_id"), pl.Series("metadata", night),
        pl.Series("input_uri", [f"s3://raw/{i}.bin" for i in range(rows.height)]),
    )  # fmt: skip
    lake.commit_once(LANDING_TRACES, [Batch("other", 0, other)])
    _receipt(lake, rows.height)
    found = Result(evaluate(lake, "pillars@v1", policy=Policy(score_threshold=0.5))).get_frames(
        "test", filters={"light": "night"}, order="input_id"
    )
    assert found.columns == [*FRAME_COLUMNS, "light", "metadata_missed"]
    assert found["metadata_missed"].to_list() == [1, 3, 5]  # 3 is a frame with nothing in it
    assert found["input_uri"].to_list() == [f"s3://raw/{i}.bin" for i in (1, 3, 5)]


def _receipt(lake: Lake, rows: int) -> None:
    write_receipt(
        lake, "other", "test", rows, epoch=None, model_key=MODEL, at=START + timedelta(seconds=2),
        fingerprint=FINGERPRINT,
    )  # fmt: skip


def test_epochs_are_apart(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 12, seed=1, epoch=1, hardness=1.3)
    write_frames(lake, "val", 9, seed=2, epoch=2)
    both = Result(evaluate(lake, "pillars@v1", n_epoch=None))
    assert both.get_frames().height == 21
    assert both.get_frames(n_epoch=2)["n_epoch"].to_list() == [2] * 9
    last = Result(evaluate(lake, "pillars@v1"))
    assert last.get_frames().height == 9
    with pytest.raises(UnknownEpochError):
        last.get_frames(n_epoch=1)


def test_frames_that_are_known_to_removed_traces_alone_are_told(
    result: Result, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other, known = Result(result._stored), result.get_frames()
    real = Lake.scan

    def scan(self: Lake, spec: Any, **options: Any) -> Any:
        if spec.name == "traces/inputs":
            raise LakeError("the version was vacuumed")
        return real(self, spec, **options)

    monkeypatch.setattr(Lake, "scan", scan)
    with caplog.at_level(logging.WARNING, "mld_pipelines.evaluator"):
        rows = other.get_frames()
    assert rows.height == known.height - 14
    assert "14 frames of first without a box or an object are not listed" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "test"}, "unknown dataset 'test'; these exist: train, val"),
        ({"order": "loss"}, "unknown order 'loss'; these exist: errors, false_positives"),
        ({"limit": -1}, "limit must be a non-negative integer"),
        ({"filters": "score > 0.5"}, "unknown column 'score' in filters; these exist: dataset, error_code"),
    ],
)
def test_what_does_not_exist_is_named(result: Result, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        result.get_frames(**options)


def test_inputs_of_a_classifier_are_its_units(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_trace(lake, "val", 120, seed=2)
    plain = Result(evaluate(lake, "toy@v1", result_name="plain"))
    with pytest.raises(InvalidInputError, match=r"'plain' is of a classifier.*get_samples"):
        plain.get_frames()


def test_the_report_shows_the_worst_frames(result: Result, tmp_path: Path) -> None:
    page = result.export(tmp_path / "report.html")[0].read_text()
    worst = result.get_frames("val", limit=10)
    assert f"{result.get_frames('val', filters='is_error').height} of 57 hold a wrong prediction" in page
    section = page[page.index("Frames with most errors") :]
    places = [section.index(name) for name in worst["input_id"]]
    assert places == sorted(places)
