"""Training windows of the stress map: mixtures of corrupted copies and clean reference rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["CLEAN", "TrainingWindow", "draw_windows"]

#: Family of a window without a corrupted unit.
CLEAN = "clean"
#: Windows per corrupted set, and clean ones.
PER_SET, N_CLEAN = 5, 120
#: Units of a window.
SIZES = (200, 500, 2000)
#: Share of corrupted units; the rest is clean.
SHARES = (1.0, 1.0, 0.7, 0.4, 0.2)
#: Concentration of a Dirichlet draw of class frequencies; None leaves them alone.
LABEL_SHIFTS = (None, None, 5.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingWindow:
    """Rows of one window.

    Attributes:
        family: Family of its corrupted units, `"clean"` without any.
        rows: Positions in the pool, with repetitions.
    """

    family: str
    rows: NDArray[np.int64]


def draw_windows(
    labels: NDArray[np.int64],
    set_index: NDArray[np.int64],
    families: Sequence[str],
    *,
    n_classes: int,
    seed: int = 0,
) -> list[TrainingWindow]:
    """Draw five windows per corrupted set and 120 clean ones, with replacement.

    Args:
        labels: Label of each row of the pool, `(N,)`.
        set_index: Corrupted set of each row, -1 for clean ones, `(N,)`.
        families: Family of each corrupted set.
        n_classes: Classes that frequencies are drawn for.
        seed: Seed of all draws.
    """
    rng = np.random.default_rng(seed)
    clean = np.flatnonzero(set_index < 0)
    corrupted = [np.flatnonzero(set_index == index) for index in range(len(families))]
    plan = [(family, rows) for family, rows in zip(families, corrupted, strict=True) if len(rows)] * PER_SET
    windows = []
    for family, rows in [*plan, *[(CLEAN, clean)] * N_CLEAN]:
        size = int(rng.choice(SIZES))
        shift = LABEL_SHIFTS[int(rng.integers(len(LABEL_SHIFTS)))]
        share = float(rng.choice(SHARES)) if family != CLEAN else 1.0
        frequencies = None if shift is None else rng.dirichlet(np.full(n_classes, shift))
        first = round(size * share)
        drawn = [_draw(rng, rows, first, labels, frequencies), _draw(rng, clean, size - first, labels, frequencies)]
        windows.append(TrainingWindow(family, np.concatenate(drawn)))
    return windows


def _draw(
    rng: np.random.Generator,
    rows: NDArray[np.int64],
    count: int,
    labels: NDArray[np.int64],
    frequencies: NDArray[np.float64] | None,
) -> NDArray[np.int64]:
    """Draw rows with replacement; with class frequencies π a row weighs `π_y / count_y`."""
    if frequencies is None:
        return rows[rng.integers(0, len(rows), count)]
    own = labels[rows]
    weights = frequencies[own] / np.bincount(own, minlength=len(frequencies))[own]
    total = weights.sum()
    if not total > 0.0:  # all mass fell on classes that these rows lack
        return rows[rng.integers(0, len(rows), count)]
    return rng.choice(rows, count, p=weights / total)
