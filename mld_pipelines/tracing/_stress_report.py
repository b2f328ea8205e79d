"""What a stress pass costs, does and has done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StressCost", "StressRunReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StressCost:
    """What the rest of a stress pass will take, from some of its batches.

    Attributes:
        seconds: Expected wall time, start included.
        spent_seconds: Of these, the time until it was known: workers were started and batches measured.
        measured_batches: Batches that were run to know.
        measured_inputs: Copies among them.
        measured_seconds: Time of corruption and model over these, summed over workers.
        driver_seconds: Time in which the driver makes rows of these.
        sets: Sets still to run.
        forwards: Copies still to run.
        workers: Workers that share the work.
    """

    seconds: float
    spent_seconds: float
    measured_batches: int
    measured_inputs: int
    measured_seconds: float
    driver_seconds: float
    sets: int
    forwards: int
    workers: int

    @property
    def summary(self) -> str:
        """One line for logs and terminals."""
        if not self.forwards:
            return "nothing is left to run"
        per_copy = 1000 * self.measured_seconds / max(self.measured_inputs, 1)
        return (
            f"about {self.seconds:.0f} s for {self.forwards} copies in {self.sets} sets "
            f"({per_copy:.2f} ms per copy over {self.measured_batches} batches, {self.workers} workers)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StressRunReport:
    """What a stress pass did.

    Attributes:
        model_key: Model.
        task: Task of the model.
        dataset_type: Dataset whose inputs were corrupted.
        n_epoch: Epoch of the traces.
        fingerprint: Weights.
        families: Names of the corruption families.
        stress_version: Changes with families, severities or seed.
        inputs: Chosen inputs.
        sets: Sets of the pass: kinds times severities.
        done_sets: Sets that are in the lake.
        known_sets: Of these, sets that an earlier run had finished.
        rows: Stressed copies in the lake.
        quarantined_batches: Batches given up in this run; reasons are in `failures` and in `ops/quarantine`.
        cost: What the pass was expected to cost.
        is_waiting: The cost is above the limit, so only the measured batches were run and nothing was written.
        stream_id: Stream of the rows.
        receipt: The row of `landing/receipts` that completes the pass; None while it waits.
        backend: `inline`, `local`, `cluster`, or `none` if nothing was left to run.
        workers: Number of workers.
        seconds: Wall time.
        failures: Reason by batch number.
        lost_copies: Reason by copy, of the copies given up in this run whose batch was not.
    """

    model_key: str
    task: str
    dataset_type: str
    n_epoch: int | None
    fingerprint: str
    families: tuple[str, ...]
    stress_version: str
    inputs: int
    sets: int
    done_sets: int
    known_sets: int
    rows: int
    quarantined_batches: int
    cost: StressCost
    is_waiting: bool
    stream_id: str
    receipt: Mapping[str, Any] | None
    backend: str
    workers: int
    seconds: float
    failures: Mapping[int, str] = field(default_factory=dict)
    lost_copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every copy is in the lake."""
        return self.rows == self.sets * self.inputs

    @property
    def summary(self) -> str:
        """One line for logs and terminals."""
        if self.is_waiting:
            return f"the stress pass of {self.model_key} waits for a launch: {self.cost.summary}"
        text = (
            f"stressed {self.inputs} inputs of {self.dataset_type!r} for {self.model_key}: {self.rows} copies in "
            f"{self.sets} sets of {len(self.families)} families in {self.seconds:.1f} s "
            f"({self.backend}, {self.workers} workers)"
        )
        if self.known_sets:
            text += f"; {self.known_sets} of {self.sets} sets were known"
        if self.quarantined_batches:
            text += f"; {self.quarantined_batches} batches quarantined"
        if self.lost_copies:
            text += f"; {len(self.lost_copies)} single copies quarantined"
        return text
