"""Who matches whom, and what is wrong with the rest: the error types of TIDE on any similarity.

TIDE: Bolya et al., A General Toolbox for Identifying Object Detection Errors, 2020 (docs/method.md#detection-errors).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._assignment import assign_in_turn
from mld_pipelines.metrics._matches import ERROR_TYPES
from mld_pipelines.metrics._pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["BEV_IOU", "CENTRE_DISTANCE", "IMAGE_IOU", "MATCH_RULES", "MatchRule", "Verdicts", "judge"]

CLS, LOC, BOTH, DUPE, BKG = (ERROR_TYPES.index(name) for name in ("cls", "loc", "both", "dupe", "bkg"))
_NOTHING = -np.inf


@dataclass(frozen=True, slots=True)
class MatchRule:
    """When a prediction matches, and how near is near.

    Attributes:
        measure: `distance` (ground plane, metres) or `iou`.
        match: A distance below it, or an IoU of at least it, is a match.
        near: A distance up to it, or an IoU from it on, is near: an error of place, not background.
    """

    measure: str
    match: float
    near: float

    def __post_init__(self) -> None:
        """Check the order of the two limits."""
        if self.measure not in {"distance", "iou"}:
            raise InvalidInputError(f"measure {self.measure!r} is unknown; it is 'distance' or 'iou'.")
        closer, farther = (self.match, self.near) if self.measure == "distance" else (self.near, self.match)
        if not 0 < closer < farther:
            raise InvalidInputError(
                f"a match at {self.match} and near at {self.near} contradict each other for {self.measure}: "
                "a distance needs 0 < match < near, an IoU 0 < near < match."
            )


CENTRE_DISTANCE = MatchRule("distance", 2.0, 4.0)
"""Default in 3D. 2 m is nuScenes' threshold for true-positive errors; like its devkit, a distance of 2 m itself is no
match, and of equal scores the later row comes first."""

BEV_IOU = MatchRule("iou", 0.5, 0.1)
"""3D by overlap on the ground, at TIDE's thresholds; of equal scores the earlier row comes first."""

MATCH_RULES: Mapping[str, MatchRule] = {"centre_distance": CENTRE_DISTANCE, "bev_iou": BEV_IOU}
"""Rules of 3D evaluations by the name that a policy knows them by."""

IMAGE_IOU = MatchRule("iou", 0.5, 0.1)
"""2D at TIDE's thresholds."""


