"""The background thread of a recorder: encode, spool, deliver."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from mld_pipelines import settings
from mld_pipelines.capture import _forks
from mld_pipelines.capture._commit import commit_spool
from mld_pipelines.capture._quota import Quota
from mld_pipelines.exceptions import StorageError

if TYPE_CHECKING:
    from mld_pipelines.capture._recorder import Recorder
    from mld_pipelines.capture._segment import Segment

__all__ = ["COMMIT_SECONDS", "Worker"]

_log = logging.getLogger("mld_pipelines.capture")

_TICK_SECONDS = 0.25
"""Pause between two drains: rows count as acknowledged within this time plus one fsync (0.3 ms idle, 8 ms busy)."""

COMMIT_SECONDS = 2.0
"""Pause between two commits: rows are visible well within 10 s and a day has at most 43,200 commits per lake."""

_DRAIN_ITEMS = 4096
"""Calls encoded at once: bounds the memory of one drain beside the buffer."""

_LONGEST_BACKOFF_SECONDS = 30.0

_SUBPROCESS_SECONDS = 120.0


class Worker:
    """Drains a recorder until it is closed or abandoned."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._unspooled: deque[tuple[Segment, int]] = deque()
        self._event = threading.Event()
        self._passed = threading.Condition()
        self._wanted = 0
        self._done = 0
        self._is_stopping = False
        self._is_clean = True
        self._has_spooled = True  # adopt what earlier processes left, at the first opportunity
        self._due = 0.0
        self._backoff = 0.0
        self._quota = Quota(recorder.stream.spool)
        self._spool_problem: str | None = None
        self._sink_problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="mld-capture", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Last error, while it lasts."""
        return self._spool_problem or self._sink_problem

    @property
    def is_stuck(self) -> bool:
        """Whether rows cannot leave the buffer: the spool is not writable, or the thread is gone."""
        return self._spool_problem is not None or not self._thread.is_alive()

    def wake(self) -> None:
        """Let the thread look now instead of at its next tick."""
        self._event.set()

    def flush(self, timeout: float | None, *, is_patient: bool) -> bool:
        """See `Recorder.flush`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._passed:
                self._wanted += 1
                ticket = self._wanted
                self.wake()
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                is_over = self._passed.wait_for(partial(self._has_passed, ticket), left)
            if self._is_clean and self._done >= ticket:
                return True
            if not is_over or not self._thread.is_alive() or (self.problem is not None and not is_patient):
                return False
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.02)  # another process is committing, or the sink has a problem

    def _has_passed(self, ticket: int) -> bool:
        return self._done >= ticket or not self._thread.is_alive()

    def stop(self, timeout: float | None) -> None:
        """End the thread after one more pass."""
        self._is_stopping = True
        self.wake()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._event.wait(_TICK_SECONDS)
            self._event.clear()
            wanted = self._wanted
            is_last = self._is_stopping or self._recorder.is_closed
            self._pass(is_wanted=wanted > self._done or is_last)
            with self._passed:
                self._done = wanted
                self._passed.notify_all()
            if is_last and (self._is_stopping or self._is_clean or self.problem is not None):
                return

    def _pass(self, *, is_wanted: bool) -> None:
        """Drain once and deliver if it is time; never raises, whatever the disk or the lake does."""
        try:
            self._drain()
            self._say_recovered(self._spool_problem, "spool")
            self._spool_problem = None
        except Exception as error:
            self._spool_problem = self._noted(self._spool_problem, "spool cannot be written", error)
        try:
            now = time.monotonic()
            if self._has_spooled and (now >= self._due or is_wanted):
                self._deliver()
                self._due, self._backoff = time.monotonic() + COMMIT_SECONDS, 0.0
                self._say_recovered(self._sink_problem, "sink")
                self._sink_problem = None
        except Exception as error:
            self._backoff = min(max(1.0, self._backoff * 2), _LONGEST_BACKOFF_SECONDS)
            self._due = time.monotonic() + self._backoff
            self._sink_problem = self._noted(self._sink_problem, "lake cannot be written", error)
        is_written = self._spool_problem is None and not self._unspooled and not self._recorder.extras
        self._is_clean = is_written and not self._has_spooled

    def _noted(self, before: str | None, what: str, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}"
        if before is None:
            stream = self._recorder.stream
            _log.warning(
                "%s (%s); rows of stream %s wait in %s and are retried.",
                what,
                text,
                stream.stream_id,
                stream.spool.folder,
            )
        return text

    def _say_recovered(self, before: str | None, what: str) -> None:
        if before is not None:
            _log.info("the %s of stream %s works again.", what, self._recorder.stream.stream_id)

    def _drain(self) -> None:
        """Bring everything buffered at this moment into the spool.

        Raises:
            StorageError: The spool is full. Rows stay in the buffer, whose overflow policy decides about them.
        """
        self._write()
        if self._recorder.items and self._quota.is_exceeded():
            raise StorageError(
                f"it holds {settings.spool_limit_bytes() >> 20} MB, all it may, because the lake takes nothing; make "
                "the lake reachable or raise MLD_SPOOL_MAX_MB"
            )
        for _ in range(len(self._recorder.items) // _DRAIN_ITEMS + 1):
            taken = self._recorder.take(_DRAIN_ITEMS)
            if taken:
                self._encode(taken)
                self._write()
        for _ in range(len(self._recorder.extras)):
            table, rows, columns = self._recorder.extras[0]
            self._unspooled.append((self._recorder.stream.segment(table, [rows], columns), 0))
            self._recorder.extras.popleft()
            self._write()

    def _encode(self, taken: list[tuple[int, int, Any]]) -> None:
        recorder = self._recorder
        try:
            groups = recorder.encode([payload for _, _, payload in taken])
        except Exception:  # one payload that cannot be encoded must not cost the others
            if len(taken) == 1:
                _log.exception("a captured call could not be encoded; its %d rows are lost and counted.", taken[0][0])
                recorder.unencodable.add(*taken[0][:2])
                return
            for item in taken:
                self._encode([item])
            return
        sizes = iter(size for _, size, _ in taken)
        emitted = sum(rows for rows, _, _ in taken)
        if emitted != sum(sum(lengths) for lengths, _ in groups):  # the scores were not where the caller looked
            recorder.taken.add(sum(sum(lengths) for lengths, _ in groups) - emitted, 0)
        for lengths, columns in groups:
            size = sum(next(sizes) for _ in lengths)
            self._unspooled.append((recorder.stream.segment(recorder.table, lengths, columns), size))

    def _write(self) -> None:
        while self._unspooled:
            segment, size = self._unspooled[0]
            self._quota.add(self._recorder.stream.write(segment).size)
            self._has_spooled = True
            if segment.table == self._recorder.table:
                self._recorder.acknowledged.add(segment.rows, size)
            self._unspooled.popleft()

    def _deliver(self) -> None:
        """Commit what is spooled, for every process of the machine where the sink allows that."""
        stream = self._recorder.stream
        if not _forks.can_use_frames():
            _deliver_elsewhere(self._recorder)
        elif self._recorder.sink.scope == "machine":
            stream.spool.create()
            lock = stream.spool.committer_lock()
            if lock.acquire():
                try:
                    commit_spool(stream.spool, self._recorder.sink)
                finally:
                    lock.release()
        else:
            self._deliver_own()
        self._has_spooled = stream.spooled_rows() > 0

    def _deliver_own(self) -> None:
        stream = self._recorder.stream
        stream.spool.create()
        own = stream.folder
        others = [folder for folder in stream.spool.streams() if folder.path != own.path and folder.adopt()]
        try:
            commit_spool(stream.spool, self._recorder.sink, folders=[*others, own])
        finally:
            for folder in others:
                folder.close()


def _deliver_elsewhere(recorder: Recorder) -> None:
    """Commit in a new process: this one was forked after the thread pools of polars and delta-rs had started."""
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "mld_pipelines.capture", recorder.sink.root, str(recorder.stream.spool.home)],
        capture_output=True,
        text=True,
        timeout=_SUBPROCESS_SECONDS,
        check=False,
    )
    if done.returncode:
        message = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise RuntimeError(f"committing in a new process failed: {message[0]}")
