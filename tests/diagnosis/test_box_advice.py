"""What to do about codes of boxes: by category, error type and context."""

from __future__ import annotations

import numpy as np
import pytest

from mld_pipelines.diagnosis import (
    CATEGORIES,
    DETECTION_METHODS,
    METHODS,
    REASONS,
    BoxClues,
    find_method,
    gather_box_clues,
    recommend_for_boxes,
)
from mld_pipelines.exceptions import InvalidInputError

CLASSIFICATION_ONLY = {
    "inspect_confident_errors", "audit_labels", "find_shortcut", "separate_classes", "match_conditions",
    "label_and_retrain", "label_more", "label_to_decide",
}  # fmt: skip


def clues(error_type: str | None = None, share: float = 1.0, n: int = 10, **known) -> BoxClues:
    return BoxClues(n_errors=n, error_type=error_type, type_share=share, **known)


def method(category: str, kind: str, known: BoxClues | None = None, reason: str = "confirmed", **options) -> str:
    return recommend_for_boxes(category, reason, unit_kind=kind, clues=known, **options).method


@pytest.mark.feature("H28")
@pytest.mark.parametrize(
    ("error_type", "hotspot", "critical"),
    [
        ("bkg", "add_hard_negatives", "find_unlabelled_objects"),
        ("loc", "refine_boxes", "audit_boxes"),
        ("dupe", "suppress_duplicates", "suppress_duplicates"),
        ("cls", "separate_box_classes", "audit_taxonomy"),
        ("both", "complete_objects", "complete_objects"),
    ],
)
def test_a_dominant_error_type_of_predictions_has_its_method(error_type, hotspot, critical):
    known = clues(error_type, 0.7)
    assert method("hotspot", "prediction", known) == hotspot
    assert method("critical_hotspot", "prediction", known) == critical


@pytest.mark.parametrize("known", [clues("bkg", 0.5), clues("bkg", 1.0, n=2), None])
def test_without_a_dominant_type_the_boxes_are_inspected(known):
    assert method("hotspot", "prediction", known) == "inspect_wrong_boxes"


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        (clues("miss", candidate_share=0.6, is_far=True), "lower_threshold"),
        (clues("miss", candidate_share=0.5, is_far=True, is_small=True), "add_sparse_samples"),
        (clues("miss", has_few_points=True), "add_sparse_samples"),
        (clues("miss", is_small=True), "sharpen_grid"),
        (clues("miss"), "add_missed_objects"),
        (clues("miss", n=2, is_far=True), "add_missed_objects"),
        (None, "add_missed_objects"),
    ],
)
def test_missed_objects_are_answered_by_what_they_share(known, wanted):
    assert method("hotspot", "object", known) == wanted
    assert method("critical_hotspot", "object", known) == wanted


@pytest.mark.parametrize(
    ("kind", "sure", "unsure"),
    [("bkg", "find_unlabelled_objects", "add_hard_negatives"), ("loc", "audit_boxes", "refine_boxes"),
     ("cls", "audit_taxonomy", "separate_box_classes"), ("dupe", "suppress_duplicates", "suppress_duplicates")],
)  # fmt: skip
def test_advice_for_confident_errors_is_given_for_confident_errors_only(kind, sure, unsure):
    assert method("critical_hotspot", "prediction", clues(kind)) == sure
    assert method("critical_hotspot", "prediction", clues(kind, is_confident=False)) == unsure


@pytest.mark.parametrize(
    ("category", "reason", "wanted"),
    [
        ("recessive_hotspot", "few_units", "label_more_frames"),
        ("recessive_hotspot", "between_tolerances", "label_frames_to_decide"),
        ("recessive_hotspot", "unseen", "extend_reference"),
        ("recessive_hotspot", "no_features", "trace_features"),
        ("recessive_hotspot", "generalisation_gap", "close_generalisation_gap"),
        ("operational_coverage", "generalisation_gap", "close_generalisation_gap"),
        ("operational_coverage", "confirmed", "monitor"),
        ("stable_coverage", "confirmed", "freeze_regression_slice"),
        ("stable_coverage", "train_only", "trace_held_out"),
    ],
)
@pytest.mark.parametrize("kind", ["prediction", "object"])
def test_other_categories_are_answered_by_their_reason(category, reason, wanted, kind):
    assert method(category, kind, reason=reason) == wanted


def test_what_no_label_decides_is_refined_or_accepted():
    stuck = BoxClues(is_undecidable=True)
    assert method("recessive_hotspot", "object", stuck, reason="between_tolerances") == "refine_or_accept"


def test_ambiguity_comes_before_everything_else():
    assert method("hotspot", "prediction", clues("cls"), is_aleatoric=True) == "reduce_ambiguity"


def test_no_code_of_boxes_gets_advice_for_classifiers():
    types = [None, "cls", "loc", "both", "dupe", "bkg", "miss"]
    reached = {
        method(category, kind, clues(one, is_far=far, is_undecidable=stuck), reason=reason)
        for category in CATEGORIES
        for reason in REASONS
        for kind in ("prediction", "object")
        for one in types
        for far in (True, False)
        for stuck in (True, False)
    }
    assert not reached & CLASSIFICATION_ONLY


