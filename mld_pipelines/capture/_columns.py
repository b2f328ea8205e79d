"""Columns as numpy and JSON: what the capture side handles, free of polars.

polars and delta-rs own thread pools that do not survive `fork`. A forked worker (gunicorn prefork, DataLoader) can
therefore capture and spool, which needs numpy alone, and leave the rest to another process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from mld_pipelines.tables import TableSpec

__all__ = ["Columns", "concatenate", "to_frame"]

Columns = dict[str, Any]
"""Column by name. A value is a numpy array (1-D, or 2-D float32 for vectors; masked for nulls), a list of strings or
None with one entry per row, or a scalar that holds for every row. Instants are int64 µs since 1970, days int32."""


def concatenate(parts: Sequence[tuple[int, Columns]]) -> tuple[int, Columns]:
    """Return several batches as one.

    Args:
        parts: `(rows, columns)` with equal column names and vector widths.
    """
    if len(parts) == 1:
        return parts[0]
    total = sum(rows for rows, _ in parts)
    first = parts[0][1]
    return total, {name: _joined([(rows, columns[name]) for rows, columns in parts]) for name in first}


def _joined(pieces: list[tuple[int, Any]]) -> Any:
    values = [value for _, value in pieces]
    if not any(isinstance(value, (list, np.ndarray)) for value in values):
        if all(type(value) is type(values[0]) and value == values[0] for value in values):
            return values[0]
        return _spread(pieces)
    if any(isinstance(value, list) for value in values):
        return [item for rows, value in pieces for item in (value if isinstance(value, list) else [value] * rows)]
    arrays = [value if isinstance(value, np.ndarray) else np.full(rows, value) for rows, value in pieces]
    if any(isinstance(value, np.ma.MaskedArray) for value in arrays):
        return np.ma.concatenate(arrays)  # type: ignore[no-untyped-call]
    return np.concatenate(arrays)


def _spread(pieces: list[tuple[int, Any]]) -> Any:
    """Write scalars that differ between batches out as one value per row."""
    if any(isinstance(value, (str, type(None))) for _, value in pieces):
        known = [value for _, value in pieces if value is not None]
        if known and not isinstance(known[0], str):  # numbers with gaps
            filled = [(rows, known[0] if value is None else value, value is None) for rows, value in pieces]
            data = np.concatenate([np.full(rows, value) for rows, value, _ in filled])
            mask = np.concatenate([np.full(rows, gap) for rows, _, gap in filled])
            return np.ma.MaskedArray(data, mask)
        return [value for rows, value in pieces for _ in range(rows)]
    return np.concatenate([np.full(rows, value) for rows, value in pieces])


def to_frame(spec: TableSpec, rows: int, columns: Mapping[str, Any]) -> pl.DataFrame:
    """Return columns as a frame with exactly the dtypes and order of a table.

    Args:
        spec: Table the rows are for.
        rows: Number of rows.
        columns: See `Columns`.
    """
    import polars as pl

    series = [_series(name, spec.column(name).data_type, rows, value) for name, value in columns.items()]
    return spec.align(pl.DataFrame(series))


def _series(name: str, dtype: pl.DataType, rows: int, value: Any) -> pl.Series:
    import polars as pl

    if isinstance(value, np.ma.MaskedArray):
        plain = _series(name, dtype, rows, value.data)
        gaps = pl.Series(np.ma.getmaskarray(value))
        return pl.select(pl.when(gaps).then(None).otherwise(plain).alias(name)).to_series()
    if isinstance(value, np.ndarray):
        if value.ndim == 2:
            return pl.Series(name, np.ascontiguousarray(value)).arr.to_list().cast(dtype)
        return pl.Series(name, np.ascontiguousarray(value)).cast(dtype)
    if isinstance(value, list) and not isinstance(dtype, pl.List):
        return pl.Series(name, value, dtype=dtype)
    literal = pl.Series(name, [value], dtype=dtype) if not isinstance(value, int) else pl.Series(name, [value])
    return literal.cast(dtype).new_from_index(0, rows)
