"""Frames as tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["interval_of", "print_table"]


def print_table(console: Any, title: str, frame: pl.DataFrame) -> None:
    """Print a frame; numbers stand right, floats have three digits.

    Args:
        console: Of rich.
        title: Line above the table.
        frame: What to print.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name, dtype in frame.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left")
    for row in frame.iter_rows():
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def interval_of(frame: pl.DataFrame, ends: Sequence[str]) -> pl.Series:
    """Return intervals as text, three digits each.

    Args:
        frame: Where the ends are.
        ends: Columns of the lower and the upper end.
    """
    return pl.Series([f"{low:.3f} – {high:.3f}" for low, high in frame.select(ends).iter_rows()], dtype=pl.String)


def _cell(value: object) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.3f}"
        case list():
            return ", ".join(str(item) for item in value)
        case _:
            return str(value)
