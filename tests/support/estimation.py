"""A small world with known geometry for the estimator tests: Gaussian classes under a linear head."""

from __future__ import annotations

import numpy as np

from mld_pipelines.diagnosis import Head, ReferenceUnits


class World:
    """Classes around random means; the head is the matched filter, so errors lie between the means."""

    def __init__(self, *, n_classes: int = 5, width: int = 16, spread: float = 1.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.means = rng.normal(size=(n_classes, width))
        self.spread = spread
        self.head = Head(weight=self.means, bias=-0.5 * (self.means**2).sum(axis=1))

    def units(self, n: int, name: str, *, seed: int, shift: float = 0.0, features: bool = True) -> ReferenceUnits:
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, len(self.means), n)
        spread = self.spread * (1.0 + shift)
        raw = (self.means[labels] + spread * rng.normal(size=(n, self.means.shape[1]))).astype(np.float32)
        logits = (raw @ self.head.weight.T + self.head.bias).astype(np.float32)
        return ReferenceUnits(
            labels=labels,
            keys=[f"{name}/{row}" for row in range(n)],
            logits=logits,
            features=raw if features else None,
        )


def subset(units: ReferenceUnits, rows: object) -> ReferenceUnits:
    """The units at these positions or where this mask holds."""
    positions = np.arange(len(units))[rows]  # type: ignore[index]
    return units.take(positions)
