"""One thread for fits and bulk assignment, safe to enter from several threads at once."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["one_thread"]

_lock = threading.Lock()
_entered = 0
_limits: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Run native thread pools (BLAS, OpenMP) on one thread.

    For fits, because sums in another order would give another codebook on another machine. For bulk products over
    small blocks, because two threads per block gain nothing on an idle machine and cost four times the time on a busy
    one (measured: 100 blocks at 512 columns and 512 codes, 0.4 s against 1.2–1.8 s at load 3 on two cores).

    The limits are the process's: the first thread that enters sets them and the last one that leaves restores them, so
    that a logger's thread and an evaluation cannot restore each other's limit. It is a best effort outside the main
    thread: OpenBLAS 0.3.31 ignores a limit set there once the main thread has set one. Codes do not rest on it.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _entered, _limits  # noqa: PLW0603 - the limits are global to the process, so is their count
    from threadpoolctl import threadpool_limits

    with _lock:
        if _entered == 0:
            _limits = threadpool_limits(limits=1)
        _entered += 1


def _leave() -> None:
    global _entered, _limits  # noqa: PLW0603
    with _lock:
        _entered -= 1
        if _entered == 0:
            _limits.restore_original_limits()
            _limits = None
