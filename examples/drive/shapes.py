"""What stands in a street: sizes of road users, the solids they are made of, and clutter."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from examples.drive.lidar import Parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from examples.drive.lidar import Ground

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = [
    "CAR",
    "CLASS_NAMES",
    "CYCLIST",
    "PEDESTRIAN",
    "TRUCK",
    "Clutter",
    "parts_of",
    "parts_of_clutter",
    "sizes_of",
]

CLASS_NAMES = ("car", "truck", "pedestrian", "cyclist")
CAR, TRUCK, PEDESTRIAN, CYCLIST = range(4)

_MEAN = np.array([[1.85, 4.4, 1.55], [2.5, 8.2, 3.2], [0.62, 0.62, 1.72], [0.65, 1.8, 1.75]])
_SPREAD = np.array([[0.08, 0.28, 0.09], [0.1, 1.5, 0.3], [0.05, 0.05, 0.1], [0.04, 0.08, 0.07]])
"""Width, length, height in metres: means and standard deviations close to those of nuScenes' annotations."""

_SHAPES: dict[int, tuple[tuple[float, ...], ...]] = {
    # round, dx, dy, half length, half width (fractions of length and width), bottom, top (of height), reflectivity:
    # a factor on the paint if positive, a fixed value if negative
    CAR: (
        (0, 0.0, 0.0, 0.48, 0.47, 0.12, 0.58, 1.0),
        (0, -0.08, 0.0, 0.26, 0.42, 0.58, 0.97, -0.08),
    ),
    TRUCK: (
        (0, 0.39, 0.0, 0.09, 0.46, 0.1, 0.78, 1.0),
        (0, -0.1, 0.0, 0.38, 0.48, 0.3, 0.98, 1.4),
        (0, 0.0, 0.0, 0.46, 0.38, 0.08, 0.3, -0.1),
    ),
    PEDESTRIAN: (
        (1, 0.0, 0.0, 0.36, 0.36, 0.45, 0.85, 1.0),
        (1, 0.05, 0.22, 0.18, 0.18, 0.0, 0.46, 0.8),
        (1, -0.05, -0.22, 0.18, 0.18, 0.0, 0.46, 0.8),
        (1, 0.0, 0.0, 0.19, 0.19, 0.85, 0.98, -0.3),
    ),
    CYCLIST: (
        (0, 0.0, 0.0, 0.47, 0.07, 0.0, 0.45, -0.25),
        (1, -0.04, 0.0, 0.11, 0.11, 0.4, 0.97, 1.0),
    ),
}
_TEMPLATE = np.array([row for label in sorted(_SHAPES) for row in _SHAPES[label]])
_PARTS_PER_CLASS = np.array([len(_SHAPES[label]) for label in sorted(_SHAPES)])
_FIRST_PART = np.cumsum(_PARTS_PER_CLASS) - _PARTS_PER_CLASS


def sizes_of(labels: Integers, rng: np.random.Generator) -> Floats:
    """Return one size per label: (N, 3) width, length, height."""
    noise = np.clip(rng.normal(size=(len(labels), 3)), -2.0, 2.0)
    sizes: Floats = _MEAN[labels] + _SPREAD[labels] * noise
    return sizes


def parts_of(boxes: Floats, labels: Integers, paint: Floats) -> Parts:
    """Return the solids inside these boxes.

    Args:
        boxes: (N, 7) canonical: cx, cy, cz, w, l, h, yaw.
        labels: (N,) rows of `CLASS_NAMES`.
        paint: (N,) reflectivity.
    """
    count = _PARTS_PER_CLASS[labels]
    owner = np.repeat(np.arange(len(labels)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    row = _TEMPLATE[_FIRST_PART[labels][owner] + within]
    x, y, z, width, length, height, yaw = boxes[owner].T
    ahead, left = row[:, 1] * length, row[:, 2] * width
    floor = z - height / 2.0
    return Parts(
        round=row[:, 0] > 0,
        centre=np.stack(
            [x + np.cos(yaw) * ahead - np.sin(yaw) * left, y + np.sin(yaw) * ahead + np.cos(yaw) * left], 1
        ),
        half_length=row[:, 3] * length,
        half_width=row[:, 4] * width,
        yaw=yaw,
        bottom=floor + row[:, 5] * height,
        top=floor + row[:, 6] * height,
        reflectivity=np.where(row[:, 7] < 0.0, -row[:, 7], np.minimum(0.95, row[:, 7] * paint[owner])),
        porosity=np.zeros(len(owner)),
        owner=owner,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Clutter:
    """Things without a label, in world coordinates, heights above the ground; columns as in `Parts`."""

    round: NDArray[np.bool_]
    x: Floats
    y: Floats
    half_length: Floats
    half_width: Floats
    yaw: Floats
    bottom: Floats
    top: Floats
    reflectivity: Floats
    porosity: Floats

    def take(self, rows: NDArray[np.bool_] | Integers) -> Clutter:
        """Return some of them."""
        return Clutter(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, several: list[Clutter]) -> Clutter:
        """Return all of them in one."""
        return cls(*(np.concatenate([getattr(one, field.name) for one in several]) for field in fields(cls)))


def parts_of_clutter(clutter: Clutter, ground: Ground) -> Parts:
    """Return clutter given in the sensor frame as parts that stand on the ground."""
    floor = ground.height(clutter.x, clutter.y)
    return Parts(
        round=clutter.round,
        centre=np.stack([clutter.x, clutter.y], axis=1),
        half_length=clutter.half_length,
        half_width=clutter.half_width,
        yaw=clutter.yaw,
        bottom=floor + clutter.bottom - 0.3 * (clutter.bottom == 0.0),  # no gap below what stands on a slope
        top=floor + clutter.top,
        reflectivity=clutter.reflectivity,
        porosity=clutter.porosity,
        owner=np.full(len(clutter.x), -1),
    )
