"""Box conventions of the 3D code bases, to and from canonical boxes.

| name       | columns                          | z      | yaw                    | labels from |
|------------|----------------------------------|--------|------------------------|-------------|
| mmdet3d_v1 | x, y, z, l, w, h, yaw, vx, vy    | bottom | canonical              | 0           |
| mmdet3d_v0 | x, y, z, w, l, h, yaw, vx, vy    | bottom | -canonical - π/2       | 0           |
| openpcdet  | x, y, z, l, w, h, yaw, vx, vy    | centre | canonical              | 1           |
| det3d      | x, y, z, w, l, h, vx, vy, yaw    | centre | -canonical - π/2       | 0           |

`mmdet3d_v1` is MMDetection3D since 1.0.0rc0. `mmdet3d_v0` is 0.x and whatever vendored it: BEVFormer, BEVDet,
TransFusion and mit-han-lab BEVFusion. `det3d` is the original CenterPoint and CenterFormer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry._boxes import host, table
from mld_pipelines.records import wrap_yaw

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CONVENTIONS",
    "CanonicalBoxes",
    "Convention",
    "find_convention",
    "from_det3d",
    "from_mmdet3d_v0",
    "from_mmdet3d_v1",
    "from_openpcdet",
    "to_det3d",
    "to_mmdet3d_v0",
    "to_mmdet3d_v1",
    "to_openpcdet",
]


class CanonicalBoxes(NamedTuple):
    """Boxes and velocities as the platform keeps them.

    Attributes:
        boxes: (N, 7) float64: cx, cy, cz, w, l, h, yaw; gravity centre, metres, yaw in [-π, π) from +x.
        velocities: (N, 2) float64, m/s; NaN where the source has none.
    """

    boxes: NDArray[np.float64]
    velocities: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Convention:
    """How a code base writes its boxes.

    Attributes:
        name: Name of the convention.
        columns: Columns with velocities; without, vx and vy are left out.
        is_bottom: Whether z is the bottom of the box instead of its centre.
        is_clockwise: Whether yaw runs clockwise from -y instead of counter-clockwise from +x.
        first_label: Number of the first class.
    """

    name: str
    columns: tuple[str, ...]
    is_bottom: bool
    is_clockwise: bool
    first_label: int = 0

    def read(self, rows: Any) -> CanonicalBoxes:
        """Return canonical boxes of rows of this convention.

        Args:
            rows: (N, 7), or (N, 9) with velocities; an array or a tensor of any device and precision.

        Raises:
            InvalidInputError: The rows have another number of columns.
        """
        found = host(rows).astype(np.float64)
        if found.size == 0:
            found = found.reshape(-1, len(self.columns))
        names = self._names(found)
        part = dict(zip(names, found.T, strict=True))
        z = part["z"] + 0.5 * part["h"] if self.is_bottom else part["z"]
        boxes = [part["x"], part["y"], z, part["w"], part["l"], part["h"], wrap_yaw(self._turned(part["yaw"]))]
        unknown = np.full(len(found), math.nan)
        velocities = [part.get("vx", unknown), part.get("vy", unknown)]
        return CanonicalBoxes(np.stack(boxes, axis=1), np.stack(velocities, axis=1))

    def write(self, boxes: Any, velocities: Any = None) -> NDArray[np.float64]:
        """Return rows of this convention: (N, 9), or (N, 7) without velocities. Yaws lie in [-π, π).

        Raises:
            InvalidInputError: Boxes are not (N, 7), or velocities not (N, 2).
        """
        found = table("boxes", boxes, 7)
        part = dict(zip(_WIDTH_FIRST, found.T, strict=False))
        part["z"] = part["z"] - 0.5 * part["h"] if self.is_bottom else part["z"]
        part["yaw"] = wrap_yaw(self._turned(part["yaw"]))
        if velocities is not None:
            speed = table("velocities", velocities, 2)
            if len(speed) != len(found):
                raise InvalidInputError(f"there are {len(found)} boxes and {len(speed)} velocities.")
            part["vx"], part["vy"] = speed.T
        return np.stack([part[name] for name in self.columns if name in part], axis=1)

    def _turned(self, yaw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a yaw in the other system; the way back is the same."""
        return -yaw - 0.5 * math.pi if self.is_clockwise else yaw

    def _names(self, rows: NDArray[Any]) -> list[str]:
        if rows.ndim == 2 and rows.shape[1] == len(self.columns):
            return list(self.columns)
        if rows.ndim == 2 and rows.shape[1] == len(self.columns) - 2:
            return [name for name in self.columns if name not in ("vx", "vy")]
        raise InvalidInputError(
            f"{self.name} boxes have shape {rows.shape}; (N, 9) is needed: {', '.join(self.columns)}; or (N, 7) "
            "without velocities."
        )


