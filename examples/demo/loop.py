"""The steps of the demo. Each one is what a user would write, with names and streams fixed so that it can run again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
import torch

from examples.demo.digits import CLASS_NAMES, Digits, SmallNet
from examples.demo.traffic import DAYS, FIRST_DAY, PER_DAY, SimulatedClock, fortnight
from mld_pipelines.capture import Stats
from mld_pipelines.evaluator import Evaluator, Result
from mld_pipelines.exceptions import MldError, UnknownModelError
from mld_pipelines.monitoring import ClassificationLogger, log_labels
from mld_pipelines.settings import state_directory
from mld_pipelines.tables import MONITORING_WINDOWS
from mld_pipelines.training import ClassificationTracer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mld_pipelines.lake import Lake
    from mld_pipelines.monitoring import LabelReceipt
    from mld_pipelines.training import Receipt

__all__ = [
    "MODEL",
    "RESULT",
    "VERSION",
    "Served",
    "Truth",
    "evaluate",
    "label_some",
    "log_fortnight",
    "monitored",
    "trace",
    "wait_until",
]

MODEL, VERSION, RESULT = "digits", "v1", "digits_demo"
_TRACE_BATCH = 100
_LABELLED_EVERY = 8
"""Every eighth request gets its label later: 420 labels, over the 200 that trigger a re-evaluation."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the demo knows and production does not: one row per request."""

    frame: pl.DataFrame

    def error_rates(self) -> pl.DataFrame:
        """Return the true error rate per day: event_day, requests, error_rate_true."""
        wrong = (pl.col("prediction") != pl.col("label")).cast(pl.Float64)
        daily = self.frame.group_by("event_day").agg(pl.len().alias("requests"), wrong.mean().alias("error_rate_true"))
        return daily.sort("event_day")


@dataclass(frozen=True, slots=True)
class Served:
    """What the classification part did.

    Attributes:
        results: The first result and the one that labels triggered.
        truth: About the fortnight.
        streams: What became of the rows of `tracer`, `logger` and `labels`.
    """

    results: tuple[Result, ...]
    truth: Truth
    streams: dict[str, Receipt | Stats | LabelReceipt]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Rows stored, of these known from an earlier run, and quarantined; by stream."""
        return {
            name: {
                "rows": one.emitted if isinstance(one, Stats) else one.rows,
                "known": one.known,
                "quarantined": one.quarantined,
            }
            for name, one in self.streams.items()
        }


def trace(model: SmallNet, datasets: dict[str, Digits]) -> Receipt:
    """Send labelled datasets through the tracer."""
    tracer = ClassificationTracer(model, MODEL, VERSION, class_names=CLASS_NAMES, stream_id="demo-tracer")
    for name, data in datasets.items():
        for start in range(0, len(data.labels), _TRACE_BATCH):
            part = slice(start, start + _TRACE_BATCH)
            with torch.no_grad():
                tracer(torch.from_numpy(data.images[part]), data.labels[part], data.ids[part], dataset_type=name)
    receipt = tracer.wait_for_save()
    tracer.close()
    return receipt


def evaluate() -> Result:
    """Evaluate what was traced, once: results are immutable."""
    evaluator = Evaluator(MODEL, VERSION)
    try:
        known = evaluator.list_results()["result_name"].to_list()
    except UnknownModelError:
        known = []
    return evaluator.get_result(RESULT) if RESULT in known else evaluator.request_evaluation(RESULT)


def log_fortnight(
    model: SmallNet, pool: Digits, *, advance: Callable[[datetime], None] = lambda _: None
) -> tuple[Truth, Stats]:
    """Serve a fortnight of requests through the logger and return the truth about them."""
    clock = SimulatedClock()
    parts: list[pl.DataFrame] = []
    with ClassificationLogger(
        model, MODEL, VERSION, RESULT, clock=clock, stream_id="demo-logger", overflow="block"
    ) as logger:
        for request in fortnight(pool):
            clock.now = request.at
            with torch.no_grad():
                logits = logger(torch.from_numpy(request.images), request_ids=request.request_ids)
            parts.append(
                pl.DataFrame(
                    {
                        "request_id": request.request_ids,
                        "event_day": [request.at.date()] * len(request.labels),
                        "label": request.labels,
                        "prediction": logits.argmax(dim=1).numpy(),
                    }
                )
            )
            advance(request.at)
        if not logger.flush(60.0):
            raise MldError(f"the logger could not store its rows within 60 s: {logger.stats}.")
        stats = logger.stats
    return Truth(pl.concat(parts)), stats


def label_some(truth: Truth) -> LabelReceipt:
    """Give every eighth request its label, as an annotator would days later."""
    chosen = truth.frame.gather_every(_LABELLED_EVERY)
    return log_labels(
        chosen["request_id"].to_list(), chosen["label"].to_list(), source="annotator", stream_id="demo-labels"
    )


def monitored(lake: Lake, result_name: str, *, days: int = DAYS) -> bool:
    """Return whether every request of the last `days` days is in the windows of a result."""
    first = pl.lit(FIRST_DAY).dt.offset_by(f"{DAYS - days}d")
    rows = lake.scan(MONITORING_WINDOWS, result_name=result_name).filter(pl.col("event_day") >= first).collect()
    return int(rows["n"].sum()) == days * PER_DAY and int(rows["n_scored"].sum()) == days * PER_DAY


def wait_until(
    what: str, condition: Callable[[], bool], *, seconds: float, check: Callable[[], None] = lambda: None
) -> float:
    """Wait for a condition and return how long it took.

    Args:
        what: What is waited for, for the message.
        condition: Asked twice a second.
        seconds: How long at most.
        check: Called beside it; raises when waiting has become pointless.

    Raises:
        MldError: The time is over.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise MldError(
                f"waited {seconds:.0f} s for {what} in vain; see the logs in {state_directory() / 'dagster' / 'logs'}."
            )
        check()
        time.sleep(0.5)
    return time.monotonic() - started
