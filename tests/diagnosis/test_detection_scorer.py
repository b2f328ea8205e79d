"""Scoring of production frames: aligned with what was recorded, the same in every batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.diagnosis import (
    DETECTION_SCORE_NAMES,
    UNCODED,
    CodebookIdentity,
    DetectionEstimator,
    DetectionScorer,
    Policy,
    estimate_detection_window,
    fit_codebook,
    fit_detection_estimator,
    object_context,
    prediction_features,
    prediction_probabilities,
    split_detections,
    with_candidate_badge,
)
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import Detections3D
from tests.support.detections import in_order
from tests.support.detector_simulation import N_CLASSES, THRESHOLDS, simulate

FRAMES = 12
COLUMNS = ("error_proba", "expected_errors", "expected_misses")


def identity(kind, width, classes):
    return CodebookIdentity(
        model_name="m", fingerprint="f", feature_layer="l", feature_dim=width, output_kind=kind, n_classes=classes
    )


@pytest.fixture(scope="module")
def scorer():
    world = simulate(120, seed=1)
    features = prediction_features(world.frames)
    probabilities = prediction_probabilities(world.frames, n_classes=N_CLASSES)
    predictions = fit_codebook(
        features, probabilities, identity=identity("prediction", 6, N_CLASSES + 1), policy=Policy(), prefix="P"
    )
    places, classes = object_context(world.truths.boxes, world.truths.labels, n_classes=N_CLASSES)
    objects = fit_codebook(places, classes, identity=identity("object", 8, N_CLASSES), policy=Policy(), prefix="M")
    codes = predictions.codebook.assign(features, probabilities).index
    fit = fit_detection_estimator(
        world.frames,
        is_error=world.is_error,
        truths=world.truths,
        is_missed=world.is_missed,
        thresholds=THRESHOLDS,
        n_classes=N_CLASSES,
        codes=codes,
        n_codes=predictions.codebook.n_codes,
        keys=world.keys,
    )
    return DetectionScorer(
        result_name="r",
        estimator_version="v",
        fingerprint="f",
        codebook=predictions.codebook,
        object_codebook=objects.codebook,
        estimator=fit.estimator,
        issues={predictions.codebook.names[0]: ("critical_hotspot", False)},
        window_reference=fit.window_reference,
    )


def plain(world):
    """A scorer without codebooks, fitted on these frames."""
    fit = fit_detection_estimator(
        world.frames,
        is_error=world.is_error,
        truths=world.truths,
        is_missed=world.is_missed,
        thresholds=THRESHOLDS,
        n_classes=N_CLASSES,
        keys=world.keys,
    )
    return DetectionScorer(
        result_name="r",
        estimator_version="v",
        fingerprint="f",
        codebook=None,
        object_codebook=None,
        estimator=fit.estimator,
        issues={},
        window_reference=fit.window_reference,
    )


@pytest.fixture(scope="module")
def production():
    return simulate(FRAMES, seed=50)


def score(scorer, world, order=None, **changes):
    order = np.arange(world.recorded.frames) if order is None else np.asarray(order, dtype=int)
    rows = [np.arange(world.recorded.offsets[f], world.recorded.offsets[f + 1]) for f in order]
    rows = np.concatenate(rows) if rows else np.empty(0, int)
    given = {
        "class_scores": world.class_scores[rows],
        "class_space": "sigmoid",
        "features": world.features[rows],
        "keys": [world.keys[f] for f in order],
        **changes,
    }
    return scorer.score(in_order(world.recorded, order), in_order(world.suppressed, order), **given)


def test_boxes_below_the_operating_point_have_no_error_probability(scorer, production):
    scored = score(scorer, production)
    is_kept = production.recorded.scores >= THRESHOLDS[production.recorded.labels]
    assert np.isfinite(scored.box_error_proba).tolist() == is_kept.tolist()
    assert [code is not None for code in scored.box_error_codes] == is_kept.tolist()
    assert [category is not None for category in scored.box_categories] == is_kept.tolist()
    assert scored.rows.tolist() == np.flatnonzero(is_kept).tolist()
    assert scored.box_error_proba.dtype == np.float32
    assert (scored.offsets == production.recorded.offsets).all()


def test_probabilities_are_those_of_the_estimator(scorer, production):
    scored = score(scorer, production)
    codes = scorer.codebook.assign(
        prediction_features(production.frames), prediction_probabilities(production.frames, n_classes=N_CLASSES)
    )
    expected = scorer.estimator.error_proba(scorer.estimator.risk_scores(production.frames, codes=codes.index))
    assert scored.box_error_proba[scored.rows].tolist() == expected.astype(np.float32).tolist()
    names = scorer.codebook.code_names(codes.index).tolist()
    assert [scored.box_error_codes[row] for row in scored.rows] == names


def test_codes_carry_the_category_of_their_issue(scorer, production):
    scored = score(scorer, production)
    critical = scorer.codebook.names[0]
    for code, category in zip(scored.box_error_codes, scored.box_categories, strict=True):
        if code is not None:
            assert category == ("critical_hotspot" if code == critical else "recessive_hotspot")
    assert all(code.startswith("M") or code == "UNSEEN" for code in scored.miss_codes)
    assert len(scored.miss_codes) == len(scored.miss_categories) == len(scored.misses)


def test_a_frame_is_doubtful_by_its_boxes_its_misses_and_what_no_candidate_shows(scorer, production):
    scored = score(scorer, production)
    for frame in range(FRAMES):
        part = slice(production.recorded.offsets[frame], production.recorded.offsets[frame + 1])
        boxes = scored.box_error_proba[part].astype(np.float64)
        boxes = boxes[np.isfinite(boxes)]
        lost = scored.misses.proba[scored.misses.offsets[frame] : scored.misses.offsets[frame + 1]]
        assumed = scored.misses.without_candidate[frame]
        expected = 1.0 - np.prod(1.0 - boxes) * np.prod(1.0 - lost) * np.exp(-assumed)
        assert scored.error_proba[frame] == pytest.approx(expected, rel=1e-6)
        assert scored.expected_errors[frame] == pytest.approx(boxes.sum())
        assert scored.expected_misses[frame] == pytest.approx(lost.sum() + assumed)


def test_a_frame_has_the_code_of_its_most_doubtful_unit(scorer, production):
    scored = score(scorer, production)
    for frame in range(FRAMES):
        part = slice(production.recorded.offsets[frame], production.recorded.offsets[frame + 1])
        lost = slice(scored.misses.offsets[frame], scored.misses.offsets[frame + 1])
        units = [
            (proba, code)
            for proba, code in zip(scored.box_error_proba[part], scored.box_error_codes[part], strict=True)
            if code is not None
        ]
        units += list(zip(scored.misses.proba[lost], scored.miss_codes[lost], strict=True))
        assert scored.error_code[frame] == max(units, key=lambda unit: unit[0])[1]


def assert_same_frame(scored, index, whole, frame):
    """One frame of a batch equals the same frame of another, bit for bit."""
    one, all_ = (slice(s.offsets[i], s.offsets[i + 1]) for s, i in ((scored, index), (whole, frame)))
    assert scored.box_error_proba[one].tobytes() == whole.box_error_proba[all_].tobytes()
    assert scored.box_error_codes[one] == whole.box_error_codes[all_]
    assert scored.box_categories[one] == whole.box_categories[all_]
    lost, lost_all = (slice(s.misses.offsets[i], s.misses.offsets[i + 1]) for s, i in ((scored, index), (whole, frame)))
    assert scored.misses.proba[lost].tobytes() == whole.misses.proba[lost_all].tobytes()
    assert scored.misses.boxes[lost].tobytes() == whole.misses.boxes[lost_all].tobytes()
    assert scored.miss_codes[lost] == whole.miss_codes[lost_all]
    for name in COLUMNS:
        assert np.float32(getattr(scored, name)[index]) == np.float32(getattr(whole, name)[frame])
    assert (scored.error_code[index], scored.category[index]) == (whole.error_code[frame], whole.category[frame])


@pytest.fixture(scope="module")
def plain_scorers():
    """Scorers without codes: of features wider than the bank compares, and of a detector that gives only boxes."""
    wide = simulate(60, seed=3, width=80)
    bare = simulate(60, seed=4)
    bare.frames = split_detections(bare.recorded, None, thresholds=THRESHOLDS)
    return {"wide": (plain(wide), simulate(6, seed=51, width=80)), "bare": (plain(bare), simulate(6, seed=52))}


@pytest.mark.parametrize("kind", ["wide", "bare"])
def test_other_kinds_of_detectors_are_scored_frame_by_frame_as_well(plain_scorers, kind):
    scorer, world = plain_scorers[kind]
    given = {} if kind == "wide" else {"class_scores": None, "class_space": None, "features": None}
    whole = score(scorer, world, **given)
    assert np.isfinite(whole.box_error_proba[whole.rows]).all()
    for order in ([0], [5, 5, 1], [3, 2, 4, 0] * 20):
        part = score(scorer, world, order, **given)
        for index, frame in enumerate(order):
            assert_same_frame(part, index, whole, frame)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, FRAMES - 1), max_size=FRAMES))
def test_the_columns_of_a_frame_do_not_depend_on_the_frames_scored_with_it(scorer, production, order):
    whole, part = score(scorer, production), score(scorer, production, order)
    for index, frame in enumerate(order):
        assert_same_frame(part, index, whole, frame)


def test_a_frame_among_very_many_is_scored_as_alone(scorer, production):
    many = score(scorer, production, [0] + [3] * 40 + [5] + [7] * 30)
    whole = score(scorer, production)
    assert_same_frame(many, 0, whole, 0)
    assert_same_frame(many, 41, whole, 5)
    assert_same_frame(many, 71, whole, 7)


def test_frames_without_boxes_have_no_unit(scorer, production):
    rows = np.zeros(len(production.recorded), bool)
    empty = production.recorded.take(rows)
    nothing = {"class_scores": np.empty((0, 3)), "class_space": "sigmoid", "features": np.empty((0, 6))}
    scored = scorer.score(empty, empty, **nothing)
    assert scored.error_code == [None] * FRAMES
    assert scored.category == [None] * FRAMES
    assert scored.expected_errors.tolist() == [0.0] * FRAMES
    assumed = scorer.estimator.misses.without_candidate.sum()
    assert scored.error_proba == pytest.approx(np.full(FRAMES, 1.0 - np.exp(-assumed)))


@pytest.mark.parametrize("name", ["features", "class_scores"])
def test_a_box_that_is_not_finite_is_not_scored_and_harms_no_other(scorer, production, name):
    values = getattr(production, name).copy()
    row = int(production.frames.rows[2])
    values[row, 1] = np.nan
    whole, scored = score(scorer, production), score(scorer, production, **{name: values})
    assert np.isnan(scored.box_error_proba[row])
    assert scored.box_error_codes[row] is None
    others = np.delete(np.arange(len(production.recorded)), row)
    assert scored.box_error_proba[others].tobytes() == whole.box_error_proba[others].tobytes()


def test_a_box_beyond_all_measure_harms_no_other_frame(scorer, production):
    boxes = production.recorded.boxes.copy()
    row = int(production.frames.rows[0])
    boxes[row, :6] = [1e200, -1e200, 0.0, 1e200, 1e180, 1.0]
    far = Detections3D(
        offsets=production.recorded.offsets, boxes=boxes,
        labels=production.recorded.labels, scores=production.recorded.scores,
    )  # fmt: skip
    given = {"class_scores": production.class_scores, "class_space": "sigmoid", "features": production.features}
    scored = scorer.score(far, production.suppressed, keys=production.keys, **given)
    whole = score(scorer, production)
    for frame in range(1, FRAMES):
        assert_same_frame(scored, frame, whole, frame)
    assert np.isfinite(scored.error_proba).all()


def test_without_codebooks_units_are_uncoded(production):
    uncoded = plain(simulate(60, seed=2))
    scored = score(uncoded, production)
    assert {code for code in scored.box_error_codes if code is not None} == {UNCODED}
    assert set(scored.miss_codes) == {UNCODED}
    assert uncoded.scored_by == "r#v"


def test_scored_frames_make_a_window(scorer, production):
    scored = score(scorer, production)
    state = scorer.window_state(scored)
    assert (state.frames, state.boxes) == (FRAMES, len(production.frames))
    assert state.sum_error_proba == pytest.approx(scored.expected_errors.sum())
    assert state.sum_miss_proba + state.sum_without_candidate == pytest.approx(scored.expected_misses.sum())
    assert state.n_unseen == sum(code == "UNSEEN" for code in scored.box_error_codes)
    estimate = estimate_detection_window(state, scorer.window_reference)
    assert estimate.precision_low <= production.precision <= estimate.precision_high


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((3, 6))}, "features have shape"),
        ({"features": None}, "8 columns"),
        ({"keys": ["a"]}, "1 keys"),
        ({"class_space": "softmax_noobj_last"}, "columns"),
    ],
)
def test_what_does_not_fit_is_refused(scorer, production, changes, message):
    with pytest.raises(InvalidInputError, match=message):
        score(scorer, production, **changes)


OF_CANDIDATES = ("support", "support_score", "support_spread", "support_class", "clutter")


def without_candidates(scorer, world, order=None):
    order = range(world.recorded.frames) if order is None else order
    keys = [world.keys[frame] for frame in order]
    return scorer.score(
        world.recorded, None, class_scores=world.class_scores, class_space="sigmoid", features=world.features, keys=keys
    )


def logit(chances):
    p = np.asarray(chances, np.float64)
    return np.log(p) - np.log1p(-p)


def test_candidates_that_were_not_recorded_say_nothing_about_a_box(scorer, production):
    """The log-odds lack what the scores made of candidates added, and nothing else."""
    whole, blind = score(scorer, production), without_candidates(scorer, production)
    columns = [DETECTION_SCORE_NAMES.index(name) for name in OF_CANDIDATES]
    added = scorer.estimator.model.contributions(whole.risk_scores)[:, columns].sum(axis=1)
    assert np.abs(added).max() > 0.1
    found = logit(blind.box_error_proba[blind.rows])
    assert found == pytest.approx(logit(whole.box_error_proba[whole.rows]) - added, abs=1e-4)
    assert blind.box_error_codes == whole.box_error_codes
    reasons = {reason.score for row in scorer.estimator.reasons(blind.risk_scores) for reason in row}
    assert reasons.isdisjoint(OF_CANDIDATES)


def test_misses_of_frames_without_candidates_are_those_of_the_reference(scorer, production):
    blind = without_candidates(scorer, production)
    reference = scorer.window_reference
    usual = reference.n_missed / reference.frames
    assert blind.expected_misses.tolist() == [pytest.approx(usual)] * FRAMES
    assert len(blind.misses) == 0
    state = scorer.window_state(blind)
    estimate = with_candidate_badge(estimate_detection_window(state, reference), state, reference)
    assert "no candidates visible" in estimate.badges
    seen = scorer.window_state(score(scorer, production))
    known = estimate_detection_window(seen, reference)
    assert with_candidate_badge(known, seen, reference) == known
    assert estimate.recall == pytest.approx(known.recall, abs=0.15)


def test_candidates_that_the_reference_did_not_have_are_left_out(plain_scorers):
    scorer, world = plain_scorers["bare"]
    bare = {"class_scores": None, "class_space": None, "features": None}
    given, without = score(scorer, world, **bare), scorer.score(world.recorded, None, keys=world.keys)
    assert given.box_error_proba.tobytes() == without.box_error_proba.tobytes()
    assert given.expected_misses.tobytes() == without.expected_misses.tobytes()


def test_whether_there_were_candidates_is_stored_and_older_artifacts_do_not_know(scorer, production):
    estimator = scorer.estimator
    assert DetectionEstimator.from_bytes(estimator.to_bytes()).scorer.has_suppressed is True
    older = dataclasses.replace(estimator, scorer=dataclasses.replace(estimator.scorer, has_suppressed=None))
    again = DetectionEstimator.from_bytes(older.to_bytes())
    assert again.scorer.has_suppressed is None
    frames = split_detections(
        production.recorded, None, thresholds=THRESHOLDS, class_scores=production.class_scores, class_space="sigmoid",
        features=production.features,
    )  # fmt: skip
    assert not again.lacks_candidates(frames)
    assert estimator.lacks_candidates(frames)
    codes = np.zeros(len(frames), np.int64)
    columns = [DETECTION_SCORE_NAMES.index(name) for name in OF_CANDIDATES]
    before, now = (one.risk_scores(frames, codes=codes) for one in (again, estimator))
    assert (before[:, columns] != now[:, columns]).any()
    np.testing.assert_array_equal(np.delete(before, columns, axis=1), np.delete(now, columns, axis=1))
