"""nuScenes detection: AP, true-positive errors, mAP and NDS from a state of matches, equal to the devkit's.

The curves of the devkit are sampled at 101 recalls; each sample lies between two neighbouring detections, one of which
is a match. So a state's sorted keys are searched at 101 places instead of being walked through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.metrics._nuscenes_keys import scores_of
from mld_pipelines.metrics._nuscenes_state import TP_ERRORS, ClassState, NuScenesPolicy, NuScenesState

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NuScenesMetrics", "nuscenes_metrics"]

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NuScenesMetrics:
    """AP and errors of the nuScenes detection task.

    Attributes:
        ap: (classes, distances) average precision.
        errors: (classes, 5) true-positive errors in the order of `TP_ERRORS`; NaN where undefined.
        mean_ap: Mean of `ap`; a class without truths counts as 0, as in the devkit.
        mean_errors: Mean by error over the classes where it is defined; NaN where it is nowhere.
        nds: nuScenes detection score, or None without attributes.
        nds_like: The same from the errors there are: no attributes, and no velocities where no truth has one; None
            where `nds` is not.
        truths: (classes,) number of truths.
        detections: (classes,) number of detections.
    """

    ap: NDArray[np.float64]
    errors: NDArray[np.float64]
    mean_ap: float
    mean_errors: dict[str, float]
    nds: float | None
    nds_like: float | None
    truths: NDArray[np.int64]
    detections: NDArray[np.int64]


def nuscenes_metrics(state: NuScenesState) -> NuScenesMetrics:
    """Return the metrics of a state (docs/method.md#nuscenes).

    Example:
        >>> from mld_pipelines.records import Detections3D, Truths3D
        >>> box, offsets = [[10, 0, 1, 2, 4, 1.5, 0]], [0, 1]
        >>> found = Detections3D(offsets=offsets, boxes=box, labels=[0], scores=[0.9])
        >>> real = Truths3D(offsets=offsets, boxes=box, labels=[0])
        >>> state = NuScenesState.of(found, real, NuScenesPolicy(n_classes=1))
        >>> round(nuscenes_metrics(state).mean_ap, 12)
        1.0

    Args:
        state: From `NuScenesState.of`, merged or not.
    """
    policy = state.policy
    first = round(100 * policy.min_recall) + 1
    at = policy.distances.index(policy.tp_distance)
    ap = np.zeros((policy.n_classes, len(policy.distances)))
    errors = np.ones((policy.n_classes, len(TP_ERRORS)))
    for label, own in enumerate(state.classes):
        reached = _reached(own.truths)
        for column, hits in enumerate(own.hits):
            if len(hits):
                curve = _Curve.of(own, hits, reached)
                ap[label, column] = _average_precision(curve, policy, first)
                if column == at:
                    errors[label] = _mean_errors(own, curve.confidence(own, hits), scores_of(hits), first)
    for label, name in policy.undefined:
        errors[label, TP_ERRORS.index(name)] = np.nan
    if not state.has_attributes:
        errors[:, TP_ERRORS.index("attr_err")] = np.nan
    if not (state.has_attributes or state.has_velocities):
        errors[:, TP_ERRORS.index("vel_err")] = np.nan
    means = {name: _nanmean(errors[:, column]) for column, name in enumerate(TP_ERRORS)}
    # the devkit averages over distances first; the order decides the last bit
    mean_ap = float(np.mean(ap.mean(axis=1)))
    score = _score(mean_ap, means, policy)
    return NuScenesMetrics(
        ap=ap,
        errors=errors,
        mean_ap=mean_ap,
        mean_errors=means,
        nds=score if state.has_attributes else None,
        nds_like=None if state.has_attributes else score,
        truths=np.array([own.truths for own in state.classes], np.int64),
        detections=np.array([sum(map(len, own.runs)) for own in state.classes], np.int64),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """Where the 101 recalls lie between detections.

    Attributes:
        reached: (101,) matches up to the recall: the k-th match lies at or below it, the next one above.
        place: (101,) place of the next match among all detections of the class, or their number behind the last.
        truths: Number of truths.
        hits: Number of matches.
    """

    reached: NDArray[np.int64]
    place: NDArray[np.int64]
    truths: int
    hits: int

    @classmethod
    def of(cls, own: ClassState, hits: NDArray[np.uint64], reached: NDArray[np.int64]) -> _Curve:
        """Find the places among the detections of a class."""
        reached = np.minimum(reached, len(hits))
        following = hits[np.minimum(reached, len(hits) - 1)]
        place = np.sum([np.searchsorted(run, following) for run in own.runs], axis=0)
        place = np.where(reached == len(hits), sum(map(len, own.runs)), place)
        return cls(reached, place, own.truths, len(hits))

    def sample(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a quantity at the recalls, as `np.interp` does on all detections.

        Args:
            before: (101,) its value at the detection before the next match.
            after: (101,) its value at the next match.
        """
        x0, x1 = self.reached / self.truths, (self.reached + 1) / self.truths
        inside = (after - before) / (x1 - x0) * (_RECALLS - x0) + before
        inside = np.where(x0 == _RECALLS, before, inside)
        inside = np.where(self.place == 0, after, inside)
        last = np.where(x0 == _RECALLS, before, 0.0)
        return np.where(self.reached == self.hits, last, inside)

    def precision(self) -> NDArray[np.float64]:
        """Return the precision at the recalls."""
        return self.sample(self.reached / np.maximum(self.place, 1), (self.reached + 1) / (self.place + 1))

    def confidence(self, own: ClassState, hits: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return the score at the recalls."""
        following = hits[np.minimum(self.reached, len(hits) - 1)]
        ended = self.reached == len(hits)
        before = np.zeros(len(following), np.uint64)
        for run in own.runs:
            if len(run):
                index = np.where(ended, len(run), np.searchsorted(run, following))
                before = np.maximum(before, np.where(index > 0, run[index - 1], 0))
        return self.sample(scores_of(before), scores_of(following))


def _reached(truths: int) -> NDArray[np.int64]:
    """Return the largest k with k / truths ≤ recall, compared as floating-point numbers."""
    if not truths:
        return np.zeros(len(_RECALLS), np.int64)
    k = np.floor(_RECALLS * truths).astype(np.int64) + 1
    k -= k / truths > _RECALLS
    k -= k / truths > _RECALLS
    return k


def _average_precision(curve: _Curve, policy: NuScenesPolicy, first: int) -> float:
    precision = curve.precision()[first:] - policy.min_precision
    precision[precision < 0] = 0
    return float(np.mean(precision)) / (1.0 - policy.min_precision)


def _mean_errors(
    own: ClassState, confidence: NDArray[np.float64], scores: NDArray[np.float64], first: int
) -> NDArray[np.float64]:
    """Return the mean of each error's running mean, from the recall `first` to the highest with a score."""
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
    result = []
    for row in own.errors:
        at_lower, at_upper = _running_means(row, lower, upper)
        between = (at_upper - at_lower) / step * (wanted - scores[lower]) + at_lower
        result.append(np.mean(np.where(on_the_spot, at_lower, between)))
    return np.array(result)


def _running_means(errors: NDArray[np.float64], *places: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return running means without NaN at some places; 0 before the first number, 1 where there is none at all."""
    totals = np.cumsum(errors)
    if not np.isnan(totals[-1]):
        return [totals[place] / (place + 1) for place in places]
    known = ~np.isnan(errors)
    if not known.any():
        return [np.ones(len(place)) for place in places]
    totals, counts = np.nancumsum(errors), np.cumsum(known)
    return [totals[place] / np.maximum(counts[place], 1) for place in places]


def _nanmean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _score(mean_ap: float, means: dict[str, float], policy: NuScenesPolicy) -> float:
    scores = [max(0.0, 1.0 - mean) for mean in means.values() if not np.isnan(mean)]
    return float(policy.map_weight * mean_ap + np.sum(scores)) / (policy.map_weight + len(scores))
