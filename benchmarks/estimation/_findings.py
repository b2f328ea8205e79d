"""What a run found, and how it is read: by kind of model, by method, by metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.estimation._window_peers import BEST_OF

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NATURAL", "SMALL", "Findings"]

SMALL = "pngt"
"""Kinds whose windows make the mean over models; photographs stand beside them."""
NATURAL = "ngt"
"""Kinds without planted failures."""


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All results of a run.

    Attributes:
        models: By name, as `measure_model` gave them.
        planted: Rows of the planted slices.
        seconds: Wall time.
        load: 1-minute load before.
        is_quick: Whether the numbers only prove that it runs.
    """

    models: dict[str, dict[str, Any]]
    planted: list[dict[str, Any]]
    seconds: float
    load: float
    is_quick: bool = False

    def names(self, kinds: str) -> list[str]:
        """Models of these kinds, in their order."""
        return [name for kind in kinds for name in self.models if name[0] == kind]

    def with_windows(self, kinds: str) -> list[str]:
        """Models of these kinds that were measured on windows."""
        return [name for name in self.names(kinds) if "windows" in self.models[name]]

    def unit(self, names: Iterable[str], method: str, metric: str, *, reference: str = "all") -> list[float]:
        """A per-unit metric of a method, one value for each model that has it."""
        found = []
        for name in names:
            table = self.models[name]["units"].get(reference)
            if table and metric in table["methods"].get(method, {}):
                found.append(table["methods"][method][metric])
        return found

    def unit_methods(self, names: Iterable[str], *, reference: str = "all") -> list[str]:
        """Methods of the per-unit tables, in order."""
        tables = [self.models[name]["units"].get(reference) for name in names]
        return list(dict.fromkeys(method for table in tables if table for method in table["methods"]))

    def window(self, name: str, method: str, column: str = "all") -> float:
        """Mean absolute error of a method on a model's windows."""
        value: float = self.models[name]["windows"]["methods"][method][column]
        return value

    def best_peer(self, name: str) -> str:
        """The peer with the smallest window error on a model, picked in hindsight."""
        best: str = self.models[name]["windows"]["best peer"]
        return best

    def ratio(self, name: str, method: str) -> float:
        """Window error of a method over that of the model's best peer."""
        return self.window(name, method) / self.window(name, self.best_peer(name))

    def best_single_peer(self, names: list[str]) -> tuple[str, float]:
        """The one peer with the smallest mean window error over these models, and that error."""
        means = {peer: float(np.mean([self.window(name, peer) for name in names])) for peer in BEST_OF}
        best = min(means, key=lambda peer: means[peer])
        return best, means[best]

    def interval(self, names: Iterable[str], method: str, quantity: str) -> list[float]:
        """A quantity of the intervals, one value for each model that has it."""
        values = [self.models[name]["windows"]["intervals"][method][quantity] for name in names]
        return [value for value in values if value is not None]

    def code(self, names: Iterable[str], quantity: str) -> list[float]:
        """A quantity of the codes, one value per model."""
        return [self.models[name]["codes"][quantity] for name in names if "codes" in self.models[name]]

    def purities(self, *, least: float, data: str | None = None, alone: bool | None = None) -> list[float]:
        """Purity of each planted slice of at least this share of the reference."""
        return [
            row["purity"]
            for row in self.planted
            if row["share"] >= least - 5e-4
            and (data is None or row["data"] == data)
            and (alone is None or row["is_alone"] == alone)
        ]
