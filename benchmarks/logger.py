"""P5: what logging an inference costs on the caller's thread, in place behind a real forward pass."""

from __future__ import annotations

import importlib
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks._report import Report, Target, ratio_text, seconds_text
from benchmarks._resnet import Stamped, resnet18_sized
from benchmarks._timing import median, quantile, uncollected
from mld_pipelines import settings
from mld_pipelines.monitoring import ClassificationLogger

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = ("torch", "mlflow", "opentelemetry-sdk")
_FIELDS = {
    "ts": 1.7e9, "input_id": "img-000123", "model": "resnet18", "version": "v1", "result": "r1", "prediction": 123,
    "confidence": 0.9871, "latency_ms": 23.4, "n_epoch": 0, "phase": "deployment",
}  # fmt: skip
_WARM = 5


class _Subject:
    """The network bare, logged, and followed by each peer; every method returns seconds."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images
        self.model = Stamped(resnet18_sized())
        self.feature: Any = None
        self._reached = self._left = 0
        head = self.model.network.head
        head.register_forward_pre_hook(self._before_tap)
        self.logger = ClassificationLogger(self.model, "bench", "v1")
        self.logger(images)  # the first call finds the head and hangs the tap on it, between these two hooks
        head.register_forward_pre_hook(self._behind_tap)

    def _before_tap(self, _: Any, inputs: Any) -> None:
        self.feature = inputs[0]
        self._reached = time.perf_counter_ns()

    def _behind_tap(self, *_: Any) -> None:
        self._left = time.perf_counter_ns()

    def bare(self) -> tuple[float, float]:
        """Return the time of the model alone, and the part of it that clocks and wrapper of this measurement take."""
        start = time.perf_counter_ns()
        self.model(self.images)
        whole = time.perf_counter_ns() - start
        return whole / 1e9, (whole - (self.model.ended - self.model.began) + (self._left - self._reached)) / 1e9

    def logged(self) -> tuple[float, float]:
        """Return the time of a logged call, and the part of it that is the logger's own."""
        start = time.perf_counter_ns()
        self.logger(self.images)
        whole = time.perf_counter_ns() - start
        own = whole - (self.model.ended - self.model.began) + (self._left - self._reached)
        return whole / 1e9, own / 1e9

    def followed(self, peer: Callable[[torch.Tensor, torch.Tensor], object]) -> float:
        """Return the time of a peer's logging right behind a forward pass."""
        output = self.model(self.images)
        start = time.perf_counter_ns()
        peer(output, self.feature)
        return (time.perf_counter_ns() - start) / 1e9


def run(*, quick: bool, full: bool) -> Report:
    """Measure at batch 1 and 8."""
    del full
    report = Report(
        "Logging an inference: time on the caller's thread, in place behind a ResNet-18-sized CPU model",
        ("what", "batch", "p50", "p99", "of the model's p50", "dearer than ours (p50)"),
    )
    peers = {"stdlib logging, JSON of 10 fields + 512 features, to a file": _stdlib(), **_installed_peers()}
    with torch.inference_mode():
        for batch in (1, 8):
            subject = _Subject(torch.randn(batch, 3, 64, 64) if quick else torch.randn(batch, 3, 224, 224))
            _measure(report, subject, peers, batch, pairs=6 if quick else 200)
            stats = subject.logger.stats
            report.notes.append(f"batch {batch}: {stats.emitted} rows logged, {sum(stats.dropped.values())} dropped.")
            subject.logger.close(60.0)
    report.notes += [
        "Own time: the logged call less the network inside it, plus the hook on the head (with the dispatch of one more "
        "hook, which the clocks need). The row that ours keeps also holds the 1,000 logits.",
        "Paired A/B: the median over interleaved pairs of logged minus bare call, background thread included; its noise "
        "floor on two cores is about ±0.3 % of the model.",
    ]
    return report


