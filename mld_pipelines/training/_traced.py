"""What has been traced of one dataset and epoch, and the receipt for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Receipt", "Traced"]


@dataclass(slots=True)
class Traced:
    """State of one dataset and epoch.

    Attributes:
        dataset_type: Dataset.
        n_epoch: Epoch, or None.
        fingerprint: Weights at the first call.
        weights_version: Version counter of the weights when they were last looked at.
        weights_changed: They changed between the first call and now.
        rows: Rows recorded.
        last_call: Number of the last call.
        duplicates: Inputs recorded again: the last write wins.
        hash_conflicts: Of these, inputs whose content differed.
        is_pending: Rows came after the last receipt.
        hashes: Digest by input id.
    """

    dataset_type: str
    n_epoch: int | None
    fingerprint: str
    weights_version: int
    weights_changed: bool = False
    rows: int = 0
    last_call: int = -1
    duplicates: int = 0
    hash_conflicts: int = 0
    is_pending: bool = True
    hashes: dict[str, str] = field(default_factory=dict)

    def add(self, input_ids: Sequence[str], hashes: Sequence[str], *, call: int) -> None:
        """Count one call."""
        for input_id, digest in zip(input_ids, hashes, strict=True):
            before = self.hashes.get(input_id)
            if before is not None:
                self.duplicates += 1
                self.hash_conflicts += before != digest
            self.hashes[input_id] = digest
        self.rows += len(input_ids)
        self.last_call = call
        self.is_pending = True

    @property
    def note(self) -> str | None:
        """What a reader of the receipt should know."""
        notes = []
        if self.duplicates:
            one = self.duplicates == 1
            notes.append(f"{self.duplicates} {'input was' if one else 'inputs were'} traced again; the last write wins")
        if self.hash_conflicts:
            notes.append(f"{self.hash_conflicts} of them with different content")
        return "; ".join(notes) or None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `wait_for_save` stored.

    Attributes:
        rows: Rows recorded for the saved datasets and epochs, quarantined ones included.
        inputs: Different inputs among them, per dataset and epoch.
        datasets: Saved datasets.
        epochs: Saved epochs; None stands for rows without one.
        dropped: Rows lost; 0 unless something was reported before.
        known: Rows whose batch an earlier run of the same stream had stored.
        known_batches: Batches of that kind.
        quarantined: Rows that broke the table's contract (e.g. NaN logits); they are in `ops/quarantine`.
        duplicates: Inputs traced more than once; the last write wins.
        hash_conflicts: Inputs traced again with different content.
        fingerprint: Weights at the save.
        weights_changed: The weights changed while a dataset was traced; it cannot decide.
        stream_id: Stream of the rows.
        version: Delta version of `landing/traces` that holds them.
        uri: Where that table lies.
    """

    rows: int
    inputs: int
    datasets: tuple[str, ...]
    epochs: tuple[int | None, ...]
    dropped: int
    known: int
    known_batches: int
    quarantined: int
    duplicates: int
    hash_conflicts: int
    fingerprint: str
    weights_changed: bool
    stream_id: str
    version: int | None
    uri: str
