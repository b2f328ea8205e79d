"""One-to-one assignment in turn: the first in line takes its favourite, the next its favourite of what is left.

That is how every detection metric matches: detections in order of their score, or (KITTI) truths in order of the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["assign_in_turn", "ragged_range"]

_FREE = np.iinfo(np.int64).max


def assign_in_turn(
    chooser: NDArray[np.int64], chosen: NDArray[np.int64], *, choosers: int, choices: int
) -> NDArray[np.int64]:
    """Return what each chooser gets, −1 for nothing.

    Solved without a loop over choosers, as a stable matching in which everyone prefers the chooser who is first in
    line: all ask for their favourite at once, whoever is refused or displaced asks for the next on its list. The
    result is the one that taking turns gives (the stable matching is unique when one side agrees on an order).

    Args:
        chooser: (P,) place in the line, rising; rows of one chooser come by falling preference.
        chosen: (P,) what the row offers, 0 … choices − 1.
        choosers: Length of the line.
        choices: Number of things to choose from.
    """
    edges = np.concatenate(([0], np.cumsum(np.bincount(chooser, minlength=choosers))))
    row, end = edges[:-1].copy(), edges[1:]
    holder = np.full(choices, _FREE, np.int64)
    asking = np.flatnonzero(row < end)
    while len(asking):
        wanted = chosen[row[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        after = holder[wanted]
        refused = asking[after != asking]
        displaced = np.unique(before[(before != _FREE) & (after != before)])
        asking = np.concatenate((refused, displaced))
        row[asking] += 1
        asking = asking[row[asking] < end[asking]]
    result = np.full(choosers, -1, np.int64)
    held = np.flatnonzero(holder != _FREE)
    result[holder[held]] = held
    return result


def ragged_range(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `start, start + 1, …` of each length, one after another.

    Args:
        starts: (N,) first numbers.
        lengths: (N,) how many of each.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    result: NDArray[np.int64] = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return result
