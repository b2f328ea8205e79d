"""Stopping child processes with everything they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["stop_all", "stop_marked"]

_GRACE_SECONDS = 20.0
"""A Dagster daemon with a run in flight took more than 10 s to end after SIGTERM."""

_KILL_SECONDS = 5.0


def stop_all(processes: list[subprocess.Popen[bytes]], *, marker: str, grace_seconds: float = _GRACE_SECONDS) -> None:
    """Stop children, their process groups and whatever carries the marker, politely first.

    Args:
        processes: Leaders of their own process groups.
        marker: `NAME=value` in the environment of every descendant.
        grace_seconds: Between SIGTERM and SIGKILL.
    """
    with _undisturbed():
        _signal_groups(processes, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while time.monotonic() < deadline and _alive(processes, marker):
            time.sleep(0.1)
        _signal_groups(processes, signal.SIGKILL)
        for pid in _marked(marker):
            _signal(pid, signal.SIGKILL)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_KILL_SECONDS)


def stop_marked(marker: str, *, grace_seconds: float = _GRACE_SECONDS) -> int:
    """Stop every process that carries the marker, politely first, and return how many there were.

    Args:
        marker: `NAME=value` in their environment.
        grace_seconds: Between SIGTERM and SIGKILL.
    """
    found = _marked(marker)
    for pid in found:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and _marked(marker):
        time.sleep(0.1)
    for pid in _marked(marker):
        _signal(pid, signal.SIGKILL)
    return len(found)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C: a second, impatient one would leave processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _alive(processes: list[subprocess.Popen[bytes]], marker: str) -> bool:
    return any(process.poll() is None for process in processes) or bool(_marked(marker))


def _signal_groups(processes: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _marked(marker: str) -> list[int]:
    """Processes whose environment holds the marker; without `/proc` (not Linux) the groups have to do."""
    needle = marker.encode()
    return [pid for pid in _pids() if pid != os.getpid() and needle in _environment_of(pid)]


def _pids() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()] if proc.is_dir() else []


def _environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # ended in between, or another user's
        return []
