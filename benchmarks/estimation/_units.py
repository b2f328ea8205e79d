"""Per unit: how well each method finds the wrong predictions, on clean and on corrupted inputs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.estimation._datasets import PLANTED
from benchmarks.estimation._metrics import auroc, measure
from benchmarks.estimation._ours import fit_ours
from benchmarks.estimation._peers import RANKING_PEERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from benchmarks.estimation._generation import ModelOutputs, Outputs
    from benchmarks.estimation._ours import Ours
    from benchmarks.estimation._peers import UnitPeers

    Scores = dict[str, NDArray[np.float64]]

__all__ = ["OURS", "REFERENCES", "compare_units", "cost_per_unit"]

OURS = "ours"
REFERENCES = (1_000, 300, 100)
"""Sizes to which references are thinned, besides their own."""

_MOST_SET_UNITS = 3_500
_MOST_SET_UNITS_THINNED = 1_000
_MIN_OUTCOMES = 20


def compare_units(
    model: ModelOutputs, *, peers: UnitPeers, n_reference: int | None = None, ours: Ours | None = None
) -> dict[str, object]:
    """Return, per method, its metrics on the held-out units and in the corrupted sets.

    Args:
        model: The model's outputs.
        peers: Peers that know the training units; what they learn from a reference is learned again here.
        n_reference: Reference units to use; None takes all.
        ours: The fit on them, if it is at hand.
    """
    rows = _thinned(len(model.reference), n_reference)
    ours = ours or fit_ours(model, rows=rows)
    used = model.reference if rows is None else model.reference.take(rows)
    peers.learn(used, None if ours.codes is None else ours.codes.assignment.index)
    table = {
        name: _clean_metrics(values, model, is_probability=name not in RANKING_PEERS)
        for name, values in _scores("held out", model.held_out, ours, peers).items()
    }
    corrupted: dict[str, dict[str, list[float]]] = {name: {} for name in table}
    sets = 0
    for name_of_set, outputs in _usable_sets(model, limit=_MOST_SET_UNITS if rows is None else _MOST_SET_UNITS_THINNED):
        sets += 1
        for name, values in _scores(name_of_set, outputs, ours, peers).items():
            for metric, value in measure(outputs.errors, values, is_probability=name not in RANKING_PEERS).items():
                corrupted[name].setdefault(f"{metric} corrupted", []).append(value)
    methods = {
        name: clean | {metric: float(np.mean(values)) for metric, values in corrupted[name].items()}
        for name, clean in table.items()
    }
    return {
        "n_reference": len(used),
        "errors": int(used.errors.sum()),
        "mode": ours.fit.estimator.mode,
        "sets": sets,
        "methods": methods,
    }


def cost_per_unit(model: ModelOutputs, ours: Ours, *, rounds: int = 7) -> float:
    """Median CPU time of scoring one of 1,000 units, in microseconds, one thread."""
    batch = model.held_out.take(slice(0, 1_000))
    times = []
    for _ in range(rounds):
        began = time.process_time()
        ours.score(batch)
        times.append((time.process_time() - began) / len(batch))
    return float(np.median(times)) * 1e6


def _thinned(n: int, wanted: int | None) -> NDArray[np.int64] | None:
    if wanted is None or wanted >= n:
        return None
    return np.sort(np.random.default_rng(1_000).permutation(n)[:wanted])


def _usable_sets(model: ModelOutputs, *, limit: int) -> Iterator[tuple[str, Outputs]]:
    """Corrupted sets with at least 20 errors and 20 successes among their first units."""
    for one, outputs in model.corrupted.items():
        some = outputs.take(slice(0, limit))
        wrong = int(some.errors.sum())
        if _MIN_OUTCOMES <= wrong <= len(some) - _MIN_OUTCOMES:
            yield f"{one.kind} {one.severity}", some


def _scores(name: str, outputs: Outputs, ours: Ours, peers: UnitPeers) -> Scores:
    units = ours.score(outputs)
    single = peers.scores(outputs, name=name)
    return {OURS: units.error_proba, **single, **peers.probabilities(outputs, single, units.codes)}


def _clean_metrics(scores: NDArray[np.float64], model: ModelOutputs, *, is_probability: bool) -> dict[str, float]:
    errors = model.held_out.errors
    metrics = measure(errors, scores, is_probability=is_probability)
    if model.planted is None:
        return metrics
    for index, kind in enumerate(PLANTED[:-1]):
        chosen = ~errors | (model.planted == index)
        metrics[f"AUROC {kind}"] = auroc(errors[chosen], scores[chosen])
    return metrics
