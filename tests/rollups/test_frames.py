"""Detectors go through the same refresh as classifiers: scored once, windows that add up, codes of both units."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mld_pipelines.diagnosis import DetectionWindowReference
from mld_pipelines.evaluation import evaluate, load_baseline, load_detection_scorer, score_frames
from mld_pipelines.lake import Lake
from mld_pipelines.rollups import (
    Scorers,
    due_reevaluations,
    refresh_alerts,
    refresh_codes,
    refresh_windows,
    score_days,
)
from mld_pipelines.tables import (
    LANDING_INFERENCES,
    MONITORING_CODES,
    MONITORING_SCORED,
    MONITORING_WINDOWS,
    check,
)
from mld_pipelines.windows import aggregate, aggregate_frames, derive, ranges_of, roll_up
from tests.support.traced import START, write_feedback, write_inferences
from tests.support.traced_frames import MODEL, made_up_frame, write_frames, write_logged_frames

KEYS = ["event_day", "hour", "model_key", "result_name"]
DAYS = [START.date() + timedelta(days=n) for n in range(1, 4)]


def at(day, hour=0):
    return START + timedelta(days=day, hours=hour)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    root = tmp_path_factory.mktemp("rolled") / "lake"
    lake = Lake.open(str(root))
    write_frames(lake, "val", 150, seed=2)
    return root, evaluate(lake, MODEL).result_name


@pytest.fixture
def result(evaluated):
    return evaluated[1]


@pytest.fixture
def lake(tmp_path, evaluated):
    shutil.copytree(evaluated[0], tmp_path / "lake")
    return Lake.open(str(tmp_path / "lake"))


def refresh(lake, days=DAYS):
    scorers = Scorers(lake)
    scored = score_days(lake, days, current=scorers.current, score=scorers.score)
    return scored, refresh_windows(lake, days, references=scorers.references({*scorers.current.values()}).windows)


def states(lake):
    return lake.read(MONITORING_WINDOWS).drop("schema_version").sort(KEYS)


def from_scratch(lake, result):
    """The same states computed in one go from everything there is."""
    rows = lake.read(LANDING_INFERENCES).with_columns(ranges_of())
    scorer = load_detection_scorer(lake, result)
    scored = score_frames(rows, scorer).with_columns(result_name=pl.lit(result))
    parts = [
        aggregate_frames(rows, errors=False),
        aggregate_frames(scored, references={result: scorer.window_reference}),
    ]
    return pl.concat(parts).sort(KEYS)


def test_windows_of_a_detector_are_those_of_a_full_computation(lake, result):
    write_logged_frames(lake, 30, at=at(1), result_name=result)
    write_logged_frames(lake, 12, at=at(1, 2), stream="other", seed=9, result_name=result)
    scored, windows = refresh(lake)
    assert (scored.rows, windows.quarantined) == (42, 0)
    found = states(lake)
    assert_frame_equal(found, from_scratch(lake, result))
    assert (found["n_invalid"].sum(), found["n"].sum()) == (0, 84)
    assert check(MONITORING_SCORED, lake.read(MONITORING_SCORED)).invalid.is_empty()


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_commits_and_runs_counts_every_frame_once(lake, result, seed):
    rng = np.random.default_rng(seed)
    for stream in range(3):
        for seq in range(2):
            hour = int(rng.integers(0, 30))
            write_logged_frames(
                lake, 8, at=at(1, hour), stream=f"s{stream}", seq=seq, seed=10 * stream + seq, result_name=result
            )
            if rng.random() < 0.6:
                refresh(lake, list(rng.permutation(DAYS)))
    refresh(lake)
    assert_frame_equal(states(lake), from_scratch(lake, result))


def test_the_cost_follows_the_new_frames_not_the_history(lake, result):
    write_logged_frames(lake, 50, at=at(1), result_name=result)
    refresh(lake)
    write_logged_frames(lake, 3, at=at(1, 1), stream="late", result_name=result)
    scored, windows = refresh(lake)
    assert (scored.read, scored.rows, windows.read) == (3, 3, 6)
    scored, windows = refresh(lake)
    assert (scored.rows, scored.read, windows.read) == (0, 0, 0)


def test_what_the_logger_scored_with_the_same_estimator_is_taken_over(lake, result):
    write_logged_frames(lake, 6, at=at(1), result_name=result)
    rows = lake.read(LANDING_INFERENCES)
    scorer = load_detection_scorer(lake, result)
    logged = score_frames(rows, scorer).with_columns(error_proba=pl.lit(0.125, dtype=pl.Float32))
    again = Scorers(lake).score(result, logged)
    assert again["error_proba"].unique().to_list() == [0.125]
    other = Scorers(lake).score(result, logged.with_columns(scored_by=pl.lit("older#1")))
    assert_frame_equal(
        other.drop("ranges_m"), score_frames(rows, scorer), check_column_order=False, check_row_order=False
    )


def test_scored_frames_keep_what_windows_count(lake, result):
    made = write_logged_frames(lake, 4, at=at(1), result_name=result)
    refresh(lake)
    rows = lake.read(MONITORING_SCORED).sort("stream_id", "seq", "row")
    for row, frame in zip(rows.to_dicts(), made, strict=True):
        np.testing.assert_allclose(
            row["ranges_m"], np.hypot(frame["boxes_3d"][:, 0], frame["boxes_3d"][:, 1]), rtol=1e-6
        )
        assert len(row["box_error_proba"]) == len(row["scores"]) == len(row["labels"])
        assert (row["is_invalid"], row["prediction"], row["scored_by"].split("#")[0]) == (False, None, result)


def test_frames_of_a_logger_without_a_result_have_basic_metrics_only(lake, result):
    made = write_logged_frames(lake, 5, at=at(1))
    refresh(lake)
    (state,) = states(lake).to_dicts()
    assert (state["result_name"], state["n"], state["n_frames"], state["n_invalid"]) == (None, 5, 5, 0)
    assert state["n_boxes"] == sum(len(frame["scores"]) for frame in made)


def test_a_classifier_in_the_same_lake_has_the_windows_it_has_alone(lake, tmp_path, result):
    alone = Lake.open(str(tmp_path / "alone"))
    for one in (alone, lake):
        write_inferences(one, 20, result_name="toy_v1", at=at(1))
        refresh(one)
    write_logged_frames(lake, 10, at=at(1), stream="frames", result_name=result)
    write_feedback(lake, ["frames-0-0"], [1], at=at(1, 5))
    refresh(lake)
    assert_frame_equal(states(lake).filter(pl.col("model_key") != MODEL), states(alone))
    assert states(lake).filter(pl.col("model_key") == MODEL)["n_frames"].sum() == 20


def test_labels_of_frames_change_nothing(lake, result):
    write_logged_frames(lake, 6, at=at(1), result_name=result)
    refresh(lake)
    before = states(lake)
    ids = lake.read(LANDING_INFERENCES)["request_id"].to_list()
    write_feedback(lake, ids, [1] * len(ids), at=at(1, 5))
    refresh(lake)
    assert_frame_equal(states(lake), before)


def test_production_like_the_reference_is_estimated_near_its_true_precision_and_recall(lake, result):
    write_logged_frames(lake, 150, at=at(1), every=timedelta(minutes=4), result_name=result)
    refresh(lake)
    references = Scorers(lake).references({result})
    days = roll_up(states(lake).filter(pl.col("result_name") == result))
    row = derive(days, references.baselines, references.windows).row(0, named=True)
    reference = references.windows[result]
    assert isinstance(reference, DetectionWindowReference)
    assert row["precision_low"] <= reference.precision <= row["precision_high"]
    assert row["recall_low"] <= reference.recall <= row["recall_high"]
    assert row["detections_per_frame"] == pytest.approx(row["detections_per_frame_reference"], rel=0.1)
    for name in ("codes", "classes", "confidence", "range"):
        assert row[f"drift_{name}"] <= row[f"drift_{name}_threshold"]


def test_harder_production_raises_alerts_and_a_decision(lake, result):
    write_logged_frames(lake, 360, hardness=2.2, at=at(1), every=timedelta(seconds=30), result_name=result)
    refresh(lake)
    names = Scorers(lake).references({result})
    _, alerts = refresh_alerts(lake, DAYS[:1], references=names)
    firing = set(alerts.filter(pl.col("state") == "firing")["rule"])
    assert {"estimated_precision", "estimated_recall", "drift_range"} <= firing
    assert "estimated_error_rate" not in firing
    decision = due_reevaluations(lake, {})[MODEL]
    assert "outside the reference band in 3 of the last 3 windows" in decision.explanation


def test_codes_of_predictions_and_of_missed_objects_stand_beside_their_reference(lake, result):
    write_logged_frames(lake, 100, at=at(1), every=timedelta(minutes=5), result_name=result)
    refresh(lake)
    baseline = load_baseline(lake, result)
    refresh_codes(lake, DAYS, baselines={result: baseline})
    codes = lake.read(MONITORING_CODES)
    by_kind = {kind: part for (kind,), part in codes.group_by("unit_kind")}
    assert set(by_kind) == {"prediction", "object"}
    assert by_kind["prediction"]["error_code"].str.contains(r"^P\d+$|^UNSEEN$").all()
    assert by_kind["object"]["error_code"].str.contains(r"^M\d+$|^UNSEEN$").all()
    assert by_kind["prediction"]["reference_counts"].sum() == baseline.n
    assert by_kind["object"]["reference_counts"].sum() == sum(baseline.missed_codes.values()) > 0
    for part in by_kind.values():
        assert part["delta"].sum() == pytest.approx(0.0, abs=1e-9)
    assert load_baseline(lake, result).frames == 150


def test_tables_of_older_code_get_the_columns_and_keep_their_windows(lake, result):
    """A day of a classifier from before there were detectors, and a detector's frames since."""
    write_inferences(lake, 10, result_name=None, at=at(1))
    new = {*MONITORING_WINDOWS.column_names[MONITORING_WINDOWS.column_names.index("n_frames"):]} - {
        name for name in MONITORING_WINDOWS.column_names if name.startswith("shift")
    }  # fmt: skip
    older = dataclasses.replace(
        MONITORING_WINDOWS, columns=tuple(c for c in MONITORING_WINDOWS.columns if c.name not in new)
    )
    rows = lake.read(LANDING_INFERENCES)
    marks = {f"basic:{DAYS[0]}": lake.version(LANDING_INFERENCES)}
    lake.replace(older, aggregate(rows, errors=False).drop(new), where={"event_day": DAYS[:1]}, marks=marks)
    fresh = Lake.open(lake.root)
    write_logged_frames(fresh, 5, at=at(1), stream="frames", result_name=result)
    refresh(fresh)
    found = states(fresh)
    assert found.filter(pl.col("model_key") != MODEL)["n"].to_list() == [10]
    assert found.filter(pl.col("model_key") == MODEL)["n_frames"].to_list() == [5, 5]


