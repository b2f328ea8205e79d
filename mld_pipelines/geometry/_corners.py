"""Corners of canonical boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.geometry._boxes import checked, host

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bev_corners", "corners_3d"]

#: Rear right, front right, front left, rear left: counter-clockwise seen from above.
_ALONG = np.array([-0.5, 0.5, 0.5, -0.5])
_ACROSS = np.array([-0.5, -0.5, 0.5, 0.5])


def bev_corners(boxes: Any) -> NDArray[np.float64]:
    """Return (N, 4, 2) corners seen from above: rear right, front right, front left, rear left (counter-clockwise).

    Args:
        boxes: (N, 7) canonical boxes.

    Raises:
        InvalidInputError: The boxes are unusable.
    """
    x, y, _, width, length, _, yaw = host(checked("boxes", boxes)).T[:, :, None]
    cos, sin = np.cos(yaw), np.sin(yaw)
    along, across = length * _ALONG, width * _ACROSS
    return np.stack((x + cos * along - sin * across, y + sin * along + cos * across), axis=-1)


def corners_3d(boxes: Any) -> NDArray[np.float64]:
    """Return (N, 8, 3) corners: the four of `bev_corners` at the bottom, then the same four on top.

    Args:
        boxes: (N, 7) canonical boxes.

    Raises:
        InvalidInputError: The boxes are unusable.
    """
    found = host(checked("boxes", boxes))
    flat = np.tile(bev_corners(found), (1, 2, 1))
    height = found[:, 2:3] + found[:, 5:6] * np.repeat([-0.5, 0.5], 4)
    return np.concatenate((flat, height[:, :, None]), axis=-1)
