"""Metrics of a detector's datasets, from units and recorded boxes, against hand calculation and scikit-learn."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score

from mld_pipelines.evaluation import CATEGORY_RATIOS, DETECTION_EXTRAS, METRIC_COLUMNS, METRIC_EXTRAS, counted_units
from mld_pipelines.evaluation.detection._metrics import RecordedBoxes, class_metrics, detection_metric_rows
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import Detections3D, Truths3D
from mld_pipelines.tables import EVALUATION_UNITS

SIZE = [2.0, 4.0, 1.5]


def unit(frame: str, kind: str, outcome: str, *, wrong: bool | None = None, **known):
    is_error = (outcome == "fp" if kind == "prediction" else outcome == "fn") if wrong is None else wrong
    values = {
        "dataset_type": "val", "input_id": frame, "unit_kind": kind, "outcome": outcome, "is_error": is_error,
        "confidence": 0.5, "error_proba": 0.5 if kind == "prediction" else None, "entropy": 0.0,
        "loss": 0.0 if kind == "prediction" else None, "category": "hotspot", "is_aleatoric": False,
    }  # fmt: skip
    return values | known


def table(rows):
    names = ("dataset_type", "input_id", "unit_kind", "outcome", "is_error", "confidence", "error_proba", "entropy",
             "loss", "category", "is_aleatoric")  # fmt: skip
    return pl.DataFrame(rows, schema={name: EVALUATION_UNITS.column(name).data_type for name in names})


def boxes(frames):
    """Frames of (detections, truths), each box as (x, y, label[, score])."""
    found = [
        {
            "boxes": [[x, y, 1, *SIZE, 0] for x, y, *_ in one],
            "labels": [b[2] for b in one],
            "scores": [b[3] for b in one],
        }
        for one, _ in frames
    ]
    real = [{"boxes": [[x, y, 1, *SIZE, 0] for x, y, _ in one], "labels": [b[2] for b in one]} for _, one in frames]
    return RecordedBoxes(
        [f"f{i}" for i in range(len(frames))], Detections3D.from_frames(found), Truths3D.from_frames(real)
    )


PERFECT = boxes([([(10, 0, 0, 0.9), (30, 5, 1, 0.8)], [(10, 0, 0), (30, 5, 1)])])


def rows_of(units, recorded=PERFECT, **options):
    options = {"n_epoch": None, "alpha": 0.05, "n_classes": 3} | options
    return detection_metric_rows(table(units), {"val": recorded}, **options)


def values(units, recorded=PERFECT, **options):
    found = rows_of(units, recorded, **options)
    return {row["metric"]: row for row in found.iter_rows(named=True)}


HIT, FALSE, FOUND = ("prediction", "tp"), ("prediction", "fp"), ("object", "tp")
#: 4 predictions, 3 right; 5 objects: 3 found, 1 missed, 1 that a prediction is mistaken about.
SCENE = [
    unit("f0", *HIT), unit("f0", *HIT), unit("f0", *FALSE), unit("f1", *HIT), unit("f0", *FOUND), unit("f0", *FOUND),
    unit("f1", *FOUND), unit("f1", "object", "fn"), unit("f0", "object", "fn", wrong=False),
]  # fmt: skip


def test_shares_count_predictions_and_missed_objects():
    found = values(SCENE)
    assert {name: found[name]["value"] for name in ("counts", "n_missed", "n_inputs")} == {
        "counts": 5, "n_missed": 1, "n_inputs": 1,
    }  # fmt: skip
    assert found["accuracy"]["value"] == pytest.approx(3 / 5)
    assert found["error_rate"]["value"] == pytest.approx(2 / 5)
    assert found["precision"]["value"] == pytest.approx(3 / 4)
    assert found["recall"]["value"] == pytest.approx(3 / 5)  # of all objects, the mistaken one too
    assert found["f1"]["value"] == pytest.approx(2 * 0.75 * 0.6 / 1.35)


def test_found_objects_are_no_counted_units():
    assert counted_units(table(SCENE))["unit_kind"].to_list() == ["prediction"] * 4 + ["object"]


@pytest.mark.feature("H12", "H26")
def test_columns_stand_in_the_order_of_every_task_with_the_detectors_own_behind():
    found = rows_of(SCENE)
    assert found.filter(scope="metric")["metric"].to_list() == [*METRIC_COLUMNS, *METRIC_EXTRAS, *DETECTION_EXTRAS]
    assert found.filter(scope="category_ratio")["metric"].to_list() == list(CATEGORY_RATIOS)


def test_entropies_are_those_of_predictions():
    units = [unit("f0", *HIT, entropy=0.5, loss=0.25), unit("f0", *FALSE, entropy=1.0, loss=2.0),
             unit("f0", "object", "fn")]  # fmt: skip
    found = values(units)
    assert [found[name]["value"] for name in ("net_entropy", "net_entropy_loss", "mean_entropy", "mean_loss")] == [
        1.5, 2.25, 0.75, 1.125,
    ]  # fmt: skip
    assert found["net_entropy"]["n"] == 2


def test_error_probability_and_score_are_ranked_over_predictions():
    rng = np.random.default_rng(0)
    wrong, proba, score = rng.random(80) < 0.3, rng.random(80).astype("f4"), rng.random(80).astype("f4")
    units = [
        unit("f0", "prediction", "fp" if e else "tp", error_proba=p, confidence=s)
        for e, p, s in zip(wrong.tolist(), proba.tolist(), score.tolist(), strict=True)
    ]
    found = values([*units, unit("f0", "object", "fn")])
    assert found["error_proba_auroc"]["value"] == pytest.approx(roc_auc_score(wrong, proba))
    assert found["error_proba_auprc"]["value"] == pytest.approx(average_precision_score(wrong, proba))
    assert found["error_proba_auprc_success"]["value"] == pytest.approx(average_precision_score(~wrong, -proba))
    assert found["confidence_auroc"]["value"] == pytest.approx(roc_auc_score(wrong, -score))


def test_auroc_ranks_all_recorded_boxes():
    """Scores 0.9 (right), 0.6 (nothing there), 0.3 (right), 0.1 (nothing there): 3 of 4 pairs are in order."""
    recorded = boxes(
        [([(10, 0, 0, 0.9), (50, 0, 0, 0.6)], [(10, 0, 0)]), ([(20, 0, 1, 0.3), (60, 0, 1, 0.1)], [(20, 0, 1)])]
    )
    assert values(SCENE, recorded)["auroc"]["value"] == pytest.approx(0.75)


def test_perfect_boxes_have_full_map_and_no_errors():
    found = values(SCENE)
    assert found["map"]["value"] == found["auprc"]["value"] == pytest.approx(1.0)
    assert [found[name]["value"] for name in ("mate", "mase", "maoe")] == pytest.approx([0.0, 0.0, 0.0])
    assert found["nds_like"]["value"] == pytest.approx(1.0)


def test_a_class_without_truths_takes_no_part_in_map():
    """Class 2 has detections and no truths: the devkit would count it as 0."""
    recorded = boxes([([(10, 0, 0, 0.9), (40, 0, 2, 0.8)], [(10, 0, 0)])])
    assert values(SCENE, recorded)["map"]["value"] == pytest.approx(1.0)


def test_map_is_the_mean_over_distances():
    """0.7 m off: no match at 0.5 m, matches at 1, 2 and 4 m."""
    recorded = boxes([([(10.7, 0, 0, 0.9)], [(10, 0, 0)])])
    found = values(SCENE, recorded)
    assert found["map"]["value"] == pytest.approx(3 / 4)
    assert found["mate"]["value"] == pytest.approx(0.7)
    assert found["nds_like"]["value"] == pytest.approx((5 * 0.75 + 0.3 + 1 + 1) / 8)  # three errors, no velocity


def test_classes_have_their_own_precision_and_errors():
    """Class 0 is 0.7 m off (no match at 0.5 m), class 2 perfect; class 1 has no true box."""
    recorded = boxes([([(10.7, 0, 0, 0.9), (30, 0, 1, 0.9), (50, 0, 2, 0.9)], [(10, 0, 0), (50, 0, 2)])])
    found = class_metrics(recorded, n_classes=3)
    assert found["label"].to_list() == [0, 2]
    assert found["ap"].to_list() == pytest.approx([0.75, 1.0])
    assert found["ate"].to_list() == pytest.approx([0.7, 0.0])
    assert found["ave"].to_list() == [None, None]


def test_velocity_errors_need_velocities_on_both_sides():
    def moving(found, real):
        given = {"offsets": [0, 1], "boxes": [[10, 0, 1, *SIZE, 0]], "labels": [0]}
        return RecordedBoxes(
            ["f0"], Detections3D(**given, scores=[0.9], velocities=found), Truths3D(**given, velocities=real)
        )

    known, unknown = [[3.0, 4.0]], [[np.nan, np.nan]]
    assert values(SCENE, moving(known, [[0.0, 0.0]]))["mave"]["value"] == pytest.approx(5.0)
    assert values(SCENE, moving(known, unknown))["mave"]["value"] is None
    assert values(SCENE, moving(unknown, known))["mave"]["value"] is None
    # a detector without velocities is not charged for them
    assert values(SCENE, moving(unknown, known))["nds_like"]["value"] == pytest.approx(1.0)


def test_barriers_and_cones_follow_nuscenes():
    """Half a turn is no error of a barrier; a cone has no orientation."""

    def turned(name):
        given = {"offsets": [0, 1], "labels": [0]}
        recorded = RecordedBoxes(
            ["f0"], Detections3D(**given, boxes=[[10, 0, 1, *SIZE, 0]], scores=[0.9]),
            Truths3D(**given, boxes=[[10, 0, 1, *SIZE, np.pi - 1e-9]]),
        )  # fmt: skip
        return values(SCENE, recorded, n_classes=1, class_names=(name,))["maoe"]["value"]

    assert turned("car") == pytest.approx(np.pi)
    assert turned("barrier") == pytest.approx(0.0, abs=1e-6)
    assert turned("traffic_cone") is None


def test_without_truths_there_is_no_map():
    found = values([unit("f0", *FALSE)], boxes([([(10, 0, 0, 0.9)], [])]))
    assert [found[name]["value"] for name in ("map", "auprc", "nds_like", "mate", "recall", "f1")] == [None] * 6
    assert found["precision"]["value"] == 0.0


def test_nothing_right_is_an_f1_of_zero():
    assert values([unit("f0", *FALSE), unit("f0", "object", "fn")])["f1"]["value"] == 0.0


def test_a_dataset_without_a_unit_has_rows():
    found = values([], boxes([([], []), ([], [])]))
    assert (found["counts"]["value"], found["n_inputs"]["value"]) == (0, 2)
    assert found["accuracy"]["value"] is None
    assert found["stable_coverage_ratio"]["value"] is None


def test_ratios_divide_by_counted_units():
    units = [
        unit("f0", *HIT, category="stable_coverage"), unit("f0", *FALSE, is_aleatoric=True),
        unit("f0", "object", "fn", category="critical_hotspot"), unit("f0", *FOUND, category="critical_hotspot"),
    ]  # fmt: skip
    found = values(units)
    assert [found[name]["value"] for name in CATEGORY_RATIOS] == pytest.approx([1 / 3, 0, 1 / 3, 0, 1 / 3, 1 / 3])
    assert sum(found[name]["value"] for name in CATEGORY_RATIOS[:5]) == pytest.approx(1.0)


def test_one_box_per_frame_gives_the_plain_jeffreys_interval():
    units = [unit(f"f{i}", *(HIT if i % 4 else FALSE)) for i in range(40)]
    found = values(units)["precision"]
    # with one unit per frame the variance over frames is n/(n − 1) times the binomial one
    effective = 40 / (40 / 39)
    a, b = 0.75 * effective + 0.5, 0.25 * effective + 0.5
    assert (found["low"], found["high"]) == pytest.approx((beta.ppf(0.025, a, b), beta.ppf(0.975, a, b)))


def test_frames_that_fail_as_a_whole_count_as_one_unit_each():
    """10 boxes of a frame all right or all wrong: the design effect is 10 · m/(m − 1) of m frames."""
    units = [unit(f"f{i}", *(HIT if i % 2 else FALSE)) for i in range(30) for _ in range(10)]
    found = values(units)["precision"]
    effective = 300 / (10 * 30 / 29)
    a = 0.5 * effective + 0.5
    assert (found["low"], found["high"]) == pytest.approx((beta.ppf(0.025, a, a), beta.ppf(0.975, a, a)))


def test_intervals_end_at_zero_and_one():
    found = values([unit(f"f{i}", *HIT) for i in range(9)])
    assert found["precision"]["high"] == 1.0
    assert found["precision"]["low"] == pytest.approx(beta.ppf(0.025, 9.5, 0.5))
    assert found["error_rate"]["low"] == 0.0


def test_frames_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInputError, match=r"\(1, 2, 2\)"):
        RecordedBoxes(
            ["f0"],
            Detections3D(offsets=[0, 0, 0], boxes=[], labels=[], scores=[]),
            Truths3D(offsets=[0, 0, 0], boxes=[], labels=[]),
        )
