"""KITTI labels: boxes that stand upright in the rectified camera frame (x right, y down, z forward)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry._boxes import table
from mld_pipelines.records import wrap_yaw

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KittiCalibration", "from_kitti_camera", "to_kitti_camera"]

_DOWN = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True, slots=True, eq=False)
class KittiCalibration:
    """Where the rectified camera is, seen from the LiDAR.

    Attributes:
        rectification: (3, 3), `R0_rect` of a calibration file.
        velodyne_to_camera: (3, 4), `Tr_velo_to_cam` of a calibration file.
    """

    rectification: NDArray[np.float64]
    velodyne_to_camera: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check the shapes."""
        for name, shape in (("rectification", (3, 3)), ("velodyne_to_camera", (3, 4))):
            values = np.asarray(getattr(self, name), np.float64)
            if values.shape != shape or not np.isfinite(values).all():
                raise InvalidInputError(f"{name} has shape {values.shape}; finite {shape} is needed.")
            object.__setattr__(self, name, values)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(4, 4) from LiDAR to rectified camera coordinates."""
        whole = np.eye(4)
        whole[:3] = self.rectification @ self.velodyne_to_camera
        return whole


def from_kitti_camera(
    location: Any, dimensions: Any, rotation_y: Any, *, calibration: KittiCalibration
) -> NDArray[np.float64]:
    """Return (N, 7) canonical boxes in the LiDAR frame.

    The gravity centre is transformed as it is. The camera is tilted by a degree against the LiDAR, so the heading is
    transformed and seen from above; code bases that take -rotation_y - π/2 ignore the tilt (up to 0.02 rad).

    Args:
        location: (N, 3) x, y, z of the bottom centre in camera coordinates, as in a label file.
        dimensions: (N, 3) height, width, length, as in a label file.
        rotation_y: (N,) about the camera's y axis; 0 heads along +x of the camera.
        calibration: Calibration of the frame.

    Raises:
        InvalidInputError: Shapes that do not fit.
    """
    bottom, size, angle = _label(location, dimensions, rotation_y)
    centre = bottom - 0.5 * size[:, :1] * _DOWN
    to_lidar = np.linalg.inv(calibration.matrix)
    placed = centre @ to_lidar[:3, :3].T + to_lidar[:3, 3]
    heading = np.stack((np.cos(angle), np.zeros_like(angle), -np.sin(angle)), axis=1) @ to_lidar[:3, :3].T
    yaw = wrap_yaw(np.arctan2(heading[:, 1], heading[:, 0]))
    return np.column_stack((placed, size[:, 1], size[:, 2], size[:, 0], yaw))


def to_kitti_camera(
    boxes: Any, *, calibration: KittiCalibration
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return location (N, 3), dimensions (N, 3: height, width, length) and rotation_y (N,) of canonical boxes.

    Exactly what `from_kitti_camera` turns into these boxes.

    Args:
        boxes: (N, 7) canonical boxes in the LiDAR frame.
        calibration: Calibration of the frame.

    Raises:
        InvalidInputError: Shapes that do not fit.
    """
    found = table("boxes", boxes, 7)
    size = found[:, [5, 3, 4]]
    matrix = calibration.matrix
    centre = found[:, :3] @ matrix[:3, :3].T + matrix[:3, 3]
    # the angle whose heading, brought to the LiDAR and seen from above, is the yaw: right cos - forward sin
    (right_x, right_y), (forward_x, forward_y) = np.linalg.inv(matrix)[:2, [0, 2]].T
    cos, sin = np.cos(found[:, 6]), np.sin(found[:, 6])
    angle = np.arctan2(cos * right_y - sin * right_x, cos * forward_y - sin * forward_x)
    ahead = cos * (right_x * np.cos(angle) - forward_x * np.sin(angle))
    ahead += sin * (right_y * np.cos(angle) - forward_y * np.sin(angle))
    angle = wrap_yaw(np.where(ahead < 0, angle + np.pi, angle))
    return centre + 0.5 * size[:, :1] * _DOWN, size, angle


def _label(
    location: Any, dimensions: Any, rotation_y: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    bottom, size = table("locations", location, 3), table("dimensions", dimensions, 3)
    angle = np.asarray(rotation_y, np.float64).reshape(-1)
    if not len(bottom) == len(size) == len(angle):
        raise InvalidInputError(
            f"there are {len(bottom)} locations, {len(size)} dimensions and {len(angle)} rotations; nothing was read."
        )
    return bottom, size, angle
