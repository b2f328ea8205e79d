"""Class labels as callers give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import require_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["class_labels"]

_BOX_WIDTH = 7
"""Values of a canonical 3D box."""


def class_labels(labels: Any) -> NDArray[np.int64]:
    """Return labels of any integer form as (N,) int64 on the CPU.

    Args:
        labels: Tensor of any device, array or sequence of N integers, shape (N,) or (N, 1).

    Raises:
        InvalidInputError: Labels are floats, booleans or more than one per input, or negative.
    """
    if _are_boxes(labels):
        raise InvalidInputError(
            "labels are boxes, but only class indices can be given to an inference later: true boxes belong to a trace "
            "(`ObjectDetection3DTracer`). Nothing was recorded."
        )
    require_data("labels", labels)
    try:
        values = labels.detach().cpu().numpy() if hasattr(labels, "detach") else np.asarray(labels)
    except ValueError as error:  # lists of different lengths
        raise InvalidInputError(
            f"labels cannot be read as one class index per input ({error}). Nothing was recorded."
        ) from error
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise InvalidInputError(
            f"labels have shape {values.shape}; give one class index per input, shape (N,). Nothing was recorded."
        )
    if len(values) and values.dtype.kind not in "iu":
        raise InvalidInputError(f"labels have dtype {values.dtype}; give integer class indices. Nothing was recorded.")
    if len(values) and int(values.min()) < 0:
        raise InvalidInputError(
            f"label {int(values.min())} is negative; class indices start at 0. Nothing was recorded."
        )
    return values.astype(np.int64)


def _are_boxes(labels: Any) -> bool:
    """Whether labels are what a detector's targets look like: mappings, or rows of 7 numbers."""
    if isinstance(labels, Mapping):
        return True
    if isinstance(labels, Sequence) and not isinstance(labels, str):
        return any(isinstance(one, Mapping) for one in labels)
    shape = tuple(getattr(labels, "shape", ()))
    return len(shape) > 1 and shape[-1] == _BOX_WIDTH
