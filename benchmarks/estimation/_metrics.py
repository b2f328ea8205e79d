"""Measures of a ranking and of a probability; those of scikit-learn spend ten times as long on checks as on sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

__all__ = ["auroc", "ece", "measure"]

_BINS = 15


def measure(errors: Flags, scores: Floats, *, is_probability: bool) -> dict[str, float]:
    """AUROC, average precision of errors and AURC of a ranking; ECE and Brier score too of a probability.

    Args:
        errors: Which units are wrong, `(N,)`, both kinds present.
        scores: Higher is more likely wrong, `(N,)`.
        is_probability: Whether the scores claim to be P(error).
    """
    rising = np.cumsum(errors[np.argsort(scores, kind="stable")]) / np.arange(1, len(errors) + 1)
    metrics = {
        "AUROC": auroc(errors, scores),
        "AP": _average_precision(errors, scores),
        "AURC": float(rising.mean()),
    }
    if is_probability:
        metrics |= {"ECE": ece(errors, scores), "Brier": float(np.mean((scores - errors) ** 2))}
    return metrics


def auroc(errors: Flags, scores: Floats) -> float:
    """Share of (wrong, right) pairs in the right order, ties counting half."""
    from scipy.stats import rankdata

    wrong = int(errors.sum())
    ranks = rankdata(scores)[errors].sum() - wrong * (wrong + 1) / 2.0
    return float(ranks / (wrong * (len(errors) - wrong)))


def ece(errors: Flags, probabilities: Floats) -> float:
    """Expected calibration error over 15 bins of equal mass."""
    bounds = np.quantile(probabilities, np.linspace(0.0, 1.0, _BINS + 1))
    bins = np.clip(np.searchsorted(bounds, probabilities, side="right") - 1, 0, _BINS - 1)
    gaps = np.bincount(bins, errors - probabilities, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(errors))


def _average_precision(errors: Flags, scores: Floats) -> float:
    """Σ (recall step) · precision over distinct thresholds."""
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(errors[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = found[last]
    steps = np.diff(hits, prepend=0)
    return float((steps * hits / (last + 1)).sum() / hits[-1])
