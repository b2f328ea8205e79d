"""Point clouds as callers give them: looked at before a detector sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import require_data

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_points"]

_NO_CLOUDS = (str, bytes, bool, int, float, type(None), list, tuple)
"""What Python itself makes of a mistake; anything else a model of the user's own may take."""

_LEAST_COLUMNS = 3
"""x, y and z; some detectors take no intensity."""


def check_points(inputs: Any) -> None:
    """Refuse what is no cloud, and clouds with values that are not finite: a detector drops them, or answers NaN.

    Args:
        inputs: One cloud, a list of them, or a mapping with `points`; objects of other libraries are not looked at.

    Raises:
        InvalidInputError: A value is NaN or infinite, or an input is no cloud at all; nothing was recorded.
    """
    if not isinstance(inputs, Mapping):
        _check_forms(inputs)
    for index, cloud in enumerate(_clouds(inputs)):
        broken = _broken(cloud)
        if broken:
            raise InvalidInputError(
                f"{broken} points of frame {index} hold NaN or infinite values; nothing of this batch was recorded. "
                "Remove such points (sensors mark missing returns by them) before the detector sees the cloud."
            )


def _check_forms(inputs: Any) -> None:
    for index, cloud in enumerate(inputs if isinstance(inputs, (list, tuple)) else [inputs]):
        is_thin = getattr(cloud, "ndim", 0) in {2, 3} and cloud.shape[-1] < _LEAST_COLUMNS
        if isinstance(cloud, _NO_CLOUDS) or getattr(cloud, "ndim", 2) < 2 or is_thin:
            what = f"has shape {tuple(cloud.shape)}" if hasattr(cloud, "shape") else f"is a {type(cloud).__name__}"
            raise InvalidInputError(
                f"frame {index} of the inputs {what}; give one tensor (N, 4+), a list of them, or the dict of the code "
                "base. Nothing was recorded."
            )


def _clouds(inputs: Any) -> Iterator[Any]:
    """Yield the clouds of an input in whatever it nests them: test-time augmentation, loaders, stacked batches."""
    if type(inputs).__name__ == "DataContainer":  # of MMDetection3D's loaders
        inputs = inputs.data
    if isinstance(inputs, Mapping):
        yield from _clouds(inputs.get("points", inputs.get("inputs")))
    elif isinstance(inputs, (list, tuple)) or getattr(inputs, "ndim", 0) == 3:
        for one in inputs:
            yield from _clouds(one)
    elif inputs is not None:
        yield inputs


def _broken(cloud: Any) -> int:
    """Return the rows of a cloud that are not finite."""
    require_data("points", cloud)
    if hasattr(cloud, "isfinite") and hasattr(cloud, "is_floating_point"):
        is_cloud = cloud.is_floating_point() and cloud.ndim >= 2
        return int((~cloud.isfinite().flatten(1).all(dim=1)).sum()) if is_cloud else 0
    if isinstance(cloud, np.ndarray) and cloud.dtype.kind == "f" and cloud.ndim:
        return int((~np.isfinite(cloud.reshape(len(cloud), -1)).all(axis=1)).sum())
    return 0
