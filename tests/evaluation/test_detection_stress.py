"""What an evaluation of a 3D detector makes of stressed copies of its frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from mld_pipelines.diagnosis import estimate_detection_window
from mld_pipelines.evaluation import STRESS_WARNING, evaluate, evaluate_again, load_detection_scorer
from mld_pipelines.evaluation.detection import _stress
from mld_pipelines.evaluation.detection._frame_boxes import frame_boxes
from mld_pipelines.lake import Lake
from mld_pipelines.tables import ESTIMATORS_MODELS, LANDING_INFERENCES, TRACES_STRESS
from tests.support.traced_frames import (
    MODEL,
    STRESS,
    made_up_frame,
    write_frames,
    write_logged_frames,
    write_stressed_frames,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mld_pipelines.diagnosis import DetectionEstimate
    from mld_pipelines.evaluation import StoredResult

FRAMES = 120


def traced(root: Path) -> tuple[Lake, list[dict[str, Any]]]:
    lake = Lake.open(str(root / "lake"))
    write_frames(lake, "train", 60, seed=1)
    return lake, write_frames(lake, "val", FRAMES, seed=2)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredResult, StoredResult]:
    """The same evaluation without and with a stress pass; tests only read them."""
    lake, frames = traced(tmp_path_factory.mktemp("stressed"))
    plain = evaluate(lake, MODEL)
    write_stressed_frames(lake, frames)
    return plain, evaluate_again(lake, plain.result_name)


def facts(result: StoredResult) -> dict[str, Any]:
    return result.verifications()[None]


def estimated(result: StoredResult, made: list[dict[str, Any]]) -> DetectionEstimate:
    """What a result says about logged frames."""
    lake = result.lake
    stream = f"judged-{id(made)}-{result.result_name}"
    write_logged_frames(lake, len(made), frames=made, stream=stream)
    rows = lake.read(LANDING_INFERENCES).filter(pl.col("stream_id") == stream)
    boxes, scorer = frame_boxes(rows), load_detection_scorer(lake, result.result_name)
    scored = scorer.score(
        boxes.recorded,
        boxes.suppressed,
        class_scores=boxes.class_scores,
        class_space=boxes.class_space,
        features=boxes.features,
    )
    return estimate_detection_window(scorer.window_state(scored), scorer.window_reference)


def truth(result: StoredResult, made: list[dict[str, Any]]) -> float:
    """True recall by the distance of centres, counted by hand: made-up boxes stand within 2 m of what they found."""
    thresholds = load_detection_scorer(result.lake, result.result_name).estimator.thresholds
    found = total = 0
    for frame in made:
        kept = frame["scores"] >= thresholds[frame["labels"]]
        for box, label in zip(frame["truth_boxes_3d"], frame["truth_labels"], strict=True):
            near = np.hypot(*(frame["boxes_3d"][:, :2] - box[:2]).T) < 2.0
            found += bool((near & kept & (frame["labels"] == label)).any())
            total += 1
    return found / total


def test_a_pass_gives_one_map_and_says_what_was_verified(pair: tuple[StoredResult, StoredResult]) -> None:
    assert pair[0].verifications() == {}
    found = facts(pair[1])
    assert found["n_originals"] == FRAMES
    assert found["n_copies"] == FRAMES * 9
    assert found["n_sets"] == 9
    assert sorted(found["verified_families"] + found["missed_families"]) == sorted(STRESS)
    assert set(found["families"]) == {*STRESS, "clean"}
    for errors in found["families"].values():
        assert set(errors) == {"precision", "recall"}
    row = pair[1].artifacts().filter(pl.col("kind") == "window_map").row(0, named=True)
    assert json.loads(row["metrics"])["families"] == found["families"]


def test_nothing_else_of_the_result_changes(pair: tuple[StoredResult, StoredResult]) -> None:
    plain, stressed = (
        result.units().drop("evaluation_id", "result_name", strict=False).sort("unit_kind", "input_id", "unit_index")
        for result in pair
    )
    same = [name for name in plain.collect_schema().names() if name not in {"run_id", "created_at", "evaluated_at"}]
    assert plain.select(same).collect().equals(stressed.select(same).collect())
    attempt = ["evaluation_id", "result_name", "created_at"]
    for part in ("metrics", "issues", "codes"):
        one, other = (getattr(result, part)().drop(attempt, strict=False) for result in pair)
        assert one.equals(other), part
    one, other = (dict(result.artifacts().select("kind", "artifact_id").iter_rows()) for result in pair)
    assert other == one | {"window_map": other["window_map"]}


def test_the_badge_goes_where_something_was_verified(pair: tuple[StoredResult, StoredResult]) -> None:
    made = [made_up_frame(np.random.default_rng(i)) for i in range(60)]
    before, after = (estimated(result, made).badges for result in pair)
    assert "not verified under shift" in before
    assert ("not verified under shift" in after) == (not facts(pair[1])["verified_families"])
    assert facts(pair[1])["verified_families"]


def test_recall_under_a_shift_like_the_stressed_ones_comes_nearer_to_the_truth(
    pair: tuple[StoredResult, StoredResult],
) -> None:
    rng = np.random.default_rng(77)
    made = [made_up_frame(rng, hardness=1.7) for _ in range(150)]
    real = truth(pair[1], made)
    plain, stressed = (estimated(result, made) for result in pair)
    assert abs(stressed.recall - real) < abs(plain.recall - real)
    assert stressed.recall_low <= real <= stressed.recall_high


def test_a_frame_that_was_not_shifted_is_judged_as_before(pair: tuple[StoredResult, StoredResult]) -> None:
    rng = np.random.default_rng(78)
    made = [made_up_frame(rng) for _ in range(150)]
    plain, stressed = (estimated(result, made) for result in pair)
    assert stressed.precision == pytest.approx(plain.precision, abs=0.03)
    assert stressed.recall == pytest.approx(plain.recall, abs=0.03)


def test_blocks_of_any_size_give_the_same_map(
    pair: tuple[StoredResult, StoredResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stress, "_READ_COPIES", 50)
    monkeypatch.setattr(_stress, "_SCORED_COPIES", 7)
    again = evaluate_again(pair[0].lake, pair[0].result_name)
    one, other = (
        result.artifacts().filter(pl.col("kind") == "window_map")["artifact"].item() for result in (pair[1], again)
    )
    assert one == other


def test_suppressed_candidates_that_the_reference_had_not_teach_nothing(tmp_path: Path) -> None:
    suppressed = ("suppressed_boxes_3d", "suppressed_labels", "suppressed_scores")
    maps = []
    for drop in (suppressed, ()):
        lake = Lake.open(str(tmp_path / f"lake-{len(drop)}"))
        write_frames(lake, "train", 40, seed=1)  # has them, so that they are known of the population
        frames = write_frames(lake, "val", 70, seed=2, drop=suppressed)
        write_stressed_frames(lake, frames, severities=(3,), drop=drop)
        kinds = evaluate(lake, MODEL).artifacts().filter(pl.col("kind") == "window_map")
        maps.append(kinds["artifact"].item())
    assert maps[0] == maps[1]


def test_too_few_originals_leave_a_warning_and_the_default_estimate(tmp_path: Path) -> None:
    lake, frames = traced(tmp_path)
    write_stressed_frames(lake, frames, n=20, severities=(3,))
    result = evaluate(lake, MODEL)
    assert result.verifications() == {}
    (said,) = [one for one in result.row["warnings"] if one.startswith(STRESS_WARNING)]
    assert "copies of 20 reference frames, 50 are needed" in said


def test_copies_of_another_make_leave_a_warning(tmp_path: Path) -> None:
    lake, frames = traced(tmp_path)
    write_stressed_frames(lake, frames, n=60, severities=(3,), drop=("features",))
    result = evaluate(lake, MODEL)
    assert result.verifications() == {}
    assert any("features differ in width" in one for one in result.row["warnings"])


def test_one_family_leaves_a_warning(tmp_path: Path) -> None:
    lake, frames = traced(tmp_path)
    write_stressed_frames(lake, frames, n=60, families=("noise",))
    result = evaluate(lake, MODEL)
    assert result.verifications() == {}
    assert any("at least two" in one for one in result.row["warnings"])


def test_copies_of_other_weights_are_not_read(tmp_path: Path) -> None:
    lake, frames = traced(tmp_path)
    write_stressed_frames(lake, frames, n=60, severities=(3,), fingerprint="c" * 64)
    result = evaluate(lake, MODEL)
    assert result.verifications() == {}
    assert not any(one.startswith(STRESS_WARNING) for one in result.row["warnings"])
    assert lake.read(TRACES_STRESS).height == 180


def test_a_map_that_cannot_be_read_leaves_the_default_estimate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lake, frames = traced(tmp_path)
    write_stressed_frames(lake, frames, n=60, severities=(1, 5))
    result = evaluate(lake, MODEL)
    rows = lake.read(ESTIMATORS_MODELS)
    broken = rows.with_columns(
        pl.when(pl.col("kind") == "window_map").then(pl.lit(b"nothing")).otherwise("artifact").alias("artifact")
    )
    lake.replace(ESTIMATORS_MODELS, broken, where={"model_key": MODEL})
    scorer = load_detection_scorer(lake, result.result_name)
    assert scorer.window_reference.shift is None
    assert "not verified under shift" in caplog.text
