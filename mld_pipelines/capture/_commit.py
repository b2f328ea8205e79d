"""Move spooled segments into their sink: grouped, in order, deleted only afterwards."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mld_pipelines.capture._ledger import Entry
from mld_pipelines.capture._segment import CorruptSegmentError, Segment, decode
from mld_pipelines.exceptions import ContractError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mld_pipelines.capture._sink import Sink
    from mld_pipelines.capture._spool import SegmentFile, Spool, StreamFolder

__all__ = ["Moved", "commit_spool"]

_log = logging.getLogger("mld_pipelines.capture")

_GROUP_BYTES = 64 * 2**20
"""Largest group of segments in one commit: bounds memory; 64 MiB commit in about half a second."""

_TABLES = (
    "landing/models",
    "landing/traces",
    "landing/stress",
    "landing/inferences",
    "landing/feedback",
    "landing/receipts",
)
"""Order of delivery: a receipt never precedes its rows."""


@dataclass(slots=True)
class Moved:
    """What one pass over a spool did.

    Attributes:
        rows: Rows stored by table.
        known: Rows that were stored before, by table.
        refused: Rows in segments that could not be read or do not fit, by table.
    """

    rows: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    def count(self, table: str, entry: Entry) -> None:
        """Add the counts of one segment."""
        self.rows[table] = self.rows.get(table, 0) + entry.stored
        self.known[table] = self.known.get(table, 0) + entry.known
        self.refused[table] = self.refused.get(table, 0) + entry.refused


def commit_spool(spool: Spool, sink: Sink, *, folders: Sequence[StreamFolder] | None = None) -> Moved:
    """Deliver what the spool holds; the caller holds the committer lock (or owns the folders).

    Args:
        spool: Spool of the sink's lake.
        sink: Where the segments go.
        folders: Only these streams; default all, whoever captured them.

    Raises:
        MldError: The sink refused; what was not delivered stays spooled.
    """
    moved = Moved()
    chosen = spool.streams() if folders is None else folders
    for table in _TABLES:
        for group in _groups(chosen, table):
            _deliver(sink, table, group, moved)
    for folder in chosen if folders is None else ():
        folder.remove_if_done()
    return moved


def _groups(folders: Sequence[StreamFolder], table: str) -> Iterator[list[tuple[StreamFolder, SegmentFile]]]:
    """Yield groups for one commit each; one run of a stream at a time, since a repeated run has the same batches."""
    group: list[tuple[StreamFolder, SegmentFile]] = []
    runs: dict[str, StreamFolder] = {}
    size = 0
    for folder in folders:
        for file in folder.segments():
            if file.table != table:
                continue
            if group and (size + file.size > _GROUP_BYTES or runs.get(folder.stream_id, folder) is not folder):
                yield group
                group, runs, size = [], {}, 0
            group.append((folder, file))
            runs[folder.stream_id] = folder
            size += file.size
    if group:
        yield group


def _deliver(sink: Sink, table: str, group: list[tuple[StreamFolder, SegmentFile]], moved: Moved) -> None:
    read = [(folder, file, segment) for folder, file in group if (segment := _read(folder, file, moved)) is not None]
    if not read:
        return
    try:
        delivery = sink.deliver([segment for _, _, segment in read])
    except (ContractError, InvalidInputError) as error:
        if len(read) == 1:  # one segment that can never be stored must not hold up the rest
            _refuse(*read[0][:2], moved, reason="rejected", error=error)
            return
        for folder, file, _ in read:
            _deliver(sink, table, [(folder, file)], moved)
        return
    for (folder, file, _), entry in zip(read, delivery.entries, strict=True):
        folder.ledger.add(table, entry)
        moved.count(table, entry)
        file.path.unlink(missing_ok=True)


def _read(folder: StreamFolder, file: SegmentFile, moved: Moved) -> Segment | None:
    try:
        return decode(file.path.read_bytes())
    except FileNotFoundError:
        return None
    except CorruptSegmentError as error:
        _refuse(folder, file, moved, reason="corrupt", error=error)
        return None


def _refuse(folder: StreamFolder, file: SegmentFile, moved: Moved, *, reason: str, error: Exception) -> None:
    _log.error("%d rows of stream %s are kept in %s: %s", file.rows, folder.stream_id, folder.path / reason, error)
    entry = Entry(refused=file.rows)
    folder.set_aside(file, reason=reason)
    folder.ledger.add(file.table, entry)
    moved.count(file.table, entry)
