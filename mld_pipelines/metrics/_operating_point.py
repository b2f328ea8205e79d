"""The score from which predictions are analysed: the one with the best F1, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._matches import FN, OUTCOMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.metrics._matches import Matches

__all__ = ["OperatingPoint", "operating_point"]

_TP, _FP = OUTCOMES.index("tp"), OUTCOMES.index("fp")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OperatingPoint:
    """Where a detector is analysed. All by class, (C,).

    Attributes:
        thresholds: Lowest score that is kept.
        sources: `f1` (chosen on the reference) or `fallback` (no true positive there).
        f1: Largest F1 on the reference, 0 for a fallback.
        precision: Precision there; NaN for a fallback.
        recall: Recall there; NaN for a fallback.
        truths: Truths in the reference.
    """

    thresholds: NDArray[np.float64]
    sources: tuple[str, ...]
    f1: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    truths: NDArray[np.int64]


def operating_point(matches: Matches, *, n_classes: int, fallback: float = 0.1) -> OperatingPoint:
    """Return the thresholds that maximise F1 per class; of equally good ones the highest.

    Predictions choose by falling score, so those above any threshold have the same matches without the rest: one
    matching serves all thresholds.

    Args:
        matches: Of a reference, all scores included.
        n_classes: Classes of the model.
        fallback: Threshold of a class without a true positive.

    Raises:
        InvalidInputError: A label is no class of the model, or the fallback is NaN.
    """
    if len(matches) and matches.label.max() >= n_classes:
        raise InvalidInputError(f"matches have label {matches.label.max()}, but there are {n_classes} classes.")
    if np.isnan(fallback):
        raise InvalidInputError("the fallback threshold is NaN; pass a score.")
    thresholds = np.full(n_classes, float(fallback))
    f1, precision, recall = np.zeros(n_classes), np.full(n_classes, np.nan), np.full(n_classes, np.nan)
    truths = np.bincount(matches.label[matches.outcome != _FP], minlength=n_classes)
    for label in range(n_classes):
        own = (matches.label == label) & (matches.outcome != FN)
        scores, is_hit = matches.score[own], matches.outcome[own] == _TP
        if not is_hit.any():
            continue
        order = np.argsort(-scores, kind="stable")
        ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # a threshold keeps all of equal scores
        hits, kept = np.cumsum(is_hit[order])[ends], ends + 1
        values = 2.0 * hits / (kept + truths[label])
        best = int(np.argmax(values))
        thresholds[label], f1[label] = scores[order][ends[best]], values[best]
        precision[label], recall[label] = hits[best] / kept[best], hits[best] / truths[label]
    sources = tuple("f1" if value > 0 else "fallback" for value in f1)
    return OperatingPoint(
        thresholds=thresholds, sources=sources, f1=f1, precision=precision, recall=recall, truths=truths
    )
