"""One native thread for fits and bulk products, from whichever Python thread they run in."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from threadpoolctl import ThreadpoolController

__all__ = ["one_thread", "one_thread_if_free"]

_lock = threading.RLock()
_known: tuple[int, ThreadpoolController] | None = None


@contextmanager
def one_thread(*modules: str) -> Iterator[None]:
    """Run native thread pools (BLAS, OpenMP) on one thread; waits for another such block to end.

    For fits: sums in another order give another codebook (measured: other bytes with two threads). Limits belong to
    the process and the first Python thread that sets one controls them, so fits in two threads run one after another.

    Args:
        modules: Modules the block imports that bring a pool of their own, e.g. `"sklearn.cluster"`. They are imported
            first: a pool that is loaded inside the block would not be limited, in the first fit of a process only.
    """
    for module in modules:
        import_module(module)
    with _lock, _controller().limit(limits=1):
        yield


@contextmanager
def one_thread_if_free() -> Iterator[None]:
    """Run native thread pools on one thread unless another Python thread limits them just now; never waits.

    For bulk products over small blocks, whose results do not depend on it: two threads per block gain nothing on an
    idle machine and cost four times the time on a busy one (measured: 100 blocks at 512 columns and 512 codes, 0.4 s
    against 1.2–1.8 s at load 3 on two cores).
    """
    if not _lock.acquire(blocking=False):
        yield
        return
    try:
        with one_thread():
            yield
    finally:
        _lock.release()


def _controller() -> ThreadpoolController:
    """Return the controller of the loaded native libraries.

    Finding them takes 3 ms, as long as scoring 150 units, so it is repeated only after an import.
    """
    from threadpoolctl import ThreadpoolController

    global _known  # noqa: PLW0603 - a cache, guarded by the lock
    modules = len(sys.modules)
    if _known is None or _known[0] != modules:
        _known = modules, ThreadpoolController()
    return _known[1]


def _forget_lock() -> None:
    """Give a forked child a free lock: the thread that held it does not exist there."""
    global _lock  # noqa: PLW0603 - a lock cannot be reset in place
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
