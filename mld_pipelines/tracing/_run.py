"""Trace a registered model over a registered dataset on a pool of workers."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.capture import microseconds
from mld_pipelines.compute import PoolPolicy, open_pipeline, open_pool
from mld_pipelines.exceptions import WorkerPoolError
from mld_pipelines.lake import Batch
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_TRACES
from mld_pipelines.tracing._job import TraceJob
from mld_pipelines.tracing._landing import FrameWriter, RangeWriter, TraceWriter, deliver
from mld_pipelines.tracing._progress import reporting
from mld_pipelines.tracing._ranges import RangeWork
from mld_pipelines.tracing._registry import find_registration
from mld_pipelines.tracing._report import TraceRunReport, count_of, repetition

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from mld_pipelines.compute import Pipeline, WorkerPool
    from mld_pipelines.lake import Lake, Provenance
    from mld_pipelines.tracing._progress import Progress

__all__ = ["trace_run"]

_log = logging.getLogger(__name__)

_WRITERS: dict[str, type[RangeWriter]] = {"classification": TraceWriter, "od3d": FrameWriter}

_NOTED_FAILURES = 3
"""Reasons quoted in a receipt; all of them are in `ops/quarantine`."""


def trace_run(
    lake: Lake,
    model: str,
    dataset: str,
    *,
    dataset_type: str,
    n_epoch: int | None = None,
    batch_size: int = 64,
    pool: PoolPolicy | None = None,
    progress: Progress = None,
    seed: int = 0,
    run_key: str | None = None,
    provenance: Provenance | None = None,
) -> TraceRunReport:
    """Trace a registered model over a registered dataset and complete the trace with a receipt.

    The rows are those a tracer of the dataset's task would have recorded. Workers build the model and the dataset
    themselves and return numpy arrays; this process commits them in the order of the dataset. A batch that fails is run
    again item by item, and an item that keeps failing becomes a row of `ops/quarantine` (a batch of which every item
    does becomes one); the run completes, and report and receipt say so.

    Args:
        lake: Where registrations are read and rows are written.
        model: Name of a registered model.
        dataset: Name of a registered dataset.
        dataset_type: Name of the dataset in the traces, e.g. `val`.
        n_epoch: Epoch of the weights, where that means something.
        batch_size: Items per call of a worker (64 or more keeps a call of Ray's 1 ms small beside the work); a
            classifier's forward pass takes them together, a detector's one by one.
        pool: How to run; the default is local Ray above one batch.
        progress: Called with (finished batches, all batches); True draws a bar on the terminal.
        seed: Seeds torch, numpy and random before building and, with the batch number, before every batch.
        run_key: Repeating a run with the same key and arguments continues it instead of tracing again: batches already
            committed are skipped. None makes every run a new trace.
        provenance: Written with every commit, e.g. the Dagster run.

    Raises:
        NotFoundError: The model or the dataset is not registered.
        ConfigurationError: A factory cannot be used.
        InvalidInputError: The dataset is empty or an argument is out of range; nothing was recorded.
        WorkerPoolError: No worker could be built, or every batch failed (no receipt is written then).
    """
    began = time.monotonic()
    policy = PoolPolicy() if pool is None else pool
    job = TraceJob(
        model=find_registration(lake, model, kind="model"),
        dataset=find_registration(lake, dataset, kind="dataset"),
        dataset_type=dataset_type,
        n_epoch=n_epoch,
        batch_size=batch_size,
        seed=seed,
    )
    task, items = job.look_into()
    stream_id = job.stream_id(run_key)
    known = 0 if run_key is None else _known_batches(lake, stream_id)
    writer = _WRITERS[task](
        lake=lake,
        spec=LANDING_TRACES,
        model_key=job.model.model_key,
        stream_id=stream_id,
        provenance=provenance,
        next_seq=known,
        job=job,
        items=items,
    )
    backend, workers = _run_batches(job, policy, writer, progress=progress)
    receipt, repeated = _complete(lake, job, writer)
    report = TraceRunReport(
        model_key=job.model.model_key,
        dataset_type=dataset_type,
        n_epoch=n_epoch,
        items=items,
        rows=receipt["rows"],
        batches=len(job.ranges(items)),
        known_batches=known,
        quarantined_batches=len(writer.failures),
        stream_id=stream_id,
        receipt=receipt,
        backend=backend,
        workers=workers,
        seconds=time.monotonic() - began,
        failures=dict(sorted(writer.failures.items())),
        lost_items=writer.lost_by_item,
        repeated_ids=repeated,
    )
    _log.info("%s", report.summary)
    return report


def _known_batches(lake: Lake, stream_id: str) -> int:
    mark = lake.mark(LANDING_TRACES, stream_id)
    return 0 if mark is None else mark + 1


def _run_batches(job: TraceJob, policy: PoolPolicy, writer: RangeWriter, *, progress: Progress) -> tuple[str, int]:
    """Run the batches that are not committed yet; return the backend and the number of workers."""
    ranges, first = job.ranges(writer.items), writer.next_seq
    work = RangeWork(ranges, numbers=range(first, len(ranges)), max_attempts=policy.max_attempts)
    if not work.is_left:
        return "none", 0
    with (
        _opened(job, policy, writer, n_batches=len(ranges) - first) as pool,
        reporting(progress, total=len(ranges), done=first, title=f"trace {job.model.model_key}") as advance,
    ):
        backend, workers = pool.backend, pool.size
        for seq, parts in work.run(pool):
            writer.take_parts(seq, parts)
            advance()
    writer.flush()
    return backend, workers


def _opened(
    job: TraceJob, policy: PoolPolicy, writer: RangeWriter, *, n_batches: int
) -> AbstractContextManager[WorkerPool | Pipeline]:
    """Return the workers: of one kind for classifiers, in two steps for detectors."""
    if isinstance(writer, FrameWriter):
        return open_pipeline(job.stages(policy), policy, n_batches=n_batches)
    return open_pool(job.worker(policy), policy, n_batches=n_batches)


def _complete(lake: Lake, job: TraceJob, writer: RangeWriter) -> tuple[dict[str, Any], dict[str, int]]:
    """Write the receipt, last, from what the table really holds; return it and the ids that several rows have."""
    batches = len(job.ranges(writer.items))
    rows = lake.scan(LANDING_TRACES, stream_id=writer.stream_id).select("fingerprint").collect()
    if rows.is_empty():
        reason = next(iter(writer.failures.values()), "every row broke the contract of landing/traces")
        raise WorkerPoolError(
            f"none of the {batches} batches could be traced, so there is no receipt; the failures are in "
            f"ops/quarantine under stream {writer.stream_id}. First reason: {reason}"
        )
    missing, repeated = writer.items - rows.height, _repeated_ids(lake, writer.stream_id)
    fingerprints = rows["fingerprint"].unique(maintain_order=True).to_list()
    receipt = {
        "model_key": job.model.model_key,
        "dataset_type": job.dataset_type,
        "n_epoch": job.n_epoch,
        "purpose": "trace",
        "state": "complete",
        "last_seq": batches - 1,
        "rows": rows.height,
        "dropped": missing,
        "fingerprint": fingerprints[-1],
        "weights_changed": len(fingerprints) > 1,
        "note": _note(writer, batches, missing, repeated),
        "completed_at": microseconds(),
        "source": job.source,
    }
    frame = deliver(LANDING_RECEIPTS, 1, receipt, stream_id=writer.stream_id, seq=0)
    lake.commit_once(LANDING_RECEIPTS, [Batch(writer.stream_id, 0, frame)], provenance=writer.provenance)
    stored = lake.scan(LANDING_RECEIPTS, stream_id=writer.stream_id).sort("seq").collect()
    return dict(stored.row(-1, named=True)), repeated


def _repeated_ids(lake: Lake, stream_id: str) -> dict[str, int]:
    """Return the input ids that several rows of a run have, with their number."""
    ids = lake.scan(LANDING_TRACES, stream_id=stream_id).group_by("input_id").agg(pl.len().alias("rows"))
    return dict(ids.filter(pl.col("rows") > 1).sort("input_id").collect().iter_rows())


def _note(writer: RangeWriter, batches: int, missing: int, repeated: Mapping[str, int]) -> str | None:
    told = [repetition(repeated)] * bool(repeated)
    if not missing:
        return "; ".join(told) or None
    lost = writer.lost_by_item
    reasons = [f"batch {seq}: {reason}" for seq, reason in sorted(writer.failures.items())]
    reasons += [f"item {item}: {reason}" for item, reason in lost.items()]
    counts = [f"{len(writer.failures)} of {batches} batches quarantined"] * bool(writer.failures)
    counts += [f"{count_of(len(lost), 'single item')} quarantined"] * bool(lost)
    counts.append(f"{count_of(missing, 'item')} {'is' if missing == 1 else 'are'} missing")
    return "; ".join([", ".join(counts), *told, *reasons[:_NOTED_FAILURES]])
