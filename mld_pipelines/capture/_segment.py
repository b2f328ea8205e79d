"""Segments: batches of one stream and table as one file that is whole or refused."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.capture._columns import Lists
from mld_pipelines.exceptions import MldError

if TYPE_CHECKING:
    from mld_pipelines.capture._columns import Columns

__all__ = ["CorruptSegmentError", "Segment", "decode", "encode"]

_MAGIC = b"MLDSEG1\n"
_LENGTHS = struct.Struct("<IQI")  # bytes of the header, bytes of the body, CRC-32 of both


class CorruptSegmentError(MldError):
    """A spooled file was cut off or changed; it is kept aside."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive batches of one stream for one table.

    Attributes:
        table: Table the rows are for.
        stream_id: Stream the rows belong to.
        first_seq: Number of the first batch.
        last_seq: Number of the last batch.
        rows: Number of rows.
        is_repeatable: The stream may be sent again with another cut, so batches are committed one by one.
        columns: See `Columns`.
    """

    table: str
    stream_id: str
    first_seq: int
    last_seq: int
    rows: int
    is_repeatable: bool
    columns: Columns


def encode(segment: Segment) -> bytes:
    """Return the segment as bytes: magic, lengths with CRC-32, JSON header, raw little-endian buffers."""
    buffers: list[bytes] = []
    described = {name: _describe(value, buffers) for name, value in segment.columns.items()}
    header = json.dumps(
        {
            "table": segment.table,
            "stream_id": segment.stream_id,
            "first_seq": segment.first_seq,
            "last_seq": segment.last_seq,
            "rows": segment.rows,
            "is_repeatable": segment.is_repeatable,
            "columns": described,
        }
    ).encode()
    body = b"".join(buffers)
    return _MAGIC + _LENGTHS.pack(len(header), len(body), zlib.crc32(body, zlib.crc32(header))) + header + body


def decode(data: bytes) -> Segment:
    """Return the segment behind bytes made by `encode`.

    Raises:
        CorruptSegmentError: The bytes are cut off or were changed.
    """
    start = len(_MAGIC) + _LENGTHS.size
    if len(data) < start or not data.startswith(_MAGIC):
        raise CorruptSegmentError(f"{len(data)} bytes without the head of a segment.")
    header_size, body_size, checksum = _LENGTHS.unpack_from(data, len(_MAGIC))
    header, body = data[start : start + header_size], memoryview(data)[start + header_size :]
    if len(header) != header_size or len(body) != body_size or zlib.crc32(body, zlib.crc32(header)) != checksum:
        raise CorruptSegmentError(f"{len(data)} bytes whose CRC-32 does not fit.")
    fields: dict[str, Any] = json.loads(header)
    cursor = _Cursor(body)
    columns = {name: cursor.read(description) for name, description in fields.pop("columns").items()}
    return Segment(columns=columns, **fields)


def _describe(value: Any, buffers: list[bytes]) -> dict[str, Any]:
    if isinstance(value, np.ma.MaskedArray):
        return {"kind": "masked", "data": _describe(value.data, buffers), "mask": _describe(_mask(value), buffers)}
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
        buffers.append(little.tobytes())
        return {"kind": "array", "dtype": little.dtype.str, "shape": little.shape}
    if isinstance(value, Lists):
        return {
            "kind": "lists",
            "values": _describe(value.values, buffers),
            "offsets": _describe(value.offsets, buffers),
            **({} if value.absent is None else {"absent": _describe(value.absent, buffers)}),
        }
    if isinstance(value, bytes):
        buffers.append(value)
        return {"kind": "bytes", "size": len(value)}
    if isinstance(value, list):
        text = json.dumps(value).encode()
        buffers.append(text)
        return {"kind": "list", "size": len(text)}
    return {"kind": "scalar", "value": value}


def _mask(value: np.ma.MaskedArray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(np.ma.getmaskarray(value))


class _Cursor:
    """Reads buffers in the order they were described."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._offset = 0

    def read(self, description: dict[str, Any]) -> Any:
        kind = description["kind"]
        if kind == "scalar":
            return description["value"]
        if kind == "masked":
            return np.ma.MaskedArray(self.read(description["data"]), self.read(description["mask"]))
        if kind == "lists":
            values, offsets = self.read(description["values"]), self.read(description["offsets"])
            return Lists(values, offsets, self.read(description["absent"]) if "absent" in description else None)
        if kind == "array":
            dtype, shape = np.dtype(description["dtype"]), tuple(description["shape"])
            count = int(np.prod(shape))
            return np.frombuffer(self._take(count * dtype.itemsize), dtype=dtype, count=count).reshape(shape)
        taken = bytes(self._take(description["size"]))
        return taken if kind == "bytes" else json.loads(taken)

    def _take(self, size: int) -> memoryview:
        piece = self._body[self._offset : self._offset + size]
        self._offset += size
        return piece
