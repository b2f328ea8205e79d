"""Clusters of candidates, the truths they are, and what no candidate shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mld_pipelines.diagnosis import MISS_SCORE_NAMES, fit_detection_estimator, split_detections
from mld_pipelines.diagnosis.detection._misses import claimed_truths, find_clusters, miss_scores
from mld_pipelines.diagnosis.detection._scores import BoxNorms
from mld_pipelines.geometry import bev_iou
from mld_pipelines.records import Detections3D, Truths3D
from tests.support.detector_simulation import N_CLASSES, THRESHOLDS, simulate

MATCH = 2.0


def car(x, *, y=0.0, length=4.0):
    return [x, y, 0.0, 2.0, length, 1.5, 0.0]


def scene(kept, candidates):
    """One frame of kept boxes and candidates: (box, label, score) each."""
    batches = [Detections3D.from_frames([frame([box for box, *_ in rows], rows)]) for rows in (kept, candidates)]
    return split_detections(*batches, thresholds=np.full(N_CLASSES, 0.5))


def frame(boxes, rows):
    return {
        "boxes": np.array(boxes, np.float64).reshape(-1, 7),
        "labels": np.array([label for _, label, _ in rows], np.int64),
        "scores": np.array([score for *_, score in rows], np.float32),
    }


def clusters_of(kept, candidates):
    return find_clusters(scene(kept, candidates), match_distance=MATCH)


def test_a_candidate_beside_a_kept_box_of_its_class_is_that_box():
    kept = [(car(0), 0, 0.9)]
    assert len(clusters_of(kept, [(car(0, y=2.0), 0, 0.4)]).peaks) == 0
    assert len(clusters_of(kept, [(car(0, y=2.1), 0, 0.4)]).peaks) == 1


def test_a_candidate_of_another_class_is_on_a_kept_box_by_overlap_only():
    kept = [(car(0), 0, 0.9)]
    assert len(clusters_of(kept, [(car(1.0), 1, 0.4)]).peaks) == 0  # IoU 0.6
    assert len(clusters_of(kept, [(car(1.9), 1, 0.4)]).peaks) == 1  # IoU 0.36, nearer than 2 m


def test_what_stands_near_or_overlaps_a_better_candidate_belongs_to_it():
    long = car(30, length=10.0)
    shifted = car(35, length=10.0)  # 5 m away, IoU 1/3
    clusters = clusters_of(
        [], [(car(0), 0, 0.3), (car(1), 1, 0.4), (long, 0, 0.2), (shifted, 0, 0.1), (car(60), 2, 0.1)]
    )
    assert clusters.peaks.boxes[:, 0].tolist() == [1.0, 30.0, 60.0]
    members = clusters.members.boxes[:, 0]
    assert {x: clusters.owner[row] for row, x in enumerate(members.tolist())} == {
        1.0: 0,
        0.0: 0,
        30.0: 1,
        35.0: 1,
        60.0: 2,
    }


def test_a_chain_breaks_where_its_middle_is_taken():
    clusters = clusters_of([], [(car(0), 0, 0.4), (car(0, y=1.9), 0, 0.3), (car(0, y=3.8), 0, 0.2)])
    assert clusters.peaks.boxes[:, 1].tolist() == [0.0, 3.8]
    assert clusters.owner.tolist() == [0, 0, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_clusters_are_those_of_a_greedy_loop(seed, count):
    rng = np.random.default_rng(seed)
    rows = [
        (
            [*rng.uniform(-12, 12, 2), 0.0, 2.0, rng.uniform(1, 8), 1.5, rng.uniform(-3, 3)],
            int(rng.integers(N_CLASSES)),
            s,
        )
        for s in rng.permutation(np.linspace(0.06, 0.49, count))
    ]
    clusters = clusters_of([], rows)
    rows.sort(key=lambda row: -row[2])
    peaks, owner = [], []
    for index, (box, _, _) in enumerate(rows):
        near = [
            place
            for place, peak in enumerate(peaks)
            if np.hypot(box[0] - rows[peak][0][0], box[1] - rows[peak][0][1]) <= MATCH
            or np.asarray(bev_iou([box], [rows[peak][0]]))[0, 0] >= 0.1
        ]
        owner.append(near[0] if near else len(peaks))
        if not near:
            peaks.append(index)
    assert clusters.peaks.boxes.tolist() == [pytest.approx(rows[peak][0]) for peak in peaks]
    assert clusters.owner.tolist() == owner


def test_the_scores_of_a_cluster_are_those_of_its_members():
    frames = scene(
        [(car(50), 0, 0.75)],
        [(car(0), 0, 0.4), (car(1), 0, 0.2), (car(0, y=1), 1, 0.3), (car(0, y=5), 2, 0.1), (car(0, y=-7), 2, 0.2)],
    )
    norms = BoxNorms(np.zeros((N_CLASSES, 3)), np.ones((N_CLASSES, 3)))
    scores = miss_scores(
        frames,
        find_clusters(frames, match_distance=MATCH),
        thresholds=np.full(3, 0.5),
        norms=norms,
        match_distance=MATCH,
    )
    row = dict(zip(MISS_SCORE_NAMES, scores[0], strict=True))
    assert row["score"] == pytest.approx(np.log(0.4 / 0.6), rel=1e-6)
    assert row["above"] == pytest.approx(np.log(0.4 / 0.6), rel=1e-6)
    assert row["merged"] == pytest.approx(np.log(2.0))
    assert row["merged_score"] == pytest.approx(0.3)
    assert row["merged_spread"] == pytest.approx(-np.sqrt((0.0 + 1.0 / 5.0) / 2.0))
    assert row["merged_class"] == pytest.approx(2.0 / 3.0 - 1.0)
    assert row["size"] == pytest.approx(-np.log(2.0 * 4.0 * 1.5) / 3.0)
    assert row["aspect"] == pytest.approx(-np.log(2.0))
    assert row["range"] == pytest.approx(0.0)
    assert row["frame"] == pytest.approx(np.log(3.0) / 2.0)
    assert row["clutter"] == pytest.approx(-0.1)  # the other cluster within 6 m, not that at 7 m


def truths_of(*boxes):
    return Truths3D.from_frames([{"boxes": np.array([b for b, _ in boxes]), "labels": np.array([c for _, c in boxes])}])


def test_each_missed_truth_is_claimed_once_by_the_best_score():
    peaks = clusters_of([], [(car(0), 0, 0.3), (car(0, y=3), 0, 0.4)]).peaks
    truths = truths_of((car(0, y=1.4), 0))
    assert peaks.boxes[:, 1].tolist() == [3.0, 0.0]
    assert claimed_truths(peaks, truths, np.array([True]), match_distance=MATCH).tolist() == [0, -1]


def test_a_cluster_takes_the_nearest_truth_that_is_left():
    peaks = clusters_of([], [(car(0), 0, 0.4), (car(0, y=3), 0, 0.3)]).peaks
    truths = truths_of((car(0, y=1.5), 0), (car(0, y=1.4), 0))
    assert claimed_truths(peaks, truths, np.array([True, True]), match_distance=MATCH).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("truth", "is_missed"),
    [((car(0), 1), True), ((car(0), -1), True), ((car(0), 0), False), ((car(2.1), 0), True)],
)
def test_other_classes_found_and_far_truths_are_not_claimed(truth, is_missed):
    peaks = clusters_of([], [(car(0), 0, 0.4)]).peaks
    assert claimed_truths(peaks, truths_of(truth), np.array([is_missed]), match_distance=MATCH).tolist() == [-1]


@pytest.fixture(scope="module")
def world():
    return simulate(150, seed=5)


@pytest.fixture(scope="module")
def fitted(world):
    return fit_detection_estimator(
        world.frames,
        is_error=world.is_error,
        truths=world.truths,
        is_missed=world.is_missed,
        thresholds=THRESHOLDS,
        n_classes=N_CLASSES,
        keys=world.keys,
    )


def test_expected_misses_of_the_reference_add_up_to_the_missed_objects(world, fitted):
    # Every part is cross-fitted, so the sums agree on average, not by construction.
    assert fitted.misses.expected.sum() == pytest.approx(world.is_missed.sum(), rel=0.05)


def test_misses_without_a_candidate_are_what_no_cluster_claims(world, fitted):
    shown = fitted.diagnostics["n_shown"]
    hidden = int(world.is_missed.sum()) - shown
    assert fitted.diagnostics["n_without_candidate"] == hidden
    assert fitted.estimator.misses.without_candidate.sum() == pytest.approx(hidden / 150)


def test_the_chance_of_a_cluster_ranks_unseen_frames(fitted):
    other = simulate(150, seed=6)
    misses = fitted.estimator.expected_misses(other.frames)
    peaks = find_clusters(other.frames, match_distance=MATCH).peaks
    is_real = claimed_truths(peaks, other.truths, other.is_missed, match_distance=MATCH) >= 0
    assert roc_auc_score(is_real, misses.proba) > roc_auc_score(is_real, peaks.scores) + 0.1


def test_frames_without_candidates_are_expected_to_miss_what_the_reference_missed_unseen(fitted):
    empty = split_detections(Detections3D.from_frames([frame([], [])] * 3), None, thresholds=THRESHOLDS)
    misses = fitted.estimator.expected_misses(empty)
    assert len(misses) == 0
    assert misses.expected == pytest.approx(np.full(3, fitted.estimator.misses.without_candidate.sum()))
