"""Risk scores of kept boxes against hand calculations and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.diagnosis import (
    DETECTION_SCORE_MEANINGS,
    DETECTION_SCORE_NAMES,
    DetectionBank,
    fit_detection_estimator,
    select_detection_bank,
    split_detections,
)
from mld_pipelines.diagnosis.detection._pairs import near_pairs, pairs_within
from mld_pipelines.diagnosis.detection._scores import BoxNorms, box_gaps
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry import bev_corners, bev_iou
from mld_pipelines.records import Detections3D
from tests.support.box_scenes import random_boxes
from tests.support.detector_simulation import N_CLASSES, THRESHOLDS, simulate


def car(x, *, y=0.0, yaw=0.0):
    return [x, y, 0.0, 2.0, 4.0, 1.5, yaw]


def scene(kept, candidates, *, keep=0.5):
    """One frame: (box, label, score) of kept boxes and of suppressed ones."""
    batches = [
        Detections3D.from_frames(
            [
                {
                    "boxes": np.array([box for box, _, _ in rows], np.float64).reshape(-1, 7),
                    "labels": np.array([label for _, label, _ in rows], np.int64),
                    "scores": np.array([score for _, _, score in rows], np.float32),
                }
            ]
        )
        for rows in (kept, candidates)
    ]
    return split_detections(batches[0], batches[1], thresholds=np.full(N_CLASSES, keep))


@pytest.fixture(scope="module")
def reference():
    return simulate(60, seed=1)


@pytest.fixture(scope="module")
def fitted(reference):
    return fit_detection_estimator(
        reference.frames,
        is_error=reference.is_error,
        truths=reference.truths,
        is_missed=reference.is_missed,
        thresholds=THRESHOLDS,
        n_classes=N_CLASSES,
        keys=reference.keys,
    )


@pytest.fixture(scope="module")
def plain():
    """An estimator of a detector without class scores and features."""
    world = simulate(60, seed=2)
    frames = split_detections(world.recorded, world.suppressed, thresholds=THRESHOLDS)
    return fit_detection_estimator(
        frames,
        is_error=world.is_error,
        truths=world.truths,
        is_missed=world.is_missed,
        thresholds=THRESHOLDS,
        n_classes=N_CLASSES,
        keys=world.keys,
    ).estimator


def column(estimator, frames, name):
    return estimator.risk_scores(frames)[:, DETECTION_SCORE_NAMES.index(name)]


def test_every_score_has_a_meaning_and_the_confidence_comes_first():
    assert tuple(DETECTION_SCORE_MEANINGS) == DETECTION_SCORE_NAMES
    assert DETECTION_SCORE_NAMES[0] == "score"


def test_the_confidence_is_minus_the_log_odds_of_the_score(plain):
    frames = scene([(car(10), 0, 0.75)], [])
    assert column(plain, frames, "score") == pytest.approx([-np.log(3.0)])
    threshold = THRESHOLDS[0]
    assert column(plain, frames, "above") == pytest.approx([np.log(threshold / (1 - threshold)) - np.log(3.0)])


def test_a_certain_score_is_finite(plain):
    assert np.isfinite(column(plain, scene([(car(10), 0, 1.0)], []), "score")).all()


def test_candidates_of_the_class_on_the_object_support_a_box(plain):
    # boxes of 4 m shifted along by s overlap by (4 - s) / (4 + s): 0.6 at 1 m, exactly 0.5 at 4/3 m, 1/3 at 2 m
    near, far = (car(11), 0, 0.4), (car(12), 0, 0.4)
    frames = scene([(car(10), 0, 0.9)], [near, near, far, (car(10.5), 1, 0.3)])
    assert column(plain, frames, "support") == pytest.approx([-np.log(3.0)])
    assert column(plain, frames, "support_score") == pytest.approx([-0.4])
    # two gaps of (1 m)² / 5 m² and the usual one of 0.09 that every box is given
    assert column(plain, frames, "support_spread") == pytest.approx([np.sqrt((2 / 5.0 + 0.09) / 3.0)])
    assert column(plain, frames, "support_class") == pytest.approx([1.0 - 3.0 / 4.0])


def test_a_box_alone_has_no_support(plain):
    frames = scene([(car(10), 0, 0.9)], [(car(40), 0, 0.4)])
    for name in ("support", "support_score", "support_class", "overlap", "frame", "clutter"):
        assert column(plain, frames, name) == pytest.approx([0.0])
    assert column(plain, frames, "support_spread") == pytest.approx([0.3])


def test_a_box_among_doubtful_ones_is_doubtful(plain):
    frames = scene([(car(10), 0, 0.75), (car(30), 0, 0.5), (car(50), 0, 0.9)], [])
    odds = np.log([3.0, 1.0, 9.0])
    assert column(plain, frames, "frame") == pytest.approx(-(odds.sum() - odds) / 3.0, rel=1e-5)


def test_clusters_within_three_match_distances_are_clutter(plain):
    around = [(car(10, y=3.0), 0, 0.4), (car(10, y=-6.0), 1, 0.2), (car(10, y=6.1), 0, 0.3)]
    frames = scene([(car(10), 0, 0.9)], around)
    assert column(plain, frames, "clutter") == pytest.approx([0.6])


def test_the_gap_of_boxes_is_the_mean_over_corners():
    rng = np.random.default_rng(0)
    first, second = random_boxes(rng, 50, extent=8.0), random_boxes(rng, 50, extent=8.0)
    second[:, 6] = first[:, 6] + rng.uniform(-1.5, 1.5, 50)  # headings on the same side: corners in the same order
    batches = [
        Detections3D(offsets=[0, 50], boxes=boxes, labels=np.zeros(50, int), scores=np.ones(50, np.float32))
        for boxes in (first, second)
    ]
    rows = np.arange(50)
    corners = ((bev_corners(first) - bev_corners(second)) ** 2).sum(axis=2).mean(axis=1)
    radius = (first[:, 3] ** 2 + first[:, 4] ** 2) / 4.0
    assert box_gaps(*batches, rows, rows) == pytest.approx(corners / radius)


def test_half_a_turn_moves_no_corner(plain):
    frames = scene([(car(10), 0, 0.9)], [(car(10, yaw=np.pi), 0, 0.4)])
    assert column(plain, frames, "support_spread") == pytest.approx([np.sqrt(0.09 / 2.0)])


def test_the_overlap_is_the_largest_with_another_kept_box(plain):
    frames = scene([(car(10), 0, 0.9), (car(11), 1, 0.8), (car(30), 0, 0.8)], [])
    assert column(plain, frames, "overlap") == pytest.approx([0.6, 0.6, 0.0])


def test_the_overlap_is_that_of_the_whole_matrix_of_each_frame(fitted, reference):
    kept = reference.frames.kept
    expected = []
    for frame in range(kept.frames):
        boxes = kept.frame(frame).boxes
        iou = np.asarray(bev_iou(boxes, boxes))
        np.fill_diagonal(iou, 0.0)
        expected.extend(iou.max(axis=1, initial=0.0))
    place = DETECTION_SCORE_NAMES.index("overlap")
    assert fitted.risk_scores[:, place] == pytest.approx(expected, abs=1e-6)


def test_class_scores_give_margin_and_entropy(fitted, reference):
    scores = reference.frames.class_scores.astype(np.float64)
    ordered = np.sort(scores, axis=1)
    margin = fitted.risk_scores[:, DETECTION_SCORE_NAMES.index("margin")]
    assert margin == pytest.approx(-(ordered[:, -1] - ordered[:, -2]), abs=1e-6)
    shares = scores / scores.sum(axis=1, keepdims=True)
    entropy = -(shares * np.log(shares)).sum(axis=1)
    assert fitted.risk_scores[:, DETECTION_SCORE_NAMES.index("entropy")] == pytest.approx(entropy, abs=1e-6)


def test_a_detector_without_class_scores_has_no_margin(plain):
    frames = scene([(car(10), 0, 0.9)], [])
    assert np.isnan(column(plain, frames, "margin")).all()
    assert plain.model.weights[DETECTION_SCORE_NAMES.index("margin")] == 0.0
    assert np.isfinite(plain.error_proba(plain.risk_scores(frames))).all()


def test_size_shape_and_range_are_compared_within_the_class():
    rng = np.random.default_rng(3)
    boxes = random_boxes(rng, 40)
    labels = np.repeat([0, 1], 20)
    norms = BoxNorms.fit(boxes, labels, n_classes=3)
    own = boxes[labels == 1]
    size = np.log(own[:, 3:6].prod(axis=1)) / 3.0
    aspect = np.log(own[:, 4] / own[:, 3])
    distance = np.sqrt(own[:, 0] ** 2 + own[:, 1] ** 2)
    z = norms.deviations(own, np.ones(20, int))
    for place, values in enumerate((size, aspect, distance)):
        assert z[:, place] == pytest.approx((values - values.mean()) / values.std())
    # a class without boxes is compared with all of them
    assert norms.mean[2, 2] == pytest.approx(np.hypot(boxes[:, 0], boxes[:, 1]).mean())


def test_neighbours_are_those_of_a_plain_search_without_the_own_frame(fitted, reference):
    frames = reference.frames
    features = frames.features.astype(np.float64)
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    queries = standardised / (np.linalg.norm(standardised, axis=1, keepdims=True) + 1e-9)
    unit = queries.astype(np.float32).astype(np.float64)
    frame, labels = frames.kept.frame_index, frames.kept.labels
    knn, dis = [], []
    for row in range(len(frames)):
        distance = np.linalg.norm(unit - queries[row], axis=1)
        distance[frame == frame[row]] = np.inf
        near = np.argsort(distance)[:10]
        knn.append(np.log(distance[near[-1]] + 1e-4))
        dis.append(1.0 - np.mean((labels[near] == labels[row]) & ~reference.is_error[near]))
    assert len(frames) < 1024  # the whole reference is in the bank
    assert fitted.risk_scores[:, DETECTION_SCORE_NAMES.index("knn")] == pytest.approx(knn, abs=1e-6)
    assert fitted.risk_scores[:, DETECTION_SCORE_NAMES.index("dis")] == pytest.approx(dis, abs=1e-6)


def test_a_bank_takes_right_and_wrong_ones_of_each_class_in_turn(reference):
    given = {"is_error": reference.is_error, "keys": reference.keys}
    bank = select_detection_bank(reference.frames, **given, limit=60)
    kinds = 2 * reference.frames.kept.labels + reference.is_error
    assert np.bincount(kinds).min() >= 10
    assert np.bincount(2 * bank.labels + bank.is_error).tolist() == [10] * 6
    other = select_detection_bank(reference.frames, **given, limit=60, seed=1)
    assert set(map(bytes, other.features)) != set(map(bytes, bank.features))


def test_a_bank_refuses_columns_that_do_not_fit():
    with pytest.raises(InvalidInputError, match="2 keys"):
        DetectionBank(np.zeros((1, 2), np.float32), np.zeros(1, int), np.zeros(1, bool), ["a", "b"])
    with pytest.raises(InvalidInputError, match="NaN"):
        DetectionBank(np.full((1, 2), np.nan, np.float32), np.zeros(1, int), np.zeros(1, bool), ["a"])


def test_reasons_name_what_raises_the_odds_most(fitted):
    reasons = fitted.estimator.reasons(fitted.risk_scores)
    contributions = fitted.estimator.model.contributions(fitted.risk_scores)
    row = int(np.argmax(fitted.error_proba))
    assert reasons[row][0].score == DETECTION_SCORE_NAMES[int(contributions[row].argmax())]
    assert reasons[row][0].meaning == DETECTION_SCORE_MEANINGS[reasons[row][0].score]
    assert all(r.contribution > 0.0 for of_unit in reasons for r in of_unit)


@pytest.mark.parametrize("missing", ["class_scores", "features"])
def test_an_estimator_refuses_frames_without_what_it_was_fitted_on(fitted, reference, missing):
    given = {"class_scores": reference.class_scores, "class_space": "sigmoid", "features": reference.features}
    given[missing] = None
    frames = split_detections(reference.recorded, reference.suppressed, thresholds=THRESHOLDS, **given)
    with pytest.raises(InvalidInputError, match="class scores" if missing == "class_scores" else "6 columns"):
        fitted.estimator.risk_scores(frames)


coordinates = st.floats(-20.0, 20.0, width=32)


@st.composite
def two_batches(draw):
    """Boxes of two batches of the same frames."""
    frames = draw(st.integers(1, 3))
    batches = []
    for _ in range(2):
        counts = [draw(st.integers(0, 6)) for _ in range(frames)]
        boxes = np.array(
            [[draw(coordinates), draw(coordinates), 0.0, 1.0, 1.0, 1.0, 0.0] for _ in range(sum(counts))]
        ).reshape(-1, 7)
        batches.append((boxes, np.concatenate(([0], np.cumsum(counts))).astype(np.int64)))
    reach = np.array([draw(st.floats(0.0, 15.0)) for _ in range(len(batches[0][0]))])
    return batches, reach


@settings(max_examples=60, deadline=None)
@given(two_batches())
def test_near_pairs_are_all_pairs_in_reach(case):
    ((first, edges), (second, others)), reach = case
    expected = set()
    for frame in range(len(edges) - 1):
        for i in range(edges[frame], edges[frame + 1]):
            for j in range(others[frame], others[frame + 1]):
                d2 = (first[i, 0] - second[j, 0]) ** 2 + (first[i, 1] - second[j, 1]) ** 2
                if d2 <= reach[i] * reach[i]:
                    expected.add((i, j))
    pairs = near_pairs(first, second, (edges, others), reach=reach)
    assert len(pairs.first) == len(expected)
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected


@settings(max_examples=60, deadline=None)
@given(two_batches())
def test_pairs_within_hold_every_pair_in_reach_of_both_once(case):
    ((boxes, edges), _), reach = case
    pairs = pairs_within(boxes, edges, reach=reach)
    found = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(set(found)) == len(found)
    assert all(i < j for i, j in found)
    for frame in range(len(edges) - 1):
        for i in range(edges[frame], edges[frame + 1]):
            for j in range(i + 1, edges[frame + 1]):
                d2 = (boxes[i, 0] - boxes[j, 0]) ** 2 + (boxes[i, 1] - boxes[j, 1]) ** 2
                assert (i, j) in found or d2 > min(reach[i], reach[j]) ** 2
