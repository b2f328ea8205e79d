"""A result as files: Parquet, CSV or JSON tables, or the report of one page."""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.exceptions import ExportError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EXPORT_FORMATS", "EXPORT_TABLES", "Exported", "export_files"]

EXPORT_FORMATS = ("parquet", "csv", "json", "html")
EXPORT_TABLES = ("units", "metrics", "issues", "codes")
_SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".html": "html", ".htm": "html"}
_FACTS = "result.json"

#: A spreadsheet runs a cell that starts so as a formula; a plain number is none.
_FORMULA = re.compile(r"^[=+\-@\t\r]")
_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")

Writer = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Exported:
    """What there is to write; each part is made when it is asked for.

    Attributes:
        facts: What the result is and was computed from.
        tables: Frames by name, of `EXPORT_TABLES`.
        report: The page.
    """

    facts: Callable[[], Mapping[str, Any]]
    tables: Mapping[str, Callable[[], pl.DataFrame]]
    report: Callable[[], str]


def export_files(
    content: Exported,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    table: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write a result to a file, or to a folder of files; returns what was written.

    Every target is checked before the first is written, and a file appears whole or not at all.

    Args:
        content: What to write.
        path: A file whose suffix is the format, or a folder.
        format: `parquet`, `csv`, `json` or `html`; None takes the suffix, and Parquet for a folder.
        table: The one table of a Parquet or CSV file; None takes the file's name (`issues.csv`).
        overwrite: Replace files that exist.

    Raises:
        InvalidInputError: The format or table is unknown, or contradicts the suffix.
        ExportError: A file exists already, or cannot be written.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInputError(f"path is a {type(path).__name__}; give a file or a folder. Nothing was written.")
    target = Path(path).expanduser()
    kind, is_folder = _kind(target, format)
    writers = _folder(content, target, kind, table) if is_folder else {target: _one(content, target, kind, table)}
    existing = [file for file in writers if file.exists() or file.is_symlink()]
    if existing and not overwrite:
        raise ExportError(
            f"{existing[0]} exists already; nothing was written. Choose another path, or pass overwrite=True "
            "(`--overwrite`)."
        )
    for file, write in writers.items():
        _replace(file, write())
    return list(writers)


def _kind(target: Path, wanted: str | None) -> tuple[str, bool]:
    if wanted is not None and wanted not in EXPORT_FORMATS:
        raise InvalidInputError(f"unknown format {wanted!r}; these exist: {', '.join(EXPORT_FORMATS)}.")
    if target.is_dir():
        return wanted or "parquet", True
    suffix = target.suffix.lower()
    by_suffix = _SUFFIXES.get(suffix)
    if wanted is not None and by_suffix not in (None, wanted):
        raise InvalidInputError(f"{target.name!r} is named like {by_suffix}, but the format asked for is {wanted!r}.")
    if by_suffix is None and suffix and wanted is None:
        raise InvalidInputError(
            f"{target.name!r} names no format; use one of {', '.join(_SUFFIXES)}, a folder, or pass format= "
            "(`--format`)."
        )
    return by_suffix or wanted or "parquet", by_suffix is None


def _folder(content: Exported, folder: Path, kind: str, table: str | None) -> dict[Path, Writer]:
    if kind == "html":
        return {folder / "report.html": _one(content, folder / "report.html", kind, table)}
    if kind == "json":
        return {folder / _FACTS: _one(content, folder / _FACTS, kind, table)}
    names = EXPORT_TABLES if table is None else (_known_table(table),)
    files = {folder / f"{name}.{kind}": _one(content, folder / f"{name}.{kind}", kind, name) for name in names}
    return files | {folder / _FACTS: lambda: _document(content.facts())}


def _one(content: Exported, file: Path, kind: str, table: str | None) -> Writer:
    if kind in {"html", "json"} and table is not None:
        raise InvalidInputError(f"a {kind} file holds the whole result; leave out table={table!r}.")
    if kind == "html":
        return lambda: content.report().encode()
    if kind == "json":
        return lambda: _document({**content.facts(), **{name: content.tables[name]() for name in EXPORT_TABLES}})
    name = _known_table(table if table is not None else file.stem)
    encode = _parquet if kind == "parquet" else _csv
    return lambda: encode(content.tables[name]())


def _known_table(name: str) -> str:
    if name not in EXPORT_TABLES:
        raise InvalidInputError(
            f"{name!r} is no table of a result; name the file after one of {', '.join(EXPORT_TABLES)}, pass table=, "
            "or give a folder to write all of them."
        )
    return name


def _replace(file: Path, data: bytes) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ExportError(
            f"cannot write {file}: {error.strerror or error}. An earlier file of that name is unchanged; choose a "
            "path that can be written."
        ) from error


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _csv(frame: pl.DataFrame) -> bytes:
    """Return CSV: lists as JSON, and text that a spreadsheet would run as a formula behind an apostrophe."""
    columns = [_flat(frame[name]) for name in frame.columns]
    return pl.DataFrame(columns).write_csv(float_precision=None).encode()


def _flat(series: pl.Series) -> pl.Series:
    values: Sequence[Any]
    if series.dtype.is_nested():
        values = [
            None if value is None else json.dumps(_plain(value), ensure_ascii=False) for value in series.to_list()
        ]
    elif series.dtype == pl.String:
        values = [_harmless(value) if isinstance(value, str) else value for value in series]
    else:
        return series
    return pl.Series(series.name, values, dtype=pl.String)


def _harmless(text: str) -> str:
    return "'" + text if _FORMULA.match(text) and not _NUMBER.match(text) else text


def _document(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(_plain(values), ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def _plain(value: Any) -> Any:
    """Return a value as strict JSON: frames as rows, times as ISO 8601, numbers that are not finite as null."""
    if isinstance(value, pl.DataFrame):
        return [_plain(row) for row in value.to_dicts()]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, (date, datetime)) else value
