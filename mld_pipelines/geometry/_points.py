"""Which points lie in which boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry._boxes import checked, is_tensor, kin, module_of

if TYPE_CHECKING:
    from mld_pipelines.geometry._boxes import Boxes

__all__ = ["points_in_boxes"]


def points_in_boxes(points: Boxes, boxes: Boxes) -> Any:
    """Tell which points lie in which boxes, faces included.

    Args:
        points: (P, 3 or more) x, y, z in metres, then whatever else; an array or a tensor of any device. A point that
            is not finite lies in no box.
        boxes: (N, 7) canonical boxes of the same kind.

    Returns:
        (N, P) bool, of the kind and on the device of the inputs; its sum over points is what `Truths3D.points` holds.

    Raises:
        InvalidInputError: Shapes that do not fit, mixed devices, unusable boxes.

    Example:
        >>> points_in_boxes([[1.9, 0.9, 0.0], [0.9, 1.9, 0.0]], [[0, 0, 0, 2, 4, 1, 0]]).tolist()
        [[True, False]]
    """
    kin("points and boxes", points, boxes)
    found = checked("boxes", boxes)
    cloud = points.detach().double() if is_tensor(points) else np.asarray(points, np.float64)  # type: ignore[union-attr]
    if cloud.ndim != 2 or cloud.shape[1] < 3:
        raise InvalidInputError(f"points have shape {tuple(cloud.shape)}; (P, 3 or more) is needed: x, y, z.")
    inside = _empty(found, len(cloud))
    # a box at a time: the intermediates of all boxes and 100,000 points would not fit any cache
    with np.errstate(invalid="ignore"):  # points at infinity
        for row in range(len(found)):
            inside[row] = _in_box(cloud, found[row])
    return inside


def _empty(boxes: Any, count: int) -> Any:
    if is_tensor(boxes):
        import torch

        return torch.zeros((len(boxes), count), dtype=torch.bool, device=boxes.device)
    return np.zeros((len(boxes), count), np.bool_)


def _in_box(cloud: Any, box: Any) -> Any:
    """Return the mask of points in one box."""
    x, y, z, width, length, height, yaw = box
    xp = module_of(box)
    cos, sin = xp.cos(yaw), xp.sin(yaw)
    dx, dy, dz = cloud[:, 0] - x, cloud[:, 1] - y, cloud[:, 2] - z
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    return (abs(along) <= 0.5 * length) & (abs(across) <= 0.5 * width) & (abs(dz) <= 0.5 * height)
