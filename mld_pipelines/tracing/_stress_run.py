"""Run a registered model on corrupted copies of the inputs it was traced on."""

from __future__ import annotations

import logging
import time
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.compute import PoolPolicy, open_pipeline
from mld_pipelines.exceptions import WorkerPoolError
from mld_pipelines.tables import LANDING_STRESS
from mld_pipelines.tracing._frames import FRAMES_TASK
from mld_pipelines.tracing._progress import reporting
from mld_pipelines.tracing._ranges import RangeWork
from mld_pipelines.tracing._stress_job import StressOptions, prepare_stress
from mld_pipelines.tracing._stress_landing import FrameStressWriter, UnitStressWriter, complete_stress
from mld_pipelines.tracing._stress_report import StressCost, StressRunReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.compute import Pipeline
    from mld_pipelines.lake import Lake, Provenance
    from mld_pipelines.tracing._progress import Progress
    from mld_pipelines.tracing._ranges import Part
    from mld_pipelines.tracing._stress_job import StressJob
    from mld_pipelines.tracing._stress_landing import StressWriter

__all__ = ["stress_cost", "stress_run"]

_log = logging.getLogger(__name__)

_MEASURED = 8
"""Batches that are run to know the cost, spread over the sets: corruptions differ in theirs by a factor of ten."""

_PROBED_FRAMES = 4
"""Frames of each of these that a detector is run on, one by one: at seconds a frame 8 × 64 would cost more than the
limit that the cost is held against."""

_NOTHING = StressCost(
    seconds=0.0, spent_seconds=0.0, measured_batches=0, measured_inputs=0, measured_seconds=0.0, driver_seconds=0.0,
    sets=0, forwards=0, workers=0,
)  # fmt: skip


def stress_run(
    lake: Lake,
    model_key: str,
    *,
    options: StressOptions | None = None,
    pool: PoolPolicy | None = None,
    max_seconds: float | None = None,
    progress: Progress = None,
    on_cost: Callable[[StressCost], object] | None = None,
    provenance: Provenance | None = None,
) -> StressRunReport:
    """Run the stress pass of a registered model and complete it with a receipt.

    The inputs are those of the newest trace run of the decision dataset. Sets run in a fixed order and are committed in
    it, so a repeated or interrupted pass goes on at the first missing (kind, severity). A batch of a classifier that
    keeps failing, and a copy that keeps breaking a detector, become a row of `ops/quarantine` each; the pass completes,
    and report and receipt say so.

    Args:
        lake: Where registrations and traces are read and copies are written.
        model_key: `model_name@version_name`.
        options: Severities, number of inputs, seed and batch size.
        pool: How to run; the default is local Ray above one batch.
        max_seconds: Where the expected time is above it, nothing is written and the report says `is_waiting`; None
            runs whatever it costs.
        progress: Called with (finished sets, all sets); True draws a bar on the terminal.
        on_cost: Called with the expected cost before the pass starts.
        provenance: Written with every commit, e.g. the Dagster run.

    Raises:
        NotFoundError: Nothing was traced by the platform, or a registration is gone.
        InvalidInputError: The trace, the inputs or an option cannot be used.
        ConfigurationError: A factory cannot be used.
        WorkerPoolError: No worker could be built, or no batch could be run; nothing was written then.
    """
    began = time.monotonic()
    policy = PoolPolicy() if pool is None else pool
    job = prepare_stress(lake, model_key, StressOptions() if options is None else options)
    writer = _writer(lake, job, provenance)
    known, first = writer.done_sets, writer.next_seq
    cost, backend, workers, is_waiting = _NOTHING, "none", 0, False
    if first < job.batches:
        with open_pipeline(job.stages(policy), policy, n_batches=job.batches - first) as opened:
            backend, workers = opened.backend, _workers(opened)
            measured, cost = _measure(opened, writer, policy, began=began)
            if on_cost is not None:
                on_cost(cost)
            is_waiting = max_seconds is not None and cost.seconds > max_seconds
            if not is_waiting:
                _run(opened, writer, policy, measured, progress=progress)
    report = _report(
        writer, known=known, cost=cost, backend=backend, workers=workers, is_waiting=is_waiting, began=began
    )
    _log.info("%s", report.summary)
    return report


def stress_cost(
    lake: Lake, model_key: str, *, options: StressOptions | None = None, pool: PoolPolicy | None = None
) -> StressCost:
    """Return what the rest of a stress pass will take, from eight of its batches; nothing is written.

    Args:
        lake: Where registrations and traces are read.
        model_key: `model_name@version_name`.
        options: Severities, number of inputs, seed and batch size.
        pool: How to run; the default is local Ray above one batch.

    Raises:
        NotFoundError: Nothing was traced by the platform, or a registration is gone.
        InvalidInputError: The trace, the inputs or an option cannot be used.
        ConfigurationError: A factory cannot be used.
        WorkerPoolError: No worker could be built, or no batch could be run.
    """
    began = time.monotonic()
    policy = PoolPolicy() if pool is None else pool
    job = prepare_stress(lake, model_key, StressOptions() if options is None else options)
    writer = _writer(lake, job, None)
    if writer.next_seq >= job.batches:
        return _NOTHING
    with open_pipeline(job.stages(policy), policy, n_batches=job.batches - writer.next_seq) as opened:
        return _measure(opened, writer, policy, began=began)[1]


