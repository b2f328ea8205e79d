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

__all__ = ["Columns", "Lists", "to_frame"]

Columns = dict[str, Any]
"""Column by name. A value is a numpy array (1-D, or 2-D float32 for vectors; masked for nulls), `Lists` of any length,
a list of strings or None with one entry per row, or a scalar that holds for every row. Instants are int64 µs since
1970, days int32."""


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """One list of numbers per row, of any length, as one array.

    Attributes:
        values: (total,) values of all rows.
        offsets: (rows + 1,) int64; row i has `values[offsets[i]:offsets[i + 1]]`.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[NDArray[Any]]) -> Lists:
        """Return one list per array; arrays of more dimensions are flattened in C order."""
        flat = [np.ravel(row) for row in rows]
        offsets = np.cumsum([0, *(len(row) for row in flat)], dtype=np.int64)
        return cls(np.concatenate(flat) if flat else np.zeros(0), offsets)


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
    if isinstance(value, Lists):
        values = pl.Series(value.values).cast(dtype.inner)  # type: ignore[attr-defined]
        pieces = [values[start:stop] for start, stop in itertools.pairwise(value.offsets.tolist())]
        return pl.Series(name, pieces, dtype=dtype)
    if isinstance(value, list) and not isinstance(dtype, pl.List):
        return pl.Series(name, value, dtype=dtype)
    literal = pl.Series(name, [value], dtype=dtype) if not isinstance(value, int) else pl.Series(name, [value])
    return literal.cast(dtype).new_from_index(0, rows)
