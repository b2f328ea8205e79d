"""Point clouds as callers give them: looked at before a detector sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

__all__ = ["check_points"]


def check_points(inputs: Any) -> None:
    """Refuse clouds with values that are not finite: a detector drops them unseen, or answers NaN everywhere.

    Args:
        inputs: One cloud, a list of them, or a mapping with `points`; anything else is not looked at.

    Raises:
        InvalidInputError: A value is NaN or infinite; nothing was recorded.
    """
    clouds = inputs.get("points") if isinstance(inputs, Mapping) else inputs
    for index, cloud in enumerate(clouds if isinstance(clouds, (list, tuple)) else [clouds]):
        broken = _broken(cloud)
        if broken:
            raise InvalidInputError(
                f"{broken} points of frame {index} hold NaN or infinite values; nothing of this batch was recorded. "
                "Remove such points (sensors mark missing returns by them) before the detector sees the cloud."
            )


def _broken(cloud: Any) -> int:
    """Return the rows of a cloud that are not finite."""
    if hasattr(cloud, "isfinite") and hasattr(cloud, "is_floating_point"):
        return 0 if not cloud.is_floating_point() else int((~cloud.isfinite().flatten(1).all(dim=1)).sum())
    if isinstance(cloud, np.ndarray) and cloud.dtype.kind == "f" and cloud.ndim:
        return int((~np.isfinite(cloud.reshape(len(cloud), -1)).all(axis=1)).sum())
    return 0
