"""The text files of KITTI: labels and calibration, one frame each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry import KittiCalibration

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["KITTI_TYPES", "KittiLabels", "read_calibration", "read_labels"]

#: Every object type of a KITTI label file.
KITTI_TYPES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")

_FIELDS = 14
"""Numbers after the type: truncated, occluded, alpha, 4 of the box, 3 sizes, 3 of the place, rotation_y; a result file
has the score behind them."""


@dataclass(frozen=True, slots=True, eq=False)
class KittiLabels:
    """The objects of a label file, as it holds them; regions of type DontCare apart.

    Attributes:
        types: N type names.
        truncation: (N,) 0 to 1.
        occlusion: (N,) 0 to 3.
        alpha: (N,) radians.
        boxes_2d: (N, 4) x1, y1, x2, y2, pixels.
        dimensions: (N, 3) height, width, length, metres.
        location: (N, 3) bottom centre in camera coordinates.
        rotation_y: (N,) radians.
        dont_care: (M, 4) x1, y1, x2, y2, pixels.
    """

    types: tuple[str, ...]
    truncation: NDArray[np.float64]
    occlusion: NDArray[np.int64]
    alpha: NDArray[np.float64]
    boxes_2d: NDArray[np.float64]
    dimensions: NDArray[np.float64]
    location: NDArray[np.float64]
    rotation_y: NDArray[np.float64]
    dont_care: NDArray[np.float64]


def read_labels(path: Path | None) -> KittiLabels:
    """Read a label file; None gives no objects.

    Raises:
        InvalidInputError: It is missing, a line has another form, or a type is unknown.
    """
    rows = [] if path is None else [_row(path, number, line) for number, line in enumerate(_lines(path), 1)]
    objects = [(name, values) for name, values in rows if name != "DontCare"]
    values = np.array([numbers for _, numbers in objects], dtype=np.float64).reshape(-1, _FIELDS)
    regions = np.array([numbers for name, numbers in rows if name == "DontCare"], dtype=np.float64)
    return KittiLabels(
        types=tuple(name for name, _ in objects),
        truncation=values[:, 0],
        occlusion=values[:, 1].astype(np.int64),
        alpha=values[:, 2],
        boxes_2d=values[:, 3:7],
        dimensions=values[:, 7:10],
        location=values[:, 10:13],
        rotation_y=values[:, 13],
        dont_care=regions.reshape(-1, _FIELDS)[:, 3:7],
    )


def _row(path: Path, number: int, line: str) -> tuple[str, list[float]]:
    name, *fields = line.split()
    if name not in KITTI_TYPES:
        raise InvalidInputError(
            f"{path}, line {number}: the type is {name!r}; KITTI has {', '.join(KITTI_TYPES)}. The frame was not read; "
            "correct the label."
        )
    values = _numbers(fields)
    if values is None or len(values) not in {_FIELDS, _FIELDS + 1}:
        raise InvalidInputError(
            f"{path}, line {number}: {line.strip()!r} is not a type and {_FIELDS} finite numbers. The frame was not "
            "read; correct the label."
        )
    return name, values[:_FIELDS]


def read_calibration(path: Path) -> tuple[KittiCalibration, NDArray[np.float64]]:
    """Read a calibration file: the way from LiDAR to camera, and `P2` (3, 4).

    Raises:
        InvalidInputError: It is missing, or a matrix is missing or has another size.
    """
    found = dict(line.split(":", 1) for line in _lines(path) if ":" in line)
    rotation = "R0_rect" if "R0_rect" in found else "R_rect"  # KITTI's raw data calls it so
    matrices = [_matrix(path, found, name, size) for name, size in (("P2", 12), (rotation, 9), ("Tr_velo_to_cam", 12))]
    projection, rectification, velodyne = matrices
    return KittiCalibration(rectification.reshape(3, 3), velodyne.reshape(3, 4)), projection.reshape(3, 4)


def _matrix(path: Path, found: dict[str, str], name: str, size: int) -> NDArray[np.float64]:
    values = _numbers(found[name].split()) if name in found else []
    if values is None or len(values) != size:
        raise InvalidInputError(
            f"{path}: {name} has {0 if values is None else len(values)} finite numbers, {size} are needed. The frame "
            "was not read; copy the calibration again."
        )
    return np.array(values)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InvalidInputError(f"{path} is missing. The frame was not read; copy the file, or list other frames.")
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is no text file ({error}). The frame was not read.") from error


def _numbers(fields: list[str]) -> list[float] | None:
    """Return finite numbers, or None."""
    try:
        values = [float(text) for text in fields]
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None
