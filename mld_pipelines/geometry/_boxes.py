"""What the box functions accept, and the columns that they compute with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import require_data

if TYPE_CHECKING:
    from types import ModuleType

    import torch
    from numpy.typing import NDArray

    Boxes = NDArray[Any] | torch.Tensor

__all__ = ["answer", "checked", "host", "is_tensor", "kin", "module_of", "prepare", "table"]

#: Largest coordinate or size that is believed, metres; squares of what lies below keep all their digits.
_FARTHEST = 1e9
_SIZES = slice(3, 6)


def is_tensor(values: Any) -> bool:
    """Tell whether a value is a torch tensor, without importing torch."""
    return hasattr(values, "detach") and hasattr(values, "device")


def module_of(values: Any) -> ModuleType:
    """Return `torch` for a tensor and `numpy` for everything else."""
    if is_tensor(values):
        import torch

        return torch
    return np


def kin(what: str, first: Any, second: Any) -> None:
    """Check that two batches can be computed with together.

    Raises:
        InvalidInputError: One is a tensor and the other is not, or they are on two devices.
    """
    if is_tensor(first) != is_tensor(second):
        raise InvalidInputError(
            f"{what} are a {type(first).__name__} and a {type(second).__name__}; pass two arrays or two tensors."
        )
    if is_tensor(first) and first.device != second.device:
        raise InvalidInputError(f"{what} are on {first.device} and on {second.device}; move one of them.")


def host(values: Any) -> NDArray[Any]:
    """Return an array or a tensor of any device and precision as an array."""
    if is_tensor(values):
        require_data("values", values)
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def answer(values: NDArray[Any], like: Any) -> Any:
    """Return an array in the kind and on the device of what was given."""
    if not is_tensor(like):
        return values
    import torch

    return torch.from_numpy(values).to(like.device)


def table(name: str, values: Any, width: int) -> NDArray[np.float64]:
    """Return values as (N, width) float64 on the CPU; nothing at all is (0, width)."""
    found = host(values).astype(np.float64)
    if found.size == 0:
        found = found.reshape(-1, width)
    if found.ndim != 2 or found.shape[1] != width:
        raise InvalidInputError(f"{name} have shape {found.shape}; (N, {width}) is needed.")
    return found


def checked(name: str, boxes: Any) -> Any:
    """Return canonical boxes as float64, in their kind and on their device.

    Raises:
        InvalidInputError: Not (N, 7) numbers, or a value that is not finite, or a negative size. Size 0 is allowed:
            such a box overlaps nothing.
    """
    if is_tensor(boxes):
        require_data(name, boxes)
        found = boxes.detach().double()
    else:
        found = np.asarray(boxes)
        if found.size == 0 and found.ndim < 2:
            found = np.empty((0, 7))
        if found.dtype.kind not in "iuf":
            raise InvalidInputError(f"{name} must be numbers, got {found.dtype}.")
        found = found.astype(np.float64, copy=False)
    if found.ndim != 2 or found.shape[1] != 7:
        raise InvalidInputError(
            f"{name} has shape {tuple(found.shape)}; (N, 7) is needed: cx, cy, cz, w, l, h, yaw. "
            "Conversions of other conventions are in mld_pipelines.geometry."
        )
    if len(found) and not (bool(abs(found).max() <= _FARTHEST) and bool(found[:, _SIZES].min() >= 0)):
        _refuse(name, host(found))
    return found


def _refuse(name: str, boxes: NDArray[np.float64]) -> None:
    """Name the first row that cannot be computed with."""
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(boxes) <= _FARTHEST).all(axis=1) | (boxes[:, _SIZES] < 0).any(axis=1)
    row = int(np.flatnonzero(bad)[0])
    raise InvalidInputError(
        f"{int(bad.sum())} of {len(boxes)} {name} are unusable; row {row} is {boxes[row].tolist()}. Values must be "
        f"finite and below {_FARTHEST:g} m, sizes not negative; nothing was computed."
    )


def prepare(boxes: Any, *, is_volume: bool) -> Any:
    """Return (10, N) float64: x, y, half l, half w, cos, sin, radius of the circumscribed circle, z, half h, measure.

    In the bird's-eye view every box is one metre high at height 0, so that volumes are areas.

    Args:
        boxes: (N, 7) canonical boxes that `checked` returned.
        is_volume: Whether heights count.
    """
    xp = module_of(boxes)
    x, y, z, width, length, height, yaw = boxes.T
    if not is_volume:
        z, height = 0.0 * z, 0.0 * height + 1.0
    half_l, half_w = 0.5 * length, 0.5 * width
    radius = xp.sqrt(half_l * half_l + half_w * half_w) * (1.0 + 4 * math.ulp(1.0))
    return xp.stack((x, y, half_l, half_w, xp.cos(yaw), xp.sin(yaw), radius, z, 0.5 * height, length * width * height))
