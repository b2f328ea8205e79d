"""From a worker's numpy columns to rows of `landing/stress`, and the receipt of a stress pass."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mld_pipelines.capture import StressCall, StressEncoder, microseconds
from mld_pipelines.exceptions import WorkerPoolError
from mld_pipelines.lake import Batch
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_STRESS
from mld_pipelines.tracing._landing import BatchWriter, deliver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mld_pipelines.capture import Columns
    from mld_pipelines.compute import BatchResult
    from mld_pipelines.tracing._stress_job import StressJob

__all__ = ["StressWriter", "complete_stress"]

_COMMIT_SECONDS = 5.0
"""Most work that a killed driver loses; a commit costs 10–30 ms, so 1 % of a pass at most."""

_NOTED_FAILURES = 3


@dataclass(slots=True, kw_only=True)
class StressWriter(BatchWriter):
    """Writes the batches of a stress pass, in the order of its sets.

    Attributes:
        job: Whose rows these are.
        encoder: Makes rows of calls, as the tracer's does.
    """

    job: StressJob
    encoder: StressEncoder
    _committed_at: float = field(default_factory=time.monotonic)

    @property
    def done_sets(self) -> int:
        """Sets of which every batch was taken."""
        return self.next_seq // self.job.batches_per_set

    def encode(self, seq: int, /, columns: Mapping[str, NDArray[Any]]) -> tuple[int, Columns]:
        """See `BatchWriter.encode`."""
        plan, source = self.job.plan, self.job.source
        one = plan.sets[self.job.batch(seq)["set"]]
        call = StressCall(
            scores=columns["scores"],
            feature=columns.get("feature"),
            labels=columns["labels"],
            input_ids=columns["input_ids"].tolist(),
            hashes=columns["hashes"].tolist(),
            source_dataset=source.dataset_type,
            n_epoch=source.n_epoch,
            family=one.family,
            kind=one.kind,
            severity=one.severity,
            seed=plan.seed,
            family_version=plan.family(one).version,
            captured_at=int(columns["captured_at"][0]),
            fingerprint=str(columns["fingerprint"][0]),
            path=str(columns["path"][0]),
            feature_layer=str(columns["feature_layer"][0]) or None,
        )
        ((_, encoded),) = self.encoder([call])
        return len(call.labels), encoded

    def content(self, seq: int, _position: int | None = None) -> str:
        """See `BatchWriter.content`; copies are never run alone."""
        batch = self.job.batch(seq)
        one = self.job.plan.sets[batch["set"]]
        return f"copies {batch['start']} to {batch['stop'] - 1} of {one.kind} at severity {one.severity}"

    def take(self, seq: int, result: BatchResult) -> None:
        """See `BatchWriter.take`."""
        BatchWriter.take(self, seq, result)
        if time.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            self.flush()
            self._committed_at = time.monotonic()


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
    reasons = [f"{writer.content(seq)}: {reason}" for seq, reason in sorted(writer.failures.items())[:_NOTED_FAILURES]]
    failed = f"{len(writer.failures)} of {writer.job.batches} batches quarantined, {missing} copies are missing"
    return "; ".join([failed, *reasons])
