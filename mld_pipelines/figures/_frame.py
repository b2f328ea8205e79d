"""What a frame must have to be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

__all__ = ["check_columns"]


def check_columns(frame: pl.DataFrame, columns: Iterable[str | None]) -> None:
    """Refuse a frame that lacks a column to draw.

    Raises:
        InvalidInputError: A column is missing.
    """
    missing = sorted({name for name in columns if name is not None} - set(frame.columns))
    if missing:
        raise InvalidInputError(
            f"figure needs the columns {missing}; the frame has {frame.columns}. Nothing was drawn."
        )
