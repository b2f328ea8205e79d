"""Stressed copies of a small world, for the tests of the stress map: three families in feature space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis import ReferenceUnits, StressedCopies

if TYPE_CHECKING:
    from tests.support.estimation import World

#: Family → change of features at a severity.
CHANGES = {
    "noise": lambda h, s, rng: h + 0.35 * s * rng.normal(size=h.shape),
    "shift": lambda h, s, rng: h + 0.3 * s * np.sign(np.arange(h.shape[1]) % 3 - 1),
    "scale": lambda h, s, rng: h * (1.0 - 0.18 * s),
}


def rerun(world: World, units: ReferenceUnits, features: np.ndarray) -> ReferenceUnits:
    """The same units with other features, sent through the head again."""
    stored = features.astype(np.float32)
    logits = (stored @ world.head.weight.T + world.head.bias).astype(np.float32)
    return ReferenceUnits(labels=units.labels, keys=units.keys, logits=logits, features=stored)


def stress(
    world: World, reference: ReferenceUnits, *, families=tuple(CHANGES), v: int = 200, seed: int = 0
) -> StressedCopies:
    """Copies of the first `v` units under each family at severities 1, 3 and 5."""
    rng = np.random.default_rng(seed)
    rows = np.arange(min(v, len(reference)))
    chosen = reference.take(rows)
    sets = [(family, f"{family}_kind", severity) for family in families for severity in (1, 3, 5)]
    parts = [rerun(world, chosen, CHANGES[family](chosen.features, severity, rng)) for family, _, severity in sets]
    units = ReferenceUnits(
        labels=np.concatenate([part.labels for part in parts]),
        keys=[key for part in parts for key in part.keys],
        logits=np.concatenate([part.logits for part in parts]),
        features=np.concatenate([part.features for part in parts]),
    )
    return StressedCopies(
        units=units, origins=np.tile(rows, len(sets)), set_index=np.repeat(np.arange(len(sets)), len(rows)), sets=sets
    )
