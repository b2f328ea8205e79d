"""The matching of whole frames as a loop for numba. Import inside functions only: importing it imports numba."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import numba
except ImportError:  # not installed, or not made for the NumPy that is
    numba = None

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["compiled_walk", "walk"]

_LOW = np.uint64((1 << 32) - 1)
_HALF = np.uint64(32)
_SIGN, _REST = np.uint32(1 << 31), np.uint32((1 << 31) - 1)


def walk(found: Any, real: Any, rule: Any, free: Any, out: Any) -> None:
    """Write the key of every detection, class by class, and let those of a frame choose by falling score.

    A frame at a time, its boxes stay in the first cache. Only detections with a truth in reach are put in order.

    Args:
        found: (F + 1,) offsets, (N,) labels, (N,) bits of the scores, (N, 7) boxes.
        real: (T, 2) centres class by class and frame by frame, (C · F + 1,) where those of a class and frame begin.
        rule: (D,) distances below which a detection matches, and which of them keeps the truths.
        free: (C,) where the keys of a class begin; moves on.
        out: Receives (N,) keys, (D, T) keys of matches, (T,) truths at one distance, (C, D) numbers of matches.
            Matches of a class begin where its truths do.
    """
    offsets, labels, bits, boxes = found
    centres, cell = real
    distances, at = rule
    keys, hits, truths, counts = out
    frames = len(offsets) - 1
    taken = np.zeros((len(distances), len(centres)), np.bool_)
    queue = np.empty(np.diff(offsets).max() + 1, np.uint64)
    reach = distances.max() ** 2 * (1.0 + 1e-9)
    for frame in range(frames):
        waiting = 0
        for row in range(offsets[frame], offsets[frame + 1]):
            label = labels[row]
            falling = bits[row] if bits[row] & _SIGN else bits[row] ^ _REST
            key = (np.uint64(falling) << _HALF) | (_LOW - np.uint64(row))
            keys[free[label]] = key
            free[label] += 1
            nearest = np.inf
            for j in range(cell[label * frames + frame], cell[label * frames + frame + 1]):
                dx, dy = boxes[row, 0] - centres[j, 0], boxes[row, 1] - centres[j, 1]
                nearest = min(nearest, dx * dx + dy * dy)
            if nearest <= reach:
                place = waiting
                while place > 0 and queue[place - 1] > key:
                    queue[place] = queue[place - 1]
                    place -= 1
                queue[place] = key
                waiting += 1
        for key in queue[:waiting]:
            row = int(_LOW - (key & _LOW))
            label = labels[row]
            begin = cell[label * frames]
            for d in range(len(distances)):
                best, got = distances[d], -1
                for j in range(cell[label * frames + frame], cell[label * frames + frame + 1]):
                    dx, dy = boxes[row, 0] - centres[j, 0], boxes[row, 1] - centres[j, 1]
                    apart = np.sqrt(dx * dx + dy * dy)
                    if apart < best and not taken[d, j]:
                        best, got = apart, j
                if got >= 0:
                    taken[d, got] = True
                    hits[d, begin + counts[label, d]] = key
                    if d == at:
                        truths[begin + counts[label, d]] = got
                    counts[label, d] += 1


def compiled_walk() -> Callable[..., None] | None:
    """Return `walk` compiled, or None without numba; compiled code is kept on disk where a folder can be written."""
    return _COMPILED


def _compile() -> Callable[..., None] | None:
    if numba is None:
        return None
    try:
        made: Callable[..., None] = numba.njit(cache=True, nogil=True)(walk)
    except RuntimeError:  # no folder that may be written
        made = numba.njit(nogil=True)(walk)
    return made


_COMPILED = _compile()
