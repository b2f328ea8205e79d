"""What a forked child must do differently."""

from __future__ import annotations

import os
import re
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mld_pipelines.capture._locks import forget_locks

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Forkable", "can_use_frames", "renewed_in_children"]


class Forkable(Protocol):
    """Something with threads, locks or files that a child must renew."""

    def renew_after_fork(self) -> None:
        """Start afresh in the child: nothing buffered, no thread, a stream of one's own."""
        ...


_living: weakref.WeakSet[Forkable] = weakref.WeakSet()
_POOL_THREAD = re.compile(r"polars-\d|tokio")
"""Threads of polars' and delta-rs' pools, which start at the first real use. A child inherits the pools without their
threads: its first frame operation waits for ever (measured: `group_by` in the parent, a write in the child)."""

_state = {"pools_lost": False, "before": False}


def renewed_in_children(living: Forkable) -> None:
    """Have an object renewed in every child forked from now on; it may be forgotten meanwhile."""
    _living.add(living)


def can_use_frames() -> bool:
    """Return whether polars and delta-rs work in this process: not in a child forked after they had started."""
    return not _state["pools_lost"]


def _before() -> None:
    _state["before"] = _state["pools_lost"] or _pools_started()


def _in_child() -> None:
    _state["pools_lost"] = _state["before"]
    forget_locks()
    for living in list(_living):
        living.renew_after_fork()


def _pools_started() -> bool:
    if "polars" not in sys.modules and "deltalake" not in sys.modules:
        return False
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():  # no way to look: assume the worst, which costs a subprocess, not a row
        return True
    return any(_POOL_THREAD.match(name) for name in _thread_names(tasks))


def _thread_names(tasks: Path) -> Iterator[str]:
    for task in tasks.iterdir():
        try:
            yield (task / "comm").read_text()
        except OSError:
            continue


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
