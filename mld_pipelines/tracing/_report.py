"""What a trace run reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TraceRunReport", "count_of", "repetition"]

_NAMED = 3
"""Repeated ids that the summary names; the report holds all."""

_LONGEST = 60
"""Characters of an id in the summary."""


@dataclass(frozen=True, slots=True)
class TraceRunReport:
    """What a trace run did.

    Attributes:
        model_key: Model that was traced.
        dataset_type: Name of the dataset in the traces.
        n_epoch: Epoch of the traces.
        items: Items of the dataset.
        rows: Rows of this run in `landing/traces`.
        batches: Batches of the dataset.
        known_batches: Batches an earlier run of the same `run_key` had committed; they were not run again.
        quarantined_batches: Batches given up in this run; reasons are in `failures` and in `ops/quarantine`.
        failures: Reason by batch number.
        lost_items: Reason by place in the dataset of the items given up in this run, whose batch was not.
        repeated_ids: Rows by input id, of the ids that several rows have; in an evaluation the last one of each counts.
        stream_id: Stream of the rows.
        receipt: The row of `landing/receipts` that completes the trace.
        backend: `inline`, `local` or `cluster`.
        workers: Number of workers.
        seconds: Wall time.
    """

    model_key: str
    dataset_type: str
    n_epoch: int | None
    items: int
    rows: int
    batches: int
    known_batches: int
    quarantined_batches: int
    stream_id: str
    receipt: Mapping[str, Any]
    backend: str
    workers: int
    seconds: float
    failures: Mapping[int, str] = field(default_factory=dict)
    lost_items: Mapping[int, str] = field(default_factory=dict)
    repeated_ids: Mapping[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every item of the dataset is in the trace."""
        return self.rows == self.items

    @property
    def summary(self) -> str:
        """One line for logs and terminals."""
        text = f"traced {self.rows} of {self.items} items of {self.dataset_type!r} for {self.model_key}"
        text += f" in {self.seconds:.1f} s ({self.backend}, {count_of(self.workers, 'worker')})"
        if self.known_batches:
            text += f"; {self.known_batches} of {self.batches} batches were known"
        if self.quarantined_batches:
            text += f"; {self.quarantined_batches} of {self.batches} batches quarantined"
        if self.lost_items:
            text += f"; {count_of(len(self.lost_items), 'single item')} quarantined"
        if self.repeated_ids:
            text += f"; {repetition(self.repeated_ids)}"
        return text


def count_of(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number} {what if number == 1 else what + 's'}"


def repetition(repeated: Mapping[str, int]) -> str:
    """Return in words that rows share input ids.

    Args:
        repeated: Rows by input id.
    """
    named = ", ".join(f"{one[:_LONGEST]} ({rows} rows)" for one, rows in list(repeated.items())[:_NAMED])
    more = ", …" if len(repeated) > _NAMED else ""
    verb = "stands" if len(repeated) == 1 else "stand"
    return (
        f"{count_of(len(repeated), 'input id')} {verb} for several rows, of which an evaluation counts the last: "
        f"{named}{more}"
    )
