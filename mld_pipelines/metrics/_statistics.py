"""Per-unit statistics of a classifier: probabilities, prediction, confidence, entropy, loss, error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PROBABILITY_FLOOR", "UnitStatistics", "check_labels", "unit_statistics"]

PROBABILITY_FLOOR = 1e-12
"""Smallest probability inside a logarithm when only probabilities are known (docs/method.md#units)."""

_SUM_TOLERANCE = 0.02
"""Half-precision softmax over 1,000 classes sums to 1 ± 0.01; rows farther off are no probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitStatistics:
    """What each of N units says about the model, in float64.

    Attributes:
        probabilities: Class probabilities, shape (N, K).
        prediction: Most probable class, int64, shape (N,); the lowest index wins a tie.
        confidence: Largest probability, shape (N,).
        entropy: Predictive entropy in nats, shape (N,).
        loss: Cross-entropy in nats, shape (N,), or None without labels.
        is_error: Whether the prediction differs from the label, bool, shape (N,), or None without labels.
    """

    probabilities: NDArray[np.float64]
    prediction: NDArray[np.int64]
    confidence: NDArray[np.float64]
    entropy: NDArray[np.float64]
    loss: NDArray[np.float64] | None
    is_error: NDArray[np.bool_] | None


def unit_statistics(
    *, logits: ArrayLike | None = None, probabilities: ArrayLike | None = None, labels: ArrayLike | None = None
) -> UnitStatistics:
    """Return the statistics of every unit, from log-softmax in float64 (docs/method.md#units).

    With logits, probabilities are ignored. With probabilities only, logarithms are taken of `max(p, 1e-12)`; the
    probabilities themselves are returned as given.

    Args:
        logits: Shape (N, K), K ≥ 2.
        probabilities: Shape (N, K), K ≥ 2, rows summing to 1.
        labels: Class indices, shape (N,).

    Raises:
        InvalidInputError: Neither logits nor probabilities, a wrong shape, values that are not finite or no
            probabilities, or labels outside 0 … K − 1.

    Example:
        >>> unit_statistics(logits=[[0.0, 0.0]], labels=[1]).loss
        array([0.69314718])
    """
    if logits is not None:
        scores = _check_scores("logits", logits)
        prediction = scores.argmax(axis=1)
        log_p = _log_softmax(scores)
        p = np.exp(log_p)
    elif probabilities is not None:
        p = _check_probabilities(probabilities)
        log_p = np.log(np.maximum(p, PROBABILITY_FLOOR))
        prediction = p.argmax(axis=1)
    else:
        raise InvalidInputError("neither logits nor probabilities were given; pass one of them.")
    rows = np.arange(len(p))
    truth = None if labels is None else check_labels(labels, n_units=len(p), n_classes=p.shape[1])
    return UnitStatistics(
        probabilities=p,
        prediction=prediction.astype(np.int64),
        confidence=p[rows, prediction],
        # The clipped logarithm leaves p·ln p exact at p = 0; + 0.0 turns −0.0 of a one-hot row into 0.0.
        entropy=-np.einsum("ij,ij->i", p, log_p) + 0.0,
        loss=None if truth is None else -log_p[rows, truth] + 0.0,
        is_error=None if truth is None else prediction != truth,
    )


def check_labels(labels: ArrayLike, *, n_units: int, n_classes: int) -> NDArray[np.int64]:
    """Return labels as int64 class indices.

    Raises:
        InvalidInputError: Not one integer in 0 … K − 1 per unit.
    """
    array = np.asarray(labels)
    if array.shape != (n_units,):
        raise InvalidInputError(f"labels must hold one class index per unit, shape ({n_units},), got {array.shape}.")
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidInputError(f"labels must be integers, got dtype {array.dtype}; convert them to class indices.")
    if array.size and not 0 <= array.min() <= array.max() < n_classes:
        bad = int(np.flatnonzero((array < 0) | (array >= n_classes))[0])
        raise InvalidInputError(
            f"label {int(array[bad])} of unit {bad} is outside 0 … {n_classes - 1}: the model has {n_classes} classes."
        )
    return array.astype(np.int64)


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p


def _check_scores(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 2:
        raise InvalidInputError(f"{name} must have shape (units, classes) with at least 2 classes, got {array.shape}.")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise InvalidInputError(
            f"{int((~finite).sum())} of {len(array)} rows of {name} hold NaN or infinity (first: row "
            f"{int(np.argmin(finite))}); quarantine them first, they have no distribution."
        )
    return array


def _check_probabilities(values: ArrayLike) -> NDArray[np.float64]:
    array = _check_scores("probabilities", values)
    bad = (array < 0).any(axis=1) | (np.abs(array.sum(axis=1) - 1.0) > _SUM_TOLERANCE)
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidInputError(
            f"{int(bad.sum())} of {len(array)} rows are no probabilities (first: row {row}, sum "
            f"{array[row].sum():.4g}, minimum {array[row].min():.4g}); pass logits= if these are logits."
        )
    return array
