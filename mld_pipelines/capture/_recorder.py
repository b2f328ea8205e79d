"""`Recorder`: the caller's side of capturing. An append; everything else happens on one background thread."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from multiprocessing.util import Finalize, register_after_fork
from typing import TYPE_CHECKING, Any, Literal

from mld_pipelines.capture import _forks
from mld_pipelines.capture._spool import Spool, check_stream_id
from mld_pipelines.capture._stats import Stats, Tally
from mld_pipelines.capture._stream import Stream
from mld_pipelines.capture._worker import Worker
from mld_pipelines.exceptions import InvalidInputError, StorageError
from mld_pipelines.records import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mld_pipelines.capture._columns import Columns
    from mld_pipelines.capture._sink import Sink

__all__ = ["Overflow", "Recorder", "is_strict"]

Overflow = Literal["drop_oldest", "sample", "block"]

_EXIT_SECONDS = 2.0
"""Time all recorders of a process together get at its end; what is left then stays in the spool."""

_CHILD_EXIT_SECONDS = 1.0
"""The same for a child of multiprocessing, for whose end its parent waits; the spool takes milliseconds."""

_BLOCK_POLL_SECONDS = 0.002


def is_strict() -> bool:
    """Return whether internal errors shall be raised instead of logged (`MLD_STRICT=1`, for tests of this package)."""
    return os.environ.get("MLD_STRICT") == "1"


class Recorder:
    """Bounded buffer in front of a background thread that encodes, spools and delivers.

    Args:
        table: Table of the rows that calls leave.
        sink: Where they go in the end.
        encode: Called in the background with the payloads of several calls; returns groups `(rows of each call,
            columns)` that together are the payloads in their order.
        overflow: What happens when the buffer is full: lose the oldest calls, thin the new ones out, or wait.
        max_buffer_bytes: Bound of the buffer, all threads together.
        stream_id: Name of the stream if it may be sent again; default a new UUIDv7.

    Raises:
        InvalidInputError: An argument is outside its range.
        ConfigurationError: Another process sends a stream of this id.
    """

    def __init__(
        self,
        table: str,
        sink: Sink,
        *,
        encode: Callable[[Sequence[Any]], list[tuple[list[int], Columns]]],
        overflow: Overflow,
        max_buffer_bytes: int,
        stream_id: str | None = None,
    ) -> None:
        if overflow not in ("drop_oldest", "sample", "block"):
            raise InvalidInputError(f"overflow is {overflow!r}; use 'drop_oldest', 'sample' or 'block'.")
        if not isinstance(max_buffer_bytes, int) or max_buffer_bytes < 1:
            raise InvalidInputError(f"max_buffer_bytes is {max_buffer_bytes!r}; give a positive number of bytes.")
        self.table = table
        self.sink = sink
        self.encode = encode
        self.overflow: Overflow = overflow
        self.max_buffer_bytes = max_buffer_bytes
        self._begin(stream_id)
        if stream_id is not None:
            _ = self.stream.folder  # a second sender of the same stream is refused now, not after the first call
        _forks.renewed_in_children(self)
        _recorders.add(self)

    def _begin(self, stream_id: str | None) -> None:
        spool = Spool(self.sink.root)
        name = uuid7() if stream_id is None else check_stream_id(stream_id)
        self.stream = Stream(spool, name, is_repeatable=stream_id is not None)
        self.items: deque[tuple[int, int, Any]] = deque()
        self.extras: deque[tuple[str, int, Columns]] = deque()
        self.taken, self.acknowledged = Tally(), Tally()
        self.unbuffered: dict[str, Tally] = {}
        self.unencodable = Tally()
        self.books = threading.Lock()
        self.is_closed = False
        self._was_stored: bool | None = None
        self._largest = 1
        self._sure = 0
        self._thinned = 0
        self._worker: Worker | None = None
        self._start_lock = threading.Lock()

    def renew_after_fork(self) -> None:
        """Give a child a stream of its own; what the parent buffered is the parent's."""
        repeatable = self.stream.is_repeatable
        self._begin(f"{self.stream.stream_id[:80]}.{uuid7()}" if repeatable else None)

    @property
    def worker(self) -> Worker:
        """The background side; its thread starts here, never at import or construction."""
        if self._worker is None:
            with self._start_lock:
                if self._worker is None:
                    self._worker = Worker(self)
        return self._worker

    def put(self, payload: Any, rows: int, size: int) -> None:
        """Keep a call's payload.

        Args:
            payload: What `encode` understands; not touched by the caller any more.
            rows: Rows it will become.
            size: Bytes it holds.

        Raises:
            StorageError: Only with `overflow="block"`: the buffer is full and the spool cannot be written.
        """
        items = self.items
        if len(items) < self._sure and size <= self._largest:  # behind a forward pass each attribute costs 1 µs
            items.append((rows, size, payload))  # counted where it leaves
        else:
            self._put_with_care(payload, rows, size)

    def _put_with_care(self, payload: Any, rows: int, size: int) -> None:
        """Keep a payload after looking: it is the first, or the largest so far, or the buffer may be full or closed."""
        self._largest = max(self._largest, size)
        self._sure = self.max_buffer_bytes // self._largest
        if self.is_closed:
            self._sure = 0  # after is_closed was read: `close` sets them in the other order
            self.lose("closed", rows, size)
            return
        if len(self.items) < self._sure or self._has_room(rows, size):
            self.items.append((rows, size, payload))
            _ = self.worker

    def send(self, table: str, columns: Columns, rows: int = 1) -> None:
        """Keep rows of another table (a receipt, a model): never dropped, spooled after the rows before them."""
        self.extras.append((table, rows, columns))
        self.worker.wake()

    @property
    def buffered_size(self) -> int:
        """Bytes in memory: in the buffer, and taken from it but not yet in the spool."""
        with self.books:
            waiting = sum(size for _, size, _ in self._waiting())
            return waiting + self.taken.size - self.acknowledged.size - self.unencodable.size

    def take(self, limit: int) -> list[tuple[int, int, Any]]:
        """Take up to `limit` calls out of the buffer: for the background thread."""
        taken: list[tuple[int, int, Any]] = []
        with self.books:
            try:
                while len(taken) < limit:
                    taken.append(self.items.popleft())
            except IndexError:
                pass
            self.taken.add(sum(rows for rows, _, _ in taken), sum(size for _, size, _ in taken))
        return taken

    def lose(self, reason: str, rows: int, size: int = 0) -> None:
        """Count rows of a call that did not reach the background thread."""
        tally = self.unbuffered.get(reason)
        if tally is None:
            tally = self.unbuffered.setdefault(reason, Tally())
        tally.add(rows, size)

    def _waiting(self) -> list[tuple[int, int, Any]]:
        """Return what is in the buffer, while callers append to it."""
        while True:
            try:
                return list(self.items)
            except RuntimeError:  # it grew under the copy
                continue

    def _has_room(self, rows: int, size: int) -> bool:
        """Apply the overflow policy to a call; return whether it may be kept."""
        if self.overflow == "drop_oldest":
            self._make_room(size)
            return True
        if self.overflow == "block":
            self._wait_for_room(rows, size)
            return True
        return self._is_sampled(rows, size)

    def _make_room(self, size: int) -> None:
        """Lose the oldest calls, a sixteenth of the buffer more than needed: adding sizes up is not for every call."""
        excess = self.buffered_size + size - self.max_buffer_bytes
        if excess <= 0:
            return
        excess += self.max_buffer_bytes // 16
        while excess > 0 and self.items:
            excess -= self._lose_oldest()

    def _lose_oldest(self) -> int:
        with self.books:
            try:
                rows, size, _ = self.items.popleft()
            except IndexError:  # the worker took it
                return 0
            self.lose("buffer_full", rows, size)
        return size

    def _is_sampled(self, rows: int, size: int) -> bool:
        """Keep every 2nd call above half full, every 4th above three quarters, and so on; none when full."""
        free = 1.0 - self.buffered_size / self.max_buffer_bytes
        self._thinned += 1
        keeps = free >= 0.5 or (free > 0.0 and self._thinned % round(1.0 / free) == 0)
        if not keeps:
            self.lose("sampled", rows, size)
        return keeps

    def _wait_for_room(self, rows: int, size: int) -> None:
        while (held := self.buffered_size) > 0 and held + size > self.max_buffer_bytes:
            self.worker.wake()
            if self.is_closed or self.worker.is_stuck:
                self.lose("refused", rows, size)
                raise StorageError(
                    f"the buffer of stream {self.stream.stream_id} is full and its spool cannot be written "
                    f"({self.worker.problem}); this batch was not recorded. Free disk space or move MLD_HOME."
                )
            time.sleep(_BLOCK_POLL_SECONDS)

    def flush(self, timeout: float | None = 30.0, *, is_patient: bool = True) -> bool:
        """Deliver everything captured so far; return whether it is stored.

        Args:
            timeout: Seconds to wait; None waits for ever.
            is_patient: Try again after an error until the time is over; otherwise return at the first one.
        """
        if self._worker is None and not self.items and not self.extras and not self.stream.spooled_rows():
            return True
        return self.worker.flush(timeout, is_patient=is_patient)

    def close(self, timeout: float | None = 5.0) -> bool:
        """Flush, stop the thread and give the stream up; return whether everything is stored, each time."""
        if self._was_stored is not None:
            return self._was_stored
        is_stored = self._was_stored = self.flush(timeout)
        self.is_closed = True
        self._sure = 0
        if self._worker is not None:
            self._worker.stop(timeout)
        self.stream.close()
        return is_stored

    def abandon(self) -> None:
        """Say that nobody will call again: the thread delivers what is there and ends (no lock, no I/O here)."""
        self.is_closed = True
        self._sure = 0

    @property
    def problem(self) -> str | None:
        """Last error of spool or sink, while it lasts."""
        return None if self._worker is None else self._worker.problem

    @property
    def stats(self) -> Stats:
        """Where the captured rows are now."""
        for _ in range(5):  # rows on their way from spool to lake while we count: look again
            stats = self._count()
            if stats.is_conserved:
                break
            time.sleep(0.005)
        return stats

    def _count(self) -> Stats:
        with self.books:
            acknowledged, unencodable = self.acknowledged.rows, self.unencodable.rows
            dropped = {reason: tally.rows for reason, tally in list(self.unbuffered.items())}
            kept = self.taken.rows + sum(rows for rows, _, _ in self._waiting())
        emitted = kept + sum(dropped.values())
        spooled = self.stream.spooled_rows(self.table)
        entry = self.stream.entry(self.table)
        if unencodable:
            dropped["unencodable"] = unencodable
        if entry.refused:
            dropped["refused_by_sink"] = entry.refused
        return Stats(
            emitted=emitted,
            acknowledged=acknowledged,
            stored=entry.stored,
            known=entry.known,
            known_batches=entry.known_batches,
            quarantined=entry.quarantined,
            dropped=dropped,
            spooled=spooled,
            buffered=kept - acknowledged - unencodable,
            problem=self.problem,
        )


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


@atexit.register
def _flush_at_exit(seconds: float = _EXIT_SECONDS) -> None:
    """Bring what is buffered to the spool, and to the lake if time allows."""
    deadline = time.monotonic() + seconds
    for recorder in list(_recorders):
        if not recorder.is_closed:
            recorder.flush(max(0.1, deadline - time.monotonic()))


def _flush_when_child_ends(_: object) -> None:
    """Children of multiprocessing (DataLoader workers) end without `atexit`, but with their finalizers."""
    Finalize(None, _flush_at_exit, args=(_CHILD_EXIT_SECONDS,), exitpriority=100)


register_after_fork(_flush_when_child_ends, _flush_when_child_ends)
