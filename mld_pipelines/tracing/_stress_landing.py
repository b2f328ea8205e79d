"""From a worker's numpy columns to rows of `landing/stress`, and the receipt of a stress pass."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.capture import Identity, StressCall, StressEncoder, decode, microseconds
from mld_pipelines.exceptions import WorkerPoolError
from mld_pipelines.lake import Batch
from mld_pipelines.records import split_model_key
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_STRESS
from mld_pipelines.tracing._landing import BatchWriter, deliver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.capture import Columns
    from mld_pipelines.tracing._ranges import Part
    from mld_pipelines.tracing._stress_job import StressJob

__all__ = ["FrameStressWriter", "StressWriter", "UnitStressWriter", "complete_stress"]

_COMMIT_SECONDS = 5.0
"""Most work that a killed driver loses; a commit costs 10–30 ms, so 1 % of a pass at most."""

_NOTED_FAILURES = 3


@dataclass(slots=True, kw_only=True)
class StressWriter(BatchWriter):
    """Writes the batches of a stress pass, in the order of its sets.

    Attributes:
        job: Whose rows these are.
    """

    job: StressJob
    _committed_at: float = field(default_factory=time.monotonic)

    @property
    def done_sets(self) -> int:
        """Sets of which every batch was taken."""
        return self.next_seq // self.job.batches_per_set

    @property
    def lost_copies(self) -> dict[str, str]:
        """Reasons of the copies given up, whose batch was not, by their names."""
        return {self.content(seq, place): why for (seq, place), why in sorted(self.lost_items.items())}

    def content(self, seq: int, position: int | None = None) -> str:
        """See `BatchWriter.content`."""
        one, originals = self.job.stress_set(seq), self.job.originals(seq)
        if position is not None:
            return f"the copy of {originals[position]!r} by {one.kind} at severity {one.severity}"
        start = seq % self.job.batches_per_set * self.job.batch_size
        return f"copies {start} to {start + len(originals) - 1} of {one.kind} at severity {one.severity}"

    def seconds_of(self, seq: int, parts: Sequence[Part]) -> float:
        """Make the rows of a batch, drop them, and return the seconds it took."""
        began = time.perf_counter()
        for part in parts:
            if not part.result.failed:
                self._frame(seq, part)
        return time.perf_counter() - began

    def take_parts(self, seq: int, parts: Sequence[Part]) -> None:
        """See `BatchWriter.take_parts`."""
        BatchWriter.take_parts(self, seq, parts)
        if time.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            self.flush()
            self._committed_at = time.monotonic()


@dataclass(slots=True, kw_only=True)
class UnitStressWriter(StressWriter):
    """Writes what a classifier said of the copies; rows are made of calls here, as the tracer makes them."""

    _encoder: StressEncoder | None = None

    def encode(self, seq: int, /, columns: Mapping[str, NDArray[Any]]) -> tuple[int, Columns]:
        """See `BatchWriter.encode`."""
        call = StressCall(
            scores=columns["scores"],
            feature=columns.get("feature"),
            labels=columns["labels"],
            input_ids=columns["input_ids"].tolist(),
            hashes=columns["hashes"].tolist(),
            captured_at=int(columns["captured_at"][0]),
            fingerprint=str(columns["fingerprint"][0]),
            path=str(columns["path"][0]),
            feature_layer=str(columns["feature_layer"][0]) or None,
            **self.job.facts(seq),
        )
        if self._encoder is None:
            self._encoder = StressEncoder(Identity(*split_model_key(self.model_key)))
        ((_, encoded),) = self._encoder([call])
        return len(call.labels), encoded


@dataclass(slots=True, kw_only=True)
class FrameStressWriter(StressWriter):
    """Writes what a detector found in the copies; the workers have made rows of it, as of a trace."""

    def encode(self, seq: int, /, columns: Mapping[str, NDArray[Any]]) -> tuple[int, Columns]:
        """See `BatchWriter.encode`."""
        segment = decode(columns["segment"].tobytes())
        known = {column.name for column in LANDING_STRESS.columns}
        # what is really there is known of the original, and not stored again; a frame has no label
        found = {name: values for name, values in segment.columns.items() if name in known}
        return segment.rows, found | self.job.facts(seq) | {"label": np.full(segment.rows, -1)}


def complete_stress(writer: StressWriter) -> dict[str, Any]:
    """Write the receipt of a stress pass, last, from what the table really holds; return it.

    Raises:
        WorkerPoolError: No copy is in the lake.
    """
    job, lake = writer.job, writer.lake
    rows = lake.scan(LANDING_STRESS, stream_id=writer.stream_id).select("fingerprint").collect()
    if rows.is_empty():
        reason = next(iter(writer.failures.values()), "every row broke the contract of landing/stress")
        raise WorkerPoolError(
            f"none of the {job.batches} batches of stressed copies could be run, so there is no receipt; the failures "
            f"are in ops/quarantine under stream {writer.stream_id}. First reason: {reason}"
        )
    missing = job.plan.n_forwards - rows.height
    receipt = {
        "model_key": job.source.model_key,
        "dataset_type": job.source.dataset_type,
        "n_epoch": job.source.n_epoch,
        "purpose": "stress",
        "state": "complete",
        "last_seq": job.batches - 1,
        "rows": rows.height,
        "dropped": missing,
        "fingerprint": job.source.fingerprint,
        "weights_changed": False,
        "note": _note(writer, missing),
        "completed_at": microseconds(),
        "source": json.dumps(
            {"model": job.model.name, "dataset": job.dataset.name, "stress_version": job.plan.version}, sort_keys=True
        ),
    }
    frame = deliver(LANDING_RECEIPTS, 1, receipt, stream_id=writer.stream_id, seq=0)
    lake.commit_once(LANDING_RECEIPTS, [Batch(writer.stream_id, 0, frame)], provenance=writer.provenance)
    stored = lake.scan(LANDING_RECEIPTS, stream_id=writer.stream_id).sort("seq").collect()
    return dict(stored.row(-1, named=True))


def _note(writer: StressWriter, missing: int) -> str | None:
    if not missing:
        return None
    lost = writer.lost_copies
    reasons = [f"{writer.content(seq)}: {reason}" for seq, reason in sorted(writer.failures.items())]
    reasons += [f"{copy}: {reason}" for copy, reason in lost.items()]
    told = [f"{len(writer.failures)} of {writer.job.batches} batches quarantined"] * bool(writer.failures)
    told += [f"{len(lost)} single copies quarantined"] * bool(lost)
    return "; ".join([", ".join([*told, f"{missing} copies are missing"]), *reasons[:_NOTED_FAILURES]])