def test_a_result_stored_before_boxes_per_frame_were_kept_can_still_be_compared(lake, result):
    baseline = load_baseline(lake, result)
    older = dataclasses.replace(baseline, frames=0, ranges=(), design_effects={}, missed_codes={}, boxes_squared=0)
    write_logged_frames(lake, 40, at=at(1), result_name=result)
    refresh(lake)
    row = derive(
        roll_up(states(lake).filter(pl.col("result_name") == result)), {result: older},
        Scorers(lake).references({result}).windows,
    ).row(0, named=True)  # fmt: skip
    assert (row["detections_ratio"], row["drift_range"]) == (None, None)
    assert row["precision_estimated"] is not None


def test_a_class_that_the_result_never_met_leaves_its_frame_unscored_and_no_other(lake, result, caplog):
    rng = np.random.default_rng(11)
    frames = [made_up_frame(rng) for _ in range(8)]
    frames[3]["labels"] = np.full(len(frames[3]["labels"]), 7)
    write_logged_frames(lake, 8, at=at(1), result_name=result, frames=frames)
    scored, _ = refresh(lake, DAYS[:1])
    assert scored.rows == 8
    found = lake.read(MONITORING_SCORED).sort("row")
    assert found["scored_by"].is_null().to_list() == [index == 3 for index in range(8)]
    assert "1 of 8 frames stay unscored" in caplog.text
    windows = lake.read(MONITORING_WINDOWS).filter(pl.col("result_name").is_null())
    assert windows["n"].sum() == 8
