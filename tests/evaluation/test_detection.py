"""The evaluation of a 3D detector: what becomes of boxes and objects, their codes, probabilities and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluation import METRIC_COLUMNS, METRIC_EXTRAS, evaluate, load_detection_scorer, load_scorer
from mld_pipelines.evaluation.detection._frame_boxes import frame_boxes
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import TRACES_INPUTS
from tests.support.traced_frames import CLASS_NAMES, MODEL, made_up_frame, write_frames

if TYPE_CHECKING:
    from mld_pipelines.evaluation import StoredResult

CAR, PEDESTRIAN, TRUCK = 0, 1, 2


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredResult:
    """A detector evaluated on made-up frames; tests only read it."""
    lake = Lake.open(str(tmp_path_factory.mktemp("detector") / "lake"))
    write_frames(lake, "train", 120, seed=1)
    write_frames(lake, "val", 160, seed=2)
    return evaluate(lake, MODEL)


def box(x: float, y: float, yaw: float = 0.0) -> list[float]:
    return [x, y, 0.8, 1.9, 4.5, 1.6, yaw]


def frame(truths: list[tuple[list[float], int]], found: list[tuple[list[float], int, float]]) -> dict[str, Any]:
    """A frame of true boxes (box, class) and detections (box, class, score)."""
    n = len(found)
    return {
        "truth_boxes_3d": [one for one, _ in truths], "truth_labels": [label for _, label in truths],
        "truth_velocities": np.full((len(truths), 2), np.nan), "truth_points": [50] * len(truths),
        "boxes_3d": [one for one, _, _ in found], "labels": [label for _, label, _ in found],
        "scores": [score for _, _, score in found], "velocities": np.full((n, 2), np.nan),
        "features": np.ones((n, 8)), "class_scores": np.full((n, 3), 0.3), "candidate_index": np.arange(n),
        "suppressed_boxes_3d": [], "suppressed_labels": [], "suppressed_scores": [],
    }  # fmt: skip


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> StoredResult:
    """Six frames whose outcomes can be told by looking."""
    lake = Lake.open(str(tmp_path_factory.mktemp("by_hand") / "lake"))
    frames = [
        # found 0.5 m off; found twice; a box where nothing is
        frame([(box(10, 0), CAR)], [(box(10.5, 0), CAR, 0.9), (box(9.5, 0), CAR, 0.8), (box(40, 40), CAR, 0.7)]),
        # 3 m beside the car: misplaced; the car is its target, so no miss of its own
        frame([(box(20, 0), CAR)], [(box(23, 0), CAR, 0.9)]),
        # a truck taken for a car
        frame([(box(30, 0), TRUCK)], [(box(30, 0.4), CAR, 0.9)]),
        # two cars, one found exactly, one missed
        frame([(box(15, 5), CAR), (box(3, 4), CAR)], [(box(15, 5), CAR, 0.95)]),
        # three found with low scores, which the operating point has to reach down to
        frame([(box(8 * k, -20), CAR) for k in (1, 2, 3)], [(box(8 * k, -20), CAR, 0.5) for k in (1, 2, 3)]),
        frame([], []),
    ]  # fmt: skip
    write_frames(lake, "val", 6, frames=frames)
    return evaluate(lake, MODEL)


def unit(stored: StoredResult, number: int, kind: str, index: int) -> dict[str, Any]:
    rows = stored.units().filter(
        (pl.col("input_id") == f"val-{number:05d}") & (pl.col("unit_kind") == kind) & (pl.col("unit_index") == index)
    )
    return rows.collect().row(0, named=True)


@pytest.mark.parametrize(
    ("place", "outcome", "error_type", "label"),
    [
        ((0, 0), "tp", None, CAR),
        ((0, 1), "fp", "dupe", CAR),
        ((0, 2), "fp", "bkg", None),
        ((1, 0), "fp", "loc", CAR),
        ((2, 0), "fp", "cls", TRUCK),
        ((3, 0), "tp", None, CAR),
    ],
)
def test_predictions_have_the_outcome_that_one_sees(
    by_hand: StoredResult, place: tuple[int, int], outcome: str, error_type: str | None, label: int | None
) -> None:
    row = unit(by_hand, place[0], "prediction", place[1])
    assert (row["outcome"], row["error_type"], row["label"]) == (outcome, error_type, label)
    assert row["is_error"] == (error_type is not None)
    assert row["prediction"] == CAR


def test_objects_are_missed_found_or_the_target_of_another_error(by_hand: StoredResult) -> None:
    rows = [unit(by_hand, *place) for place in ((0, "object", 0), (1, "object", 0), (3, "object", 1))]
    assert [(row["outcome"], row["error_type"], row["is_error"]) for row in rows] == [
        ("tp", None, False),
        ("fn", None, False),
        ("fn", "miss", True),
    ]
    assert [row["confidence"] for row in rows] == [pytest.approx(0.9), 0.0, 0.0]
    assert rows[2]["range_m"] == pytest.approx(5.0)  # 3, 4, 5
    assert rows[2]["points"] == 50


def test_box_errors_are_those_of_the_matched_pair(by_hand: StoredResult) -> None:
    row = unit(by_hand, 0, "prediction", 0)
    assert row["match_distance"] == pytest.approx(0.5)
    assert row["ate"] == pytest.approx(0.5)
    assert row["ase"] == pytest.approx(0.0, abs=1e-9)
    assert row["ave"] is None


@pytest.mark.feature("H26")
def test_metrics_count_predictions_and_missed_objects(by_hand: StoredResult) -> None:
    metrics = dict(by_hand.metrics().select("metric", "value").iter_rows())
    # 9 predictions and 1 missed object, 5 true positives; 8 objects, 5 of them found
    assert metrics["counts"] == 10
    assert metrics["accuracy"] == pytest.approx(5 / 10)
    assert metrics["precision"] == pytest.approx(5 / 9)
    assert metrics["recall"] == pytest.approx(5 / 8)
    assert (metrics["n_inputs"], metrics["n_missed"]) == (6, 1)
    assert metrics["frame_error_rate"] == pytest.approx(4 / 6)  # all but the frame of three and the empty one
    names = by_hand.metrics().filter(pl.col("scope") == "metric")["metric"].to_list()
    assert names[: len(METRIC_COLUMNS)] == list(METRIC_COLUMNS)  # what every task has comes first, in its order
    assert names.index("map") > names.index(METRIC_EXTRAS[-1])


def test_too_few_boxes_for_codes_are_no_verdict(by_hand: StoredResult) -> None:
    issues = by_hand.issues()
    assert issues["error_code"].unique().to_list() == ["UNCODED"]
    assert issues["category"].unique().to_list() == ["recessive_hotspot"]


@pytest.mark.feature("G5")
def test_the_name_carries_the_task(stored: StoredResult) -> None:
    assert "_od3d_v1_" in stored.result_name
    assert stored.row["task"] == "od3d"


def test_predictions_and_objects_have_codes_of_their_own(stored: StoredResult) -> None:
    codes = stored.units().select("unit_kind", "error_code").collect().unique()
    by_kind = {kind: set(part["error_code"]) for (kind,), part in codes.group_by("unit_kind")}
    assert all(code[0] == "P" or code == "UNSEEN" for code in by_kind["prediction"])
    assert all(code[0] == "M" or code == "UNSEEN" for code in by_kind["object"])


def test_every_unit_is_in_one_issue(stored: StoredResult) -> None:
    units = stored.units().collect()
    counted = units.group_by("dataset_type", "unit_kind", "error_code").agg(
        pl.len().cast(pl.Int64).alias("counts"), pl.col("is_error").sum().cast(pl.Int64).alias("errors")
    )
    keys = ["dataset", "unit_kind", "error_code"]
    issues = stored.issues().filter(pl.col("counts") > 0).select(*keys, "counts", "errors")
    assert_frame_equal(issues.sort(keys), counted.rename({"dataset_type": "dataset"}).select(issues.columns).sort(keys))


def test_far_objects_are_the_missed_ones(stored: StoredResult) -> None:
    """The detector sees to about 45 m: the worst codes of objects lie beyond, the best well within."""
    issues = stored.issues().filter((pl.col("unit_kind") == "object") & (pl.col("dataset") == "val"))
    place = stored.units().filter(pl.col("unit_kind") == "object").group_by("error_code").agg(pl.col("range_m").mean())
    joined = issues.filter(pl.col("counts") >= 20).join(place.collect(), on="error_code")
    bad = joined.filter(pl.col("category").is_in(["hotspot", "critical_hotspot"]))
    good = joined.filter(pl.col("category").str.ends_with("_coverage"))
    assert bad.height and good.height
    assert bad["range_m"].min() > good["range_m"].max()  # type: ignore[operator]


def test_error_probability_ranks_false_boxes(stored: StoredResult) -> None:
    metrics = stored.metrics().filter(pl.col("dataset_type") == "val")
    values = dict(metrics.select("metric", "value").iter_rows())
    # features of false boxes lie 2.5 standard deviations apart: AUROC of that alone is Φ(2.5/√2) = 0.96
    assert values["error_proba_auroc"] > 0.93
    assert values["error_proba_auroc"] > values["auroc"]


def test_production_scores_are_those_of_the_result(stored: StoredResult) -> None:
    """What the evaluation says of frames that are not the reference, the stored scorer says of the same frames."""
    scorer = load_detection_scorer(stored.lake, stored.result_name)
    rows = stored.lake.scan(TRACES_INPUTS, model_key=MODEL).filter(pl.col("dataset_type") == "train").collect()
    rows = rows.sort("input_id").head(20)
    boxes = frame_boxes(rows)
    scored = scorer.score(
        boxes.recorded,
        boxes.suppressed,
        class_scores=boxes.class_scores,
        class_space=boxes.class_space,
        features=boxes.features,
        keys=[f"train/{name}" for name in rows["input_id"]],
    )
    known = np.isfinite(scored.box_error_proba)
    wanted = (
        stored.units()
        .filter((pl.col("unit_kind") == "prediction") & pl.col("input_id").is_in(rows["input_id"].to_list()))
        .sort("input_id", "unit_index")
        .collect()
    )
    np.testing.assert_array_equal(scored.box_error_proba[known], wanted["error_proba"].to_numpy())
    assert [code for code in scored.box_error_codes if code is not None] == wanted["error_code"].to_list()
    assert [one for one in scored.box_categories if one is not None] == wanted["category"].to_list()


def test_equal_traces_give_equal_rows_and_reuse_the_codebooks(stored: StoredResult) -> None:
    again = evaluate(stored.lake, MODEL)
    ids = ["evaluation_id", "result_name"]
    keys = ["dataset_type", "input_id", "unit_kind", "unit_index"]
    one, two = (result.units().collect().drop(ids).sort(keys) for result in (stored, again))
    assert_frame_equal(one, two)
    kinds = {
        result.result_name: dict(result.artifacts().select("kind", "artifact_id").iter_rows())
        for result in (stored, again)
    }
    first, second = kinds.values()
    assert first.keys() == {"codebook", "object_codebook", "estimator", "window"}
    assert first == second


def test_a_detector_without_features_gets_codes_of_place_and_size(tmp_path: Any) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(
        lake, "val", 60, seed=3, drop=("features", "suppressed_boxes_3d", "suppressed_scores", "suppressed_labels")
    )
    result = evaluate(lake, MODEL)
    assert result.units().filter(pl.col("error_code").str.starts_with("P")).collect().height
    warnings = " ".join(result.row["warnings"])
    assert "no feature" in warnings
    assert "suppressed candidates" in warnings


def test_several_epochs_are_populations_of_their_own(tmp_path: Any) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    for epoch in (1, 2):
        write_frames(lake, "val", 40, seed=epoch, epoch=epoch)
    result = evaluate(lake, MODEL, n_epoch=None)
    assert result.metrics()["n_epoch"].unique().sort().to_list() == [1, 2]


def test_a_detector_that_found_nothing_is_evaluated(tmp_path: Any) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 3, frames=[frame([(box(10, 0), CAR)], []) for _ in range(3)])
    metrics = dict(evaluate(lake, MODEL).metrics().select("metric", "value").iter_rows())
    assert (metrics["counts"], metrics["accuracy"], metrics["recall"]) == (3, 0.0, 0.0)
    assert metrics["precision"] is None


def test_empty_roads_with_candidates_of_any_class_are_evaluated(tmp_path: Any) -> None:
    """Nothing is there, nothing was found and the class has no name: what was suppressed tells how many there are."""
    lake = Lake.open(str(tmp_path / "lake"))
    hints = {"suppressed_boxes_3d": [box(10, 0)], "suppressed_labels": [4], "suppressed_scores": [0.05]}
    write_frames(lake, "val", 3, frames=[frame([], []) | hints for _ in range(3)])
    metrics = dict(evaluate(lake, MODEL).metrics().select("metric", "value").iter_rows())
    assert metrics["counts"] == 0


def test_scorers_of_another_task_are_refused(stored: StoredResult) -> None:
    with pytest.raises(InvalidInputError, match="of task 'od3d'"):
        load_scorer(stored.lake, stored.result_name)


def test_class_names_are_shown(stored: StoredResult) -> None:
    shown = {name for names in stored.issues()["top_classes"].to_list() for name in names}
    assert shown <= set(CLASS_NAMES)


def test_missed_objects_that_candidates_show_ask_for_another_threshold(tmp_path: Any) -> None:
    """Cars behind are missed although each has a candidate of score 0.2; cars in front are found."""
    lake, rng = Lake.open(str(tmp_path / "lake")), np.random.default_rng(0)
    frames = []
    for _ in range(160):
        ahead, behind = (rng.uniform(8, 40) for _ in range(2))
        made = frame([(box(ahead, 3), CAR), (box(-behind, -3), CAR)], [(box(ahead, 3), CAR, 0.9)])
        frames.append(made | {"suppressed_boxes_3d": [box(-behind, -3)], "suppressed_labels": [CAR],
                              "suppressed_scores": [0.2]})  # fmt: skip
    write_frames(lake, "val", 160, frames=frames)
    issues = evaluate(lake, MODEL).issues().filter(pl.col("unit_kind") == "object")
    bad = issues.filter(pl.col("category") == "hotspot")
    assert bad["errors"].sum() == bad["counts"].sum() > 0
    assert set(bad["recommended_method"]) == {"lower_threshold"}


def test_labels_beyond_the_scored_classes_are_refused_with_where_they_are(tmp_path: Any) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    frames = [frame([(box(10, 0), 12)], [(box(10, 0), CAR, 0.9)]) for _ in range(3)]
    write_frames(lake, "val", 3, frames=frames)
    with pytest.raises(InvalidInputError, match=r"beyond the 3 classes.*'true boxes': 12.*Nothing was evaluated"):
        evaluate(lake, MODEL)


def test_scores_that_are_no_probabilities_are_said(tmp_path: Any) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    rng = np.random.default_rng(4)
    frames = [made_up_frame(rng) for _ in range(30)]
    for made in frames[:2]:
        made["scores"] = np.where(np.arange(len(made["scores"])) == 0, 1.01, made["scores"]).astype(np.float32)
    write_frames(lake, "val", 30, frames=frames)
    result = evaluate(lake, MODEL)
    total = sum(len(made["scores"]) for made in frames)
    assert any(f"2 of {total} boxes have scores outside 0 … 1 (up to 1.01)" in said for said in result.row["warnings"])


def test_class_vectors_that_the_reference_lacked_are_left_out_in_production(tmp_path: Any) -> None:
    """One traced frame without class vectors: the codes know scores alone, in production too."""
    lake = Lake.open(str(tmp_path / "lake"))
    rng = np.random.default_rng(4)
    frames = [made_up_frame(rng) for _ in range(60)]
    frames[7]["class_scores"] = np.zeros(0)
    write_frames(lake, "val", 60, frames=frames)
    result = evaluate(lake, MODEL)
    assert any("1 of 60 frames have boxes without class scores" in said for said in result.row["warnings"])
    scorer = load_detection_scorer(lake, result.result_name)
    rows = lake.scan(TRACES_INPUTS, model_key=MODEL).sort("input_id").head(5).collect()
    boxes = frame_boxes(rows)
    assert boxes.class_scores is not None
    given = {"class_space": boxes.class_space, "features": boxes.features, "keys": [f"p/{i}" for i in range(5)]}
    scored = scorer.score(boxes.recorded, boxes.suppressed, class_scores=boxes.class_scores, **given)
    bare = scorer.score(boxes.recorded, boxes.suppressed, class_scores=None, **given)
    np.testing.assert_array_equal(scored.box_error_proba, bare.box_error_proba)
    assert scored.box_error_codes == bare.box_error_codes


def test_suppressed_boxes_that_are_none_are_left_out(tmp_path: Any) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    made = frame([(box(10, 0), CAR)], [(box(10, 0), CAR, 0.9)])
    flat = box(20, 0)
    flat[3] = -0.1
    made |= {
        "suppressed_boxes_3d": [flat, box(30, 0)],
        "suppressed_labels": [CAR, CAR],
        "suppressed_scores": [0.2, 0.1],
    }
    write_frames(lake, "val", 2, frames=[made, made])
    found = frame_boxes(lake.scan(TRACES_INPUTS, model_key=evaluate(lake, MODEL).model_key).collect()).suppressed
    assert found is not None
    assert found.offsets.tolist() == [0, 1, 2]
    assert found.boxes[:, 0].tolist() == [30.0, 30.0]


def test_the_operating_point_can_be_set(tmp_path: Any) -> None:
    """Scores of 0.9 and 0.5: at 0.6 the second is a candidate, and its car is missed."""
    lake = Lake.open(str(tmp_path / "lake"))
    pair = [(box(10, 0), CAR), (box(30, 0), CAR)]
    write_frames(lake, "val", 2, frames=[frame(pair, [(*pair[0], 0.9), (*pair[1], 0.5)]) for _ in range(2)])
    metrics = {
        at: dict(
            evaluate(lake, MODEL, policy=Policy(score_threshold=at)).metrics().select("metric", "value").iter_rows()
        )
        for at in (None, 0.6)
    }
    assert (metrics[None]["recall"], metrics[None]["n_missed"]) == (1.0, 0)
    assert (metrics[0.6]["recall"], metrics[0.6]["n_missed"]) == (0.5, 2)


def test_frames_with_and_without_suppressed_candidates_are_said(tmp_path: Any) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 60, seed=1)
    write_frames(lake, "train", 40, seed=2, drop=("suppressed_boxes_3d", "suppressed_scores", "suppressed_labels"))
    result = evaluate(lake, MODEL)
    said = [text for text in result.row["warnings"] if "suppressed candidates" in text]
    assert said == [
        "40 of 100 frames come without suppressed candidates, the others with them: what warns of errors and misses is "
        "not the same in both. Trace all datasets of one version the same way."
    ]
    assert load_detection_scorer(lake, result.result_name).estimator.scorer.has_suppressed is True
