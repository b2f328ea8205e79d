"""Issues and codes of a detector: told by error types, place, size and class."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mld_pipelines.diagnosis import UNCODED, BoxClues, Policy
from mld_pipelines.evaluation._coding import Coding
from mld_pipelines.evaluation._traits import distinctions_of
from mld_pipelines.evaluation._verdicts import CodeVerdicts
from mld_pipelines.evaluation.detection._candidates import candidate_scores, unflagged
from mld_pipelines.evaluation.detection._issues import (
    box_traits,
    detection_code_rows,
    detection_issue_rows,
    error_type_name,
)
from mld_pipelines.records import Detections3D, Truths3D
from mld_pipelines.tables import EVALUATION_CODES, EVALUATION_ISSUES, EVALUATION_UNITS

NAMES = ("car", "truck")
SCHEMA = {
    column.name: column.data_type
    for column in EVALUATION_UNITS.columns
    if column.name not in ("schema_version", "evaluation_id", "result_name", "model_key")
}


def unit(kind: str, code: str, frame: str = "f0", **known):
    values = {
        "dataset_type": "val", "n_epoch": 3, "input_id": frame, "unit_kind": kind, "unit_index": 0,
        "outcome": "tp", "is_error": False, "label": 0, "prediction": 0, "confidence": 0.9, "entropy": 0.1,
        "loss": 0.1 if kind == "prediction" else None, "error_proba": 0.2 if kind == "prediction" else None,
        "error_code": code, "category": "hotspot", "is_aleatoric": False, "support_distance": 1.0,
        "box_3d": [10.0, 0.0, 0.0, 2.0, 4.0, 1.0, 0.0], "range_m": 10.0,
    }  # fmt: skip
    return values | known


def wrong(error_type: str, code: str = "P001", **known):
    kind = "object" if error_type == "miss" else "prediction"
    return unit(kind, code, is_error=True, outcome="fn" if kind == "object" else "fp", error_type=error_type, **known)


def table(units):
    return pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in units], schema=SCHEMA)


def verdicts(codes, *, threshold=0.5, clues=()):
    n = len(codes)
    return CodeVerdicts(
        codes=tuple(codes), category=("hotspot",) * n, reason=("confirmed",) * n, is_aleatoric=(False,) * n,
        recommended=("refine_boxes",) * n, how_to_verify=("look",) * n, n_needed=(None,) * n,
        n_needed_reason=("decided",) * n, contradicted_by=((),) * n, q_value=(0.01,) * n, z=(float("nan"),) * n,
        threshold=threshold, policy=Policy(), box_clues=tuple(clues),
    )  # fmt: skip


def issues(units, *, predictions=("P001",), objects=("M001",), clues=(), names=NAMES, threshold=0.5):
    rows = detection_issue_rows(
        table(units), verdicts(predictions, clues=clues, threshold=threshold), verdicts(objects, threshold=0.0),
        decision_dataset="val", class_names=names,
    )  # fmt: skip
    return {(row["unit_kind"], row["error_code"]): row for row in rows.iter_rows(named=True)}


def coding(codes):
    return Coding(
        codebook=None,
        index=np.full(len(codes), -1),
        names=np.array(codes, dtype=str),
        distance=np.full(len(codes), 1.0),
        reference_names=np.array(codes, dtype=str),
    )


def codes(units, names=NAMES):
    frame = table(units)
    both = [frame.filter(pl.col("unit_kind") == kind)["error_code"].to_list() for kind in ("prediction", "object")]
    rows = detection_code_rows(frame, *map(coding, both), decision_dataset="val", class_names=names)
    return {row["unit_kind"]: row for row in rows.iter_rows(named=True)}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (wrong("cls", label=0, prediction=1), "cls car→truck"),
        (wrong("cls", label=None, prediction=1), "cls"),  # mistaken about something of a class the model does not know
        (wrong("bkg", label=None), "bkg"),
        (wrong("both"), "both"),
        (wrong("miss", "M001"), "miss"),
        (unit("prediction", "P001"), None),
    ],
)
def test_error_types_are_named_with_their_classes(row, expected):
    assert table([row]).select(error_type_name(NAMES)).item() == expected


def test_counts_are_of_one_kind_each():
    objects = [wrong("miss", "M001", confidence=0.0), unit("object", "M001"), unit("object", "M001")]
    found = issues([unit("prediction", "P001"), wrong("bkg"), *objects])
    prediction, thing = found["prediction", "P001"], found["object", "M001"]
    assert (prediction["counts"], prediction["errors"], prediction["share"]) == (2, 1, 1.0)
    assert (thing["counts"], thing["errors"], thing["error_rate"]) == (3, 1, pytest.approx(1 / 3))
    assert {row["n_epoch"] for row in found.values()} == {3}


def test_top_error_types_are_the_most_frequent():
    units = [
        wrong("cls", prediction=1),
        wrong("cls", prediction=1),
        wrong("bkg", label=None),
        unit("prediction", "P001"),
    ]
    assert issues(units)["prediction", "P001"]["top_error_types"] == ["cls car→truck", "bkg"]


def test_unflagged_predictions_are_the_confident_ones():
    units = [wrong("bkg", confidence=c) for c in (0.2, 0.5, 0.9)]
    assert issues(units, threshold=0.5)["prediction", "P001"]["unflagged_errors"] == 2


def test_unflagged_objects_are_those_that_nothing_shows():
    units = [wrong("miss", "M001", confidence=c) for c in (0.0, 0.0, 0.07)] + [unit("object", "M001", confidence=0.0)]
    found = issues(units)["object", "M001"]
    assert (found["errors"], found["unflagged_errors"]) == (3, 2)


def test_examples_name_a_frame_once():
    units = [wrong("bkg", frame="f1"), wrong("bkg", frame="f1", unit_index=1), wrong("bkg", frame="f0")]
    assert issues(units)["prediction", "P001"]["example_input_ids"] == ["f0", "f1"]


def test_every_code_has_a_row_also_without_a_unit():
    found = issues([unit("prediction", "P001")], predictions=("P001", "P002", "UNSEEN"), objects=("M001", "UNSEEN"))
    assert len(found) == 5
    assert found["object", "UNSEEN"]["counts"] == 0
    assert {row["n_epoch"] for row in found.values()} == {3}


@pytest.mark.parametrize(
    ("clues", "said"),
    [
        (BoxClues(n_errors=4, error_type="bkg", type_share=0.75), "3 of 4 errors stand where nothing is"),
        (
            BoxClues(n_errors=4, error_type="cls", type_share=1.0, confusion=(0, 1), confusion_share=0.75),
            "4 of 4 errors have the wrong class, 3 of them are car→truck",
        ),
        (
            BoxClues(n_errors=4, error_type="miss", type_share=1.0, candidate_share=0.5),
            "on 2 of 4 missed objects lies a candidate of their class below the operating point",
        ),
        (BoxClues(n_errors=4, is_far=True), "its errors are farther away than three quarters of all units"),
        (BoxClues(n_errors=4, is_small=True), "its errors are smaller than three quarters of all units"),
        (BoxClues(n_errors=4, has_few_points=True), "half of its errors hold at most 5 LiDAR points"),
    ],
)
def test_evidence_says_what_errors_share(clues, said):
    assert said in issues([wrong("bkg")], clues=[clues])["prediction", "P001"]["evidence"]


def test_two_errors_share_nothing_worth_a_sentence():
    clues = [BoxClues(n_errors=2, error_type="bkg", type_share=1.0, is_far=True)]
    evidence = issues([wrong("bkg")], clues=clues)["prediction", "P001"]["evidence"]
    assert [text for text in evidence if not text.startswith("P(rate")] == []


def test_rows_fit_the_tables():
    units = [unit("prediction", UNCODED), wrong("miss", UNCODED)]
    found = detection_issue_rows(
        table(units), verdicts([UNCODED]), verdicts([UNCODED]), decision_dataset="val", class_names=NAMES
    )
    assert found.schema == {name: EVALUATION_ISSUES.column(name).data_type for name in found.columns}
    described = detection_code_rows(
        table(units), coding([UNCODED]), coding([UNCODED]), decision_dataset="val", class_names=NAMES
    )
    assert described.schema == {name: EVALUATION_CODES.column(name).data_type for name in described.columns}


def test_codes_name_error_types_and_classes():
    units = [wrong("cls", UNCODED, prediction=1), wrong("loc", UNCODED), wrong("loc", UNCODED), unit("object", UNCODED)]
    found = codes(units)
    assert found["prediction"]["confusions"] == ["loc", "cls car→truck"]
    assert found["prediction"]["confusion_counts"] == [2, 1]
    assert found["object"]["predicted_classes"] == ["car"]


def two_codes(kind: str, **differing):
    """30 units of each of two codes that differ in some columns only: column → values of the two."""
    rows = [
        unit(kind, code, f"f{i}", **{name: values[place] for name, values in differing.items()})
        for place, code in enumerate(("A", "B"))
        for i in range(30)
    ]
    frame = table(rows)
    found = distinctions_of(np.repeat([0, 1], 30), box_traits(frame, kind, NAMES), n_codes=2)
    return [one.sentence for one in found[0]]


def test_codes_are_distinguished_by_range():
    (said,) = two_codes("object", range_m=(50.0, 10.0))
    assert said == "far away: 2.0 standard deviations above the rest (mean 50, elsewhere 10)"


def test_codes_are_distinguished_by_size():
    small, large = [0.0, 0, 0, 1, 1, 1, 0], [0.0, 0, 0, 2, 4, 1, 0]
    (said,) = two_codes("prediction", box_3d=(small, large))
    assert said == "small boxes: 2.0 standard deviations below the rest (mean 1, elsewhere 2)"  # ∛8 = 2


def test_codes_are_distinguished_by_points_score_class_and_error_type():
    assert two_codes("object", points=(3, 90)) == [
        "few LiDAR points: 2.0 standard deviations below the rest (mean 3, elsewhere 90)"
    ]
    assert two_codes("prediction", confidence=(0.25, 0.75)) == [
        "low scores: 2.0 standard deviations below the rest (mean 0.25, elsewhere 0.75)"
    ]
    assert two_codes("object", label=(1, 0), prediction=(1, 0)) == [
        "class is truck for 100 % of its units, 0 % elsewhere"
    ]
    assert two_codes("prediction", error_type=("dupe", None)) == [
        "error type is dupe for 100 % of its units, 0 % elsewhere"
    ]


def placed(x, y, yaw=0.0):
    return [float(value) for value in (x, y, 0, 2, 4, 1, yaw)]


@pytest.mark.parametrize(
    ("box", "quarter"), [(placed(9, 1), "+x"), (placed(1, 9), "+y"), (placed(-9, 1), "−x"), (placed(-1, -9), "−y")]
)
def test_codes_are_distinguished_by_direction(box, quarter):
    """Boxes on the left of the sensor, say, turned so that the end is seen either way."""
    ray = np.arctan2(box[1], box[0])
    box, other = placed(*box[:2], ray), placed(-box[0], -box[1], ray)
    assert two_codes("object", box_3d=(box, other)) == [
        f"direction is around {quarter} for 100 % of its units, 0 % elsewhere"
    ]


def test_codes_are_distinguished_by_the_side_that_is_seen():
    """Ahead, heading across the view or along it; a rear is seen as an end, too."""
    said = [two_codes("object", box_3d=(placed(9, 0, yaw), placed(9, 0, np.pi - 1e-9))) for yaw in (1.5, -1.2)]
    assert said == [["seen is side-on for 100 % of its units, 0 % elsewhere"]] * 2


def test_a_candidate_shows_an_object_of_its_class_nearer_than_a_match():
    def box(x, y=0.0):
        return [x, y, 0.0, 2.0, 4.0, 1.5, 0.0]

    truths = Truths3D(offsets=[0, 3, 4], boxes=[box(10), box(20), box(30), box(10)], labels=[0, 0, 1, 0])
    candidates = Detections3D(
        offsets=[0, 4, 4], boxes=[box(11.9), box(10.5), box(22), box(30)], labels=[0, 0, 0, 0],
        scores=[0.25, 0.125, 0.25, 0.25],
    )  # fmt: skip
    # 1.9 m off of its class; 2 m off is no match; another class; nothing in that frame
    assert candidate_scores(candidates, truths, n_classes=2).tolist() == [0.25, 0.0, 0.0, 0.0]


def test_unflagged_compares_the_confidence_as_stored():
    stored = pl.DataFrame({"is_error": [True], "confidence": [0.1]}, schema_overrides={"confidence": pl.Float32})
    assert stored.select(unflagged("input", 0.1)).item() is True
