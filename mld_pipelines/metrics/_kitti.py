"""KITTI average precision on the ground, in space or in the image, equal to MMDetection3D's `kitti_eval`.

For each class, difficulty and overlap a first pass lets truths choose by score, which gives up to 41 thresholds; a
second one lets them choose by overlap among the detections above each (docs/method.md#kitti).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._assignment import assign_in_turn
from mld_pipelines.metrics._batches import check_frames
from mld_pipelines.metrics._kitti_images import MIN_HEIGHTS, KittiImages, close_pairs, over_dont_care

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.metrics._kitti_images import KittiMetric
    from mld_pipelines.metrics._pairs import Pairs
    from mld_pipelines.records import Detections3D, Truths3D

__all__ = ["KITTI_DIFFICULTIES", "KittiAp", "KittiClass", "kitti_ap", "kitti_classes", "kitti_difficulty"]

KITTI_DIFFICULTIES = ("easy", "moderate", "hard")
"""Levels 0, 1, 2 of `Truths3D.difficulty`; each includes those before."""

_MAX_OCCLUSION = (0, 1, 2)
_MAX_TRUNCATION = (0.15, 0.3, 0.5)
_POINTS = 41
_NEIGHBOURS = {"Car": ("Van",), "Pedestrian": ("Person_sitting",), "Cyclist": ()}
_OVERLAPS = {"Car": (0.7, 0.5), "Pedestrian": (0.5, 0.25), "Cyclist": (0.5, 0.25)}


@dataclass(frozen=True, slots=True)
class KittiClass:
    """A class to evaluate.

    Attributes:
        label: Of detections and truths.
        overlaps: IoUs above which a detection matches, strict first.
        neighbours: Labels of similar truths that are neither found nor missed (Van for Car).
    """

    label: int
    overlaps: tuple[float, ...]
    neighbours: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the overlaps."""
        if not self.overlaps or not all(0 < overlap < 1 for overlap in self.overlaps):
            raise InvalidInputError(f"overlaps of class {self.label} must be between 0 and 1, got {self.overlaps}.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KittiAp:
    """Average precision from 0 to 1 by class, difficulty and overlap.

    Attributes:
        r11: (classes, 3, overlaps) at 11 recalls, 0 included.
        r40: (classes, 3, overlaps) at 40 recalls, 0 left out.
        truths: (classes, 3) truths that count.
    """

    r11: NDArray[np.float64]
    r40: NDArray[np.float64]
    truths: NDArray[np.int64]


def kitti_classes(labels: Mapping[str, int], *, metric: KittiMetric = "3d") -> tuple[KittiClass, ...]:
    """Return KITTI's classes among some labels, with the strict and the loose overlaps of MMDetection3D.

    Args:
        labels: Label by KITTI's name; `Van` and `Person_sitting` are neighbours of `Car` and `Pedestrian`.
        metric: In the image the loose overlap is the strict one.

    Raises:
        InvalidInputError: None of the names is a class that KITTI evaluates.
    """
    result = []
    for name, overlaps in _OVERLAPS.items():
        if name in labels:
            near = tuple(labels[other] for other in _NEIGHBOURS[name] if other in labels)
            strict = overlaps[0]
            result.append(KittiClass(labels[name], (strict, strict) if metric == "image" else overlaps, near))
    if not result:
        raise InvalidInputError(f"none of {sorted(labels)} is a class that KITTI evaluates: {', '.join(_OVERLAPS)}.")
    return tuple(result)


def kitti_difficulty(
    heights: NDArray[np.floating], occluded: NDArray[np.integer], truncated: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Return the easiest level that admits each object, 3 where none does.

    Args:
        heights: (N,) of the boxes in the image, pixels.
        occluded: (N,) 0 … 3.
        truncated: (N,) share outside the image.
    """
    result = np.full(len(heights), len(KITTI_DIFFICULTIES), np.int64)
    for level in reversed(range(len(KITTI_DIFFICULTIES))):
        admitted = (
            (np.asarray(occluded) <= _MAX_OCCLUSION[level])
            & (np.asarray(truncated) <= _MAX_TRUNCATION[level])
            & (np.asarray(heights) > MIN_HEIGHTS[level])
        )
        result[admitted] = level
    return result


def kitti_ap(
    detections: Detections3D,
    truths: Truths3D,
    *,
    classes: Sequence[KittiClass],
    metric: KittiMetric = "3d",
    images: KittiImages | None = None,
) -> KittiAp:
    """Return the average precision of every class at every difficulty (docs/method.md#kitti).

    A truth harder than the level, or of a neighbouring class, is neither found nor missed. With image boxes a
    detection lower than the level's least height is not counted against anyone, whatever its class.

    Args:
        detections: What was found.
        truths: What is there, with `difficulty`: the easiest level that admits the object; any other number (−1, 3)
            never counts.
        classes: Classes to evaluate, with equally many overlaps.
        metric: `bev`, `3d` or `image`.
        images: Boxes in the image; needed for `image`.

    Raises:
        InvalidInputError: Frames, classes or images do not fit, or no truth has a difficulty.
    """
    check_frames(detections.frames, truths.frames)
    _check(truths, classes)
    lowest = min(overlap for one in classes for overlap in one.overlaps)
    pairs = close_pairs(detections, truths, metric, images, lowest)
    shape = len(classes), len(KITTI_DIFFICULTIES), len(classes[0].overlaps)
    precision, counts = np.zeros((*shape, _POINTS)), np.zeros(shape[:2], np.int64)
    for row, one in enumerate(classes):
        for level in range(len(KITTI_DIFFICULTIES)):
            states = _states(detections, truths, one, level, images)
            counts[row, level] = np.count_nonzero(states.truths == 0)
            for column, overlap in enumerate(one.overlaps):
                ignored = over_dont_care(detections, images, overlap) if metric == "image" else None
                case = _Case(pairs, detections.scores.astype(np.float64), states, overlap)
                curve = _precision(case, ignored)
                precision[row, level, column, : len(curve)] = curve
    return KittiAp(
        r11=precision[..., ::4].cumsum(axis=-1)[..., -1] / 11,
        r40=precision[..., 1:].cumsum(axis=-1)[..., -1] / 40,
        truths=counts,
    )


class _States(NamedTuple):
    """0 counts, 1 is ignored, −1 is not there.

    Attributes:
        detections: (N,).
        truths: (M,).
    """

    detections: NDArray[np.int64]
    truths: NDArray[np.int64]


class _Case(NamedTuple):
    """One class, difficulty and overlap."""

    pairs: Pairs
    scores: NDArray[np.float64]
    states: _States
    overlap: float


def _check(truths: Truths3D, classes: Sequence[KittiClass]) -> None:
    if not classes or len({len(one.overlaps) for one in classes}) > 1:
        raise InvalidInputError("kitti_ap needs at least one class, all of them with equally many overlaps.")
    if len(truths) and (truths.difficulty < 0).all():
        raise InvalidInputError(
            f"none of {len(truths)} truths has a difficulty (all are −1), so none would count; nothing was evaluated. "
            "Set it, e.g. by kitti_difficulty(heights, occluded, truncated), or to 0 for all."
        )


def _states(
    detections: Detections3D, truths: Truths3D, one: KittiClass, level: int, images: KittiImages | None
) -> _States:
    found = np.where(detections.labels == one.label, 0, -1)
    if images is not None:  # before the class: so it is in kitti_eval
        height = np.abs(images.detections[:, 3] - images.detections[:, 1])
        found = np.where(height < MIN_HEIGHTS[level], 1, found)
    is_own = truths.labels == one.label
    counts = is_own & (truths.difficulty >= 0) & (truths.difficulty <= level)
    real = np.where(counts, 0, np.where(is_own | np.isin(truths.labels, one.neighbours), 1, -1))
    return _States(found, real)


def _precision(case: _Case, dont_care: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return the best precision from each threshold on."""
    pairs, scores, (found, real), overlap = case
    use = (pairs.value > overlap) & (found[pairs.detection] >= 0) & (real[pairs.truth] >= 0)
    detection, truth, value = pairs.detection[use], pairs.truth[use], pairs.value[use]
    sizes = {"choosers": len(real), "choices": len(found)}
    order = np.lexsort((detection, -scores[detection], truth))
    got = assign_in_turn(truth[order], detection[order], **sizes)
    hits = got[(real == 0) & (got >= 0)]
    hits = hits[found[hits] == 0]
    thresholds = _thresholds(np.sort(scores[hits])[::-1], int(np.count_nonzero(real == 0)))
    # among detections that count the one with the largest overlap, else the first of the ignored
    ignored = found[detection] == 1
    order = np.lexsort((detection, np.where(ignored, 0.0, -value), truth))
    detection, truth = detection[order], truth[order]
    counted = np.flatnonzero((found == 0) if dont_care is None else (found == 0) & ~dont_care)
    result = np.zeros(len(thresholds))
    for k, threshold in enumerate(thresholds):
        above = scores[detection] >= threshold
        got = assign_in_turn(truth[above], detection[above], **sizes)
        hits = got[(real == 0) & (got >= 0)]
        right = np.count_nonzero(found[hits] == 0)
        taken = np.zeros(len(found), np.bool_)
        taken[got[got >= 0]] = True
        wrong = np.count_nonzero((scores[counted] >= threshold) & ~taken[counted])
        result[k] = right / (right + wrong) if right + wrong else 0.0
    return np.maximum.accumulate(result[::-1])[::-1]


def _thresholds(scores: NDArray[np.float64], truths: int) -> list[float]:
    """Return the scores at which recall comes closest to 0, 1/40, 2/40, …; the last score is always one of them."""
    if not len(scores):
        return []
    left = np.arange(1, len(scores) + 1) / truths
    right = np.append(np.arange(2, len(scores) + 1) / truths, left[-1])
    result: list[float] = []
    recall, place = 0.0, 0
    while place < len(scores) and len(result) < _POINTS:
        stays = ~((right[place:] - recall < recall - left[place:]) & (np.arange(place, len(scores)) < len(scores) - 1))
        place += int(np.argmax(stays))
        result.append(float(scores[place]))
        recall += 1 / (_POINTS - 1.0)
        place += 1
    return result
