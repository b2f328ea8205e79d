"""Rows that break their table's contract: kept in `ops/quarantine` with the reason, exactly once."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.tables import OPS_QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.tables import TableSpec

__all__ = ["ROW_INDEX", "content_stream", "mark_name", "quarantine_rows", "whole_batch"]

ROW_INDEX = "_index"
"""Column with the number of a row in its batch, added before the contract is judged."""

_OWN_PAYLOADS = 1000
"""Rows of one batch that get a payload of their own (each repeats the schema, a few kB); above, one shared payload."""

_WHOLE_BATCH = -1

_NAMING = ("model_key", "dataset_type", "n_epoch", "input_id")
"""Columns that say which input a row is of; copied where its table has them."""


def mark_name(table: str, stream: str) -> str:
    """Return the transaction under which a stream's refused rows are counted."""
    return f"{table}|{stream}"


def content_stream(frame: pl.DataFrame) -> str:
    """Return a stream name made from the rows themselves, for writes that belong to no stream."""
    return "content:" + hashlib.sha256(_ipc(frame)).hexdigest()[:32]


def quarantine_rows(spec: TableSpec, stream: str, seq: int, invalid: pl.DataFrame) -> pl.DataFrame:
    """Return refused rows as rows of `ops/quarantine`.

    A delivery may hold many batches of its stream as one, so that a row is filed under the stream, batch and number it
    has itself; only where its table (or the row) has none, under those of the delivery and its place in it.

    Args:
        spec: Table the rows were meant for.
        stream: Stream of the batch.
        seq: Number of the batch.
        invalid: `Checked.invalid`, in the batch's order, with the column `ROW_INDEX`.
    """
    rows = invalid.drop("_rule", "_reason", ROW_INDEX)
    single = rows.height <= _OWN_PAYLOADS
    payloads = [_ipc(rows[i]) for i in range(rows.height)] if single else [None] * rows.height
    place = {
        "stream_id": _own(invalid, "stream_id", stream),
        "seq": _own(invalid, "seq", seq),
        "row": _own(invalid, "row", pl.col(ROW_INDEX).cast(pl.Int64)),
    }
    naming = {name: rows[name].to_list() for name in _NAMING if name in rows.columns}
    judged = {"rule": invalid["_rule"].to_list(), "reason": invalid["_reason"].to_list(), "payload": payloads}
    frame = _frame(spec, stream, seq, {**place, **naming, **judged})
    if single:
        return frame
    note = f"{rows.height} rows of one batch broke the contract; this payload holds all of them"
    shared: dict[str, list[Any]] = {
        "row": [_WHOLE_BATCH],
        "rule": ["batch|shared"],
        "reason": [note],
        "payload": [_ipc(rows)],
    }
    return pl.concat([frame, _frame(spec, stream, seq, shared)])


def whole_batch(spec: TableSpec, stream: str, seq: int, frame: pl.DataFrame, reason: str) -> pl.DataFrame:
    """Return a batch that does not have the table's columns as one row of `ops/quarantine`."""
    row: dict[str, list[Any]] = {
        "row": [_WHOLE_BATCH],
        "rule": ["batch|schema"],
        "reason": [reason],
        "payload": [_ipc(frame)],
    }
    return _frame(spec, stream, seq, row)


def _own(invalid: pl.DataFrame, name: str, delivered: str | int | pl.Expr) -> list[Any]:
    """Return what each row says of itself, what its delivery says where it has nothing to say."""
    otherwise = delivered if isinstance(delivered, pl.Expr) else pl.lit(delivered)
    own = pl.col(name) if name in invalid.columns else pl.lit(None)
    return invalid.with_columns(pl.coalesce(own, otherwise).alias("_own"))["_own"].to_list()


def _frame(spec: TableSpec, stream: str, seq: int, rows: Mapping[str, list[Any]]) -> pl.DataFrame:
    now = datetime.now(UTC)
    same = {"stream_id": stream, "seq": seq, "table": spec.name, "quarantined_at": now, "ingest_day": now.date()}
    columns = {**{name: [value] * len(rows["rule"]) for name, value in same.items()}, **rows}
    columns["row"] = [_WHOLE_BATCH if number is None else number for number in columns["row"]]
    return OPS_QUARANTINE.align(
        pl.DataFrame(columns, schema={name: OPS_QUARANTINE.column(name).data_type for name in columns})
    )


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()
