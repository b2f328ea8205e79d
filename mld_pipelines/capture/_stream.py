"""One stream: numbers its batches and hands them to the spool."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines import __version__
from mld_pipelines.capture._ledger import Entry
from mld_pipelines.capture._segment import Segment
from mld_pipelines.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.capture._columns import Columns
    from mld_pipelines.capture._spool import SegmentFile, Spool, StreamFolder

__all__ = ["Stream", "microseconds"]

_EPOCH_DAY = datetime(1970, 1, 1, tzinfo=UTC).toordinal()


def microseconds(seconds: float | None = None) -> int:
    """Return an instant as whole µs since 1970; now if none is given."""
    return time.time_ns() // 1000 if seconds is None else round(seconds * 1e6)


class Stream:
    """Batches of one tracer or logger in one process.

    A batch is one call. Its number `seq` counts from 0 per table, so a stream that is sent again by the same calls has
    the same batches, however they were grouped into segments.

    Args:
        spool: Spool of the sink's lake.
        stream_id: Identifier of the stream.
        is_repeatable: The caller chose the id and may send the stream again.
    """

    def __init__(self, spool: Spool, stream_id: str, *, is_repeatable: bool) -> None:
        self.spool = spool
        self.stream_id = stream_id
        self.is_repeatable = is_repeatable
        self._next: dict[str, int] = {}
        self._folder: StreamFolder | None = None

    @property
    def folder(self) -> StreamFolder:
        """Folder of the stream, opened at first use.

        Raises:
            ConfigurationError: Another living process sends a stream of the same id.
        """
        if self._folder is None:
            from mld_pipelines.capture._spool import StreamFolder

            self.spool.create()
            folder = StreamFolder(self.spool.folder / self.stream_id)
            if not folder.open():
                raise ConfigurationError(
                    f"stream {self.stream_id!r} is being sent by another process; nothing was recorded. Wait for it "
                    "to end, or leave stream_id out."
                )
            self._folder = folder
        return self._folder

    def last_seq(self, table: str) -> int:
        """Return the number of the last batch of a table, −1 before the first."""
        return self._next.get(table, 0) - 1

    def skip_to(self, table: str, seq: int) -> None:
        """Number the next batch of a table `seq`: those before it are stored."""
        self._next[table] = seq

    def segment(self, table: str, lengths: Sequence[int], columns: Columns) -> Segment:
        """Number consecutive batches of the same shape as one segment.

        Args:
            table: Table the rows are for.
            lengths: Rows of each batch.
            columns: Columns of all batches together, without those about the delivery.
        """
        first = self._next.get(table, 0)
        self._next[table] = first + len(lengths)
        delivery = _delivery_columns(self.stream_id, first, lengths)
        last = first + len(lengths) - 1
        return Segment(table, self.stream_id, first, last, sum(lengths), self.is_repeatable, delivery | columns)

    def write(self, segment: Segment) -> SegmentFile:
        """Store a segment durably in the spool."""
        return self.folder.write(segment)

    def spooled_rows(self, table: str | None = None) -> int:
        """Return the rows of a table (or of all) that are in the spool and not stored yet."""
        if self._folder is None:
            return 0
        return sum(file.rows for file in self._folder.segments() if table in {None, file.table})

    def entry(self, table: str) -> Entry:
        """Return what became of the rows of a table that left the spool."""
        return Entry() if self._folder is None else self._folder.ledger.entry(table)

    def close(self) -> None:
        """Give the lease up."""
        if self._folder is not None:
            self._folder.close()


def _delivery_columns(stream_id: str, first: int, lengths: Sequence[int]) -> Columns:
    now = datetime.now(UTC)
    return {
        "stream_id": stream_id,
        "seq": np.repeat(np.arange(first, first + len(lengths), dtype=np.int64), lengths),
        "row": np.concatenate([np.arange(size, dtype=np.int32) for size in lengths]),
        "ingested_at": microseconds(now.timestamp()),
        "ingest_day": now.toordinal() - _EPOCH_DAY,
        "sdk_version": __version__,
    }