def _measure(report: Report, subject: _Subject, peers: dict[str, Any], batch: int, *, pairs: int) -> None:
    bare, clocks, own, difference = [], [], [], []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    with uncollected():
        for turn in range(-_WARM, pairs):
            if turn % 2:
                (alone, empty), (whole, spent) = subject.bare(), subject.logged()
            else:
                (whole, spent), (alone, empty) = subject.logged(), subject.bare()
            costs = {name: subject.followed(peer) for name, peer in peers.items()}
            if turn >= 0:
                bare.append(alone)
                clocks.append(empty)
                own.append(spent)
                difference.append(whole - alone)
                for name, cost in costs.items():
                    theirs[name].append(cost)
    _add_rows(report, batch, bare, clocks, own, difference, theirs)


def _add_rows(
    report: Report,
    batch: int,
    bare: list[float],
    clocks: list[float],
    own: list[float],
    difference: list[float],
    theirs: dict[str, list[float]],
) -> None:
    base, p50, p99 = median(bare), median(own), quantile(own, 0.99)

    def add(what: str, values: list[float], gain: str) -> None:
        p = median(values)
        share = f"{100 * p / base:.3g} %"
        report.add(what, str(batch), seconds_text(p), seconds_text(quantile(values, 0.99)), share, gain)

    add("the model alone", bare, "")
    add("clocks and wrapper of this measurement, no logging", clocks, "")
    add("`ClassificationLogger`, own time (with those clocks)", own, ratio_text(1.0))
    for name, values in theirs.items():
        add(name, values, ratio_text(median(values) / p50))
    shift = median(difference)
    report.add(f"paired A/B, {len(bare)} pairs", str(batch), f"{shift * 1e6:+.0f} µs", "", f"{100 * shift / base:+.2f} %", "")
    gain = median(next(iter(theirs.values()))) / p50
    at = f"batch {batch}: "
    report.targets += [
        Target(f"{at}own time p50 ≤ 50 µs", p50, 50e-6, at_most=True, shown=seconds_text(p50)),
        Target(f"{at}own time p99 ≤ 200 µs", p99, 200e-6, at_most=True, shown=seconds_text(p99)),
        Target(f"{at}≥ 11 × cheaper than stdlib JSON (moonshot 20 ×)", gain, 11.0, at_most=False, shown=ratio_text(gain)),
        Target(f"{at}paired A/B ≤ 1 % of the model's p50", shift / base, 0.01, at_most=True, shown=f"{100 * shift / base:+.2f} %"),
    ]


def _stdlib() -> Callable[[torch.Tensor, torch.Tensor], object]:
    """Log one line of JSON per row with a file handler, as a careful user would."""
    log = logging.getLogger("benchmarks.stdlib")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = logging.FileHandler(Path(settings.state_directory()) / "stdlib.log")
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)

    def write(_: torch.Tensor, feature: torch.Tensor) -> None:
        for row in feature.flatten(1).tolist():
            log.info(json.dumps({**_FIELDS, "feature": row}))

    return write


def _installed_peers() -> dict[str, Callable[[torch.Tensor, torch.Tensor], object]]:
    """Return the peers that happen to be installed; none is a dependency."""
    peers: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {}
    for name, make in (("OpenTelemetry span, 10 attributes, no features", _span), ("`mlflow.trace`, no features", _mlflow)):
        try:
            peers[name] = make()
        except ImportError:
            continue
    return peers


def _span() -> Callable[[torch.Tensor, torch.Tensor], object]:
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    memory = importlib.import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.BatchSpanProcessor(memory.InMemorySpanExporter()))
    tracer = provider.get_tracer("benchmarks")

    def write(_: torch.Tensor, __: torch.Tensor) -> None:
        with tracer.start_as_current_span("inference", attributes=_FIELDS):
            pass

    return write


def _mlflow() -> Callable[[torch.Tensor, torch.Tensor], object]:
    mlflow = importlib.import_module("mlflow")
    mlflow.set_tracking_uri((Path(settings.state_directory()) / "mlruns").as_uri())
    traced = mlflow.trace(lambda: None)
    return lambda _, __: traced()
