"""nuScenes annotations and results: boxes in the global frame with quaternions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry._boxes import table
from mld_pipelines.geometry._conventions import CanonicalBoxes
from mld_pipelines.records import wrap_yaw

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NuScenesBoxes", "from_nuscenes", "pose_matrix", "to_nuscenes"]


class NuScenesBoxes(NamedTuple):
    """Boxes as a nuScenes table or result file holds them.

    Attributes:
        translation: (N, 3) gravity centre, global frame, metres.
        size: (N, 3) width, length, height.
        rotation: (N, 4) unit quaternions w, x, y, z.
        velocity: (N, 2) m/s in the global frame; NaN where unknown.
    """

    translation: NDArray[np.float64]
    size: NDArray[np.float64]
    rotation: NDArray[np.float64]
    velocity: NDArray[np.float64]


def pose_matrix(translation: Any, rotation: Any) -> NDArray[np.float64]:
    """Return the (4, 4) matrix of a pose; LiDAR to global is `ego pose @ calibrated sensor`.

    Args:
        translation: (3,) metres.
        rotation: (4,) quaternion w, x, y, z.

    Raises:
        InvalidInputError: Shapes that do not fit, or a quaternion without length.
    """
    whole = np.eye(4)
    whole[:3, :3] = _rotations(np.reshape(np.asarray(rotation, np.float64), (1, -1)))[0]
    whole[:3, 3] = table("translation", np.reshape(np.asarray(translation, np.float64), (1, -1)), 3)[0]
    return whole


def from_nuscenes(
    translation: Any, size: Any, rotation: Any, *, velocity: Any = None, pose: Any = None
) -> CanonicalBoxes:
    """Return canonical boxes in the sensor frame. A tilt against it is dropped: boxes stand upright there.

    Args:
        translation: (N, 3) gravity centre, global frame.
        size: (N, 3) width, length, height.
        rotation: (N, 4) quaternions w, x, y, z.
        velocity: (N, 2) global m/s, NaN where unknown; or None.
        pose: (4, 4) from the sensor to the global frame, see `pose_matrix`; None: the boxes are in the sensor frame.

    Raises:
        InvalidInputError: Shapes that do not fit, or a quaternion without length.
    """
    centre, extent, turns = table("translations", translation, 3), table("sizes", size, 3), _rotations(rotation)
    if not len(centre) == len(extent) == len(turns):
        raise InvalidInputError(
            f"there are {len(centre)} translations, {len(extent)} sizes and {len(turns)} rotations; nothing was read."
        )
    matrix = _pose(pose)
    heading = turns[:, :, 0] @ matrix[:3, :3]  # the transpose brings directions back
    yaw = wrap_yaw(np.arctan2(heading[:, 1], heading[:, 0]))
    placed = (centre - matrix[:3, 3]) @ matrix[:3, :3]
    speed = np.full((len(centre), 2), math.nan) if velocity is None else table("velocities", velocity, 2)
    return CanonicalBoxes(np.column_stack((placed, extent, yaw)), speed @ matrix[:2, :2])


def to_nuscenes(boxes: Any, velocities: Any = None, *, pose: Any = None) -> NuScenesBoxes:
    """Return canonical boxes of the sensor frame as nuScenes writes them.

    Args:
        boxes: (N, 7) canonical boxes.
        velocities: (N, 2) m/s in the sensor frame, or None.
        pose: (4, 4) from the sensor to the global frame; None: stay in the sensor frame.

    Raises:
        InvalidInputError: Shapes that do not fit.
    """
    found, matrix = table("boxes", boxes, 7), _pose(pose)
    centre = found[:, :3] @ matrix[:3, :3].T + matrix[:3, 3]
    half = 0.5 * found[:, 6]
    zero = np.zeros(len(found))
    yaw = np.stack((np.cos(half), zero, zero, np.sin(half)), axis=1)
    speed = np.full((len(found), 2), math.nan) if velocities is None else table("velocities", velocities, 2)
    return NuScenesBoxes(
        centre, found[:, 3:6].copy(), _product(_quaternion(matrix[:3, :3]), yaw), speed @ matrix[:2, :2].T
    )


def _pose(pose: Any) -> NDArray[np.float64]:
    if pose is None:
        return np.eye(4)
    matrix = np.asarray(pose, np.float64)
    if matrix.shape != (4, 4) or not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6):
        raise InvalidInputError(f"pose is no (4, 4) rigid transformation: {matrix.tolist()}.")
    return matrix


def _rotations(quaternions: Any) -> NDArray[np.float64]:
    """Return (N, 3, 3) rotation matrices of quaternions w, x, y, z of any length above 0."""
    found = table("rotations", quaternions, 4)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        raise InvalidInputError(f"rotation {int(np.argmin(length))} is no quaternion: its length is {length.min()}.")
    w, x, y, z = (found / length).T
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.moveaxis(np.array(rows), -1, 0)


def _quaternion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quaternion of a rotation matrix: the eigenvector that does not turn (Bar-Itzhack, 2000)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    lower = np.array(
        [[a + e + i, h - f, c - g, d - b], [h - f, a - e - i, b + d, c + g], [c - g, b + d, e - a - i, f + h],
         [d - b, c + g, f + h, i - a - e]]
    )  # fmt: skip
    return np.asarray(np.linalg.eigh(lower)[1][:, -1])


def _product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the products of one quaternion with (N, 4)."""
    w, x, y, z = left
    rw, rx, ry, rz = right.T
    return np.stack(
        (
            w * rw - x * rx - y * ry - z * rz,
            w * rx + x * rw + y * rz - z * ry,
            w * ry - x * rz + y * rw + z * rx,
            w * rz + x * ry - y * rx + z * rw,
        ),
        axis=1,
    )
