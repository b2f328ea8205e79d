"""What a command answers, and its two renderings: for people and for scripts."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mld_pipelines.cli._exits import Exit

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

__all__ = ["Answer", "plain", "print_document", "print_text", "sheet_of", "table_of"]

_MAX_CELL = 60
"""Characters of a table cell; longer values are for `--json`."""


_PIPE_WIDTH = 1000
"""Columns where there is no terminal: whoever reads a pipe wants whole lines."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Outcome of a command.

    Attributes:
        data: The whole answer as JSON values, frames or dataclass-free mappings.
        text: Paragraphs and rich renderables for people, printed in order.
        exit: Exit status.
    """

    data: Any
    text: tuple[Any, ...] = ()
    exit: Exit = Exit.OK


def plain(value: Any) -> Any:  # noqa: PLR0911 - one return per JSON type
    """Return a value as strict JSON: frames as rows, times as ISO 8601, bytes as their length, NaN as null."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if hasattr(value, "to_dicts"):  # a polars frame, without importing polars for commands that need none
        return [plain(row) for row in value.to_dicts()]
    if hasattr(value, "to_list"):
        return plain(value.to_list())
    if hasattr(value, "item"):
        return plain(value.item())
    return str(value) if isinstance(value, Path) or not hasattr(value, "__dict__") else plain(vars(value))


def print_document(data: Any, stream: TextIO) -> None:
    """Write one JSON document and a newline."""
    stream.write(json.dumps(plain(data), ensure_ascii=False, allow_nan=False) + "\n")
    stream.flush()


def print_text(parts: tuple[Any, ...]) -> None:
    """Write paragraphs and tables to standard output; without a terminal there are no colours and no wrapping."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(soft_wrap=True, highlight=False, width=None if terminal else _PIPE_WIDTH)
    for part in parts:
        console.print(part, markup=False) if isinstance(part, str) else console.print(part)


def table_of(frame: pl.DataFrame, *, title: str | None = None) -> Table:
    """Return a frame as a rich table; numbers are rounded to three decimals for reading only."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name, dtype in frame.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*(_cell(value) for value in row))
    return table


def sheet_of(frame: pl.DataFrame, *, key: str, title: str) -> Table:
    """Return a frame of few rows and many columns on its side: one line per column, one column per row."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("")
    for name in frame[key]:
        table.add_column(str(name), justify="right")
    for column in frame.columns:
        if column != key:
            table.add_row(column, *(_cell(value) for value in frame[column]))
    return table


def _cell(value: Any) -> Any:
    from rich.text import Text

    if value is None:
        return Text("–", style="dim")
    if isinstance(value, float):
        shown = f"{value:.3f}"
    elif isinstance(value, datetime):
        shown = f"{value:%Y-%m-%d %H:%M:%S}"
    else:
        shown = json.dumps(plain(value), ensure_ascii=False) if isinstance(value, (list, dict)) else str(plain(value))
    return Text(shown if len(shown) <= _MAX_CELL else shown[: _MAX_CELL - 1] + "…")
