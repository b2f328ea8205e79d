"""The operating point: F1 by hand and by trying every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import match_overlaps, operating_point


def match(scores, hits, *, labels=None, extra_truths=0, n_classes=1):
    """One frame per prediction; a hit has a truth of its own class."""
    labels = [0] * len(scores) if labels is None else labels
    overlaps = [np.ones((1, int(hit))) for hit in hits] + [np.zeros((0, extra_truths))]
    truth_labels = [label for label, hit in zip(labels, hits, strict=True) if hit] + [0] * extra_truths
    return match_overlaps(overlaps, scores=scores, labels=labels, truth_labels=truth_labels, n_classes=n_classes)


def test_the_threshold_is_where_f1_is_largest():
    """Keeping 1, 2, 3, 4 of 4 with 3 truths: F1 = 2/4, 4/5, 4/6, 6/7."""
    point = operating_point(match([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1]), n_classes=1)
    assert point.thresholds[0] == 0.6
    assert (point.f1[0], point.precision[0], point.recall[0]) == pytest.approx((6 / 7, 3 / 4, 1.0))
    assert point.sources == ("f1",)


def test_of_equally_good_thresholds_the_highest_is_taken():
    """With 3 truths: 1 of 1 gives 2/4; 1 of 2 gives 2/5; 2 of 5 gives 4/8."""
    point = operating_point(match([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 0, 0, 1], extra_truths=1), n_classes=1)
    assert point.thresholds[0] == 0.9


def test_equal_scores_are_kept_together():
    point = operating_point(match([0.9, 0.5, 0.5, 0.5], [1, 1, 0, 0]), n_classes=1)
    assert point.thresholds[0] == 0.9
    assert point.precision[0] == 1.0


def test_a_class_without_a_true_positive_keeps_the_fallback():
    point = operating_point(match([0.9, 0.8], [1, 0], labels=[0, 1], n_classes=3), n_classes=3, fallback=0.25)
    assert point.thresholds.tolist() == [0.9, 0.25, 0.25]
    assert point.sources == ("f1", "fallback", "fallback")
    assert point.truths.tolist() == [1, 0, 0]


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(InvalidInputError, match="label 1"):
        operating_point(match([0.9], [1], labels=[1], n_classes=2), n_classes=1)


def test_a_fallback_that_is_not_a_number_is_refused():
    with pytest.raises(InvalidInputError, match="NaN"):
        operating_point(match([0.9], [1]), n_classes=1, fallback=float("nan"))


@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_threshold_of_scikit_learns_curve_is_better(rows):
    scores, hits = np.array([row[0] for row in rows]) / 10, np.array([row[1] for row in rows])
    if not hits.any():
        return
    precision, recall, _ = precision_recall_curve(hits, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
    point = operating_point(match(scores, hits), n_classes=1)
    assert point.f1[0] == pytest.approx(best)
    kept = scores >= point.thresholds[0]
    assert 2 * hits[kept].sum() / (kept.sum() + hits.sum()) == pytest.approx(best)