def test_every_method_of_detectors_can_be_reached_and_found():
    contexts = ({}, {"is_far": True}, {"is_small": True}, {"candidate_share": 1.0})
    reached = {
        method(category, kind, clues(one, **context), reason=reason)
        for category in CATEGORIES
        for reason in REASONS
        for kind in ("prediction", "object")
        for one in (None, "cls", "loc", "both", "dupe", "bkg", "miss")
        for context in contexts
    }
    assert set(DETECTION_METHODS) <= reached
    assert all(find_method(key) is not None for key in reached)
    assert find_method("pray") is None


def test_methods_of_detectors_have_keys_and_titles_of_their_own():
    assert not set(DETECTION_METHODS) & set(METHODS)
    titles = [one.title for one in (*DETECTION_METHODS.values(), *METHODS.values())]
    assert len(set(titles)) == len(titles)
    assert all(key == one.method and one.actions and one.verify for key, one in DETECTION_METHODS.items())


@pytest.mark.parametrize(
    "wrong", [("bad", "confirmed", "object"), ("hotspot", "why", "object"), ("hotspot", "confirmed", "input")]
)
def test_unknown_names_are_refused(wrong):
    with pytest.raises(InvalidInputError, match=next(w for w in wrong if w in {"bad", "why", "input"})):
        recommend_for_boxes(wrong[0], wrong[1], unit_kind=wrong[2])


def gathered(n_codes: int = 1, **changed):
    n = len(changed.get("is_error", [True] * 8))
    given = {
        "index": [0] * n, "is_error": [True] * n, "error_type": ["bkg"] * n, "pairs": [[-1, 0]] * n,
        "range_m": [10.0] * n, "size": [2.0] * n, "points": [-1] * n,
    } | changed  # fmt: skip
    return gather_box_clues(given.pop("index"), n_codes=n_codes, **given)


def test_errors_are_confident_where_their_median_score_is_not_below_that_of_all_units():
    high, low = gathered(
        n_codes=2, index=[0, 0, 0, 1, 1, 1, 0, 1], is_error=[True] * 6 + [False] * 2,
        score=[0.8, 0.9, 0.2, 0.2, 0.3, 0.9, 0.6, 0.6],
    )  # fmt: skip
    assert (high.is_confident, low.is_confident) == (True, False)  # medians 0.8 and 0.3 beside 0.6 of all
    assert gathered()[0].is_confident


def test_the_most_frequent_type_is_counted_among_errors_only():
    (known,) = gathered(
        is_error=[True, True, True, False, False], error_type=["loc", "loc", "bkg", None, None],
        pairs=[[0, 0], [0, 0], [-1, 1], [1, 1], [1, 1]],
    )  # fmt: skip
    assert (known.n_errors, known.error_type, known.type_share) == (3, "loc", pytest.approx(2 / 3))
    assert known.confusion is None


def test_a_confusion_is_the_most_frequent_pair_of_wrong_classes():
    (known,) = gathered(
        is_error=[True] * 4, error_type=["cls", "cls", "cls", "bkg"], pairs=[[0, 2], [0, 2], [1, 2], [-1, 2]]
    )
    assert (known.confusion, known.confusion_share) == ((0, 2), 0.5)


def test_errors_beyond_three_quarters_of_the_units_are_far_and_small():
    # 8 units at 10 … 80 m with sizes 8 … 1: the upper quartile of range is 62.5, the lower one of size 2.75
    distance, size = np.arange(10.0, 90.0, 10.0), np.arange(8.0, 0.0, -1.0)
    near, far = gathered(2, index=[0, 0, 0, 0, 0, 0, 1, 1], is_error=[True] * 8, range_m=distance, size=size)
    assert (near.is_far, near.is_small) == (False, False)
    assert (far.is_far, far.is_small) == (True, True)


@pytest.mark.parametrize(("points", "expected"), [([5, 5, 9], True), ([5, 6, 9], False), ([-1, -1, -1], False)])
def test_few_points_are_at_most_five_in_the_median_of_those_known(points, expected):
    (known,) = gathered(
        is_error=[True] * 3,
        error_type=["miss"] * 3,
        pairs=[[0, 0]] * 3,
        points=points,
        range_m=[1.0] * 3,
        size=[1.0] * 3,
    )
    assert known.has_few_points is expected


def test_the_share_of_errors_with_a_candidate_is_known_where_it_was_given():
    (told,) = gathered(
        is_error=[True, True, False, True], error_type=["miss"] * 4, has_candidate=[True, False, True, True]
    )
    (untold,) = gathered()
    assert told.candidate_share == pytest.approx(2 / 3)
    assert np.isnan(untold.candidate_share)


def test_a_code_without_errors_has_no_clues():
    full, empty = gathered(2, is_undecidable=[False, True])
    assert full.n_errors == 8
    assert (empty.n_errors, empty.error_type, empty.is_undecidable) == (0, None, True)


def test_lengths_that_differ_are_refused():
    with pytest.raises(InvalidInputError, match=r"\[7, 8\]"):
        gathered(range_m=[1.0] * 7)
