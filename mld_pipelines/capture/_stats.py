"""Where captured rows are: the conservation law as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import get_ident

__all__ = ["Stats", "Tally"]


@dataclass(frozen=True, slots=True)
class Stats:
    """Rows of one tracer or logger. At any quiet moment `emitted = stored + dropped + spooled`.

    Attributes:
        emitted: Rows captured by calls.
        acknowledged: Rows that reached the spool (fsynced): a crash does not lose them any more.
        stored: Rows in the lake, quarantined and known ones included.
        known: Of the stored, rows whose batch an earlier run of the same stream had stored already.
        known_batches: Batches of that kind.
        quarantined: Of the stored, rows that broke the table's contract and are in `ops/quarantine`.
        dropped: Rows lost, by reason.
        spooled: Rows in the local spool, not stored yet.
        buffered: Rows still in memory; 0 at a quiet moment.
        problem: Last error of spool or sink, while it lasts.
    """

    emitted: int = 0
    acknowledged: int = 0
    stored: int = 0
    known: int = 0
    known_batches: int = 0
    quarantined: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    spooled: int = 0
    buffered: int = 0
    problem: str | None = None

    @property
    def total_dropped(self) -> int:
        """Rows lost for any reason."""
        return sum(self.dropped.values())

    @property
    def is_conserved(self) -> bool:
        """Whether every emitted row is accounted for."""
        return self.emitted == self.stored + self.total_dropped + self.spooled + self.buffered


class Tally:
    """Counts rows and bytes of many threads without a lock: each thread adds to a cell of its own."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: dict[int, list[int]] = {}

    def add(self, rows: int, size: int) -> None:
        """Add to the cell of the calling thread (thread ids are reused; cells only grow, so that is harmless)."""
        thread = get_ident()
        cell = self._cells.get(thread)
        if cell is None:
            cell = self._cells.setdefault(thread, [0, 0])
        cell[0] += rows
        cell[1] += size

    @property
    def rows(self) -> int:
        """Rows over all threads."""
        return sum(cell[0] for cell in list(self._cells.values()))

    @property
    def size(self) -> int:
        """Bytes over all threads."""
        return sum(cell[1] for cell in list(self._cells.values()))
