"""What became of a stream's rows: written by whoever commits, read by whoever captured."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Entry", "Ledger"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Rows of one table that left the spool.

    Attributes:
        stored: Rows that are in the lake, quarantined and known ones included.
        known: Of these, rows whose batch had been stored before.
        known_batches: Batches that had been stored before.
        quarantined: Of these, rows that broke the table's contract and are in `ops/quarantine`.
        refused: Rows that could not be read back or do not fit the table; kept beside the spool.
    """

    stored: int = 0
    known: int = 0
    known_batches: int = 0
    quarantined: int = 0
    refused: int = 0


class Ledger:
    """Counts by table, in a small file beside the segments."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, Entry] = {}

    def entry(self, table: str) -> Entry:
        """Return the counts of a table; the last ones seen if the folder is gone."""
        self.refresh()
        return self._last.get(table, Entry())

    def add(self, table: str, more: Entry) -> None:
        """Add to the counts; the caller holds the committer lock."""
        before = self.entry(table)
        sums = {name: getattr(before, name) + getattr(more, name) for name in asdict(more)}
        self._last = {**self._last, table: replace(before, **sums)}
        text = json.dumps({name: asdict(entry) for name, entry in self._last.items()})
        partial = self._path.with_suffix(".tmp")
        partial.write_text(text)
        partial.replace(self._path)

    def clear(self) -> None:
        """Start from zero."""
        self._last = {}
        self._path.unlink(missing_ok=True)

    def refresh(self) -> None:
        """Read the counts anew; the last ones stay if the folder is gone."""
        try:
            stored = json.loads(self._path.read_text())
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return
        self._last = {name: Entry(**counts) for name, counts in stored.items()}
