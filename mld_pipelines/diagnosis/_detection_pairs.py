"""Pairs of near boxes of the same frame, for whole batches: a strip of x narrows the search, exact distances decide.

Which pairs are found depends on the boxes of their frame alone, never on the frames beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mld_pipelines.geometry import bev_iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NearPairs", "half_diagonals", "near_pairs", "overlaps"]


class NearPairs(NamedTuple):
    """Pairs of a first and a second box of one frame.

    Attributes:
        first: (P,) rows of the first batch, rising.
        second: (P,) rows of the second batch, rising within a first one.
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
    bounds = first[:, 0] - reach, first[:, 0] + reach
    for frame in range(len(offsets[0]) - 1):
        start, stop = offsets[0][frame], offsets[0][frame + 1]
        begin, end = offsets[1][frame], offsets[1][frame + 1]
        if start == stop or begin == end:
            continue
        ranks = np.argsort(x[begin:end], kind="stable")
        order[begin:end] = ranks + begin
        ordered = x[begin:end][ranks]
        low[start:stop] = begin + np.searchsorted(ordered, bounds[0][start:stop], side="left")
        high[start:stop] = begin + np.searchsorted(ordered, bounds[1][start:stop], side="right")
    counts = high - low
    pairs_first = np.repeat(np.arange(len(first)), counts)
    starts = np.cumsum(counts) - counts
    pairs_second = order[np.arange(len(pairs_first)) + np.repeat(low - starts, counts)]
    dx = first[pairs_first, 0] - second[pairs_second, 0]
    dy = first[pairs_first, 1] - second[pairs_second, 1]
    distance = np.sqrt(dx * dx + dy * dy)
    chosen = np.flatnonzero(distance <= reach[pairs_first])
    chosen = chosen[np.lexsort((pairs_second[chosen], pairs_first[chosen]))]
    return NearPairs(pairs_first[chosen], pairs_second[chosen], distance[chosen])


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
