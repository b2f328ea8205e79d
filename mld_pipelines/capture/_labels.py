"""Class labels as callers give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["class_labels"]


def class_labels(labels: Any) -> NDArray[np.int64]:
    """Return labels of any integer form as (N,) int64 on the CPU.

    Args:
        labels: Tensor of any device, array or sequence of N integers, shape (N,) or (N, 1).

    Raises:
        InvalidInputError: Labels are floats, booleans or more than one per input, or negative.
    """
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
