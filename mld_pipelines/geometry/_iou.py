"""Intersection over union of boxes, in the bird's-eye view and in space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry._boxes import answer, checked, host, is_tensor, kin, prepare
from mld_pipelines.geometry._engine import kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.geometry._boxes import Boxes

__all__ = ["bev_iou", "iou_3d"]


def bev_iou(a: Boxes, b: Boxes, *, aligned: bool = False) -> Any:
    """Return the IoU of boxes seen from above.

    Exact to rounding for boxes of any size and position, nearly equal ones included: errors stay below 1e-14 for sizes
    of traffic and below (longest / shortest side) × 1e-16 for slivers. A box without extent has IoU 0 with every box.

    Args:
        a: (N, 7) canonical boxes, an array or a tensor of any device.
        b: (M, 7) canonical boxes of the same kind.
        aligned: Whether box i of `a` is compared with box i of `b` only.

    Returns:
        (N, M), or (N,) if aligned: float64 in [0, 1], of the kind and on the device of the inputs.

    Raises:
        InvalidInputError: Shapes that do not fit, mixed devices, NaN, infinite values or negative sizes.

    Example:
        >>> car = [[10.0, 0.0, 0.5, 2.0, 4.0, 1.5, 0.0]]
        >>> turned = [[10.0, 0.0, 0.5, 2.0, 4.0, 1.5, 1.5707963267948966]]
        >>> bev_iou(car, turned).round(6).tolist()  # a 2 × 2 square of 8 + 8 - 4
        [[0.333333]]
    """
    return _iou(a, b, aligned=aligned, is_volume=False)


def iou_3d(a: Boxes, b: Boxes, *, aligned: bool = False) -> Any:
    """Return the IoU of boxes in space, which stand upright: overlap from above times overlap in height.

    Args:
        a: (N, 7) canonical boxes, an array or a tensor of any device.
        b: (M, 7) canonical boxes of the same kind.
        aligned: Whether box i of `a` is compared with box i of `b` only.

    Returns:
        (N, M), or (N,) if aligned: float64 in [0, 1], of the kind and on the device of the inputs.

    Raises:
        InvalidInputError: Shapes that do not fit, mixed devices, NaN, infinite values or negative sizes.
    """
    return _iou(a, b, aligned=aligned, is_volume=True)


def _iou(a: Any, b: Any, *, aligned: bool, is_volume: bool) -> Any:
    kin("the two batches of boxes", a, b)
    given = a
    a, b = checked("boxes of the first batch", a), checked("boxes of the second batch", b)
    if aligned and len(a) != len(b):
        raise InvalidInputError(f"{len(a)} and {len(b)} boxes cannot be compared one by one.")
    if is_tensor(a) and a.device.type != "cpu":
        return _whole(prepare(a, is_volume=is_volume), prepare(b, is_volume=is_volume), aligned)
    return answer(
        _compute(prepare(host(a), is_volume=is_volume), prepare(host(b), is_volume=is_volume), aligned), given
    )


def _compute(a: NDArray[np.float64], b: NDArray[np.float64], aligned: bool) -> NDArray[np.float64]:
    edges = kernels()
    if edges is None:
        found: NDArray[np.float64] = _whole(a, b, aligned)
        return found
    out = np.zeros(a.shape[1] if aligned else (a.shape[1], b.shape[1]))
    (edges.aligned if aligned else edges.pairwise)(a, b, out)
    return out


def _whole(a: Any, b: Any, aligned: bool) -> Any:
    from mld_pipelines.geometry import _arrays

    return _arrays.aligned(a, b) if aligned else _arrays.pairwise(a, b)
