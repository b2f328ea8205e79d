"""Rank statistics: AUROC and step-wise average precision from one sort of the scores.

Both need, for each positive unit, only how many units score below and at its own score; with few positives per class
(one-vs-rest) that is a plain sort plus a binary search per positive, instead of an indirect sort per class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._statistics import check_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["average_precision", "macro_ranking", "roc_auc"]

_COLUMNS_AT_ONCE = 16
"""Columns copied per transposition: one cache line of float64 holds 8, so rows are read twice, not K times."""


def roc_auc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Return P(score of a positive > score of a negative), ties counting ½; None if one outcome is absent.

    Args:
        scores: Higher means more likely positive, shape (N,).
        positive: Outcome, bool, shape (N,).

    Raises:
        InvalidInputError: Shapes differ or a score is NaN.
    """
    return _rank(*_check_pair(scores, positive))[0]


def average_precision(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Return Σ (R_n − R_{n−1})·P_n over the distinct thresholds (step-wise); None if one outcome is absent.

    Args:
        scores: Higher means more likely positive, shape (N,).
        positive: Outcome, bool, shape (N,).

    Raises:
        InvalidInputError: Shapes differ or a score is NaN.
    """
    return _rank(*_check_pair(scores, positive))[1]


def macro_ranking(probabilities: ArrayLike, labels: ArrayLike) -> tuple[float | None, float | None]:
    """Return (AUROC, average precision), each the plain mean over classes of one class against the rest.

    Classes without both outcomes in the rows are left out; None if none remains. With two classes the result is that
    of class index 1 alone (docs/method.md#metrics).

    Args:
        probabilities: Shape (N, K).
        labels: Class indices, shape (N,).

    Raises:
        InvalidInputError: Shapes differ or a label is out of range.
    """
    p = np.asarray(probabilities)
    if p.ndim != 2 or p.shape[1] < 2:
        raise InvalidInputError(f"probabilities must have shape (units, classes >= 2), got {p.shape}.")
    truth = check_labels(labels, n_units=len(p), n_classes=p.shape[1])
    counts = np.bincount(truth, minlength=p.shape[1])
    usable = np.flatnonzero((counts > 0) & (counts < len(truth)))
    if p.shape[1] == 2:
        usable = usable[usable == 1]
    aurocs, precisions = [], []
    for start in range(0, len(usable), _COLUMNS_AT_ONCE):
        classes = usable[start : start + _COLUMNS_AT_ONCE]
        for index, column in zip(classes, np.ascontiguousarray(p[:, classes].T), strict=True):
            auroc, precision = _rank(column, truth == index)
            aurocs.append(auroc)
            precisions.append(precision)
    if not aurocs:
        return None, None
    return float(np.mean(np.asarray(aurocs, dtype=np.float64))), float(
        np.mean(np.asarray(precisions, dtype=np.float64))
    )


def _rank(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    hits = np.sort(scores[positive])
    n, n_positive = len(scores), len(hits)
    if n_positive in {0, n}:
        return None, None
    ordered = np.sort(scores)
    below, through = np.searchsorted(ordered, hits, "left"), np.searchsorted(ordered, hits, "right")
    hits_below, hits_through = np.searchsorted(hits, hits, "left"), np.searchsorted(hits, hits, "right")
    negatives_below = below - hits_below
    negatives_tied = (through - below) - (hits_through - hits_below)
    auroc = float(np.sum(negatives_below + 0.5 * negatives_tied)) / (n_positive * (n - n_positive))
    # Every positive adds 1/n₊ of recall at the threshold of its own score, with the precision of that threshold.
    return auroc, float(np.mean((n_positive - hits_below) / (n - below)))


def _check_pair(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, outcome = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=np.bool_)
    if values.ndim != 1 or values.shape != outcome.shape:
        raise InvalidInputError(f"scores {values.shape} and outcomes {outcome.shape} must be equally long vectors.")
    if np.isnan(values).any():
        raise InvalidInputError(f"{int(np.isnan(values).sum())} of {len(values)} scores are NaN; they have no rank.")
    return values, outcome