class Objects(NamedTuple):
    """What the judgement needs to know of predictions and truths.

    Attributes:
        scores: (N,) of predictions.
        labels: (N,) of predictions.
        truth_labels: (M,), −1 for a class that the model does not know.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    truth_labels: NDArray[np.int64]


class Verdicts(NamedTuple):
    """What became of each prediction and truth.

    Attributes:
        matched: (N,) row of the matched truth, −1 for none.
        error_type: (N,) int8, index into `ERROR_TYPES`, −1 for a match.
        target: (N,) row of the truth that a match or an error is about, −1 for none.
        value: (N,) similarity to `target`, NaN without one.
        is_found: (M,) whether a prediction matches the truth.
        is_targeted: (M,) whether an error that could be mended is about the unfound truth.
    """

    matched: NDArray[np.int64]
    error_type: NDArray[np.int8]
    target: NDArray[np.int64]
    value: NDArray[np.float64]
    is_found: NDArray[np.bool_]
    is_targeted: NDArray[np.bool_]


def judge(objects: Objects, blocks: Iterable[Pairs], rule: MatchRule) -> Verdicts:
    """Match greedily by falling score within a class, then name what is wrong with each unmatched prediction.

    Args:
        objects: Scores and labels.
        blocks: Every pair of the same frame, detections rising over all blocks; similarities are IoU or minus metres.
        rule: When a pair matches.
    """
    best, close = _survey(objects, blocks, rule)
    matched = _match(objects, close, rule)
    is_found = np.zeros(len(objects.truth_labels), np.bool_)
    is_found[matched[matched >= 0]] = True
    again = _first_best(_keep(close, is_found[close.truth]), len(matched))
    error_type, target, value = _name(matched, best, again, rule)
    hit = matched >= 0
    value[hit] = _value_of(close, matched)[hit]
    targeted = target[(error_type == LOC) | (error_type == CLS)]
    is_targeted = np.zeros_like(is_found)
    is_targeted[targeted] = True
    return Verdicts(matched, error_type, target, value, is_found, is_targeted & ~is_found)


class _Best(NamedTuple):
    """(N,) similarity to the closest truth of a kind and its row; −inf and −1 where there is none."""

    value: NDArray[np.float64]
    truth: NDArray[np.int64]


class _Survey(NamedTuple):
    same: _Best
    other: _Best


def _survey(objects: Objects, blocks: Iterable[Pairs], rule: MatchRule) -> tuple[_Survey, Pairs]:
    """Return the closest truth of the same and of another class by prediction, and all pairs that match."""
    n = len(objects.scores)
    same, other = _nobody(n), _nobody(n)
    close: list[Pairs] = []
    for pairs in blocks:
        is_same = objects.labels[pairs.detection] == objects.truth_labels[pairs.truth]
        _note(same, _keep(pairs, is_same))
        _note(other, _keep(pairs, ~is_same))
        close.append(_keep(pairs, is_same & is_match(pairs.value, rule)))
    nothing = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    return _Survey(same, other), Pairs(*map(np.concatenate, zip(nothing, *close, strict=True)))


def is_match(value: NDArray[np.float64], rule: MatchRule) -> NDArray[np.bool_]:
    """Tell which similarities match: distances below the limit (nuScenes), IoUs from the limit on (TIDE)."""
    return value > -rule.match if rule.measure == "distance" else value >= rule.match


def _match(objects: Objects, close: Pairs, rule: MatchRule) -> NDArray[np.int64]:
    """Return what each prediction gets when they choose by falling score."""
    n = len(objects.scores)
    ties = np.arange(n) if rule.measure == "iou" else -np.arange(n)
    line = np.lexsort((ties, -objects.scores))
    place = np.empty(n, np.int64)
    place[line] = np.arange(n)
    order = np.lexsort((close.truth, -close.value, place[close.detection]))
    chooser, chosen = place[close.detection[order]], close.truth[order]
    got = assign_in_turn(chooser, chosen, choosers=n, choices=len(objects.truth_labels))
    return got[place]


def _name(
    matched: NDArray[np.int64], best: _Survey, again: _Best, rule: MatchRule
) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.float64]]:
    """Return error type, target and similarity to it; the tests come in TIDE's order, the first that holds counts."""
    same, other = best
    is_distance = rule.measure == "distance"
    match, near = (-rule.match, -rule.near) if is_distance else (rule.match, rule.near)
    closest = np.maximum(same.value, other.value)
    tests = [
        matched >= 0,
        (near <= same.value) & (same.value <= match),
        is_match(other.value, rule),
        again.truth >= 0,
        closest < near if is_distance else closest <= near,
    ]
    error_type = np.select(tests, [-1, LOC, CLS, DUPE, BKG], BOTH).astype(np.int8)
    target = np.select(tests[:4], [matched, same.truth, other.truth, again.truth], -1)
    value = np.select(tests[1:4], [same.value, other.value, again.value], np.nan)
    return error_type, target, value


def _nobody(n: int) -> _Best:
    return _Best(np.full(n, _NOTHING), np.full(n, -1, np.int64))


def _note(best: _Best, pairs: Pairs) -> None:
    """Write the closest truth of each detection in the block, the first of equals; a detection is in one block."""
    if not len(pairs.detection):
        return
    starts = np.flatnonzero(np.diff(pairs.detection, prepend=-1))
    peak = np.maximum.reduceat(pairs.value, starts)
    size = np.diff(starts, append=len(pairs.detection))
    rows = np.where(pairs.value == np.repeat(peak, size), np.arange(len(pairs.value)), len(pairs.value))
    detection = pairs.detection[starts]
    best.value[detection] = peak
    best.truth[detection] = pairs.truth[np.minimum.reduceat(rows, starts)]


def _first_best(pairs: Pairs, n: int) -> _Best:
    best = _nobody(n)
    _note(best, pairs)
    return best


def _value_of(close: Pairs, matched: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the similarity of each matched prediction to its truth."""
    value = np.full(len(matched), np.nan)
    own = close.truth == matched[close.detection]
    value[close.detection[own]] = close.value[own]
    return value


def _keep(pairs: Pairs, mask: NDArray[np.bool_]) -> Pairs:
    return Pairs(pairs.detection[mask], pairs.truth[mask], pairs.value[mask])
