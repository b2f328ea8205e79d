"""The receipt for a stress pass."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StressReceipt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StressReceipt:
    """What `ClassificationTracer.stress` stored.

    Attributes:
        rows: Stressed copies in the lake.
        inputs: Inputs that were chosen.
        sets: Kinds times severities.
        known_sets: Of these, sets that an earlier run of the same pass had stored; they were not run again.
        families: Names of the corruption families.
        dataset: Dataset of the originals.
        n_epoch: Epoch, or None.
        dropped: Copies that are not in the lake: lost and counted, or quarantined because they broke the table's
            contract (e.g. NaN logits).
        fingerprint: Weights of the model.
        stress_version: Changes with families, severities or seed.
        stream_id: Stream of the rows; the same pass has the same one.
        seconds: Wall time.
        version: Delta version of `landing/stress` that holds the rows; None where the sink does not know it.
        uri: Where that table lies.
    """

    rows: int
    inputs: int
    sets: int
    known_sets: int
    families: tuple[str, ...]
    dataset: str
    n_epoch: int | None
    dropped: int
    fingerprint: str
    stress_version: str
    stream_id: str
    seconds: float
    version: int | None
    uri: str
