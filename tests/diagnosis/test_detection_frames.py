"""Detections cut at the operating point, and what each kept box is read by."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bernoulli, entropy
from sklearn.metrics import log_loss

from mld_pipelines.diagnosis import (
    object_context,
    prediction_features,
    prediction_probabilities,
    prediction_statistics,
    split_detections,
)
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import Detections3D

CAR = [10.0, 0.0, 0.0, 2.0, 4.0, 1.5, 0.0]


def detections(*frames):
    """Frames of (score, label) pairs, boxes side by side."""
    return Detections3D.from_frames(
        [
            {
                "boxes": np.array([[*CAR[:1], 5.0 * row, *CAR[2:]] for row in range(len(frame))]).reshape(-1, 7),
                "scores": np.array([score for score, _ in frame], np.float32),
                "labels": np.array([label for _, label in frame], np.int64),
            }
            for frame in frames
        ]
    )


def one_box(**columns):
    """A frame with one kept box of class 1 and score 0.6."""
    return split_detections(detections([(0.6, 1)]), None, thresholds=[0.5, 0.5, 0.5], **columns)


def test_boxes_at_the_threshold_of_their_class_are_kept_and_know_their_row():
    frames = split_detections(detections([(0.5, 0), (0.5, 1), (0.49, 0)], [], [(0.6, 1)]), None, thresholds=[0.5, 0.6])
    assert frames.rows.tolist() == [0, 3]
    assert frames.kept.offsets.tolist() == [0, 1, 1, 2]


def test_candidates_are_what_was_not_kept_from_a_tenth_of_the_threshold_on_by_falling_score():
    recorded = detections([(0.9, 0), (0.2, 0), (0.04, 0)])
    suppressed = detections([(0.7, 0), (0.06, 1), (0.06, 0)])
    candidates = split_detections(recorded, suppressed, thresholds=[0.5, 0.7]).candidates
    assert candidates.scores.tolist() == pytest.approx([0.7, 0.2, 0.06])
    assert candidates.labels.tolist() == [0, 0, 0]


def test_columns_follow_the_kept_boxes():
    frames = split_detections(
        detections([(0.1, 0), (0.9, 0)]),
        None,
        thresholds=[0.5],
        class_scores=np.array([[0.1], [0.9]]),
        class_space="sigmoid",
        features=np.array([[1.0, 2.0], [3.0, 4.0]]),
    )
    assert frames.class_scores.tolist() == [[pytest.approx(0.9)]]
    assert frames.features.tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": [0.5, np.nan]}, "without NaN"),
        ({"thresholds": [0.5]}, "label 1"),
        ({"suppressed": detections([], [])}, "2"),
        ({"features": np.zeros((3, 2))}, r"features have shape \(3, 2\)"),
        ({"class_scores": np.zeros((1, 2))}, "class space is None"),
        ({"class_scores": np.zeros((1, 2)), "class_space": "logits"}, "class space is 'logits'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    given = {"suppressed": None, "thresholds": [0.5, 0.5], **arguments}
    with pytest.raises(InvalidInputError, match=message):
        split_detections(detections([(0.6, 1)]), given.pop("suppressed"), **given)


def test_independent_scores_leave_nothing_the_chance_that_no_class_fires():
    frames = one_box(class_scores=np.array([[0.5, 0.6, 0.0]]), class_space="sigmoid")
    nothing = 0.5 * 0.4
    expected = [0.8 * 0.5 / 1.1, 0.8 * 0.6 / 1.1, 0.0, nothing]
    assert prediction_probabilities(frames, n_classes=3)[0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("space", "given"),
    [("softmax_bg_first", [0.1, 0.2, 0.6, 0.1]), ("softmax_noobj_last", [0.2, 0.6, 0.1, 0.1])],
)
def test_a_softmax_stays_as_it_is_with_nothing_last(space, given):
    frames = one_box(class_scores=np.array([given]), class_space=space)
    assert prediction_probabilities(frames, n_classes=3)[0] == pytest.approx([0.2, 0.6, 0.1, 0.1], abs=1e-7)


def test_a_score_alone_is_the_chance_of_its_class():
    assert prediction_probabilities(one_box(), n_classes=3)[0] == pytest.approx([0.0, 0.6, 0.0, 0.4], abs=1e-7)


@pytest.mark.parametrize("space", ["sigmoid", "softmax_bg_first", "softmax_noobj_last"])
def test_scores_of_nothing_at_all_are_nothing(space):
    width = 3 if space == "sigmoid" else 4
    frames = one_box(class_scores=np.zeros((1, width)), class_space=space)
    assert prediction_probabilities(frames, n_classes=3).tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_class_scores_of_another_width_are_refused():
    frames = one_box(class_scores=np.zeros((1, 3)), class_space="softmax_bg_first")
    with pytest.raises(InvalidInputError, match="has 4"):
        prediction_probabilities(frames, n_classes=3)


@pytest.mark.parametrize("label", [-1, 0, 2])
def test_statistics_of_independent_scores_are_sums_over_the_classes(label):
    chances = [0.25, 0.5, 0.125]  # exact in float32
    frames = one_box(class_scores=np.array([chances]), class_space="sigmoid")
    entropies, loss = prediction_statistics(frames, n_classes=3, true_labels=np.array([label]))
    assert entropies[0] == pytest.approx(sum(bernoulli(p).entropy() for p in chances))
    truth = [int(label == c) for c in range(3)]
    expected = sum(log_loss([t], [[1 - p, p]], labels=[0, 1]) for t, p in zip(truth, chances, strict=True))
    assert loss[0] == pytest.approx(expected)


@pytest.mark.parametrize(("label", "column"), [(-1, 3), (0, 0), (2, 2)])
def test_statistics_of_a_softmax_count_nothing_as_a_class(label, column):
    chances = [0.25, 0.5, 0.125, 0.125]
    frames = one_box(class_scores=np.array([chances]), class_space="softmax_noobj_last")
    entropies, loss = prediction_statistics(frames, n_classes=3, true_labels=np.array([label]))
    assert entropies[0] == pytest.approx(entropy(chances))
    assert loss[0] == pytest.approx(-np.log(chances[column]))


@pytest.mark.parametrize(("label", "chance"), [(1, 0.6), (0, 0.4), (-1, 0.4)])
def test_statistics_of_a_score_alone_ask_whether_its_class_is_right(label, chance):
    entropies, loss = prediction_statistics(one_box(), n_classes=3, true_labels=np.array([label]))
    assert entropies[0] == pytest.approx(bernoulli(0.6).entropy(), rel=1e-6)
    assert loss[0] == pytest.approx(-np.log(chance), rel=1e-6)


@pytest.mark.parametrize("labels", [[3], [-2], [0, 1]])
def test_true_labels_must_be_classes_of_the_kept_boxes(labels):
    with pytest.raises(InvalidInputError, match="true labels"):
        prediction_statistics(one_box(), n_classes=3, true_labels=np.array(labels))


def test_the_context_of_an_object_is_where_it_is_and_what_it_is():
    box = np.array([[3.0, 4.0, 0.0, 2.0, np.e, 1.0, np.arctan2(4.0, 3.0) + np.pi / 2]])
    features, probabilities = object_context(box, np.array([1]), n_classes=3)
    expected = [5.0 / 20.0, 0.6, 0.8, 1.0, np.log(2.0), 0.0, 0.0, 1.0]
    assert features[0] == pytest.approx(expected, abs=1e-6)
    assert probabilities.tolist() == [[0.0, 1.0, 0.0]]


def test_the_context_of_a_turned_scene_differs_in_the_bearing_only():
    box = np.array([[8.0, 1.0, 0.0, 2.0, 4.0, 1.5, 0.3]])
    turned = box.copy()
    cos, sin = np.cos(1.1), np.sin(1.1)
    turned[0, :2] = [cos * 8.0 - sin * 1.0, sin * 8.0 + cos * 1.0]
    turned[0, 6] += 1.1
    first, second = (object_context(b, np.array([0]), n_classes=1)[0][0] for b in (box, turned))
    assert np.delete(first, [1, 2]) == pytest.approx(np.delete(second, [1, 2]), abs=1e-6)
    assert first[1] != pytest.approx(second[1])


def test_an_object_of_an_unknown_class_has_no_context():
    with pytest.raises(InvalidInputError, match="does not know"):
        object_context(np.array([CAR]), np.array([-1]), n_classes=2)


def test_the_feature_of_a_detector_without_features_is_the_context():
    features, _ = object_context(np.array([CAR]), np.array([1]), n_classes=3)
    assert prediction_features(one_box()).tolist() == features.tolist()
    assert prediction_features(one_box(features=np.array([[7.0]]))).tolist() == [[7.0]]
