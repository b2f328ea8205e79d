"""P5: what logging an inference costs on the caller's thread, in place behind a real forward pass."""

from __future__ import annotations

import importlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks._report import Report, ratio_text, seconds_text
from benchmarks._resnet import resnet18_sized
from benchmarks._timing import median, quantile, seconds_of, uncollected
from mld_pipelines import settings
from mld_pipelines.monitoring import ClassificationLogger

PEERS = ("torch", "mlflow", "opentelemetry-sdk")
_FIELDS = {
    "ts": 1.7e9, "input_id": "img-000123", "model": "resnet18", "version": "v1", "result": "r1", "prediction": 123,
    "confidence": 0.9871, "latency_ms": 23.4, "n_epoch": 0, "phase": "deployment",
}  # fmt: skip
_WARM_TURNS = 5
_STDLIB = "stdlib logging, JSON of 10 fields + 512 features, to a file"

Peer = Callable[[torch.Tensor, torch.Tensor], object]


class _Subject:
    """The network bare, logged, and followed by each peer; every method returns seconds."""

    def __init__(self, images: torch.Tensor, *, clocked: int) -> None:
        self.images = images
        self.model = resnet18_sized()
        self.feature: Any = None
        self._reached = self._left = 0
        behind = self._hung(None)
        for _ in range(_WARM_TURNS):
            self.bare()
        self.clocks = [self._outside(self.model) for _ in range(clocked)]
        behind.remove()
        self.logger = ClassificationLogger(self.model, "bench", "v1")
        self._hung(self.logger)

    def _hung(self, logger: ClassificationLogger | None) -> Any:
        """Put a clock on either side of the logger's hook; return the handle of the second one."""
        head = self.model.head
        if logger is None:
            head.register_forward_pre_hook(self._before_tap)
        else:
            logger(self.images)  # the first call finds the head and hangs the hook behind the first clock
        return head.register_forward_pre_hook(self._behind_tap)

    def _before_tap(self, _: Any, inputs: Any) -> None:
        self.feature = inputs[0]
        self._reached = time.perf_counter_ns()

    def _behind_tap(self, *_: Any) -> None:
        self._left = time.perf_counter_ns()

    def bare(self) -> float:
        """Return the time of the model alone."""
        return seconds_of(lambda: self.model(self.images))

    def logged(self) -> tuple[float, float]:
        """Return the time of a logged call, and the part of it that is spent outside the forward pass."""
        start = time.perf_counter_ns()
        outside = self._outside(self.logger)
        return (time.perf_counter_ns() - start) / 1e9, outside

    def _outside(self, call: Any) -> float:
        """Call and return the time outside `forward`, with what lies between the two clocks on the head."""
        start = time.perf_counter_ns()
        call(self.images)
        whole = time.perf_counter_ns() - start
        return (whole - (self.model.ended - self.model.began) + (self._left - self._reached)) / 1e9

    def followed(self, peer: Peer) -> float:
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
    peers = {_STDLIB: _stdlib(), **_installed_peers()}
    if quick:
        torch.set_num_threads(1)
    with torch.inference_mode():
        for batch in (1, 8):
            size = 32 if quick else 224
            subject = _Subject(torch.randn(batch, 3, size, size), clocked=3 if quick else 50)
            _add_rows(report, batch, _measure(subject, peers, pairs=3 if quick else 200))
            stats = subject.logger.stats
            report.notes.append(f"batch {batch}: {stats.emitted} rows logged, {sum(stats.dropped.values())} dropped.")
            subject.logger.close(60.0)
    report.notes += [
        "Own time: what a logged call spends outside `forward`, plus the hook on the head inside it, less "
        "the p50 of the same clocks around the bare model. The row that ours keeps also holds the 1,000 logits.",
        "Paired A/B: the median over interleaved pairs of logged minus bare call, background thread included; its "
        "noise floor on two cores is about ±0.3 % of the model.",
    ]
    return report


@dataclass(slots=True)
class _Spent:
    """Seconds of one batch size, one entry per pair."""

    clocks: list[float]
    bare: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    difference: list[float] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)


def _measure(subject: _Subject, peers: dict[str, Peer], *, pairs: int) -> _Spent:
    spent = _Spent(subject.clocks, peers={name: [] for name in peers})
    fixed = median(subject.clocks)
    with uncollected():
        for turn in range(-min(_WARM_TURNS, pairs), pairs):
            if turn % 2:
                alone, (whole, outside) = subject.bare(), subject.logged()
            else:
                (whole, outside), alone = subject.logged(), subject.bare()
            costs = {name: subject.followed(peer) for name, peer in peers.items()}
            if turn < 0:
                continue
            spent.bare.append(alone)
            spent.own.append(outside - fixed)
            spent.difference.append(whole - alone)
            for name, cost in costs.items():
                spent.peers[name].append(cost)
    return spent


def _add_rows(report: Report, batch: int, spent: _Spent) -> None:
    base, p50 = median(spent.bare), median(spent.own)
    rows = {
        "the model alone": (spent.bare, ""),
        "outside the forward pass before there is a logger (call, clocks)": (spent.clocks, ""),
        "`ClassificationLogger`, own time: outside the forward pass, less that": (spent.own, ratio_text(1.0)),
        **{name: (values, ratio_text(median(values) / p50)) for name, values in spent.peers.items()},
    }
    for what, (values, gain) in rows.items():
        middle = median(values)
        share, p99 = f"{100 * middle / base:.3g} %", seconds_text(quantile(values, 0.99))
        report.add(what, str(batch), seconds_text(middle), p99, share, gain)
    shift = median(spent.difference)
    share = f"{100 * shift / base:+.2f} %"
    report.add(f"paired A/B, {len(spent.bare)} pairs", str(batch), f"{shift * 1e6:+.0f} µs", "", share, "")
    slow, gain = quantile(spent.own, 0.99), median(spent.peers[_STDLIB]) / p50
    at = f"batch {batch}: "
    report.at_most(f"{at}own time p50 ≤ 50 µs", p50, 50e-6, seconds_text(p50))
    report.at_most(f"{at}own time p99 ≤ 200 µs", slow, 200e-6, seconds_text(slow))
    report.at_least(f"{at}≥ 11 × cheaper than stdlib JSON (moonshot 20 ×)", gain, 11.0, ratio_text(gain))
    report.at_most(f"{at}paired A/B ≤ 1 % of the model's p50", shift / base, 0.01, share)


def _stdlib() -> Peer:
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


def _installed_peers() -> dict[str, Peer]:
    """Return the peers that happen to be installed; none is a dependency."""
    peers: dict[str, Peer] = {}
    for name, make in (
        ("OpenTelemetry span, 10 attributes, no features", _span),
        ("`mlflow.trace`, no features", _mlflow),
    ):
        try:
            peers[name] = make()
        except ImportError:
            continue
    return peers


def _span() -> Peer:
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


def _mlflow() -> Peer:
    mlflow = importlib.import_module("mlflow")
    mlflow.set_tracking_uri((Path(settings.state_directory()) / "mlruns").as_uri())
    traced = mlflow.trace(lambda: None)
    return lambda _, __: traced()
