"""What the nuScenes metrics need of some frames, small and mergeable: sorted scores, matches and their errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._batches import check_batches
from mld_pipelines.metrics._box_errors import box_errors
from mld_pipelines.metrics._nuscenes_keys import check_rows, shifted
from mld_pipelines.metrics._nuscenes_match import match_classes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.records import Detections3D, Truths3D

__all__ = ["NUSCENES", "NUSCENES_CLASSES", "TP_ERRORS", "ClassState", "NuScenesPolicy", "NuScenesState"]

NUSCENES_CLASSES = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction_vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "barrier",
)
"""Classes of the nuScenes detection task in the order of its configuration."""

TP_ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
"""True-positive errors in the order of the devkit."""

_MAX_RUNS = 16
"""Sorted runs kept apart before they are joined: a rank costs one binary search per run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NuScenesPolicy:
    """Settings of the nuScenes detection task; the defaults are `detection_cvpr_2019` for any number of classes.

    Attributes:
        n_classes: Classes; labels are 0 … n_classes − 1.
        distances: Ground-plane distances below which a detection matches, metres.
        tp_distance: The one of them at which true-positive errors are taken.
        min_recall: Recall up to which curves are cut off.
        min_precision: Precision that is worth nothing.
        map_weight: Weight of mAP in the score; each true-positive error weighs 1.
        half_turn: Labels whose yaw is only known up to half a turn.
        undefined: Pairs (label, name in `TP_ERRORS`) that mean nothing.
    """

    n_classes: int
    distances: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    tp_distance: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    map_weight: float = 5.0
    half_turn: tuple[int, ...] = ()
    undefined: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        """Check that the settings fit together."""
        if self.n_classes < 1 or not self.distances or min(self.distances) <= 0:
            raise InvalidInputError(f"{self.n_classes} classes and distances {self.distances} leave nothing to match.")
        if self.tp_distance not in self.distances:
            raise InvalidInputError(f"tp_distance {self.tp_distance} is none of the distances {self.distances}.")
        if not (0 <= self.min_recall < 1 and 0 <= self.min_precision < 1):
            raise InvalidInputError(
                f"min_recall {self.min_recall} and min_precision {self.min_precision} must be in [0, 1)."
            )


