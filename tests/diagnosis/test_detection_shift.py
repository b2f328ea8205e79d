"""What stressed frames teach about windows of a detector, on shifts whose size is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mld_pipelines.diagnosis import (
    DetectionShiftMap,
    DetectionWindowReference,
    DetectionWindowState,
    ExpectedMisses,
    FrameTallies,
    detection_window_state,
    estimate_detection_window,
    fit_detection_shift,
)
from mld_pipelines.diagnosis.detection import _shift_fit
from mld_pipelines.diagnosis.detection._rates import window_rates
from mld_pipelines.diagnosis.detection._shift_map import SHIFT_COLUMNS, shift_columns
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError

FRAMES, PER_SET = 300, 120
REFERENCE = DetectionWindowReference(
    frames=FRAMES,
    boxes=8 * FRAMES,
    n_errors=round(0.2 * 8 * FRAMES),
    objects=8 * FRAMES,
    n_missed=round(0.2 * 8 * FRAMES),
    n_mistaken=0,
    clusters=3 * FRAMES,
    n_shown=FRAMES,
    without_candidate=0.0,
    threshold_ep=0.5,
    threshold_miss=0.5,
)


def tallies(
    rng, frames, *, boxes=8.0, says=0.2, errors=0.2, lost=0.2, candidates=3.0, missed=1.6, unseen=0.0, gone=None
):
    """Frames whose boxes are wrong with chance `errors` while the estimator says `says`, and so for misses."""
    counts = rng.poisson(boxes, frames)
    frame = np.repeat(np.arange(frames), counts)
    clusters = rng.poisson(candidates, frames)
    wrong = rng.random(len(frame)) < errors
    objects = rng.binomial(np.maximum(np.bincount(frame[~wrong], minlength=frames), 0), 1.0)
    gone = rng.poisson(lost / (1.0 - lost) * objects.mean() if gone is None else gone, frames)
    return FrameTallies.of(
        REFERENCE,
        frame_index=frame,
        error_proba=np.clip(rng.normal(says, 0.05, len(frame)), 0.01, 0.99),
        is_error=wrong,
        is_unseen=rng.random(len(frame)) < unseen,
        misses=ExpectedMisses(
            offsets=np.concatenate([[0], np.cumsum(clusters)]),
            boxes=np.ones((clusters.sum(), 7)),
            labels=np.zeros(clusters.sum(), int),
            proba=np.full(clusters.sum(), missed / candidates),
            without_candidate=np.zeros(frames),
        ),
        objects=objects + gone,
    )


def no_misses(frames):
    return ExpectedMisses(
        offsets=np.zeros(frames + 1, int),
        boxes=np.zeros((0, 7)),
        labels=np.zeros(0, int),
        proba=np.zeros(0),
        without_candidate=np.zeros(frames),
    )


def fitted(shifts, *, seed=0, clean=None):
    """A map of families; each has three severities, stronger by what `shifts` says."""
    rng = np.random.default_rng(seed)
    clean = tallies(rng, FRAMES, **(clean or {}))
    parts, families = [], []
    for family, shift in shifts.items():
        for severity in (1, 2, 3):
            parts.append(tallies(rng, PER_SET, **shift(severity)))
            families.append(family)
    copies = FrameTallies.concat(parts)
    places = np.repeat(np.arange(len(parts)), PER_SET)
    return fit_detection_shift(REFERENCE, clean, copies, set_index=places, families=families, stress_version="v")


def fog(severity):
    """Boxes get fewer and worse, and the estimator sees half of it."""
    return {
        "boxes": 8.0 - 1.5 * severity,
        "errors": 0.2 + 0.15 * severity,
        "says": 0.2 + 0.07 * severity,
        "lost": 0.2 + 0.15 * severity,
    }


def known(severity):
    """The estimator sees all of it."""
    return {"errors": 0.2 + 0.1 * severity, "says": 0.2 + 0.1 * severity}


ALIKE = fitted({"density": fog, "coverage": fog, "noise": fog})


@given(st.integers(0, 2**31), st.integers(1, 12))
def test_a_window_of_frames_is_the_window_of_their_boxes(seed, frames):
    rng = np.random.default_rng(seed)
    counts, clusters = rng.integers(0, 5, frames), rng.integers(0, 4, frames)
    proba, miss = rng.random(counts.sum()), rng.random(clusters.sum())
    unseen = rng.random(counts.sum()) < 0.3
    misses = ExpectedMisses(
        offsets=np.concatenate([[0], np.cumsum(clusters)]),
        boxes=np.ones((len(miss), 7)),
        labels=np.zeros(len(miss), int),
        proba=miss,
        without_candidate=np.zeros(frames),
    )
    both = FrameTallies.of(
        REFERENCE,
        frame_index=np.repeat(np.arange(frames), counts),
        error_proba=proba,
        is_error=np.zeros(len(proba), bool),
        is_unseen=unseen,
        misses=misses,
        objects=np.zeros(frames, int),
    ).state(np.arange(frames))
    expected = detection_window_state(REFERENCE, proba, misses, is_unseen=unseen)
    assert both.to_dict() == pytest.approx(expected.to_dict())


def test_true_rates_of_a_window_are_counted_over_its_frames_with_repetition():
    given_ = FrameTallies.of(
        REFERENCE,
        frame_index=np.array([0, 0, 0, 1]),
        error_proba=np.full(4, 0.1),
        is_error=np.array([True, False, False, True]),
        is_unseen=np.zeros(4, bool),
        misses=no_misses(3),
        objects=np.array([4, 1, 0]),
    )
    # frame 0 twice and frame 1: 7 boxes, 3 of them wrong; 9 objects, 4 found
    assert given_.rates(np.array([0, 0, 1])) == pytest.approx((3 / 7, 1 - 4 / 9))
    assert np.isnan(given_.rates(np.array([2]))).all()


def test_tallies_of_other_lengths_are_refused():
    with pytest.raises(InvalidInputError, match="differ in number"):
        FrameTallies.of(
            REFERENCE,
            frame_index=np.zeros(2, int),
            error_proba=np.zeros(1),
            is_error=np.zeros(2, bool),
            is_unseen=np.zeros(2, bool),
            misses=no_misses(1),
            objects=np.zeros(1, int),
        )


def test_a_shift_that_every_family_shows_is_learned():
    for part in (ALIKE.false_positives, ALIKE.lost):
        assert part.blend_weight > 0.0
        for family in ("density", "coverage", "noise"):
            assert part.family_errors[family].map < 0.6 * part.family_errors[family].default


def test_a_learned_map_brings_precision_and_recall_of_a_new_window_nearer_to_the_truth():
    new = tallies(np.random.default_rng(99), 400, **fog(2))
    rows = np.arange(400)
    truth = new.rates(rows)
    state = new.state(rows)
    before = estimate_detection_window(state, REFERENCE)
    after = estimate_detection_window(state, replace(REFERENCE, shift=ALIKE))
    assert abs(after.precision - (1 - truth[0])) < 0.5 * abs(before.precision - (1 - truth[0]))
    assert abs(after.recall - (1 - truth[1])) < 0.5 * abs(before.recall - (1 - truth[1]))
    assert after.precision_low <= 1 - truth[0] <= after.precision_high
    assert after.recall_low <= 1 - truth[1] <= after.recall_high


def test_what_the_estimator_sees_already_is_left_alone():
    same = fitted({"one": known, "two": known, "three": known})
    new = tallies(np.random.default_rng(5), 400, **known(2))
    state = new.state(np.arange(400))
    before = estimate_detection_window(state, REFERENCE)
    after = estimate_detection_window(state, replace(REFERENCE, shift=same))
    assert after.precision == pytest.approx(before.precision, abs=0.03)


def test_intervals_widen_where_a_family_could_not_be_foreseen():
    def unseen(severity):
        return {"errors": 0.2 + 0.2 * severity}  # nothing shows it

    surprised, foreseen = (
        fitted({"known": known, "other": known, "unseen": unseen}),
        fitted({"one": known, "two": known}),
    )
    assert surprised.false_positives.width_factor > foreseen.false_positives.width_factor
    assert surprised.missed_families == (
        "unseen",
    )  # the factor is one for all windows: those of one family lie outside


def test_nine_of_ten_windows_of_left_out_families_lie_inside():
    for part in (ALIKE.false_positives, ALIKE.lost):
        errors = part.family_errors.values()
        covered = sum(error.covered * error.n_windows for error in errors) / sum(error.n_windows for error in errors)
        assert covered >= 0.899  # the quantile that was chosen
        assert part.width_factor >= 2.0


def test_badges_say_what_was_verified():
    state = tallies(np.random.default_rng(1), 100).state(np.arange(100))
    assert "not verified under shift" in estimate_detection_window(state, REFERENCE).badges
    assert ALIKE.verified_families == ("coverage", "density", "noise")
    assert "not verified under shift" not in estimate_detection_window(state, replace(REFERENCE, shift=ALIKE)).badges
    part = replace(ALIKE.lost, family_errors=ALIKE.lost.family_errors | {
        "noise": replace(ALIKE.lost.family_errors["noise"], covered=0.5)
    })  # fmt: skip
    partly = replace(ALIKE, lost=part)
    assert (partly.verified_families, partly.missed_families) == (("coverage", "density"), ("noise",))
    badges = estimate_detection_window(state, replace(REFERENCE, shift=partly)).badges
    assert "under some kinds of shift the interval did not hold" in badges


def test_an_estimate_prints_its_rates_its_badges_and_what_was_verified():
    state = tallies(np.random.default_rng(1), 100).state(np.arange(100))
    estimate = estimate_detection_window(state, replace(REFERENCE, shift=ALIKE))
    first, *rest = str(estimate).splitlines()
    assert first.startswith(f"estimated precision {estimate.precision:.3f} [{estimate.precision_low:.3f}, ")
    assert f"estimated recall {estimate.recall:.3f} [" in first
    assert first.endswith(f"{state.boxes} boxes in 100 frames")
    assert rest == ["- verified on: coverage, density, noise"]
    assert str(estimate_detection_window(DetectionWindowState(), REFERENCE)).startswith(
        "estimated precision: not enough evidence; estimated recall: not enough evidence"
    )


def test_a_window_of_few_boxes_is_estimated_by_the_default_rule():
    few = tallies(np.random.default_rng(2), 5, **fog(3)).state(np.arange(5))
    assert few.boxes < 50
    before, after = (estimate_detection_window(few, replace(REFERENCE, shift=one)) for one in (None, ALIKE))
    assert (after.precision, after.recall) == (before.precision, before.recall)
    assert after.precision_low <= before.precision_low
    assert "not verified under shift" in after.badges
    assert after.verified_families == ()


def test_a_window_without_the_candidates_of_the_reference_is_estimated_by_the_default_rule():
    state = replace(
        tallies(np.random.default_rng(2), 80, **fog(3)).state(np.arange(80)), candidates=0, sum_miss_proba=0.0
    )
    before, after = (estimate_detection_window(state, replace(REFERENCE, shift=one)) for one in (None, ALIKE))
    assert (after.precision, after.recall) == (before.precision, before.recall)


def hardly_any(severity):
    """So few boxes that 300 frames hold less than 50, and the estimator is far off."""
    return {"boxes": 0.1, "errors": 0.9, "lost": 0.9}


def test_windows_that_keep_the_default_rule_are_verified_by_it(monkeypatch):
    monkeypatch.setattr(_shift_fit, "SHARES", (1.0,))  # no clean frame among the copies
    shift = fitted({"density": fog, "coverage": fog, "dark": hardly_any})
    for part in (shift.false_positives, shift.lost):
        dark, fogged = part.family_errors["dark"], part.family_errors["coverage"]
        assert dark.map == pytest.approx(dark.default, abs=1e-9)
        assert fogged.map < 0.6 * fogged.default
        assert dark.n_windows > 0


def test_windows_without_a_box_cost_the_map_no_column():
    shift = fitted({"density": fog, "coverage": fog, "dark": lambda severity: {"boxes": 0.0, "gone": 8.0}})
    used = dict(zip(SHIFT_COLUMNS, shift.lost.ridge.scale != 1.0, strict=True))
    assert used["other_rate"]
    assert used["tail_errors"]


def test_too_few_windows_of_enough_boxes_teach_nothing():
    with pytest.raises(InvalidInputError, match="hold 50 boxes"):
        fitted({"one": hardly_any, "two": hardly_any}, clean={"boxes": 0.1})


def test_an_empty_window_and_one_without_boxes_are_told_apart():
    reference = replace(REFERENCE, shift=ALIKE)
    empty = tallies(np.random.default_rng(2), 1).state(np.zeros(0, int))
    assert estimate_detection_window(empty, reference).precision is None
    blind = replace(empty, frames=60, sum_miss_proba=30.0, candidates=100)
    estimate = estimate_detection_window(blind, reference)
    assert (estimate.precision, estimate.recall) == (None, 0.0)


def test_columns_are_logits_roots_and_log_ratios_by_hand():
    clean = tallies(np.random.default_rng(3), 10).state(np.arange(10))
    state = replace(
        clean, frames=10, boxes=40, sum_error_proba=10.0, n_above_ep=4, candidates=20, n_candidates_above=5,
        sum_miss_proba=6.0, n_unseen=10,
    )  # fmt: skip
    reference = replace(REFERENCE, unseen_ref=0.01)
    one, other = shift_columns(window_rates(state, reference), state, reference)
    assert len(one) == len(SHIFT_COLUMNS)

    def logit(p):
        return np.log(p / (1 - p))

    # 10 of 40 boxes wrong, 30 found, 6 missed; 4 of 40 and 5 of 20 above the thresholds; 4 boxes where 8 are usual
    assert one[:5] == pytest.approx([logit(0.25), logit(6 / 36), logit(0.1), logit(0.25), 0.5])
    assert one[5:] == pytest.approx([np.log(4.05 / 8.05), np.log(2.05 / 3.05)])
    assert other[:2] == pytest.approx(one[1::-1])
    assert other[2:] == pytest.approx(one[2:])


def test_bytes_give_the_map_back_bit_for_bit():
    again = DetectionShiftMap.from_bytes(ALIKE.to_bytes())
    assert again.to_bytes() == ALIKE.to_bytes()
    assert again.verified_families == ALIKE.verified_families
    state = tallies(np.random.default_rng(7), 100, **fog(1)).state(np.arange(100))
    one, other = (estimate_detection_window(state, replace(REFERENCE, shift=shift)) for shift in (ALIKE, again))
    assert one == other


def test_the_same_frames_and_seed_give_the_same_map():
    assert fitted({"density": fog, "coverage": fog, "noise": fog}).to_bytes() == ALIKE.to_bytes()


def test_damaged_and_foreign_bytes_are_refused():
    with pytest.raises(CorruptArtifactError):
        DetectionShiftMap.from_bytes(ALIKE.to_bytes()[:-9])
    with pytest.raises(CorruptArtifactError):
        DetectionShiftMap.from_bytes(REFERENCE.to_bytes())


def test_the_map_of_another_result_is_refused():
    with pytest.raises(InvalidInputError, match="different results"):
        ALIKE.check(replace(REFERENCE, threshold_ep=0.4))
    ALIKE.check(REFERENCE)


def test_a_reference_is_stored_without_its_map():
    assert replace(REFERENCE, shift=ALIKE).to_bytes() == REFERENCE.to_bytes()
    assert DetectionWindowReference.from_bytes(REFERENCE.to_bytes()) == REFERENCE


@pytest.mark.parametrize("families", [("one",), ("one", "clean")])
def test_one_family_cannot_be_verified(families):
    with pytest.raises(InvalidInputError, match="at least two"):
        fitted(dict.fromkeys(families, fog))


def test_copies_without_a_box_teach_nothing():
    def dark(severity):
        return {"boxes": 0.0}

    with pytest.raises(InvalidInputError, match="too few windows"):
        rng = np.random.default_rng(0)
        clean = tallies(rng, 60, boxes=0.0)
        copies = FrameTallies.concat([tallies(rng, 60, **dark(1)) for _ in range(2)])
        fit_detection_shift(
            REFERENCE, clean, copies, set_index=np.repeat([0, 1], 60), families=["one", "two"], stress_version="v"
        )
