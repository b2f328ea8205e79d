"""Classification metrics against scikit-learn, the reference arithmetic and hand calculation."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import (
    ClassificationMetrics,
    average_precision,
    classification_metrics,
    macro_ranking,
    roc_auc,
    unit_statistics,
)


def _metrics(
    probabilities: np.ndarray, labels: np.ndarray, error_proba: np.ndarray | None = None
) -> ClassificationMetrics:
    stats = unit_statistics(probabilities=probabilities, labels=labels)
    assert stats.loss is not None
    return classification_metrics(
        probabilities=probabilities, labels=labels, entropy=stats.entropy, loss=stats.loss, error_proba=error_proba
    )


def _random(n: int, k: int, seed: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    probabilities = rng.dirichlet(np.ones(k), n) * 0.7 + 0.3 * np.eye(k)[rng.integers(0, k, n)]
    if ties:
        probabilities = np.round(probabilities * 4) + 0.25
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities, labels, np.round(rng.random(n), 1 if ties else 9)


@pytest.mark.feature("H8", "H9")
def test_uniform_predictor_has_the_reference_sums() -> None:
    metrics = _metrics(np.full((5000, 10), 0.1), np.arange(5000) % 10)
    assert metrics.net_entropy == pytest.approx(11512.925, abs=5e-4)
    assert metrics.net_entropy_loss == pytest.approx(11512.925, abs=5e-4)
    assert metrics.mean_entropy == pytest.approx(math.log(10))
    assert metrics.mean_loss == pytest.approx(math.log(10))


@pytest.mark.feature("H5", "H6", "H7", "H8", "H10", "H11")
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "k"), [(30, 3), (400, 10), (300, 40)])
def test_metrics_equal_scikit_learn(n: int, k: int, ties: bool) -> None:
    p, y, risk = _random(n, k, seed=n + k, ties=ties)
    metrics = _metrics(p, y, risk)
    wrong = p.argmax(axis=1) != y
    assert metrics.counts == n
    assert metrics.accuracy == pytest.approx(1 - wrong.mean())
    assert metrics.error_rate == pytest.approx(wrong.mean())
    assert metrics.auroc == pytest.approx(roc_auc_score(y, p, multi_class="ovr", average="macro"))
    assert metrics.auprc == pytest.approx(average_precision_score(np.eye(k)[y], p, average="macro"))
    assert metrics.net_entropy_loss == pytest.approx(log_loss(y, p, normalize=False, labels=range(k)))
    assert metrics.error_proba_auroc == pytest.approx(roc_auc_score(wrong, risk))
    assert metrics.error_proba_auprc == pytest.approx(average_precision_score(wrong, risk))
    assert metrics.error_proba_auprc_success == pytest.approx(average_precision_score(~wrong, 1 - risk))
    assert metrics.confidence_auroc == pytest.approx(roc_auc_score(wrong, -p.max(axis=1)))


@pytest.mark.feature("H6", "H7")
def test_binary_ranks_class_one() -> None:
    p, y, _ = _random(60, 2, seed=5)
    metrics = _metrics(p, y)
    assert metrics.auroc == pytest.approx(roc_auc_score(y, p[:, 1]))
    assert metrics.auprc == pytest.approx(average_precision_score(y, p[:, 1]))


@pytest.mark.feature("H6", "H7")
def test_absent_class_is_left_out_of_the_mean() -> None:
    p, _, _ = _random(90, 4, seed=7)
    y = np.arange(90) % 3
    metrics = _metrics(p, y)
    one_hot = np.eye(4)[y]
    assert metrics.auroc == pytest.approx(np.mean([roc_auc_score(one_hot[:, c], p[:, c]) for c in range(3)]))
    assert metrics.auprc == pytest.approx(np.mean([average_precision_score(one_hot[:, c], p[:, c]) for c in range(3)]))


@pytest.mark.feature("H6", "H7")
def test_one_class_only_has_no_ranking_but_all_sums() -> None:
    metrics = _metrics(np.tile([0.7, 0.2, 0.1], (4, 1)), np.zeros(4, dtype=int))
    assert metrics.auroc is None
    assert metrics.auprc is None
    assert metrics.confidence_auroc is None
    assert metrics.accuracy == 1.0
    assert metrics.net_entropy_loss == pytest.approx(-4 * math.log(0.7))


def test_given_predictions_win_over_tied_probabilities() -> None:
    tied = {"probabilities": [[0.5, 0.5], [0.5, 0.5]], "labels": [1, 0], "entropy": [0.7, 0.7], "loss": [0.7, 0.7]}
    assert classification_metrics(**tied).accuracy == 0.5
    assert classification_metrics(**tied, prediction=[1, 0]).accuracy == 1.0


@pytest.mark.feature("H10", "H11")
def test_no_errors_means_no_error_ranking() -> None:
    metrics = _metrics(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), np.array([0.1, 0.2]))
    assert metrics.error_proba_auroc is None
    assert metrics.error_proba_auprc is None
    assert metrics.error_proba_auprc_success is None
    assert metrics.auroc == 1.0


def test_without_error_probability_its_columns_are_null() -> None:
    p, y, _ = _random(30, 3, seed=1)
    metrics = _metrics(p, y)
    assert (metrics.error_proba_auroc, metrics.error_proba_auprc, metrics.error_proba_auprc_success) == (
        None,
        None,
        None,
    )


def test_order_of_the_columns_is_that_of_the_reference() -> None:
    names = [field.name for field in fields(ClassificationMetrics)]
    assert names[:8] == [
        "counts", "accuracy", "auroc", "auprc", "net_entropy_loss", "net_entropy", "error_proba_auroc",
        "error_proba_auprc",
    ]  # fmt: skip


def test_ranking_by_hand() -> None:
    # Positives at .8 and .3, negatives at .5 and .3: pairs won 2 + 0.5 + 0 of 4; thresholds .8 (1/1) and .3 (2/4).
    scores, positive = [0.8, 0.3, 0.5, 0.3], [True, True, False, False]
    assert roc_auc(scores, positive) == pytest.approx(2.5 / 4)
    assert average_precision(scores, positive) == pytest.approx(0.5 * 1 + 0.5 * 0.5)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_ranking_with_ties_equals_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([s for s, _ in pairs], float), np.array([b for _, b in pairs])
    if positive.all() or not positive.any():
        assert roc_auc(scores, positive) is None
        return
    assert roc_auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores))


def test_average_precision_of_reversed_ranking_is_the_unachievable_bound() -> None:
    # docs/method.md#metrics: 4,510 positives of 5,000 ranked last cannot have less than 0.7477.
    positive = np.arange(5000) >= 490
    assert average_precision(-np.arange(5000.0), positive) == pytest.approx(0.7477, abs=5e-5)


def test_a_thousand_classes_are_ranked_as_scikit_learn_ranks_each() -> None:
    rng = np.random.default_rng(0)
    p, labels = rng.random((1_000, 1_000)), rng.integers(0, 1_000, 1_000)
    present = np.unique(labels)
    auroc, precision = macro_ranking(p, labels)
    assert auroc == pytest.approx(np.mean([roc_auc_score(labels == c, p[:, c]) for c in present]))
    assert precision == pytest.approx(np.mean([average_precision_score(labels == c, p[:, c]) for c in present]))


@pytest.mark.parametrize(
    "change",
    [
        {"labels": [0]},
        {"entropy": [1.0]},
        {"loss": [1.0, np.nan]},
        {"error_proba": [0.1]},
        {"probabilities": np.zeros((0, 3))},
    ],
)
def test_bad_input_is_an_error(change: dict[str, object]) -> None:
    good: dict[str, object] = {
        "probabilities": [[0.4, 0.6], [0.9, 0.1]],
        "labels": [0, 1],
        "entropy": [0.1, 0.1],
        "loss": [1, 1],
    }
    with pytest.raises(InvalidInputError):
        classification_metrics(**{**good, **change})  # type: ignore[arg-type]


def test_nan_score_has_no_rank() -> None:
    with pytest.raises(InvalidInputError, match="NaN"):
        roc_auc([np.nan, 1.0], [True, False])
