"""How much a spool may hold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mld_pipelines import settings

if TYPE_CHECKING:
    from mld_pipelines.capture._spool import Spool

__all__ = ["Quota"]

_PAUSE_SECONDS = 10.0
"""Between two looks at the files of all streams: 15,000 of them, an hour without a lake, take 40 ms to count."""

_PAUSE_WHEN_FULL_SECONDS = 1.0


class Quota:
    """Tells whether a spool, shared by all processes that log to its lake, holds as much as it may.

    The disk of a service belongs to the service. What is in the spool is acknowledged and stays; what does not fit any
    more waits in the bounded buffer, where it is lost and counted, or refused, as its overflow policy says.

    Args:
        spool: The spool.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._size = 0
        self._looked_at = float("-inf")

    def add(self, size: int) -> None:
        """Count bytes that were just written."""
        self._size += size

    def is_exceeded(self) -> bool:
        """Return whether nothing more may be written now."""
        limit = settings.spool_limit_bytes()
        pause = _PAUSE_SECONDS if self._size < limit else _PAUSE_WHEN_FULL_SECONDS
        if time.monotonic() - self._looked_at > pause:
            self._size = self._spool.size()
            self._looked_at = time.monotonic()
        return self._size >= limit
