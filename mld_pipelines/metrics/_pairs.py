"""Pairs of a detection and a truth of the same frame with their similarity, a bounded number at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mld_pipelines.metrics._assignment import ragged_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Measure = Callable[[int, slice, slice], NDArray[np.float64]]

__all__ = ["Pairs", "distance_pairs", "measured_pairs"]

MAX_PAIRS = 1 << 20
"""Pairs at a time: 8 MB a column stays in the cache of a server core, and a frame of 10,000 × 10,000 boxes fits."""


class Pairs(NamedTuple):
    """Every truth of its frame for some consecutive detections.

    Attributes:
        detection: (P,) rows of detections, rising.
        truth: (P,) rows of truths, rising within a detection.
        value: (P,) similarity, larger is closer.
    """

    detection: NDArray[np.int64]
    truth: NDArray[np.int64]
    value: NDArray[np.float64]


def distance_pairs(
    found: NDArray[np.float64], real: NDArray[np.float64], offsets: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Iterator[Pairs]:
    """Yield all pairs with minus their ground-plane centre distance, metres.

    Args:
        found: (N, 7) boxes of detections.
        real: (M, 7) boxes of truths.
        offsets: Offsets of the frames in both, each (F + 1,).
    """
    truths = np.repeat(np.diff(offsets[1]), np.diff(offsets[0]))
    first = np.repeat(offsets[1][:-1], np.diff(offsets[0]))
    for start, stop in _blocks(truths):
        detection = np.repeat(np.arange(start, stop), truths[start:stop])
        truth = ragged_range(first[start:stop], truths[start:stop])
        x = found[detection, 0] - real[truth, 0]
        y = found[detection, 1] - real[truth, 1]
        yield Pairs(detection, truth, -np.sqrt(x * x + y * y))


def measured_pairs(measure: Measure, offsets: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Iterator[Pairs]:
    """Yield all pairs with what a function says about them.

    Args:
        measure: Gets a frame's number and the rows of its detections and truths as slices; returns their similarity,
            (detections, truths).
        offsets: Offsets of the frames in both, each (F + 1,).
    """
    truths = np.repeat(np.diff(offsets[1]), np.diff(offsets[0]))
    frames = np.repeat(np.arange(len(offsets[0]) - 1), np.diff(offsets[0]))
    for start, stop in _blocks(truths):
        values = []
        for frame in range(int(frames[start]), int(frames[stop - 1]) + 1):
            rows = slice(max(start, int(offsets[0][frame])), min(stop, int(offsets[0][frame + 1])))
            columns = slice(int(offsets[1][frame]), int(offsets[1][frame + 1]))
            if rows.start < rows.stop and columns.start < columns.stop:
                values.append(np.asarray(measure(frame, rows, columns), np.float64).ravel())
        yield Pairs(
            np.repeat(np.arange(start, stop), truths[start:stop]),
            ragged_range(offsets[1][frames[start:stop]], truths[start:stop]),
            np.concatenate(values) if values else np.empty(0),
        )


def _blocks(pairs: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of detections with at most `MAX_PAIRS` pairs, or one detection with more."""
    total = np.cumsum(pairs)
    start = 0
    while start < len(pairs):
        done = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + MAX_PAIRS, side="right")))
        yield start, stop
        start = stop
