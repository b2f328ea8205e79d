"""Frames of a 3D detector through Ray and in this process: what actors cost, and what a run of the platform manages."""

from __future__ import annotations

import pickle
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._drive import DATASET, EMITTER, MODEL, forward_worker, store_frames
from benchmarks._report import Report, bytes_text, ratio_text, seconds_text
from benchmarks._timing import median
from mld_pipelines.compute import BatchResult, PoolPolicy, StageSpec, WorkerSpec, open_pipeline
from mld_pipelines.compute._session import ray_session
from mld_pipelines.tracing._detection_worker import DetectionRowsWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mld_pipelines.compute import Pipeline
    from mld_pipelines.tracing import TraceRunReport

    Columns = dict[str, NDArray[Any]]

PEERS = ("ray", "torch", "numba")
STARTS_DAEMONS = True
_CALL, _TURNS, _FRAMES = 64, 5, 1_920
"""Frames per call that a run uses by default; turns; frames of one turn."""
_COPIES = 6
"""Raw outputs of that many calls in turns: a real worker never reads the same arrays twice, warm in its caches."""
_NAMES: dict[str, Any] = {"model_name": "p", "version_name": "v", "dataset_type": "val", "n_epoch": None}
_TIMED = "benchmarks.throughput:TimedRows"


class TimedRows(DetectionRowsWorker):
    """Notes the processor time of its process at the start of every call: differences hold what Ray adds, too."""

    def __call__(self, raw: Columns) -> Columns:  # type: ignore[override]
        """Return the rows, and when the call began: processor seconds of the process, and the number of the call."""
        began = time.process_time()
        return super().__call__(raw) | {"began": np.array([began]), "call": raw["call"]}


def run(*, quick: bool, full: bool) -> Report:
    """Measure the rows worker on both sides, then whole runs with one and two actors."""
    del full
    report = Report(
        "3D detections: post-processing and whole runs through Ray and in one process",
        ("what", "frames per call", "per frame", "frames/s", "of in-process", "by processor time"),
    )
    with tempfile.TemporaryDirectory(prefix="mld-bench-") as folder:
        frames = Path(folder) / "frames.pkl"
        store_frames(frames, 8 if quick else 4 * _CALL)
        with ray_session(PoolPolicy(object_store_bytes=512 * 2**20)):  # one Ray for all pools
            terms = _post_processing(report, frames, quick=quick)
            terms |= _runs(report, frames, quick=quick)
    report.terms = terms
    share = terms["rows_ms"] / (terms["rows_ms"] + terms["forward_cpu_ms"])
    report.notes += [
        "Post-processing: decoding, features, candidates and rows of the example pillar detector's raw outputs "
        f"({bytes_text(terms['raw_bytes'] * 1e3)} per 1,000 frames), ready in memory or, on Ray, in shared memory, "
        "written there by another process; what comes back is the bytes of a segment. One thread; medians over turns.",
        "By processor time: in-process seconds over all seconds of the actor's process between two calls, Ray's own "
        "included. It holds on a busy machine, where the clock does not.",
        f"Post-processing is {share:.1%} of model and post-processing on this CPU, whose forward pass takes "
        f"{terms['forward_cpu_ms']:.3g} ms; behind 25 ms on a GPU it would be "
        f"{terms['rows_ms'] / (terms['rows_ms'] + 25):.1%} and runs beside it.",
        "Whole runs: `trace_run` with commits, from the first committed batch to the last, without Ray's start.",
    ]
    return report


# -- post-processing --------------------------------------------------------------------------------------------------


