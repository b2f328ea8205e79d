"""The steps of the 3D part: what a user would write, with names and streams fixed so that it can run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from examples.demo.week import PER_DAY, WEEK, Week, week_clock
from mld_pipelines.compute import PoolPolicy
from mld_pipelines.evaluator import Evaluator, Result
from mld_pipelines.exceptions import MldError, UnknownModelError
from mld_pipelines.monitoring import ObjectDetection3DLogger
from mld_pipelines.tables import MONITORING_WINDOWS
from mld_pipelines.tracing import StressOptions, register_dataset, register_model, stress_run, trace_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from examples.demo.week import Shot
    from examples.drive.model import PillarDetector
    from mld_pipelines.capture import Stats
    from mld_pipelines.lake import Lake
    from mld_pipelines.tracing import StressRunReport, TraceRunReport

__all__ = [
    "MODEL",
    "SCENES",
    "STRESSED",
    "VERSION",
    "Driven",
    "first_result",
    "monitored",
    "serve_week",
    "stress",
    "trace",
]

MODEL, VERSION = "pillars", "v1"
SCENES = {"train": ("train", 64), "val": ("mixed", 240)}
"""Part and number of frames of each dataset, every frame of another street. The validation frames hold some 600 false
and 500 missed boxes, because every fourth saw light rain, light fog or a slightly bent sensor: an estimator learns what
rain does from drops it has seen (docs/drive.md tells what clear days alone would give)."""
STRESSED = 60
"""Scenes that are corrupted in 21 ways: 1,260 frames for the detector, half a minute on two cores. All 240 take two
minutes and judge the week no better (docs/method.md#detection)."""
_TWO_DETECTORS = PoolPolicy(backend="local", size=2, num_cpus=0.9, post_size=1, post_cpus=0.2)
"""Two actors that run the detector and one that makes rows, which takes 3 % of the time, on two cores."""
_TRACE_BATCH = 64


@dataclass(frozen=True, slots=True)
class Driven:
    """What the 3D part did.

    Attributes:
        result: The result that the platform made of the traced scenes.
        week: The truth about the week.
        traced: What was traced.
        stats: Of the logger.
    """

    result: Result
    week: Week
    traced: tuple[TraceRunReport, ...]
    stats: Stats

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Frames stored, of these known from an earlier run, and quarantined; by stream."""
        traces = {
            f"drive-{one.dataset_type}": {
                "rows": one.rows,
                "known": min(one.known_batches * _TRACE_BATCH, one.rows),
                "quarantined": one.items - one.rows,
            }
            for one in self.traced
        }
        stats = self.stats
        logged = {"rows": stats.emitted, "known": stats.known, "quarantined": stats.quarantined}
        return traces | {"drive-logger": logged}


def trace(lake: Lake) -> list[TraceRunReport]:
    """Register detector and scenes, and trace them as `mld trace run` does: validation on two Ray actors.

    The single batch of training scenes runs in this process, as `backend="auto"` would choose.

    Args:
        lake: Where to.
    """
    register_model(
        lake, MODEL, factory="examples.drive.datasets:drive_model", model_name=MODEL, version_name=VERSION
    )  # fmt: skip
    reports = []
    for dataset_type, (part, frames) in SCENES.items():
        name = f"drive-{part}"
        parameters = {"part": part, "frames": frames}
        register_dataset(lake, name, factory="examples.drive.datasets:drive_dataset", params=parameters)
        pool = _TWO_DETECTORS if frames > _TRACE_BATCH else PoolPolicy(backend="inline")
        reports.append(
            trace_run(lake, MODEL, name, dataset_type=dataset_type, batch_size=_TRACE_BATCH, pool=pool, run_key="demo")
        )
    return reports


def stress(lake: Lake, *, inputs: int = STRESSED) -> StressRunReport:
    """Run the detector on corrupted copies of validation scenes, as `mld stress run` does, on two Ray actors.

    Done before Dagster starts, which would run a pass over all scenes by itself.

    Args:
        lake: Where to.
        inputs: Scenes.
    """
    options = StressOptions(max_inputs=inputs, batch_size=20)
    return stress_run(lake, f"{MODEL}@{VERSION}", options=options, pool=_TWO_DETECTORS)


def first_result() -> Result | None:
    """Return the result that the platform made of the new traces by itself, None as long as there is none."""
    evaluator = Evaluator(MODEL, VERSION)
    try:
        known = evaluator.list_results()["result_name"].to_list()
    except UnknownModelError:
        return None
    return evaluator.get_result(known[0]) if known else None


def serve_week(
    model: PillarDetector,
    frames: Iterable[Shot],
    result_name: str,
    *,
    advance: Callable[[datetime], None] = lambda _: None,
) -> tuple[Week, Stats]:
    """Drive for a week with the logger in place of the detector; return the truth about it.

    Args:
        model: The detector.
        frames: Of the week.
        result_name: Result that judges the frames.
        advance: Called with the time of every frame.

    Raises:
        MldError: The rows could not be stored.
    """
    clock, threads = week_clock(), torch.get_num_threads()
    seen: list[tuple[Shot, dict[str, torch.Tensor]]] = []
    torch.set_num_threads(1)  # small maps: a second thread mostly waits
    with ObjectDetection3DLogger(
        model, MODEL, VERSION, result_name, clock=clock, stream_id="demo-drive", overflow="block"
    ) as logger:
        for shot in frames:
            clock.now = shot.at
            with torch.no_grad():
                (found,) = logger(shot.points, request_ids=[shot.request_id])
            seen.append((shot, found))
            advance(shot.at)
        if not logger.flush(120.0):
            raise MldError(f"the logger could not store its frames within 120 s: {logger.stats}.")
        stats = logger.stats
    torch.set_num_threads(threads)
    return Week.of(seen), stats


def monitored(lake: Lake, result_name: str) -> bool:
    """Return whether every frame of the week is in the windows of a result."""
    rows = lake.scan(MONITORING_WINDOWS, result_name=result_name, slice="all").select("n", "n_scored").collect()
    return int(rows["n"].sum()) == PER_DAY * len(WEEK) and int(rows["n_scored"].sum()) > 0
