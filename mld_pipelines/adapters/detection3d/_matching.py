"""Which candidate a detection is: box, label and score must agree at once, because scores alone tie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MATCH_TOLERANCE", "nearest_candidates"]

MATCH_TOLERANCE = 1e-4
"""Metres, radians and score. A decoder of our own repeats a model's float32 arithmetic to some 1e-6 of the value, and
neighbouring cells of any map are 0.1 m apart or more."""

_RELATIVE = 1e-5
"""Beyond ten metres the tolerance grows with the value: float32 steps are 4e-6 m at 50 m, and some are summed up."""

_PAIRS_AT_ONCE = 1 << 18
"""Detections and candidates compared in one array: 15 MB of float64 boxes."""


def nearest_candidates(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    candidate_boxes: NDArray[np.float64],
    candidate_scores: NDArray[np.float32],
    candidate_labels: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return for each detection the candidate with its label, its score and the nearest box; −1 if none is near.

    Args:
        boxes: (N, 7) canonical, as the model returned them.
        scores: (N,).
        labels: (N,).
        candidate_boxes: (M, 7) canonical, decoded by us.
        candidate_scores: (M,).
        candidate_labels: (M,).
    """
    with np.errstate(invalid="ignore"):  # candidates may be infinite or NaN; none is near
        return _found(boxes, candidate_boxes, *_windows(scores, labels, candidate_scores, candidate_labels))


def _found(
    boxes: NDArray[np.float64],
    candidate_boxes: NDArray[np.float64],
    order: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the nearest candidates, some detections at a time."""
    found = np.full(len(boxes), -1, dtype=np.int64)
    ends = np.cumsum(high - low)
    start = 0
    while start < len(boxes):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS_AT_ONCE, side="right")))
        block = slice(start, stop)
        found[block] = _nearest(boxes[block], candidate_boxes, order, low[block], high[block])
        start = stop
    return found


def _windows(
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    candidate_scores: NDArray[np.float32],
    candidate_labels: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return candidates by (label, score), and per detection the part of them with its label and its score."""
    both = np.concatenate([scores, candidate_scores]).astype(np.float64)
    finite = both[np.isfinite(both)]
    lowest, reach = (float(finite.min()), 2.0 + 2.0 * float(np.ptp(finite))) if len(finite) else (0.0, 1.0)
    keys = candidate_labels * reach + (candidate_scores.astype(np.float64) - lowest)
    wanted = labels * reach + (scores.astype(np.float64) - lowest)
    order = np.argsort(keys, kind="stable")
    low = np.searchsorted(keys[order], wanted - MATCH_TOLERANCE, side="left")
    high = np.searchsorted(keys[order], wanted + MATCH_TOLERANCE, side="right")
    return order, low, high


def _nearest(
    boxes: NDArray[np.float64],
    candidates: NDArray[np.float64],
    order: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> NDArray[np.int64]:
    counts = high - low
    found = np.full(len(boxes), -1, dtype=np.int64)
    if not counts.sum():
        return found
    rows = np.repeat(np.arange(len(boxes)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    picked = order[np.repeat(low, counts) + within]
    gap = np.abs(candidates[picked] - boxes[rows])
    gap[:, 6] = np.abs((gap[:, 6] + math.pi) % (2 * math.pi) - math.pi)
    misfit = (gap / np.maximum(MATCH_TOLERANCE, _RELATIVE * np.abs(boxes[rows]))).max(axis=1)
    best = np.lexsort((misfit, rows))
    first = best[np.unique(rows[best], return_index=True)[1]]
    near = first[misfit[first] <= 1.0]
    found[rows[near]] = picked[near]
    return found
