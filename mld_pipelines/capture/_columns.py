"""Columns as numpy and JSON: what the capture side handles, free of polars.

polars and delta-rs own thread pools that do not survive `fork`. A forked worker (gunicorn prefork, DataLoader) can
therefore capture and spool, which needs numpy alone, and leave the rest to another process.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from mld_pipelines.tables import TableSpec

__all__ = ["Columns", "Lists", "from_frame", "to_frame"]

Columns = dict[str, Any]
"""Column by name. A value is a numpy array (1-D, or 2-D float32 for vectors; masked for nulls), `Lists` of any length,
a list of strings or None with one entry per row, or a scalar that holds for every row. Instants are int64 µs since
1970, days int32."""


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """One list per row, of any length, as one array.

    Attributes:
        values: (total,) values of all rows; a masked array for nulls, a list for strings.
        offsets: (rows + 1,) int64; row i has `values[offsets[i]:offsets[i + 1]]`.
        absent: (rows,) rows that have no list at all, or None where all have one.
    """

    values: Any
    offsets: NDArray[np.int64]
    absent: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, rows: Sequence[NDArray[Any]]) -> Lists:
        """Return one list per array; arrays of more dimensions are flattened in C order."""
        flat = [np.ravel(row) for row in rows]
        offsets = np.cumsum([0, *(len(row) for row in flat)], dtype=np.int64)
        return cls(np.concatenate(flat) if flat else np.zeros(0), offsets)


def to_frame(
    spec: TableSpec, rows: int, columns: Mapping[str, Any], *, only: Sequence[str] | None = None
) -> pl.DataFrame:
    """Return columns as a frame with exactly the dtypes and order of a table.

    Args:
        spec: Table the rows are for.
        rows: Number of rows.
        columns: See `Columns`.
        only: Return these columns of the table alone, required ones or not; nulls where they are absent.
    """
    import polars as pl

    given = columns if only is None else {name: columns.get(name) for name in only}
    series = [_series(name, spec.column(name).data_type, rows, value) for name, value in given.items()]
    return spec.align(pl.DataFrame(series)) if only is None else pl.DataFrame(series)


def from_frame(frame: pl.DataFrame) -> Columns:
    """Return a frame of scalars and lists as columns that a spool can hold."""
    return {series.name: _plain(series) for series in frame}


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
    if isinstance(value, Lists):
        return _lists(name, dtype, value)
    if isinstance(value, list) and not isinstance(dtype, pl.List):
        return pl.Series(name, value, dtype=dtype)
    literal = pl.Series(name, [value], dtype=dtype) if not isinstance(value, int) else pl.Series(name, [value])
    return literal.cast(dtype).new_from_index(0, rows)


def _lists(name: str, dtype: pl.DataType, value: Lists) -> pl.Series:
    import polars as pl

    values = _series(name, dtype.inner, len(value.values), value.values)  # type: ignore[attr-defined]
    pieces = [values[start:stop] for start, stop in itertools.pairwise(value.offsets.tolist())]
    # asked for the dtype at once, polars would look at every value in Python: half of a driver's time (measured)
    lists = pl.Series(name, pieces).cast(dtype) if pieces else pl.Series(name, pieces, dtype=dtype)
    if value.absent is None:
        return lists
    return pl.select(pl.when(~pl.Series(value.absent)).then(lists).alias(name)).to_series()


def _plain(series: pl.Series) -> Any:
    import polars as pl

    if isinstance(series.dtype, pl.List):
        counts = series.list.len().fill_null(0).to_numpy()
        filled = series.filter(pl.Series(counts > 0)).explode()
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        absent = series.is_null().to_numpy() if series.null_count() else None
        return Lists(_plain(filled), offsets, absent)
    if not series.dtype.is_numeric():
        return series.to_list()
    if not series.null_count():
        return series.to_numpy()
    return np.ma.MaskedArray(series.fill_null(0).to_numpy(), series.is_null().to_numpy())