_LENGTH_FIRST = ("x", "y", "z", "l", "w", "h", "yaw", "vx", "vy")
_WIDTH_FIRST = ("x", "y", "z", "w", "l", "h", "yaw", "vx", "vy")
_YAW_LAST = ("x", "y", "z", "w", "l", "h", "vx", "vy", "yaw")

#: The conventions by name.
CONVENTIONS: dict[str, Convention] = {
    one.name: one
    for one in (
        Convention("mmdet3d_v1", _LENGTH_FIRST, is_bottom=True, is_clockwise=False),
        Convention("mmdet3d_v0", _WIDTH_FIRST, is_bottom=True, is_clockwise=True),
        Convention("openpcdet", _LENGTH_FIRST, is_bottom=False, is_clockwise=False, first_label=1),
        Convention("det3d", _YAW_LAST, is_bottom=False, is_clockwise=True),
    )
}


def find_convention(name: str) -> Convention:
    """Return a convention by its name.

    Raises:
        InvalidInputError: There is none of this name; the message lists the names.
    """
    if name not in CONVENTIONS:
        raise InvalidInputError(f"there is no box convention {name!r}; known are {', '.join(CONVENTIONS)}.")
    return CONVENTIONS[name]


def from_mmdet3d_v1(rows: Any) -> CanonicalBoxes:
    """Return canonical boxes of `LiDARInstance3DBoxes.tensor`, MMDetection3D ≥ 1.0.0rc0: (N, 7 or 9)."""
    return CONVENTIONS["mmdet3d_v1"].read(rows)


def from_mmdet3d_v0(rows: Any) -> CanonicalBoxes:
    """Return canonical boxes of `LiDARInstance3DBoxes.tensor`, MMDetection3D 0.x and what vendored it: (N, 7 or 9)."""
    return CONVENTIONS["mmdet3d_v0"].read(rows)


def from_openpcdet(rows: Any) -> CanonicalBoxes:
    """Return canonical boxes of OpenPCDet's `pred_boxes`: (N, 7 or 9). Its labels start at 1."""
    return CONVENTIONS["openpcdet"].read(rows)


def from_det3d(rows: Any) -> CanonicalBoxes:
    """Return canonical boxes of det3d's `box3d_lidar`: (N, 7), or (N, 9) with velocities before the yaw."""
    return CONVENTIONS["det3d"].read(rows)


def to_mmdet3d_v1(boxes: Any, velocities: Any = None) -> NDArray[np.float64]:
    """Return canonical boxes as rows of MMDetection3D ≥ 1.0.0rc0."""
    return CONVENTIONS["mmdet3d_v1"].write(boxes, velocities)


def to_mmdet3d_v0(boxes: Any, velocities: Any = None) -> NDArray[np.float64]:
    """Return canonical boxes as rows of MMDetection3D 0.x."""
    return CONVENTIONS["mmdet3d_v0"].write(boxes, velocities)


def to_openpcdet(boxes: Any, velocities: Any = None) -> NDArray[np.float64]:
    """Return canonical boxes as rows of OpenPCDet."""
    return CONVENTIONS["openpcdet"].write(boxes, velocities)


def to_det3d(boxes: Any, velocities: Any = None) -> NDArray[np.float64]:
    """Return canonical boxes as rows of det3d."""
    return CONVENTIONS["det3d"].write(boxes, velocities)
