"""Frames that fit any table, made from its declaration alone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from mld_pipelines.tables import AtLeast, Between, LengthIs, Matches, OneOf, Sizes3D

if TYPE_CHECKING:
    from collections.abc import Callable

    from mld_pipelines.tables import Column, TableSpec

_HEX = "0123456789abcdef" * 4
_TEXTS = ("m@v", "module:function", _HEX, "text")


def sample_value(column: Column, row: int) -> Any:
    """A value that obeys the column's rules and differs from row to row where it can."""
    dtype = column.data_type
    if isinstance(dtype, pl.List):
        if any(isinstance(rule, Sizes3D) for rule in column.rules):
            return [0.5] * 14
        size = next((rule.low for rule in column.rules if isinstance(rule, LengthIs)), 2)
        inner = f"x{row}" if dtype.inner == pl.String else row if dtype.inner == pl.Int64 else 0.5
        return [inner] * size
    for rule in column.rules:
        if isinstance(rule, OneOf):
            return rule.values[row % len(rule.values)]
        if isinstance(rule, Matches):
            import re

            return next(text for text in _TEXTS if re.search(rule.pattern, text))
        if isinstance(rule, Between) and dtype.is_float():
            return rule.low + (rule.high - rule.low) / 2
    if any(isinstance(rule, AtLeast) for rule in column.rules):
        return row + 1 if dtype.is_integer() else row + 1.5
    return {
        pl.String: f"text {row}",
        pl.Boolean: bool(row % 2),
        pl.Date: date(2026, 1, 1 + row),
        pl.Datetime: datetime(2026, 1, 1, 0, 0, row, tzinfo=UTC),
        pl.Binary: bytes([row]),
    }.get(type(dtype), row + 1 if dtype.is_integer() else row + 0.5)


def sample_frame(spec: TableSpec, n: int = 3) -> pl.DataFrame:
    """`n` valid rows of a table."""
    return pl.DataFrame(
        {c.name: pl.Series([sample_value(c, row) for row in range(n)], dtype=c.data_type) for c in spec.columns}
    )


@pytest.fixture
def sample() -> Callable[..., pl.DataFrame]:
    """The maker of valid rows of any table."""
    return sample_frame
