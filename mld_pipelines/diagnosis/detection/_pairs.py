"""Pairs of near boxes of the same frame, for whole batches: a strip of x narrows the search, exact distances decide.

Which pairs are found depends on the boxes of their frame alone, never on the frames beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mld_pipelines.geometry import bev_iou

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["NearPairs", "half_diagonals", "near_pairs", "overlaps", "pairs_within"]


class NearPairs(NamedTuple):
    """Pairs of a first and a second box of one frame.

    Attributes:
        first: (P,) rows of the first batch.
        second: (P,) rows of the second batch. The order of the pairs of a frame depends on that frame alone.
        distance: (P,) ground-plane distance of the centres, metres.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> NearPairs:
        """The chosen pairs."""
        return NearPairs(self.first[chosen], self.second[chosen], self.distance[chosen])


def half_diagonals(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the ground-plane diagonal of each box, (N,), metres: nothing of a box is farther from its centre."""
    lengths: NDArray[np.float64] = 0.5 * np.sqrt(boxes[:, 3] * boxes[:, 3] + boxes[:, 4] * boxes[:, 4])
    return lengths


def near_pairs(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    offsets: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    reach: NDArray[np.float64],
) -> NearPairs:
    """All pairs of a frame whose centres are at most the reach of the first box apart.

    Args:
        first: (N, 7) boxes.
        second: (M, 7) boxes.
        offsets: Offsets of the frames in both, (F + 1,) each.
        reach: (N,), metres.
    """
    x, order = second[:, 0], np.arange(len(second))
    low, high = np.zeros(len(first), np.int64), np.zeros(len(first), np.int64)
    lowest, highest = first[:, 0] - reach, first[:, 0] + reach
    for begin, end, start, stop in _filled(offsets[1], offsets[0]):
        ordered = _sort_strip(order, x, begin, end)
        low[start:stop] = ordered.searchsorted(lowest[start:stop]) + begin
        high[start:stop] = ordered.searchsorted(highest[start:stop], side="right") + begin
    return _measured((first, second), (np.arange(len(first)), low, high), order, reach=reach)


def pairs_within(boxes: NDArray[np.float64], offsets: NDArray[np.int64], *, reach: NDArray[np.float64]) -> NearPairs:
    """All pairs of boxes of a frame whose centres are at most the smaller one's reach apart, each once.

    Pairs between the smaller and the larger reach may be among them. The first box is the one with the lower row.

    Args:
        boxes: (N, 7) boxes.
        offsets: Offsets of the frames, (F + 1,).
        reach: (N,), metres.
    """
    x, order = boxes[:, 0], np.arange(len(boxes))
    high = np.zeros(len(boxes), np.int64)
    highest = x + reach
    for begin, end, _, _ in _filled(offsets, offsets):
        ordered = _sort_strip(order, x, begin, end)
        high[begin:end] = ordered.searchsorted(highest[order[begin:end]], side="right") + begin
    left = np.arange(len(boxes)) + 1  # to the right of each in its strip: every pair is met once
    found = _measured((boxes, boxes), (order, left, high), order, reach=reach)
    return NearPairs(np.minimum(found.first, found.second), np.maximum(found.first, found.second), found.distance)


def _filled(one: NDArray[np.int64], other: NDArray[np.int64]) -> Iterator[tuple[int, int, int, int]]:
    """Edges of the frames that have boxes on both sides."""
    both = np.flatnonzero((np.diff(one) > 0) & (np.diff(other) > 0))
    edges = (one[both], one[both + 1], other[both], other[both + 1])
    return zip(*(edge.tolist() for edge in edges), strict=True)


def _sort_strip(order: NDArray[np.int64], x: NDArray[np.float64], begin: int, end: int) -> NDArray[np.float64]:
    """Put the rows of a frame in the order of x; their x in that order."""
    part = x[begin:end]
    ranks = part.argsort(kind="stable")
    order[begin:end] = ranks + begin
    ordered: NDArray[np.float64] = part[ranks]
    return ordered


def _measured(
    boxes: tuple[NDArray[np.float64], NDArray[np.float64]],
    strips: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    order: NDArray[np.int64],
    *,
    reach: NDArray[np.float64],
) -> NearPairs:
    """Pairs of each row with what lies between the ends of its strip and in its reach."""
    (first, second), (rows, low, high) = boxes, strips
    counts = high - low
    index = np.repeat(np.arange(len(rows)), counts)
    others = order.take(np.arange(len(index)) + (low - (np.cumsum(counts) - counts)).take(index))
    dx = first[rows, 0].take(index) - second[:, 0].take(others)
    dy = first[rows, 1].take(index) - second[:, 1].take(others)
    squared = dx * dx + dy * dy
    chosen = np.flatnonzero(squared <= (reach * reach)[rows].take(index))
    return NearPairs(rows[index[chosen]], others[chosen], np.sqrt(squared[chosen]))


def overlaps(
    pairs: NearPairs, first: NDArray[np.float64], second: NDArray[np.float64], *, needed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Bird's-eye IoU of pairs, (P,); 0 where it is not needed.

    Args:
        pairs: The pairs.
        first: (N, 7) boxes.
        second: (M, 7) boxes.
        needed: (P,) which pairs to compute.
    """
    found = np.zeros(len(pairs.first))
    rows = np.flatnonzero(needed)
    if len(rows):
        found[rows] = bev_iou(first[pairs.first[rows]], second[pairs.second[rows]], aligned=True)
    return found
