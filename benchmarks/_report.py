"""Tables with ratios and verdicts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks._machine import Machine

__all__ = ["Report", "Target", "bytes_text", "ratio_text", "seconds_text"]

_SECOND, _MILLI = 1.0, 1e-3


@dataclass(frozen=True, slots=True)
class Target:
    """A number that was promised.

    Attributes:
        promise: What was promised, in words, with the limit.
        value: What was measured.
        limit: The limit.
        at_most: Whether the value may not exceed the limit; otherwise it may not fall short of it.
        shown: The value as text with its unit.
    """

    promise: str
    value: float
    limit: float
    at_most: bool
    shown: str

    def verdict(self, *, is_quiet: bool) -> str:
        """Return `met`, `missed` or `no verdict`."""
        if not is_quiet:
            return "no verdict"
        return "met" if (self.value <= self.limit if self.at_most else self.value >= self.limit) else "missed"


@dataclass(slots=True)
class Report:
    """One benchmark's outcome.

    Attributes:
        title: Heading of the table.
        columns: Heads of the columns.
        rows: Cells, as text.
        targets: Promises with what was measured.
        notes: What a reader has to know, one sentence each.
        is_quick: Sizes of a smoke run: the numbers mean nothing.
        machine: Where it ran; set by the runner.
        terms: Measured numbers by name that pages reckon with; kept as `docs/data/NAME.json`.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_quick: bool = False
    machine: Machine | None = None
    terms: dict[str, float] = field(default_factory=dict)

    def add(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(cells)

    def at_most(self, promise: str, value: float, limit: float, shown: str) -> None:
        """Judge a value that may not exceed a limit."""
        self.targets.append(Target(promise, value, limit, at_most=True, shown=shown))

    def at_least(self, promise: str, value: float, limit: float, shown: str) -> None:
        """Judge a value that may not fall short of a limit."""
        self.targets.append(Target(promise, value, limit, at_most=False, shown=shown))

    @property
    def has_verdict(self) -> bool:
        """Whether the numbers may be judged."""
        return self.machine is not None and self.machine.is_quiet and not self.is_quick

    def markdown(self) -> str:
        """Return title, machine, table, verdicts and notes as Markdown."""
        parts = [f"### {self.title}"]
        if self.machine is not None:
            parts.append(f"{self.machine.describe()}{'; **quick sizes**' if self.is_quick else ''}")
        parts.append(_table(self.columns, self.rows))
        if self.targets:
            judged = [(t.promise, t.shown, t.verdict(is_quiet=self.has_verdict)) for t in self.targets]
            parts.append(_table(("promised", "measured", "verdict"), judged))
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)

    def document(self) -> dict[str, Any]:
        """Return everything as JSON-ready values, verdicts included."""
        judged = [{**asdict(t), "verdict": t.verdict(is_quiet=self.has_verdict)} for t in self.targets]
        return {**asdict(self), "targets": judged}


def seconds_text(value: float) -> str:
    """Return a duration with its unit and three digits."""
    if value >= _SECOND:
        return f"{value:.3g} s"
    return f"{value * 1e3:.3g} ms" if value >= _MILLI else f"{value * 1e6:.3g} µs"


def ratio_text(value: float) -> str:
    """Return a ratio with three digits."""
    return f"{value:.3g} ×"


def bytes_text(value: float) -> str:
    """Return a size in GB or MB (10⁹, 10⁶)."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [_line(head, widths), "| " + " | ".join("-" * width for width in widths) + " |"]
    return "\n".join(lines + [_line(row, widths) for row in rows])


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
