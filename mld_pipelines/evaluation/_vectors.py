"""List columns of a frame as matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["to_matrix", "widths"]


def widths(frame: pl.DataFrame, column: str) -> list[int | None]:
    """Return the distinct list lengths of a column, None for null rows, smallest first."""
    return frame.select(pl.col(column).list.len().cast(pl.Int64).unique().sort(nulls_last=False)).to_series().to_list()


def to_matrix(frame: pl.DataFrame, column: str) -> npt.NDArray[np.float32]:
    """Return a list column as a C-contiguous (rows, width) float32 matrix.

    Args:
        frame: Rows whose lists all have one length.
        column: Name of a `List(Float32)` column without nulls.

    Raises:
        InvalidInputError: Rows differ in length or are null.
    """
    lengths = widths(frame, column)
    if len(lengths) != 1 or lengths[0] is None:
        raise InvalidInputError(
            f"column {column!r} holds vectors of widths {lengths} (None = missing); all rows of one epoch must agree. "
            "Trace the model again under one version_name, or give the changed model its own."
        )
    flat = frame[column].explode().to_numpy().astype(np.float32, copy=False)
    return np.ascontiguousarray(flat.reshape(frame.height, lengths[0]))