def _post_processing(report: Report, frames: Path, *, quick: bool) -> dict[str, float]:
    terms: dict[str, float] = {}
    for size in (2, 8) if quick else (1, 8, _CALL):
        worker = forward_worker(frames, size)
        raw = worker({"start": 0, "stop": size})
        calls = 4 if quick else max(30, min(240, _FRAMES // size))
        spent = _compare(raw, frames.with_name("raw.pkl"), calls=calls, turns=2 if quick else _TURNS)
        here, there = spent["here"] / size, spent["there"] / size
        ratio, by_cpu = here / there, spent["here_cpu"] / spent["there_cpu"]
        report.add("in this process", str(size), seconds_text(here), f"{1 / here:,.0f}", "1 ×", "1 ×")
        shown = ratio_text(ratio), ratio_text(by_cpu)
        report.add("one Ray actor", str(size), seconds_text(there), f"{1 / there:,.0f}", *shown)
        if size >= 8:
            terms = {
                "frames_per_call": float(size),
                "rows_ms": 1e3 * spent["there_cpu"] / size,
                "driver_call_ms": 1e3 * spent["driver_cpu"],
                "raw_bytes": sum(array.nbytes for array in raw.values()) / size,
                "forward_cpu_ms": 1e3 * _forward_seconds(worker, size) / size,
                "ratio": ratio,
                "ratio_cpu": by_cpu,
            }
    report.at_least(f"{size} frames per call: ≥ 0.9 of in-process throughput", ratio, 0.9, ratio_text(ratio))
    report.at_least("the same by processor time", by_cpu, 0.9, ratio_text(by_cpu))
    return terms


def _forward_seconds(worker: Any, frames: int) -> float:
    began = time.process_time()
    worker({"start": 0, "stop": frames})
    return time.process_time() - began


def _compare(raw: Columns, path: Path, *, calls: int, turns: int) -> dict[str, float]:
    """Return the seconds of a call on both sides, by the clock and by processor time, in turns."""
    path.write_bytes(pickle.dumps(raw))
    copies = [{name: array.copy() for name, array in raw.items()} | {"call": np.array([0])} for _ in range(_COPIES)]
    here = TimedRows(**_NAMES)
    stages = [
        StageSpec("emit", WorkerSpec(EMITTER, {"path": str(path)}), size=1, num_cpus=0.5),
        StageSpec("rows", WorkerSpec(_TIMED, _NAMES), size=1, num_cpus=0.5),
    ]
    found: dict[str, list[float]] = {name: [] for name in ("here", "here_cpu", "there", "there_cpu", "driver_cpu")}
    with open_pipeline(stages, PoolPolicy(backend="local")) as pipeline:
        for turn in range(turns + 1):  # the first is not counted
            spent = _here(here, copies, calls) | _there(pipeline, calls)
            for name, seconds in spent.items() if turn else ():
                found[name].append(seconds)
    return {name: median(seconds) for name, seconds in found.items()}


def _here(worker: TimedRows, copies: list[Columns], calls: int) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for call in range(calls):
        worker(copies[call % len(copies)])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"here": wall / calls, "here_cpu": cpu / calls}


def _there(pipeline: Pipeline, calls: int) -> dict[str, float]:
    cpu, seen, began = time.process_time(), [], []
    for result in pipeline.map({"call": call} for call in range(calls)):
        if result.failed:
            raise RuntimeError(result.reason)
        seen.append(time.perf_counter())
        began.append((int(result.columns["call"][0]), float(result.columns["began"][0])))
    cpu = time.process_time() - cpu
    starts = [at for _, at in sorted(began)]
    return {
        "there": (seen[-1] - seen[0]) / (calls - 1),
        "there_cpu": (starts[-1] - starts[0]) / (calls - 1),
        "driver_cpu": cpu / calls,
    }


# -- whole runs -------------------------------------------------------------------------------------------------------


def _runs(report: Report, frames: Path, *, quick: bool) -> dict[str, float]:
    length, size = (12, 2) if quick else (384, 32)
    pools = {
        "`trace_run`, inline": PoolPolicy(backend="inline"),
        "`trace_run`, Ray, 1 model actor": PoolPolicy(backend="local", size=1, num_cpus=0.5),
        "`trace_run`, Ray, 2 model actors": PoolPolicy(
            backend="local", size=2, num_cpus=0.5, post_size=1, post_cpus=0.5
        ),
    }
    inline, rates = 0.0, {}
    for name, pool in pools.items():
        if quick and pool.size == 2:
            continue
        rate = _rate(frames, length, size, pool)
        inline = inline or rate
        rates[name] = rate
        report.add(name, str(size), seconds_text(1 / rate), f"{rate:,.1f}", ratio_text(rate / inline), "")
    return _written(frames, *((_CALL, 4) if not quick else (4, 2)))


@contextmanager
def _lake(frames: Path, length: int) -> Iterator[Any]:
    from mld_pipelines.lake import Lake
    from mld_pipelines.tracing import register_dataset, register_model

    with tempfile.TemporaryDirectory(prefix="mld-bench-") as folder:
        lake = Lake(folder, code_version="bench")
        register_model(lake, "pillars", factory=MODEL, model_name="pillars", version_name="v1")
        register_dataset(lake, "frames", factory=DATASET, params={"path": str(frames), "length": length})
        yield lake


def _rate(frames: Path, length: int, size: int, pool: PoolPolicy) -> float:
    """Return the frames per second of a run, from its first batch to its last."""
    from mld_pipelines.tracing import trace_run

    at: list[float] = []
    with _lake(frames, length) as lake:
        done: TraceRunReport = trace_run(
            lake,
            "pillars",
            "frames",
            dataset_type="val",
            batch_size=size,
            pool=pool,
            progress=lambda *_: at.append(time.perf_counter()),
        )
    if not done.complete:
        raise RuntimeError(done.summary)
    return size * (len(at) - 1) / (at[-1] - at[0])


def _written(frames: Path, size: int, calls: int) -> dict[str, float]:
    """Return what the driver spends on a frame and on a commit of `calls` calls, and the bytes it writes."""
    from mld_pipelines.tables import LANDING_TRACES
    from mld_pipelines.tracing._job import TraceJob
    from mld_pipelines.tracing._landing import FrameWriter
    from mld_pipelines.tracing._registry import find_registration

    forward, rows = forward_worker(frames, size * calls), DetectionRowsWorker(**_NAMES)
    made = [rows(forward({"start": start, "stop": start + size})) for start in range(0, size * calls, size)]
    with _lake(frames, size * calls) as lake:
        job = TraceJob(
            model=find_registration(lake, "pillars", kind="model"),
            dataset=find_registration(lake, "frames", kind="dataset"),
            dataset_type="val",
            n_epoch=None,
            batch_size=size,
            seed=0,
        )
        writer = FrameWriter(
            lake=lake, spec=LANDING_TRACES, model_key="pillars@v1", stream_id="bench", job=job, items=10**6
        )
        writer.take(0, BatchResult(0, made[0]))
        writer.flush()  # makes the table
        before = _stored(lake)
        cpu = time.process_time()
        for call, segment in enumerate(made, start=1):
            writer.take(call, BatchResult(call, segment))
        taken_cpu = time.process_time() - cpu
        cpu = time.process_time()
        writer.flush()
        cpu = time.process_time() - cpu
        stored = _stored(lake) - before
    return {
        "driver_frame_ms": 1e3 * (taken_cpu + cpu) / (calls * size),
        "commit_ms": 1e3 * cpu,
        "commit_frames": float(calls * size),
        "segment_bytes": sum(one["segment"].nbytes for one in made) / (calls * size),
        "stored_bytes": stored / (calls * size),
    }


def _stored(lake: Any) -> int:
    from mld_pipelines.tables import LANDING_TRACES

    return sum(path.stat().st_size for path in Path(lake.uri(LANDING_TRACES)).rglob("*.parquet"))