NUSCENES = NuScenesPolicy(
    n_classes=len(NUSCENES_CLASSES),
    half_turn=(NUSCENES_CLASSES.index("barrier"),),
    undefined=(
        *((NUSCENES_CLASSES.index("traffic_cone"), name) for name in ("orient_err", "vel_err", "attr_err")),
        *((NUSCENES_CLASSES.index("barrier"), name) for name in ("vel_err", "attr_err")),
    ),
)
"""The ten classes of nuScenes, labelled in the order of `NUSCENES_CLASSES`."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassState:
    """One class. Keys say score and row of a detection, best first (`_nuscenes_keys`).

    Attributes:
        truths: Number of truths.
        runs: Keys of all detections, in sorted runs.
        hits: Keys of the detections that match, by distance.
        errors: (5, T) true-positive errors in the order of `TP_ERRORS`, by match at `tp_distance`.
    """

    truths: int
    runs: tuple[NDArray[np.uint64], ...]
    hits: tuple[NDArray[np.uint64], ...]
    errors: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NuScenesState:
    """Matches of some frames; states of consecutive frames merge into the state of all of them.

    Attributes:
        policy: Settings.
        frames: Number of frames.
        detections: Number of detections.
        has_attributes: Whether attributes were given.
        has_velocities: Whether a truth has a velocity.
        classes: State of each class.
    """

    policy: NuScenesPolicy
    frames: int
    detections: int
    has_attributes: bool
    has_velocities: bool
    classes: tuple[ClassState, ...] = field(repr=False)

    @classmethod
    def of(
        cls,
        detections: Detections3D,
        truths: Truths3D,
        policy: NuScenesPolicy,
        *,
        attributes: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> NuScenesState:
        """Match every frame; truths of label −1 are left out.

        Args:
            detections: What was found.
            truths: What is there; as many frames.
            policy: Settings.
            attributes: Attribute of each detection (N,) and each truth (M,) as numbers, −1 for none.

        Raises:
            InvalidInputError: Frames, labels or attributes do not fit.
        """
        check_batches(detections, truths, n_classes=policy.n_classes)
        given = _check_attributes(attributes, (len(detections), len(truths)))
        at = policy.distances.index(policy.tp_distance)
        matched = match_classes(detections, truths, policy.n_classes, policy.distances, at)
        rows = np.concatenate([own.matched for own in matched], axis=1)
        errors = _errors(detections, truths, (rows[0], rows[1]), policy, given)
        ends = np.cumsum([len(own.order) for own in matched])
        classes = [
            ClassState(own.truths, (own.keys,), own.hits, errors[:, end - len(own.order) + own.order])
            for own, end in zip(matched, ends, strict=True)
        ]
        known = bool(np.isfinite(truths.velocities).all(axis=1).any())
        return cls(policy, detections.frames, len(detections), attributes is not None, known, tuple(classes))

    def merge(self, later: NuScenesState) -> NuScenesState:
        """Return the state of the frames of both, `later` behind.

        Args:
            later: State of other frames under the same policy.

        Raises:
            InvalidInputError: Policies differ, or only one state has attributes.
        """
        if self.policy != later.policy:
            raise InvalidInputError(f"states of different policies do not merge: {self.policy} and {later.policy}.")
        if self.has_attributes != later.has_attributes and self.detections and later.detections:
            raise InvalidInputError("one state has attributes and the other has not; evaluate both the same way.")
        check_rows(self.detections + later.detections)
        return NuScenesState(
            self.policy,
            self.frames + later.frames,
            self.detections + later.detections,
            self.has_attributes or later.has_attributes,
            self.has_velocities or later.has_velocities,
            tuple(
                _merged(one, other, self.detections, self.policy)
                for one, other in zip(self.classes, later.classes, strict=True)
            ),
        )


def _merged(one: ClassState, other: ClassState, rows: int, policy: NuScenesPolicy) -> ClassState:
    runs = (*one.runs, *(shifted(run, rows) for run in other.runs))
    if len(runs) > _MAX_RUNS:
        runs = (np.sort(np.concatenate(runs), kind="stable"),)
    later = [shifted(keys, rows) for keys in other.hits]
    at = policy.distances.index(policy.tp_distance)
    errors = np.concatenate((one.errors, other.errors), axis=1)
    order = _merging(one.hits[at], later[at])
    # `stable` finds the two sorted runs and merges them
    hits = tuple(np.sort(np.concatenate(both), kind="stable") for both in zip(one.hits, later, strict=True))
    return ClassState(one.truths + other.truths, runs, hits, np.take(errors, order, axis=1))


def _merging(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the positions in two sorted runs, one behind the other, that sort them; no key is in both."""
    place = np.searchsorted(one, other) + np.arange(len(other))
    order = np.empty(len(one) + len(other), np.int64)
    is_old = np.ones(len(order), np.bool_)
    is_old[place] = False
    order[place] = np.arange(len(one), len(order))
    order[is_old] = np.arange(len(one))
    return order


def _errors(
    detections: Detections3D,
    truths: Truths3D,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    policy: NuScenesPolicy,
    attributes: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
) -> NDArray[np.float64]:
    """Return the five errors of the matches; a truth without attribute has no attribute error."""
    wrong = np.full(len(rows[0]), np.nan)
    if attributes is not None:
        said, real = attributes[0][rows[0]], attributes[1][rows[1]]
        wrong = np.where(real < 0, np.nan, (said != real).astype(np.float64))
    return np.vstack((box_errors(detections, truths, rows, half_turn=policy.half_turn), wrong))


def _check_attributes(
    attributes: tuple[ArrayLike, ArrayLike] | None, lengths: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    if attributes is None:
        return None
    checked: list[NDArray[Any]] = []
    for name, values, length in zip(("detections", "truths"), attributes, lengths, strict=True):
        array = np.asarray(values)
        if array.shape != (length,) or (length and array.dtype.kind not in "iu"):
            raise InvalidInputError(
                f"attributes of {name} must be {length} integers (−1 for none), got {array.shape} of {array.dtype}."
            )
        checked.append(array.astype(np.int64))
    return checked[0], checked[1]
