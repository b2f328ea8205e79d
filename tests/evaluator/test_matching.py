"""A detector judged by bird's-eye IoU instead of the distance of centres."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluation import evaluate, load_detection_scorer
from mld_pipelines.evaluator import Result
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.metrics import MATCH_RULES
from tests.support.traced_frames import WIDTH, write_frames

if TYPE_CHECKING:
    from pathlib import Path

CAR, PEDESTRIAN, TRUCK = 0, 1, 2
SIZES = {CAR: (2.0, 4.0, 1.6), PEDESTRIAN: (0.8, 0.8, 1.8), TRUCK: (2.5, 10.0, 3.0)}
Box = tuple[list[float], int]


def box(label: int, x: float, y: float = 0.0, *, yaw: float = 0.0, scale: float = 1.0) -> Box:
    w, length, h = SIZES[label]
    return [x, y, 0.8, w * scale, length * scale, h, yaw], label


def frame(
    truths: list[Box], found: list[tuple[Box, float]], suppressed: list[tuple[Box, float]] = ()
) -> dict[str, Any]:  # type: ignore[assignment]
    n = len(found)
    return {
        "truth_boxes_3d": [one for one, _ in truths], "truth_labels": [label for _, label in truths],
        "truth_velocities": np.full((len(truths), 2), np.nan), "truth_points": [50] * len(truths),
        "boxes_3d": [one for (one, _), _ in found], "labels": [label for (_, label), _ in found],
        "scores": [score for _, score in found], "velocities": np.full((n, 2), np.nan),
        "features": np.ones((n, WIDTH)), "class_scores": np.full((n, 3), 0.3), "candidate_index": np.arange(n),
        "suppressed_boxes_3d": [one for (one, _), _ in suppressed],
        "suppressed_labels": [label for (_, label), _ in suppressed],
        "suppressed_scores": [score for _, score in suppressed],
    }  # fmt: skip


def evaluated(lake: Lake, **policy: Any) -> Result:
    return Result(evaluate(lake, "pillars@v1", policy=Policy(**policy)))


#: What is there, what was found, and its outcome, type and sub-type by distance and by overlap.
SEEN: tuple[tuple[Box, Box, tuple[str | None, ...], tuple[str | None, ...]], ...] = (
    # crosswise: 2.5² / (2·25 − 2.5²) = 0.14
    (box(TRUCK, 20), box(TRUCK, 20, yaw=np.pi / 2), ("tp", None, None), ("fp", "loc", "loc_yaw")),
    # three times as wide and long: 1/9
    (box(CAR, 20), box(CAR, 20, scale=3.0), ("tp", None, None), ("fp", "loc", "loc_size")),
    # half its length aside: 2 / 6 = 1/3
    (box(CAR, 20), box(CAR, 22), ("fp", "loc", None), ("fp", "loc", "loc_centre")),
    # a step aside: no overlap at all
    (box(PEDESTRIAN, 10), box(PEDESTRIAN, 11), ("tp", None, None), ("fp", "bkg", None)),
    # 3 m along 10 m: 7 / 13 = 0.54
    (box(TRUCK, 20), box(TRUCK, 23), ("fp", "loc", None), ("tp", None, None)),
    # half a length aside and crosswise: neither alone mends it
    (box(TRUCK, 20), box(TRUCK, 24.2, yaw=np.pi / 2), ("fp", "bkg", None), ("fp", "loc", "loc_mixed")),
    # 0.4 m off: 3.6 / 4.4
    (box(CAR, 20), box(CAR, 20.4), ("tp", None, None), ("tp", None, None)),
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake.open(str(tmp_path_factory.mktemp("matching") / "lake"))
    write_frames(lake, "val", 0, frames=[frame([truth], [(found, 0.9)]) for truth, found, _, _ in SEEN])
    return lake


@pytest.fixture(scope="module")
def by_distance(lake: Lake) -> Result:
    return evaluated(lake, score_threshold=0.5)


@pytest.fixture(scope="module")
def by_overlap(lake: Lake) -> Result:
    return evaluated(lake, score_threshold=0.5, matching="bev_iou")


@pytest.mark.parametrize("number", range(len(SEEN)))
def test_outcomes_and_types_are_those_that_one_reckons(by_distance: Result, by_overlap: Result, number: int) -> None:
    for result, expected in ((by_distance, SEEN[number][2]), (by_overlap, SEEN[number][3])):
        row = result.get_samples(
            dataset="val", filters=[f"input_id == 'val-{number:05d}'", "unit_kind == 'prediction'"], reasons=False
        ).row(0, named=True)
        assert (row["outcome"], row["error_type"], row["error_sub_type"]) == expected
        about = expected[1] != "bkg"
        truth, found = SEEN[number][0][0], SEEN[number][1][0]
        assert row["match_distance"] == (pytest.approx(abs(found[0] - truth[0])) if about else None)


def test_a_neighbour_without_overlap_leaves_its_object_missed(by_distance: Result, by_overlap: Result) -> None:
    missed = [result.get_samples(filters="error_type == 'miss'", reasons=False) for result in (by_distance, by_overlap)]
    assert [rows["input_id"].to_list() for rows in missed] == [["val-00005"], ["val-00003"]]


def test_views_group_by_sub_type(by_distance: Result, by_overlap: Result) -> None:
    seen = by_overlap.get_view("error_sub_type", filters="error_type == 'loc'")
    assert dict(seen.select("error_sub_type", "counts").rows()) == dict.fromkeys(
        ("loc_yaw", "loc_size", "loc_centre", "loc_mixed"), 1
    )
    assert by_overlap.get_samples(filters={"error_sub_type": "loc_size"})["input_id"].to_list() == ["val-00001"]
    assert by_distance.get_view("error_sub_type")["error_sub_type"].null_count() == 2  # one row of each kind


def test_issues_and_codes_name_the_sub_type(by_distance: Result, by_overlap: Result) -> None:
    kinds = [
        set(result.get_issues("val", unit_kind="prediction")["top_error_types"][0])
        for result in (by_distance, by_overlap)
    ]
    assert "loc" in kinds[0]
    assert kinds[1] <= {"loc_yaw", "loc_size", "loc_centre", "loc_mixed", "bkg"}
    assert len(kinds[1]) >= 3


def test_summaries_follow_the_matching_and_map_does_not(by_distance: Result, by_overlap: Result) -> None:
    first, second = (result.metrics_summary().row(0, named=True) for result in (by_distance, by_overlap))
    assert (first["precision"], second["precision"]) == (pytest.approx(4 / 7), pytest.approx(2 / 7))
    assert (first["recall"], second["recall"]) == (pytest.approx(4 / 7), pytest.approx(2 / 7))
    for name in ("map", "nds_like", "mate", "mase", "maoe"):
        assert first[name] == second[name]
    assert by_overlap.get_frames()["true_positives"].sum() == 2


def test_the_matching_is_told_and_stored(by_distance: Result, by_overlap: Result, tmp_path: Path) -> None:
    assert by_overlap.inputs["policy"]["matching"] == "bev_iou"
    assert by_distance.inputs["policy"]["matching"] == "centre_distance"
    (said,) = [text for text in by_overlap.warnings if "bird's-eye IoU of 0.5" in text]
    assert not [text for text in by_distance.warnings if "IoU" in text]
    page = by_overlap.export(tmp_path / "report.html")[0].read_text()
    assert said.split(";")[0].replace("'", "&#x27;") in page


def test_results_of_two_matchings_are_not_compared(by_distance: Result, by_overlap: Result) -> None:
    with pytest.raises(InvalidInputError, match=r"by 'centre_distance' and .* by 'bev_iou'.*Policy\(matching="):
        by_distance.compare(by_overlap)
    assert by_overlap.compare(by_overlap, n_boot=100).n_common == len(SEEN)


def test_the_operating_point_is_chosen_by_the_matching(tmp_path: Path) -> None:
    """Of two cars one is found exactly with 0.9, one crosswise with 0.5: F1 is 1 with both by distance; by overlap it
    is 2/3 with the first alone and 1/2 with both."""
    lake = Lake.open(str(tmp_path / "lake"))
    pair = frame([box(TRUCK, 20), box(TRUCK, 40)], [(box(TRUCK, 20), 0.9), (box(TRUCK, 40, yaw=np.pi / 2), 0.5)])
    write_frames(lake, "val", 0, frames=[pair, pair])
    limits = {}
    for matching in MATCH_RULES:
        result = evaluated(lake, matching=matching)
        limits[matching] = load_detection_scorer(lake, result.result_name).estimator.thresholds[TRUCK]
    assert limits == {"centre_distance": pytest.approx(0.5), "bev_iou": pytest.approx(0.9)}


def test_a_candidate_shows_what_it_would_have_found(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 0, frames=[frame([box(TRUCK, 20)], [], [(box(TRUCK, 20, yaw=np.pi / 2), 0.2)])])
    shown = {
        matching: evaluated(lake, matching=matching, score_threshold=0.5).get_samples(reasons=False)["confidence"][0]
        for matching in MATCH_RULES
    }
    assert shown == {"centre_distance": pytest.approx(0.2), "bev_iou": 0.0}


def test_the_ranking_of_all_boxes_follows_the_matching(by_overlap: Result, tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    scores = np.linspace(0.95, 0.35, len(SEEN))
    frames = [frame([truth], [(found, score)]) for (truth, found, _, _), score in zip(SEEN, scores, strict=True)]
    write_frames(lake, "val", 0, frames=frames)
    for matching, place in (("centre_distance", 2), ("bev_iou", 3)):
        is_hit = np.array([seen[place][0] == "tp" for seen in SEEN])
        assert evaluated(lake, matching=matching).metrics_summary()["auroc"][0] == pytest.approx(
            float(np.mean(scores[is_hit][:, None] > scores[~is_hit][None, :]))
        )


def test_evidence_speaks_of_overlap(tmp_path: Path) -> None:
    """Pedestrians a quarter of a metre off are found by distance and misplaced by overlap."""
    lake = Lake.open(str(tmp_path / "lake"))
    write_frames(lake, "val", 160, seed=2)
    sentences = {
        matching: " ".join(
            line
            for lines in evaluated(lake, matching=matching).get_issues("val")["evidence"].to_list()
            for line in lines
        )
        for matching in MATCH_RULES
    }
    assert "overlap an object of their class too little to match" in sentences["bev_iou"]
    assert "overlap an object" not in sentences["centre_distance"]


def test_an_unknown_matching_names_the_known() -> None:
    with pytest.raises(InvalidInputError, match="matching is 'iou'; it must be one of centre_distance, bev_iou"):
        Policy(matching="iou")


def test_a_result_from_before_there_was_a_choice_matches_by_distance(by_distance: Result, lake: Lake) -> None:
    stored = by_distance._stored
    policy = json.loads(stored.row["policy"])
    del policy["matching"]
    old = Result(dataclasses.replace(stored, row=stored.row | {"policy": json.dumps(policy)}))
    assert old.compare(by_distance, n_boot=100).n_common == len(SEEN)
    assert isinstance(old.get_frames(), pl.DataFrame)
