"""What was promised, what was measured, and whether that is enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.estimation._findings import NATURAL, SMALL
from benchmarks.estimation._peers import RANKING_PEERS
from benchmarks.estimation._units import OURS
from benchmarks.estimation._windows import DEFAULT, STRESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.estimation._findings import Findings

__all__ = ["Target", "targets"]

SMALL_SLICE = 0.03
"""Share of the reference from which a planted slice has to be found."""


@dataclass(frozen=True, slots=True)
class Target:
    """A promise and its outcome.

    Attributes:
        quantity: What is measured.
        value: Outcome.
        must: Limit that has to hold.
        ambitious: Limit that was tried for; None where there is none.
        at_most: Whether the value may not exceed the limits; otherwise it may not fall short of them.
        digits: Decimals shown.
    """

    quantity: str
    value: float
    must: float
    ambitious: float | None = None
    at_most: bool = False
    digits: int = 3

    @property
    def is_met(self) -> bool:
        """Whether the must holds."""
        return self._holds(self.must)

    def verdict(self) -> str:
        """Return `missed by …`, `met`, or `met, ambitious too`."""
        if not self.is_met:
            return f"**missed by {abs(self.value - self.must):.{self.digits}f}**"
        return "met, ambitious too" if self.ambitious is not None and self._holds(self.ambitious) else "met"

    def _holds(self, limit: float) -> bool:
        rounding = 0.5 * 10.0**-self.digits
        return self.value <= limit + rounding if self.at_most else self.value >= limit - rounding


def targets(findings: Findings) -> list[Target]:
    """Return all promises whose models were measured."""
    parts = (_unit_targets, _small_references, _window_targets, _interval_targets, _photographs, _code_targets)
    found = [target for part in parts for target in part(findings)]
    return [target for target in (*found, *_planted(findings), *_costs(findings)) if np.isfinite(target.value)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _best_single(findings: Findings, names: Sequence[str], metric: str) -> float:
    """The highest mean of one score used alone."""
    means = [_mean(findings.unit(names, peer, metric)) for peer in RANKING_PEERS]
    return max(means, default=float("nan"))


def _unit_targets(findings: Findings) -> list[Target]:
    planted = findings.names("p")
    clean, corrupted = (_mean(findings.unit(planted, OURS, metric)) for metric in ("AUROC", "AUROC corrupted"))
    single, moved = (_best_single(findings, planted, metric) for metric in ("AUROC", "AUROC corrupted"))
    natural = findings.names(NATURAL)
    gains = [
        findings.unit([name], OURS, "AUROC")[0] - max(findings.unit([name], peer, "AUROC")[0] for peer in RANKING_PEERS)
        for name in natural
    ]
    average = _mean(findings.unit(natural, OURS, "AUROC")) - _best_single(findings, natural, "AUROC")
    ece = _mean(findings.unit(findings.names("pnt"), OURS, "ECE"))
    return [
        Target("error AUROC, planted MNIST, clean (best single score + 0.01)", clean, single + 0.01, 0.955),
        Target("mean error AUROC in corrupted sets, planted MNIST (best single + 0.02)", corrupted, moved + 0.02, 0.92),
        Target(
            "natural models: smallest AUROC gain over each model's best single score",
            min(gains, default=np.nan),
            -0.005,
        ),
        Target("natural models: mean AUROC gain over the best single score", average, -0.005, 0.015),
        Target("ECE, clean, references of 1,000 and more", ece, 0.018, 0.010, at_most=True),
    ]


def _small_references(findings: Findings) -> list[Target]:
    names = [name for name in findings.names(SMALL) if "300" in findings.models[name]["units"]]
    ours, msp = (findings.unit(names, method, "AUROC", reference="300") for method in (OURS, "MSP"))
    gains = np.subtract(ours, msp)
    planted = [value for name, value in zip(names, ours, strict=True) if name[0] == "p"]
    return [
        Target("300 reference units: mean AUROC gain over MSP", _mean(gains.tolist()), 0.01),
        Target("300 reference units: smallest AUROC gain over MSP", float(min(gains, default=np.nan)), -0.01),
        Target("300 reference units: AUROC, planted MNIST", _mean(planted), 0.0, 0.94),
        Target(
            "300 reference units: ECE",
            _mean(findings.unit(names, OURS, "ECE", reference="300")),
            0.025,
            0.015,
            at_most=True,
        ),
    ]


def _window_targets(findings: Findings) -> list[Target]:
    names = findings.with_windows(SMALL)
    tables = findings.with_windows("t")
    limits = {DEFAULT: (0.80, 0.62, 1.05), STRESS: (0.77, 0.58, 1.0)}
    found = []
    for method, (mean, ambitious, each) in limits.items():
        ratios = [findings.ratio(name, method) for name in names]
        found += [
            Target(
                f"{method}: window MAE / best peer in hindsight, mean", _mean(ratios), mean, ambitious, at_most=True
            ),
            Target(f"{method}: the same, worst model", max(ratios, default=np.nan), each, at_most=True),
        ]
    against = [findings.window(name, STRESS) / findings.window(name, DEFAULT) for name in tables]
    gaps = [
        findings.window(name, DEFAULT, "clean") - findings.window(name, findings.best_peer(name), "clean")
        for name in names
    ]
    clean = _mean([findings.window(name, DEFAULT, "clean") for name in names])
    return [
        *found,
        Target("tabular: window MAE with stress / without", _mean(against), 0.95, at_most=True),
        Target("clean windows: MAE less that of the best peer, mean", _mean(gaps), 0.0015, at_most=True, digits=4),
        Target("clean windows: MAE", clean, 0.0015 + clean - _mean(gaps), 0.0075, at_most=True, digits=4),
    ]


def _interval_targets(findings: Findings) -> list[Target]:
    names = findings.with_windows(SMALL)
    limits = {DEFAULT: (0.87, 0.72, 0.85, 0.10, 0.075), STRESS: (0.91, 0.82, 0.88, 0.11, 0.085)}
    found = []
    for method, (shift, worst, better, width, narrower) in limits.items():

        def mean(quantity: str, of: str = method) -> float:
            return _mean(findings.interval(names, of, quantity))

        least = min(findings.interval(names, method, "coverage"), default=np.nan)
        found += [
            Target(f"{method}: coverage of the 90 % interval, shifted windows", mean("coverage shift"), shift),
            Target(f"{method}: coverage, worst model", least, worst, better),
            Target(f"{method}: mean width of the interval", mean("width"), width, narrower, at_most=True),
            Target(f"{method}: false alerts on clean windows", mean("false alerts"), 0.01, at_most=True),
            Target(f"{method}: shifted windows above 1.5 r0 + 0.01 that alert", mean("detection"), 0.78, 0.90),
        ]
    return found


def _photographs(findings: Findings) -> list[Target]:
    names = findings.with_windows("f")
    ratios = [findings.ratio(name, STRESS) for name in names]
    unit = [findings.unit([name], OURS, "AUROC")[0] - findings.unit([name], "MSP", "AUROC")[0] for name in names]
    return [
        Target("photographs: window MAE with stress / best peer", _mean(ratios), 0.75, 0.50, at_most=True),
        Target("photographs: AUROC gain over MSP (a tie is expected)", _mean(unit), -0.005),
    ]


def _code_targets(findings: Findings) -> list[Target]:
    names = findings.with_windows(SMALL)

    def mean(quantity: str) -> float:
        return _mean(findings.code(names, quantity))

    flips = max(mean("flips, cold"), mean("flips, warm")) if names else float("nan")
    return [
        Target("codes: ARI of a cold refit", mean("ARI, cold"), 0.45),
        Target("codes: ARI of a warm refit", mean("ARI, warm"), 0.75, 0.90),
        Target("codes: names kept, same model", mean("names kept, frozen"), 1.0),
        Target("codes: names kept, warm refit", mean("names kept, warm"), 0.80, 0.92),
        Target("codes: family agreement, cold", mean("family agreement, cold"), 0.72),
        Target("codes: family agreement, warm", mean("family agreement, warm"), 0.85, 0.95),
        Target("codes: units that flip between covered and bad", flips, 0.02, at_most=True),
    ]


def _planted(findings: Findings) -> list[Target]:
    what = "planted slices of 3 % and more, share in the best of ten issues"
    alone, together = (
        {data: _mean(findings.purities(least=SMALL_SLICE, data=data, alone=one)) for data in ("digits", "table")}
        for one in (True, False)
    )
    return [
        *(Target(f"{what}: {data}, each alone", value, 0.9) for data, value in alone.items()),
        *(Target(f"{what}: {data}, all five at once", value, 0.9) for data, value in together.items()),
    ]


def _costs(findings: Findings) -> list[Target]:
    names = [name for name in findings.names("pn") if findings.models[name]["width"] == 64]
    micros = _mean([findings.models[name]["us per unit"] for name in names])
    fit = max((findings.models[name]["seconds, fit"] for name in findings.names("pnt")), default=float("nan"))
    return [
        Target("CPU time per unit, µs (64 features, bank 3,000)", micros, 120.0, 40.0, at_most=True, digits=0),
        Target("fit on a reference of 3,500, CPU s (codebook included)", fit, 5.0, at_most=True, digits=1),
    ]
