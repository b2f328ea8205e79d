"""3D boxes of a batch of frames: what a detector found and what is really there. Columns, no object per box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records._ragged import FrameColumns, column

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BOX3D_FIELDS", "Detections3D", "Objects3D", "Truths3D", "unusable_boxes", "wrap_yaw"]

#: A canonical box: gravity centre, sizes (l along the heading), yaw counter-clockwise from +x; metres and radians.
BOX3D_FIELDS = ("cx", "cy", "cz", "w", "l", "h", "yaw")
_SIZES = slice(3, 6)
_YAW = 6

_MOST_YAW = 1e9
"""Beyond it neighbouring float64 are 1e-7 rad apart and more: at 1e16 whole turns, and no direction is left."""


def wrap_yaw(yaw: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return angles in [-π, π); what lies there already is returned bit by bit. Beyond ±1e9 there is no angle: NaN.

    Args:
        yaw: Angles, radians, any shape.
    """
    angle = np.asarray(yaw, np.float64)
    turned = (angle + math.pi) % (2 * math.pi) - math.pi
    # the remainder of a tiny negative number rounds up to the full turn
    turned = np.where(turned >= math.pi, -math.pi, turned)
    turned = np.where(np.abs(angle) <= _MOST_YAW, turned, math.nan)
    return np.where((angle >= -math.pi) & (angle < math.pi), angle, turned)


def unusable_boxes(boxes: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which canonical boxes no batch accepts: NaN or infinite values, a size not above 0, a yaw beyond ±1e9.

    Args:
        boxes: (N, 7) canonical boxes.

    Returns:
        (N,) mask, for callers that set such frames aside instead of failing.
    """
    with np.errstate(invalid="ignore"):
        usable: NDArray[np.bool_] = np.isfinite(boxes).all(axis=1) & (boxes[:, _SIZES] > 0).all(axis=1)
        usable &= np.abs(boxes[:, _YAW]) <= _MOST_YAW
    return ~usable


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Objects3D(FrameColumns):
    """What detections and truths share.

    Attributes:
        boxes: (N, 7) float64, canonical: cx, cy, cz, w, l, h, yaw. Gravity centre, metres, l along the heading, yaw
            counter-clockwise from +x of the sensor frame. Other yaws are wrapped to [-π, π).
        labels: (N,) int64, 0-based class.
        velocities: (N, 2) float64, m/s in the sensor frame; NaN where unknown.
    """

    boxes: NDArray[np.float64] = column(np.float64, width=7)
    labels: NDArray[np.int64] = column(np.int64)
    velocities: NDArray[np.float64] = column(np.float64, width=2, unknown=math.nan)

    def check(self) -> None:
        """Check boxes, velocities and labels, and wrap yaws."""
        self._check_boxes()
        if np.isinf(self.velocities).any():
            row = int(np.flatnonzero(np.isinf(self.velocities).any(axis=1))[0])
            raise InvalidInputError(f"the velocity of row {row} is {self.velocities[row].tolist()}; unknown is NaN.")
        if len(self) and self.labels.min() < self.lowest_label():
            row = int(np.argmin(self.labels))
            raise InvalidInputError(f"the label of row {row} is {self.labels[row]}; classes are counted from 0.")

    @classmethod
    def lowest_label(cls) -> int:
        """Return the lowest label that is accepted."""
        return 0

    def _check_boxes(self) -> None:
        rows = np.flatnonzero(unusable_boxes(self.boxes))
        if len(rows):
            box = dict(zip(BOX3D_FIELDS, self.boxes[rows[0]].tolist(), strict=True))
            raise InvalidInputError(
                f"{len(rows)} of {len(self)} boxes are unusable; row {rows[0]} is {box}. Values must be finite, "
                "w, l, h above 0 and yaw in radians; `unusable_boxes` tells which to leave out."
            )
        yaw = self.boxes[:, _YAW]
        if not ((yaw >= -math.pi) & (yaw < math.pi)).all():
            boxes = self.boxes.copy()  # the caller's array stays as it is
            boxes[:, _YAW] = wrap_yaw(yaw)
            object.__setattr__(self, "boxes", boxes)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Detections3D(Objects3D):
    """What a detector found in a batch of frames, in the order of its own output.

    Example:
        >>> found = Detections3D(
        ...     offsets=[0, 1, 1], boxes=[[10, 0, 1, 2, 4, 1.5, 0]], labels=[0], scores=[0.9]
        ... )
        >>> len(found), found.frames, len(found.frame(1))
        (1, 2, 0)

    Attributes:
        scores: (N,) float32, finite.
    """

    scores: NDArray[np.float32] = column(np.float32)

    def check(self) -> None:
        """Check all columns."""
        Objects3D.check(self)
        if not np.isfinite(self.scores).all():
            row = int(np.flatnonzero(~np.isfinite(self.scores))[0])
            raise InvalidInputError(f"the score of row {row} is {self.scores[row]}; scores must be finite.")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Truths3D(Objects3D):
    """What is really there. A label of -1 is a class that the model does not know.

    Attributes:
        points: (N,) int64, LiDAR points inside the box; -1 where unknown.
        difficulty: (N,) int64, the data set's own level (KITTI: 0 easy, 1 moderate, 2 hard); -1 where unknown.
    """

    points: NDArray[np.int64] = column(np.int64, unknown=-1)
    difficulty: NDArray[np.int64] = column(np.int64, unknown=-1)

    @classmethod
    def lowest_label(cls) -> int:
        """Return -1."""
        return -1
