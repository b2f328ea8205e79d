"""Columns over a batch of frames: the n-th frame owns the rows from `offsets[n]` to `offsets[n + 1]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import Field

    from numpy.typing import NDArray

__all__ = ["FrameColumns", "column"]


def column(dtype: type, *, width: int | None = None, unknown: float | None = None) -> Any:
    """Return the dataclass field of one column.

    Args:
        dtype: NumPy type that the column is stored as.
        width: Columns of a row, or None for one value per row.
        unknown: What an absent column is filled with; None makes the column mandatory.
    """
    metadata = {"dtype": dtype, "width": width, "unknown": unknown}
    return field(metadata=metadata) if unknown is None else field(default=None, metadata=metadata)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameColumns:
    """Columns that share one split into frames. `len()` counts rows, `frames` counts frames; both may be 0.

    Arrays and CPU or GPU tensors are accepted; what has the column's type already is not copied.

    Attributes:
        offsets: (F + 1,) int64, from 0 to the number of rows, never falling.
    """

    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Bring every column to its type and check that they fit together."""
        offsets = plain(self.offsets)
        _check_offsets(offsets)
        object.__setattr__(self, "offsets", offsets.astype(np.int64, copy=False))
        rows = int(offsets[-1])
        for one in self.columns():
            object.__setattr__(self, one.name, _checked(one, getattr(self, one.name), rows))
        self.check()

    def check(self) -> None:
        """Check the values of the columns; raises `InvalidInputError`."""

    @classmethod
    def columns(cls) -> tuple[Field[Any], ...]:
        """Return the fields that hold one row per object."""
        return tuple(one for one in fields(cls) if "dtype" in one.metadata)

    @classmethod
    def from_frames(cls, frames: Sequence[Any]) -> Self:
        """Join frames, each a mapping of columns or an object with the columns as attributes.

        Raises:
            InvalidInputError: A frame lacks a mandatory column, or a column does not fit.
        """
        given = [[_column_of(frame, one) for one in cls.columns()] for frame in frames]
        lengths = [_rows(index, cls.columns(), values) for index, values in enumerate(given)]
        offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64)
        joined = {
            one.name: _joined(one, [values[position] for values in given], lengths)
            for position, one in enumerate(cls.columns())
        }
        return cls(offsets=offsets, **joined)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """(F,) int64, rows in each frame."""
        return np.diff(self.offsets)

    @property
    def frame_index(self) -> NDArray[np.int64]:
        """(N,) int64, number of the frame that each row belongs to."""
        return np.repeat(np.arange(self.frames, dtype=np.int64), self.counts)

    def frame(self, index: int) -> Self:
        """Return one frame as a batch of one; its arrays are views.

        Raises:
            InvalidInputError: There is no such frame.
        """
        if not 0 <= index < self.frames:
            raise InvalidInputError(
                f"frame {index} does not exist: the batch has {self.frames} frames, counted from 0."
            )
        rows = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        part = {one.name: getattr(self, one.name)[rows] for one in self.columns()}
        return type(self)(offsets=np.array([0, rows.stop - rows.start], np.int64), **part)

    def take(self, rows: NDArray[Any] | Sequence[int] | Sequence[bool]) -> Self:
        """Return the chosen rows in all frames, emptied frames included.

        Args:
            rows: Boolean mask of (N,), or indices of rows. Rows of a frame come in the order of the indices; frames
                keep their own.

        Raises:
            InvalidInputError: The mask has another length, or an index is out of range.
        """
        chosen = _chosen(np.asarray(rows), len(self))
        frame = self.frame_index[chosen]
        order = np.argsort(frame, kind="stable")
        counts = np.bincount(frame, minlength=self.frames)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        part = {one.name: getattr(self, one.name)[chosen[order]] for one in self.columns()}
        return type(self)(offsets=offsets, **part)

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __eq__(self, other: object) -> bool:
        """Compare by value; unknown (NaN) equals unknown."""
        if type(other) is not type(self):
            return NotImplemented
        if not np.array_equal(self.offsets, other.offsets):
            return False
        return all(
            np.array_equal(getattr(self, one.name), getattr(other, one.name), equal_nan=True) for one in self.columns()
        )

    __hash__ = None  # type: ignore[assignment] # arrays can change


