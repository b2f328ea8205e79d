"""File locks that end with their process and do not leak into forked children."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileLock", "forget_locks"]


class FileLock:
    """Exclusive `flock` on a file; the kernel releases it when the process ends, however it ends.

    Where the platform has no `flock` (Windows), every `acquire` succeeds: one process per lake is then the rule.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        _open_locks.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock if nobody has it; return whether it is held now."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock up; a no-op when it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_open_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def forget_locks() -> None:
    """Close inherited descriptors after a fork; the parent's locks stay the parent's.

    An open description is shared by both processes: kept open here, it would outlive the parent and look like a
    living owner.
    """
    for lock in list(_open_locks):
        lock.release()
