"""What is measured on one model, in a worker process with one thread."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.estimation._generation import Protocol, outputs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FULL", "QUICK", "Plan", "measure_model", "measure_planted"]

KINDS = {
    "p": "MNIST with planted failures",
    "n": "MNIST",
    "g": "digits",
    "t": "six-class tables",
    "b": "breast cancer",
    "f": "photographs",
}
"""Kinds of models by letter."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which models are measured, and how.

    Attributes:
        seeds: Seeds by kind, the slowest kinds first.
        n_windows: Windows per model.
        references: Sizes that references are thinned to.
        planted: Kinds and seeds of the planted weaknesses.
        protocols: Sizes by kind.
        is_quick: Whether the numbers only prove that it runs.
    """

    seeds: dict[str, tuple[int, ...]]
    n_windows: int
    references: tuple[int, ...]
    planted: tuple[tuple[str, int], ...]
    protocols: dict[str, Protocol] = field(default_factory=dict)
    is_quick: bool = False

    def names(self) -> Iterator[str]:
        """Names of the models, e.g. `p0`."""
        return (f"{kind}{seed}" for kind, seeds in self.seeds.items() for seed in seeds)

    def protocol(self, name: str) -> Protocol:
        """Sizes of a model's run."""
        return self.protocols.get(name[0], Protocol())


_PHOTOGRAPHS = Protocol(severities=(1, 3, 5), stride=3)
FULL = Plan(
    seeds={"f": (0, 1), "p": (0, 1, 2), "n": (0, 1, 2), "t": (0, 1, 2), "g": (0, 1, 2), "b": tuple(range(10))},
    n_windows=300,
    references=(1_000, 300, 100),
    planted=tuple((kind, seed) for kind in "nt" for seed in (0, 1, 2)),
    protocols={"f": _PHOTOGRAPHS},
)
_COARSE = Protocol(severities=(1, 3, 5))
QUICK = Plan(
    seeds={"p": (0,), "n": (0,), "t": (0,)},
    n_windows=100,
    references=(300,),
    planted=(("t", 0),),
    protocols={"p": _COARSE, "n": _COARSE, "t": _COARSE},
    is_quick=True,
)


def measure_model(name: str, plan: Plan) -> dict[str, Any]:
    """Return everything that is measured on one model, as plain values.

    Args:
        name: Kind and seed.
        plan: What to measure.
    """
    _use_one_thread()
    from benchmarks.estimation._codes import compare_codes
    from benchmarks.estimation._ours import fit_ours
    from benchmarks.estimation._peers import UnitPeers
    from benchmarks.estimation._units import compare_units, cost_per_unit
    from benchmarks.estimation._windows import compare_windows, summarise

    model = outputs_of(name, plan.protocol(name))
    began = time.process_time()
    ours = fit_ours(model)
    fitted = time.process_time()
    peers = UnitPeers(model.train)
    found: dict[str, Any] = {
        "name": name,
        "n_reference": len(model.reference),
        "errors": int(model.reference.errors.sum()),
        "error rate": float(model.reference.errors.mean()),
        "held-out error rate": float(model.held_out.errors.mean()),
        "mode": ours.fit.estimator.mode,
        "weights": ours.fit.diagnostics["weights"],
        "seconds, generation": model.seconds,
        "seconds, fit": fitted - began,
        "us per unit": cost_per_unit(model, ours),
        "width": model.weight.shape[1],
        "bank": len(ours.bank.units),
        "units": {"all": compare_units(model, peers=peers, ours=ours)},
    }
    for size in plan.references:
        if size < len(model.reference):
            found["units"][str(size)] = compare_units(model, peers=peers, n_reference=size)
    if name[0] != "b":
        found["windows"] = summarise(compare_windows(model, ours, n=plan.n_windows))
        found["codes"] = compare_codes(model)
    found["seconds, measuring"] = time.process_time() - began
    return found


def measure_planted(kind: str, seed: int) -> list[dict[str, Any]]:
    """Return what became of each planted slice, as plain values."""
    _use_one_thread()
    from dataclasses import asdict

    from benchmarks.estimation._planted import recover

    return [asdict(one) for one in recover(kind, seed)]


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)
