"""Precision and recall of a window against hand calculations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, f_oneway, norm
from scipy.stats import t as student

from mld_pipelines.diagnosis import (
    DetectionWindowReference,
    DetectionWindowState,
    ExpectedMisses,
    detection_window_state,
    estimate_detection_window,
)
from mld_pipelines.diagnosis.detection._window import tail_threshold, within_frame_correlation
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError

REFERENCE = DetectionWindowReference(
    frames=500,
    boxes=4000,
    n_errors=800,
    objects=4000,
    n_missed=600,
    n_mistaken=200,
    clusters=1500,
    n_shown=400,
    without_candidate=0.4,
    threshold_ep=0.5,
    threshold_miss=0.6,
)
STATE = DetectionWindowState(
    frames=100,
    boxes=800,
    sum_error_proba=160.0,
    n_above_ep=200,
    candidates=300,
    sum_miss_proba=90.0,
    n_candidates_above=60,
    sum_without_candidate=40.0,
)


def misses(proba, *, frames=2, without=0.25):
    count = len(proba)
    return ExpectedMisses(
        offsets=np.array([0, count, *[count] * (frames - 1)]),
        boxes=np.ones((count, 7)),
        labels=np.zeros(count, int),
        proba=np.array(proba, np.float64),
        without_candidate=np.full(frames, without),
    )


def test_sums_count_what_lies_above_the_reference_thresholds():
    proba = np.array([0.5, 0.51, np.nan, 0.1], np.float32)
    state = detection_window_state(REFERENCE, proba, misses([0.7, 0.2]), is_unseen=np.array([1, 0, 1, 0], bool))
    assert state.to_dict() == {
        "frames": 2,
        "boxes": 3,
        "sum_error_proba": pytest.approx(1.11, abs=1e-7),
        "n_above_ep": 1,
        "candidates": 2,
        "sum_miss_proba": pytest.approx(0.9, abs=1e-7),
        "n_candidates_above": 1,
        "sum_without_candidate": 0.5,
        "n_unseen": 1,
    }


counts = st.integers(0, 50)
states = st.builds(
    DetectionWindowState,
    frames=counts,
    boxes=counts,
    sum_error_proba=counts.map(float),
    n_above_ep=counts,
    candidates=counts,
    sum_miss_proba=counts.map(float),
    n_candidates_above=counts,
    sum_without_candidate=counts.map(float),
    n_unseen=counts,
)


@given(states, states, states)
def test_windows_add_up_in_any_grouping(a, b, c):
    assert (a + b) + c == a + (b + c) == c + b + a
    assert a + DetectionWindowState() == a


def test_a_window_is_the_sum_of_its_parts():
    proba = np.random.default_rng(0).random(7).astype(np.float32)
    whole = detection_window_state(REFERENCE, proba, misses([0.1, 0.9, 0.7], frames=2))
    first = detection_window_state(REFERENCE, proba[:3], misses([0.1, 0.9, 0.7], frames=1))
    second = detection_window_state(REFERENCE, proba[3:], misses([], frames=1))
    assert (first + second).to_dict() == pytest.approx(whole.to_dict())


def test_unseen_marks_of_another_length_are_refused():
    with pytest.raises(InvalidInputError, match="2 UNSEEN marks"):
        detection_window_state(REFERENCE, np.zeros(1), misses([]), is_unseen=np.zeros(2, bool))


def test_the_estimate_takes_the_worse_of_two_error_rates_and_the_mean_of_misses():
    estimate = estimate_detection_window(STATE, REFERENCE)
    # errors: max(160, 200) of 800 boxes; misses: 90 and 40 assumed; a quarter of the errors are mistaken objects
    found, lost = 600.0, 130.0 + 200 / 800 * 200.0
    assert estimate.precision == pytest.approx(600.0 / 800.0)
    assert estimate.recall == pytest.approx(found / (found + lost))
    assert estimate.f1 == pytest.approx(2 * found / (2 * found + 200.0 + lost))
    assert estimate.opinions.precision_mean == pytest.approx(0.8)
    assert estimate.opinions.precision_atc == pytest.approx(0.75)
    assert estimate.opinions.recall_mean == pytest.approx(640.0 / (640.0 + 130.0 + 40.0))
    assert estimate.opinions.recall_atc == pytest.approx(600.0 / (600.0 + 100.0 + 50.0))
    assert (estimate.opinions.expected_errors, estimate.opinions.expected_misses) == (200.0, 130.0)
    assert (estimate.opinions.assumed_misses, estimate.opinions.mistaken) == (40.0, 50.0)


def test_the_interval_holds_sampling_quarrel_and_distance_from_the_reference():
    estimate = estimate_detection_window(STATE, REFERENCE)
    p, base, apart = 0.25, 0.2, 0.05
    s = np.sqrt(p * (1 - p) * (1 / 800 + 1 / 4000) + (0.25 * apart) ** 2 + (0.2 * (p - base)) ** 2 + 0.004**2)
    assert estimate.precision_low == pytest.approx(0.75 - 2 * s)
    assert estimate.precision_high == pytest.approx(0.75 + 2 * s)
    objects = 780.0
    r, rest = 180.0 / objects, abs(640.0 / 810.0 - 600.0 / 750.0)
    s = np.sqrt(r * (1 - r) * (1 / objects + 1 / 4000) + (0.25 * rest) ** 2 + (0.2 * (r - 0.2)) ** 2 + 0.004**2)
    assert estimate.recall_low == pytest.approx(1 - r - 2 * s)
    assert estimate.recall_high == pytest.approx(1 - r + 2 * s)


def test_boxes_of_one_frame_that_fail_together_count_as_fewer():
    together = replace(REFERENCE, error_correlation=0.5, width_factor=2.0)
    estimate = estimate_detection_window(STATE, together)
    p, effect = 0.25, 1 + 7 * 0.5
    s = np.sqrt(p * (1 - p) * (effect / 800 + effect / 4000) + (0.25 * 0.05) ** 2 + (0.2 * 0.05) ** 2 + 0.004**2)
    assert estimate.precision_high - estimate.precision_low == pytest.approx(4 * s)


def test_few_frames_widen_the_interval_by_students_quantile():
    tenth = DetectionWindowState(frames=10, boxes=80, sum_error_proba=16.0, n_above_ep=16, sum_miss_proba=0.0)
    estimate = estimate_detection_window(tenth, REFERENCE)
    s = np.sqrt(0.2 * 0.8 * (1 / 80 + 1 / 4000) + 0.004**2)
    factor = student(9).ppf(0.95) / norm.ppf(0.95)
    assert estimate.precision_high - estimate.precision_low == pytest.approx(4 * s * factor)
    assert "few frames" in estimate.badges


@pytest.mark.parametrize(("level", "factor"), [(0.8, 0.79), (0.9, 1.0), (0.95, 1.3)])
def test_levels_scale_the_interval(level, factor):
    width = [
        e.precision_high - e.precision_low
        for e in (estimate_detection_window(STATE, REFERENCE), estimate_detection_window(STATE, REFERENCE, level=level))
    ]
    assert width[1] == pytest.approx(factor * width[0])


def test_other_levels_are_refused():
    with pytest.raises(InvalidInputError, match=r"level is 0\.5"):
        estimate_detection_window(STATE, REFERENCE, level=0.5)


@pytest.mark.parametrize(
    "change",
    [{"n_errors": 49, "n_mistaken": 12}, {"is_tied": True}],
    ids=["few errors", "ties"],
)
def test_without_a_good_threshold_the_mean_error_probability_stands_alone(change):
    estimate = estimate_detection_window(STATE, replace(REFERENCE, **change))
    assert estimate.precision == pytest.approx(0.8)
    assert estimate.opinions.precision_atc is None


def test_many_candidates_above_the_threshold_widen_the_interval_only():
    crowded = estimate_detection_window(replace(STATE, n_candidates_above=250), REFERENCE)
    plain = estimate_detection_window(STATE, REFERENCE)
    assert crowded.recall == plain.recall
    assert crowded.recall_high - crowded.recall_low > plain.recall_high - plain.recall_low


@pytest.mark.parametrize("change", [{"n_shown": 49}, {"is_miss_tied": True}])
def test_without_good_thresholds_there_is_no_second_opinion(change):
    change = {"is_tied": True, **change}
    estimate = estimate_detection_window(STATE, replace(REFERENCE, **change))
    assert estimate.opinions.recall_atc is None
    assert estimate.recall == pytest.approx(estimate.opinions.recall_mean)


def test_a_reference_without_errors_gives_the_jeffreys_bound():
    spotless = replace(REFERENCE, n_errors=0, n_mistaken=0, n_missed=0, boxes=100, objects=100, threshold_ep=1.0)
    state = DetectionWindowState(frames=100, boxes=800, sum_error_proba=0.0)
    estimate = estimate_detection_window(state, spotless)
    assert estimate.precision == 1.0
    assert estimate.precision_high == 1.0
    assert estimate.precision_low <= 1.0 - beta(0.5, 100.5).ppf(0.95)
    assert "no errors seen" in estimate.badges


def test_a_window_without_frames_says_nothing():
    estimate = estimate_detection_window(DetectionWindowState(), REFERENCE)
    assert (estimate.precision, estimate.recall, estimate.f1, estimate.opinions) == (None, None, None, None)


def test_frames_without_boxes_have_a_recall_only():
    estimate = estimate_detection_window(DetectionWindowState(frames=60, sum_without_candidate=24.0), REFERENCE)
    assert (estimate.precision, estimate.precision_low, estimate.f1) == (None, None, None)
    assert estimate.recall == 0.0


def test_frames_in_which_nothing_is_expected_have_neither():
    estimate = estimate_detection_window(DetectionWindowState(frames=60), replace(REFERENCE, without_candidate=0.0))
    assert (estimate.precision, estimate.recall, estimate.recall_low) == (None, None, None)


@pytest.mark.parametrize(
    ("state", "change", "badge"),
    [
        (STATE, {}, "not verified under shift"),
        (STATE, {}, "misses that no candidate shows are assumed as in the reference"),
        (STATE, {"n_errors": 49, "n_mistaken": 0}, "few errors"),
        (STATE, {"is_tied": True}, "many units share one error probability"),
        (STATE, {"clusters": 0}, "no candidates visible"),
        (STATE, {"n_errors": 4000}, "no successes seen"),
        (STATE, {"frames": 49}, "few frames"),
    ],
)
def test_badges_say_what_a_reader_must_know(state, change, badge):
    assert badge in estimate_detection_window(state, replace(REFERENCE, **change)).badges
    if change:
        assert badge not in estimate_detection_window(state, REFERENCE).badges


rates = st.floats(0.0, 1.0)


@given(
    frames=st.integers(1, 200),
    boxes=st.integers(0, 500),
    candidates=st.integers(0, 500),
    shares=st.tuples(rates, rates, rates, rates),
    assumed=st.floats(0.0, 3.0),
    reference=st.sampled_from([REFERENCE, replace(REFERENCE, error_correlation=0.9, miss_correlation=0.9, frames=3)]),
)
def test_estimates_lie_inside_their_intervals_inside_the_unit_interval(
    frames, boxes, candidates, shares, assumed, reference
):
    state = DetectionWindowState(
        frames=frames,
        boxes=boxes,
        sum_error_proba=shares[0] * boxes,
        n_above_ep=int(shares[1] * boxes),
        candidates=candidates,
        sum_miss_proba=shares[2] * candidates,
        n_candidates_above=int(shares[3] * candidates),
        sum_without_candidate=assumed * frames,
    )
    estimate = estimate_detection_window(state, reference)
    for name in ("precision", "recall"):
        low, value, high = (getattr(estimate, name + end) for end in ("_low", "", "_high"))
        if value is None:
            assert low is None
            assert high is None
        else:
            assert 0.0 <= low <= value + 1e-12
            assert value - 1e-12 <= high <= 1.0


def test_a_reference_survives_its_bytes():
    again = DetectionWindowReference.from_bytes(REFERENCE.to_bytes())
    assert again == REFERENCE
    assert again.to_bytes() == REFERENCE.to_bytes()


def test_foreign_bytes_are_refused():
    from mld_pipelines.diagnosis import WindowReference

    foreign = WindowReference(n_ref=1, n_errors=0, threshold_ep=0.5, threshold_mc=0.5, temperature=1.0).to_bytes()
    with pytest.raises(CorruptArtifactError, match="window"):
        DetectionWindowReference.from_bytes(foreign)


def test_the_reference_knows_its_own_precision_and_recall():
    assert REFERENCE.precision == pytest.approx(0.8)
    assert REFERENCE.recall == pytest.approx(0.8)
    assert REFERENCE.mistaken_share == pytest.approx(0.25)


def test_the_within_frame_correlation_follows_from_the_analysis_of_variance():
    rng = np.random.default_rng(4)
    level = rng.beta(1.0, 2.0, 60)
    outcomes = rng.random((60, 8)) < level[:, None]
    ratio = f_oneway(*outcomes.astype(float)).statistic
    expected = (ratio - 1.0) / (ratio - 1.0 + 8.0)  # balanced: F = MSB / MSW
    frames = np.repeat(np.arange(60), 8)
    assert within_frame_correlation(outcomes.ravel(), frames) == pytest.approx(expected)
    shuffled = rng.permutation(480)
    assert within_frame_correlation(outcomes.ravel()[shuffled], frames[shuffled]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("outcomes", "frames", "expected"),
    [
        ([], [], 0.0),
        ([True], [0], 0.0),
        ([True, False], [0, 1], 0.0),
        ([True, True, False, False], [0, 0, 1, 1], 1.0),
        ([True, False, True, False], [0, 0, 1, 1], 0.0),
        ([False] * 4, [0, 0, 1, 1], 0.0),
    ],
)
def test_the_correlation_of_hardly_any_frames_is_defined(outcomes, frames, expected):
    assert within_frame_correlation(np.array(outcomes, bool), np.array(frames, int)) == pytest.approx(expected)


def test_a_tail_threshold_is_exceeded_by_the_share_unless_units_tie():
    proba = np.linspace(0.0, 1.0, 1000)
    threshold, is_tied = tail_threshold(proba, proba, share=0.2)
    assert (proba > threshold).mean() == pytest.approx(0.2, abs=1e-3)
    assert not is_tied
    assert tail_threshold(np.full(1000, 0.2), np.full(1000, 0.2), share=0.2)[1]
    assert tail_threshold(np.empty(0), np.empty(0), share=0.0) == (1.0, True)
