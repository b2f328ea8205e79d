"""Look at spools and ship what is left in them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mld_pipelines.capture._commit import Moved, commit_spool
from mld_pipelines.capture._sink import open_sink
from mld_pipelines.capture._spool import Spool
from mld_pipelines.exceptions import StorageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SpooledStream", "replay", "spooled_streams"]

_WAIT_SECONDS = 30.0
"""How long a replay waits for the process that is committing just now."""


@dataclass(frozen=True, slots=True)
class SpooledStream:
    """A stream with rows that are not in the lake yet.

    Attributes:
        root: Lake the rows are for.
        stream_id: The stream.
        segments: Files.
        rows: Rows in them.
        size: Bytes of them.
        set_aside: Files that could not be read or stored.
    """

    root: str
    stream_id: str
    segments: int
    rows: int
    size: int
    set_aside: int


def spooled_streams(*, home: Path | None = None) -> list[SpooledStream]:
    """Return what is spooled in a state directory, by lake and stream.

    Args:
        home: State directory; default `settings.state_directory()`.
    """
    found = []
    for spool in Spool.all_of(home):
        for folder in spool.streams():
            files = list(folder.segments())
            aside = len(list(folder.path.glob("*/*.seg")))
            if files or aside:
                rows, size = sum(file.rows for file in files), sum(file.size for file in files)
                found.append(SpooledStream(spool.root, folder.stream_id, len(files), rows, size, aside))
    return found


def replay(root: str | None = None, *, home: Path | None = None) -> Moved:
    """Commit what is spooled for a lake, whoever captured it.

    Args:
        root: Endpoint of the lake; default `MLD_API_ENDPOINT`, else the state directory's.
        home: State directory; default `settings.state_directory()`.

    Raises:
        StorageError: Another process kept the committer's lock for 30 s.
        MldError: The lake refused; the rows stay spooled.
    """
    sink = open_sink(root)
    spool = Spool(sink.root, home=home)
    spool.create()
    lock = spool.committer_lock()
    deadline = time.monotonic() + _WAIT_SECONDS
    while not lock.acquire():
        if time.monotonic() > deadline:
            raise StorageError(
                f"another process is committing {spool.folder} for over {_WAIT_SECONDS:.0f} s; try again."
            )
        time.sleep(0.05)
    try:
        return commit_spool(spool, sink)
    finally:
        lock.release()