def _report(
    writer: StressWriter, *, known: int, cost: StressCost, backend: str, workers: int, is_waiting: bool, began: float
) -> StressRunReport:
    """Complete the pass, unless it waits, and say what was done."""
    job = writer.job
    receipt = None if is_waiting else complete_stress(writer)
    return StressRunReport(
        model_key=job.source.model_key,
        task=job.source.task,
        dataset_type=job.source.dataset_type,
        n_epoch=job.source.n_epoch,
        fingerprint=job.source.fingerprint,
        families=tuple(family.name for family in job.plan.families),
        stress_version=job.plan.version,
        inputs=len(job.plan.input_ids),
        sets=len(job.plan.sets),
        done_sets=writer.done_sets,
        known_sets=known,
        rows=0 if receipt is None else receipt["rows"],
        quarantined_batches=len(writer.failures),
        cost=cost,
        is_waiting=is_waiting,
        stream_id=writer.stream_id,
        receipt=receipt,
        backend=backend,
        workers=workers,
        seconds=time.monotonic() - began,
        failures=dict(sorted(writer.failures.items())),
        lost_copies=writer.lost_copies,
    )


def _writer(lake: Lake, job: StressJob, provenance: Provenance | None) -> StressWriter:
    """Return a writer that goes on at the first set which is not committed."""
    stream_id = job.stream_id
    mark = lake.mark(LANDING_STRESS, stream_id)
    writer = FrameStressWriter if job.source.task == FRAMES_TASK else UnitStressWriter
    return writer(
        lake=lake,
        spec=LANDING_STRESS,
        model_key=job.source.model_key,
        stream_id=stream_id,
        provenance=provenance,
        next_seq=0 if mark is None else mark + 1,
        fingerprints={job.source.fingerprint},  # the trace has described them
        job=job,
    )


def _workers(pool: Pipeline) -> int:
    """Return how many workers share the work; in this process the steps of a pass are one."""
    return 1 if pool.backend == "inline" else pool.size


def _settled(
    pool: Pipeline, job: StressJob, policy: PoolPolicy, ranges: Sequence[tuple[int, int]], numbers: Iterable[int]
) -> Iterable[tuple[int, list[Part]]]:
    """Run some ranges. Of frames, which are run one by one anyway, a broken one is found and lost alone."""
    splits = job.source.task == FRAMES_TASK
    return RangeWork(ranges, numbers=numbers, max_attempts=policy.max_attempts, splits=splits).run(pool)


def _measure(
    pool: Pipeline, writer: StressWriter, policy: PoolPolicy, *, began: float
) -> tuple[dict[int, list[Part]], StressCost]:
    """Run eight batches spread over what is left, of frames the first four copies of each.

    Returns:
        The results of those that were run whole, which the pass uses, and the cost.
    """
    job, first = writer.job, writer.next_seq
    left, ranges = job.batches - first, job.ranges
    numbers = sorted({first + index * left // _MEASURED for index in range(_MEASURED)})
    most = _PROBED_FRAMES if job.source.task == FRAMES_TASK else job.batch_size
    probes = [(start, min(start + most, stop)) for start, stop in ranges]
    results = dict(_settled(pool, job, policy, probes, numbers))
    good = {number: [part.result for part in parts if not part.result.failed] for number, parts in results.items()}
    if not any(good.values()):
        raise WorkerPoolError(
            f"none of {len(numbers)} batches of the stress pass of {job.source.model_key} could be run; nothing was "
            f"written. First reason: {results[numbers[0]][0].result.reason}"
        )
    seconds = np.sum([one.columns["seconds"] for found in good.values() for one in found], axis=0)
    inputs = sum(_copies(probes[number], parts) for number, parts in results.items())
    forwards = _length(ranges[first:])
    whole = {number: parts for number, parts in results.items() if probes[number] == ranges[number]}
    driver = sum(writer.seconds_of(number, parts) for number, parts in results.items())
    spent = time.monotonic() - began
    cost = StressCost(
        seconds=spent
        + _wall(seconds, driver, pool) / inputs * (forwards - _length(ranges[number] for number in whole)),
        spent_seconds=spent,
        measured_batches=sum(bool(found) for found in good.values()),
        measured_inputs=inputs,
        measured_seconds=float(seconds.sum()),
        driver_seconds=driver,
        sets=len(job.plan.sets) - first // job.batches_per_set,
        forwards=forwards,
        workers=_workers(pool),
    )
    return whole, cost


def _length(ranges: Iterable[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in ranges)


def _copies(probe: tuple[int, int], parts: list[Part]) -> int:
    """Return how many copies of a range could be run: it is one part, or every copy is."""
    good = sum(not part.result.failed for part in parts)
    return good * (probe[1] - probe[0]) if len(parts) == 1 else good


def _wall(seconds: NDArray[np.float64], driver: float, pool: Pipeline) -> float:
    """Return the wall time of work that took so many seconds in each step, and `driver` seconds in this process.

    Steps of actors run at the same time, and while this process makes rows of what they have done, so the slowest
    counts; in this process they follow each other.
    """
    if pool.backend == "inline":
        return float(seconds.sum()) + driver
    return max(driver, float((seconds / np.array(list(pool.sizes.values()))).max()))


def _run(
    pool: Pipeline, writer: StressWriter, policy: PoolPolicy, measured: dict[int, list[Part]], *, progress: Progress
) -> None:
    """Run what was not measured and write everything."""
    job = writer.job
    todo = [number for number in range(writer.next_seq, job.batches) if number not in measured]
    with reporting(
        progress, total=len(job.plan.sets), done=writer.done_sets, title=f"stress {job.source.model_key}"
    ) as advance:
        for number, parts in chain(measured.items(), _settled(pool, job, policy, job.ranges, todo)):
            before = writer.done_sets
            writer.take_parts(number, parts)
            for _ in range(writer.done_sets - before):
                advance()
    writer.flush()
