"""Matching at several distances: the nearest truth that is left, by falling score within a class, as in the devkit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mld_pipelines.metrics._assignment import assign_in_turn, ragged_range
from mld_pipelines.metrics._nuscenes_keys import check_rows, rows_of, score_bits, sorted_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mld_pipelines.records import Detections3D, Truths3D

__all__ = ["ClassHits", "match_classes"]

_BLOCK = 1 << 17
"""Detections at a time while pairs are sought: about a million pairs, 8 MB a column."""


class ClassHits(NamedTuple):
    """Matches of one class.

    Attributes:
        truths: Number of truths.
        keys: Keys of all detections, best first.
        hits: By distance, the keys of those that match, best first.
        matched: Rows of detections and truths that match at the distance where errors are taken, frame by frame.
        order: Which of them comes first, second, … by score.
    """

    truths: int
    keys: NDArray[np.uint64]
    hits: tuple[NDArray[np.uint64], ...]
    matched: tuple[NDArray[np.int64], NDArray[np.int64]]
    order: NDArray[np.int64]


class _Reals(NamedTuple):
    """Truths of known classes, class by class: their rows, centres, and where each class and frame begins."""

    rows: NDArray[np.int64]
    centres: NDArray[np.float64]
    cell: NDArray[np.int64]


def match_classes(
    detections: Detections3D, truths: Truths3D, n_classes: int, distances: tuple[float, ...], at: int
) -> list[ClassHits]:
    """Return the matches of each class.

    Args:
        detections: What was found.
        truths: What is there; those of label −1 are left out.
        n_classes: Classes.
        distances: Below which a detection matches, metres.
        at: Position of the distance where errors are taken.
    """
    from mld_pipelines.metrics._nuscenes_kernel import compiled_kernels

    check_rows(len(detections))
    real = _arrange(truths, n_classes)
    kernels = compiled_kernels()
    if kernels is not None:
        return _walk(kernels, detections, real, n_classes, (distances, at))
    frame = detections.frame_index
    result = []
    for label, (keys, rows) in enumerate(sorted_keys(detections.scores, detections.labels, n_classes)):
        cell = real.cell[label * truths.frames : (label + 1) * truths.frames + 1]
        pairs = _close_pairs(detections.boxes[rows, :2], cell[frame[rows]], cell[frame[rows] + 1], real, max(distances))
        got = [_choose(pairs, distance, (len(rows), len(real.rows))) for distance in distances]
        hits = tuple(keys[chosen >= 0] for chosen in got)
        found = rows[got[at] >= 0]
        order = np.argsort(np.argsort(found))
        by_row = np.argsort(found)
        matched = found[by_row], real.rows[got[at][got[at] >= 0]][by_row]
        result.append(ClassHits(int(cell[-1] - cell[0]), keys, hits, matched, order))
    return result


def _arrange(truths: Truths3D, n_classes: int) -> _Reals:
    frame = truths.frame_index
    rows = np.argsort(truths.labels, kind="stable")
    rows = rows[np.searchsorted(truths.labels[rows], 0) :]
    cells = np.bincount(truths.labels[rows] * truths.frames + frame[rows], minlength=n_classes * truths.frames)
    cell = np.concatenate(([0], np.cumsum(cells))).astype(np.int64)
    return _Reals(rows, np.ascontiguousarray(truths.boxes[rows, :2]), cell)


def _walk(
    kernels: tuple[Callable[..., None], ...],
    detections: Detections3D,
    real: _Reals,
    n_classes: int,
    rule: tuple[tuple[float, ...], int],
) -> list[ClassHits]:
    walk, sort_keys = kernels
    distances, at = rule
    edges = np.concatenate(([0], np.cumsum(np.bincount(detections.labels, minlength=n_classes)))).astype(np.int64)
    begin = real.cell[:: max(1, detections.frames)] if detections.frames else np.zeros(n_classes + 1, np.int64)
    unsorted, keys = np.empty(len(detections), np.uint64), np.empty(len(detections), np.uint64)
    hits = np.empty((len(distances), len(real.rows)), np.uint64)
    matched = np.empty(len(real.rows), np.int64)
    counts = np.zeros((n_classes, len(distances)), np.int64)
    if detections.frames:
        found = (detections.offsets, detections.labels, score_bits(detections.scores), detections.boxes)
        out = (unsorted, hits, matched, counts)
        walk(found, (real.centres, real.cell), (np.array(distances), at), edges[:-1].copy(), out)
        sort_keys(unsorted, edges, keys)
    result = []
    for label in range(n_classes):
        first = int(begin[label])
        parts = [hits[d, first : first + counts[label, d]] for d in range(len(distances))]
        pairs = rows_of(parts[at]), real.rows[matched[first : first + counts[label, at]]]
        best = tuple(np.sort(part) for part in parts)
        own = keys[edges[label] : edges[label + 1]]
        result.append(ClassHits(int(begin[label + 1]) - first, own, best, pairs, np.argsort(parts[at])))
    return result


class _Pairs(NamedTuple):
    """Place of the detection in the line, truth and distance, nearest first for each detection."""

    place: NDArray[np.int64]
    truth: NDArray[np.int64]
    apart: NDArray[np.float64]


def _choose(pairs: _Pairs, distance: float, sizes: tuple[int, int]) -> NDArray[np.int64]:
    near = pairs.apart < distance
    return assign_in_turn(pairs.place[near], pairs.truth[near], choosers=sizes[0], choices=sizes[1])


def _close_pairs(
    centres: NDArray[np.float64], start: NDArray[np.int64], stop: NDArray[np.int64], real: _Reals, limit: float
) -> _Pairs:
    """Return all pairs below the limit.

    Args:
        centres: (n, 2) of the detections, best first.
        start: (n,) first truth of each detection's class and frame.
        stop: (n,) the one behind the last.
        real: Truths.
        limit: Metres.
    """
    found = [_Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for begin in range(0, len(centres), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        count = stop[block] - start[block]
        place, truth = np.repeat(np.arange(begin, begin + len(count)), count), ragged_range(start[block], count)
        x = centres[place, 0] - real.centres[truth, 0]
        y = centres[place, 1] - real.centres[truth, 1]
        apart = np.sqrt(x * x + y * y)
        order = np.flatnonzero(apart < limit)
        order = order[np.lexsort((truth[order], apart[order], place[order]))]
        found.append(_Pairs(place[order], truth[order], apart[order]))
    return _Pairs(*map(np.concatenate, zip(*found, strict=True)))
