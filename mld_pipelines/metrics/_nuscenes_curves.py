"""Precision, score and errors of one class at 101 recalls, as the devkit samples them.

Each sample lies between two neighbouring detections, the second of which is a match. So the sorted keys of a state are
searched at 101 places instead of being walked through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.metrics._nuscenes_keys import scores_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mld_pipelines.metrics._nuscenes_state import ClassState

__all__ = ["Curves", "mean_errors"]

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Where the recalls lie between the detections of a class, for D distances at which it has matches.

    Attributes:
        reached: (D, 101) matches up to the recall: the k-th match lies at or below it, the next one above.
        following: (D, 101) key of that next match; of the last one where there is none.
        place: (D, 101) its place among all detections of the class; their number where there is none.
        hits: (D, 1) number of matches.
        truths: Number of truths.
    """

    reached: NDArray[np.int64]
    following: NDArray[np.uint64]
    place: NDArray[np.int64]
    hits: NDArray[np.int64]
    truths: int

    @classmethod
    def of(cls, own: ClassState, columns: Sequence[int]) -> Curves:
        """Find the places among the detections of a class.

        Args:
            own: The class.
            columns: Positions of distances with matches.
        """
        hits = np.array([[len(own.hits[column])] for column in columns])
        reached = np.minimum(_reached(own.truths), hits)
        index = np.minimum(reached, hits - 1)
        following = np.stack([own.hits[column][row] for column, row in zip(columns, index, strict=True)])
        place = np.sum([np.searchsorted(run, following) for run in own.runs], axis=0)
        place[reached == hits] = sum(map(len, own.runs))
        return cls(reached, following, place, hits, own.truths)

    def precision(self) -> NDArray[np.float64]:
        """Return the precision at the recalls, (D, 101)."""
        return self._sample(self.reached / np.maximum(self.place, 1), (self.reached + 1) / (self.place + 1))

    def confidence(self, own: ClassState, row: int) -> NDArray[np.float64]:
        """Return the score at the recalls, (101,).

        Args:
            own: The class.
            row: Which of the D distances.
        """
        following = self.following[row]
        before = np.zeros(len(following), np.uint64)
        for run in own.runs:
            if len(run):
                index = np.where(self.reached[row] == self.hits[row], len(run), np.searchsorted(run, following))
                before = np.maximum(before, np.where(index > 0, run[index - 1], 0))
        one = Curves(self.reached[row], following, self.place[row], self.hits[row], self.truths)
        return one._sample(scores_of(before), scores_of(following))

    def _sample(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a quantity at the recalls, as `np.interp` does on all detections with 0 beyond the last.

        Args:
            before: Its value at the detection before the next match, shaped as `reached`.
            after: Its value at the next match.
        """
        x0, x1 = self.reached / self.truths, (self.reached + 1) / self.truths
        is_there = x0 == _RECALLS
        result = np.where(is_there, before, (after - before) / (x1 - x0) * (_RECALLS - x0) + before)
        result = np.where(self.place == 0, after, result)
        return np.where(self.reached == self.hits, np.where(is_there, before, 0.0), result)


def _reached(truths: int) -> NDArray[np.int64]:
    """Return the largest k with k / truths ≤ recall, compared as floating-point numbers."""
    k = np.floor(_RECALLS * truths).astype(np.int64) + 1
    k -= k / truths > _RECALLS  # once is enough for every number of truths up to 1.5 million (tried)
    return k


def mean_errors(
    own: ClassState, confidence: NDArray[np.float64], scores: NDArray[np.float64], first: int
) -> NDArray[np.float64]:
    """Return the mean of each error's running mean, from a recall to the highest one that is reached, (5,).

    Args:
        own: The class.
        confidence: (101,) scores at the recalls.
        scores: (T,) scores of the matches, falling.
        first: Position of the first recall.
    """
    used = np.flatnonzero(confidence)
    last = int(used[-1]) if len(used) else 0
    if last < first:
        return np.ones(len(own.errors))
    wanted = confidence[first : last + 1]
    # np.interp of the running mean over rising scores, for the few places that are wanted
    below = np.searchsorted(scores[::-1], wanted, side="right") - 1
    lower = np.clip(len(scores) - 1 - below, 0, len(scores) - 1)  # the last match whose score is not above
    upper = np.clip(lower - 1, 0, None)
    on_the_spot = (below < 0) | (below == len(scores) - 1) | (scores[lower] == wanted)
    step = np.where(on_the_spot, 1.0, scores[upper] - scores[lower])
    at_lower, at_upper = _running_means(own.errors, lower, upper)
    between = (at_upper - at_lower) / step * (wanted - scores[lower]) + at_lower
    means: NDArray[np.float64] = np.mean(np.where(on_the_spot, at_lower, between), axis=1)
    return means


def _running_means(errors: NDArray[np.float64], *places: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return each row's running means without NaN at some places; 0 before the first number, 1 if there is none."""
    stops = np.unique(np.concatenate(places)) + 1
    starts = np.concatenate(([0], stops[:-1]))
    used = errors[:, : stops[-1]]
    totals = np.cumsum(np.add.reduceat(used, starts, axis=1), axis=1)
    counts = np.tile(stops, (len(errors), 1))
    empty = np.zeros(len(errors), np.bool_)
    for row in np.flatnonzero(np.isnan(totals[:, -1])):
        known = ~np.isnan(used[row])
        totals[row] = np.cumsum(np.add.reduceat(np.where(known, used[row], 0.0), starts))
        counts[row] = np.cumsum(np.add.reduceat(known, starts, dtype=np.int64))
        empty[row] = np.isnan(errors[row]).all()
    means = np.where(empty[:, None], 1.0, totals / np.maximum(counts, 1))
    return [means[:, np.searchsorted(stops, place + 1)] for place in places]