def plain(values: Any) -> NDArray[Any]:
    """Return a tensor of any device, an array or a sequence as an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def _check_offsets(offsets: NDArray[Any]) -> None:
    if offsets.ndim != 1 or len(offsets) == 0 or offsets.dtype.kind not in "iu":
        raise InvalidInputError(
            f"offsets must be one-dimensional integers, one more than there are frames; got shape {offsets.shape} of "
            f"{offsets.dtype}. For no frames at all pass [0]."
        )
    if offsets[0] != 0:
        raise InvalidInputError(f"offsets must begin with 0, got {offsets[0]}.")
    falling = np.flatnonzero(offsets[1:] < offsets[:-1])
    if len(falling):
        at = int(falling[0])
        raise InvalidInputError(
            f"offsets must never fall, but frame {at} runs from {offsets[at]} to {offsets[at + 1]}."
        )


def _checked(one: Field[Any], values: Any, rows: int) -> NDArray[Any]:
    """Return a column in its type and shape."""
    width, dtype = one.metadata["width"], np.dtype(one.metadata["dtype"])
    shape = (rows,) if width is None else (rows, width)
    if values is None and one.metadata["unknown"] is not None:
        return np.full(shape, one.metadata["unknown"], dtype)
    array = plain(values)
    if array.size == 0 and rows == 0:
        return np.empty(shape, dtype)
    if array.shape != shape:
        raise InvalidInputError(
            f"{one.name} has shape {array.shape}; {shape} is needed, since offsets end at {rows} rows."
        )
    if array.dtype.kind not in ("iu" if dtype.kind == "i" else "iuf"):
        raise InvalidInputError(
            f"{one.name} must be {dtype}, or convertible without loss of meaning; got {array.dtype}."
        )
    return array.astype(dtype, copy=False)


def _column_of(frame: Any, one: Field[Any]) -> Any:
    if isinstance(frame, Mapping):
        return frame.get(one.name)
    return getattr(frame, one.name, None)


def _rows(index: int, columns: tuple[Field[Any], ...], values: list[Any]) -> int:
    """Return the rows of one frame; a mandatory column that is absent and columns of other lengths are refused."""
    lengths = {one.name: len(value) for one, value in zip(columns, values, strict=True) if value is not None}
    missing = [one.name for one in columns if one.metadata["unknown"] is None and one.name not in lengths]
    if missing:
        raise InvalidInputError(f"frame {index} lacks {', '.join(missing)}; nothing was joined.")
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(f"columns of frame {index} differ in length: {lengths}; nothing was joined.")
    return next(iter(lengths.values()))


def _joined(one: Field[Any], values: list[Any], lengths: list[int]) -> Any:
    """Return one column of all frames; None where no frame has it."""
    if one.metadata["unknown"] is not None and all(value is None for value in values):
        return None
    parts = [_checked(one, value, rows) for value, rows in zip(values, lengths, strict=True)]
    return np.concatenate(parts) if parts else []


def _chosen(rows: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Return a mask or indices as checked indices."""
    if rows.dtype == np.bool_:
        if rows.shape != (count,):
            raise InvalidInputError(f"the mask has shape {rows.shape}, but there are {count} rows.")
        return np.flatnonzero(rows)
    if rows.size == 0:
        return np.empty(0, np.intp)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise InvalidInputError(f"rows are chosen by a mask or by integers, not by {rows.dtype} of shape {rows.shape}.")
    if rows.min() < 0 or rows.max() >= count:
        raise InvalidInputError(f"row indices run from {rows.min()} to {rows.max()}, but there are {count} rows.")
    return rows.astype(np.intp, copy=False)
