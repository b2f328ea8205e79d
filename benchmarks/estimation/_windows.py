"""Per window: the error rate without labels, ours and the peers', under covariate and label shift."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.estimation._window_peers import BEST_OF, WindowPeers
from mld_pipelines.diagnosis import estimate_stressed_window, estimate_window, window_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.estimation._generation import ModelOutputs
    from benchmarks.estimation._ours import Ours
    from benchmarks.estimation._window_peers import PeerUnits
    from mld_pipelines.diagnosis import WindowMap, WindowState, WindowUnits
    from mld_pipelines.stress import StressSet

__all__ = ["DEFAULT", "KINDS", "STRESS", "Window", "WindowTable", "compare_windows", "draw_windows", "summarise"]

DEFAULT, STRESS, MAP = "ours", "ours + stress", "stress map alone"
KINDS = ("clean", "covariate", "label", "both")
SEED = 2026
_ORDER = ("clean", "covariate", "covariate", "label", "both")
_SIZES, _SHARES, _CONCENTRATIONS = (200, 500, 2_000), (0.25, 0.5, 1.0), (0.7, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Which units a window holds.

    Attributes:
        kind: One of `KINDS`.
        corruption: The corrupted set; its family is left out of the stress map that judges the window.
        corrupted: Rows of that set.
        clean: Rows of the clean held-out units.
    """

    kind: str
    corruption: StressSet
    corrupted: NDArray[np.int64]
    clean: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.corrupted) + len(self.clean)


@dataclass(slots=True, eq=False)
class WindowTable:
    """Estimates of all windows by method.

    Attributes:
        truth: True error rates.
        kinds: Kind of each window.
        sizes: Units of each window.
        families: Family left out for each window.
        estimates: By method.
        intervals: (low, high) of `DEFAULT` and `STRESS`.
        alerts: Whether each alerts, the same.
        base: Error rate of the reference.
        blends: Weight of the map by family left out.
        width_factors: q by family left out.
    """

    truth: NDArray[np.float64]
    kinds: NDArray[np.str_]
    sizes: NDArray[np.int64]
    families: NDArray[np.str_]
    estimates: dict[str, NDArray[np.float64]]
    intervals: dict[str, NDArray[np.float64]]
    alerts: dict[str, NDArray[np.bool_]]
    base: float
    blends: dict[str, float] = field(default_factory=dict)
    width_factors: dict[str, float] = field(default_factory=dict)


def draw_windows(model: ModelOutputs, *, n: int, seed: int = SEED) -> list[Window]:
    """Draw windows: a fifth clean, two fifths covariate shift, a fifth label shift, a fifth both.

    Args:
        model: The model's outputs.
        n: Windows.
        seed: Of all draws.
    """
    rng = np.random.default_rng(seed)
    sets = list(model.corrupted)
    classes = len(model.bias)
    windows = []
    for turn in range(n):
        kind = _ORDER[turn % len(_ORDER)]
        corruption = sets[rng.integers(len(sets))]
        size, share, concentration = (int(rng.choice(_SIZES)), float(rng.choice(_SHARES)), rng.choice(_CONCENTRATIONS))
        is_moved = kind in ("label", "both")
        frequencies = rng.dirichlet(np.full(classes, concentration)) if is_moved else None
        first = round(size * share) if kind in ("covariate", "both") else 0
        corrupted = _draw(rng, model.corrupted[corruption].labels, first, frequencies)
        windows.append(
            Window(kind, corruption, corrupted, _draw(rng, model.held_out.labels, size - first, frequencies))
        )
    return windows


def compare_windows(model: ModelOutputs, ours: Ours, *, n: int) -> WindowTable:
    """Estimate every window by every method.

    Args:
        model: The model's outputs.
        ours: The product's fit on its reference.
        n: Windows.
    """
    windows = draw_windows(model, n=n)
    judge = _Judge(model, ours)
    rng = np.random.default_rng(0)
    peers = [judge.peers.estimate(judge.peer_units(window), rng) for window in windows]
    estimates = {name: np.array([one[name] for one in peers]) for name in peers[0]}
    table = WindowTable(
        truth=np.array([judge.truth(window) for window in windows]),
        kinds=np.array([window.kind for window in windows]),
        sizes=np.array([len(window) for window in windows]),
        families=np.array([window.corruption.family for window in windows]),
        estimates=estimates,
        intervals={name: np.full((n, 2), np.nan) for name in (DEFAULT, STRESS)},
        alerts={name: np.zeros(n, dtype=np.bool_) for name in (DEFAULT, STRESS)},
        base=float(model.reference.errors.mean()),
    )
    for name in (DEFAULT, "mean EP", "ATC-EP", "codes", STRESS, MAP):
        table.estimates[name] = np.full(n, np.nan)
    for family in model.families:
        rows = np.flatnonzero(table.families == family)
        window_map = ours.learn(model, without=family)
        table.blends[family], table.width_factors[family] = window_map.blend_weight, window_map.width_factor
        for row in rows.tolist():
            judge.estimate(windows[row], window_map, table, row)
    return table


def summarise(table: WindowTable) -> dict[str, object]:
    """Return errors by method and the quality of the intervals, as plain values."""
    methods = {name: _errors(estimate - table.truth, table.kinds) for name, estimate in table.estimates.items()}
    best = min(BEST_OF, key=lambda name: methods[name]["all"])
    is_moved = np.isin(table.kinds, ("covariate", "both"))
    is_bad = is_moved & (table.truth > 1.5 * table.base + 0.01)
    intervals = {}
    for name, bounds in table.intervals.items():
        covered = (table.truth >= bounds[:, 0]) & (table.truth <= bounds[:, 1])
        alerts = table.alerts[name]
        intervals[name] = {
            "coverage": float(covered.mean()),
            "coverage shift": float(covered[is_moved].mean()),
            "width": float((bounds[:, 1] - bounds[:, 0]).mean()),
            "false alerts": float(alerts[table.kinds == "clean"].mean()),
            "detection": float(alerts[is_bad].mean()) if is_bad.any() else None,
        }
    return {
        "best peer": best,
        "methods": methods,
        "intervals": intervals,
        "blends": table.blends,
        "width factors": table.width_factors,
        "floor": float((0.798 * np.sqrt(table.truth * (1 - table.truth) / table.sizes)).mean()),
    }


class _Judge:
    """Units of all sets prepared once, and what is asked of each window."""

    def __init__(self, model: ModelOutputs, ours: Ours) -> None:
        self._model, self._ours = model, ours
        self.peers = WindowPeers(model.reference)
        self._clean = ours.score(model.held_out)
        self._clean_peers = self.peers.prepare(model.held_out)
        self._moved = {one: ours.score(outputs) for one, outputs in model.corrupted.items()}
        self._moved_peers = {one: self.peers.prepare(outputs) for one, outputs in model.corrupted.items()}

    def truth(self, window: Window) -> float:
        """Realised error rate."""
        moved = self._model.corrupted[window.corruption].errors[window.corrupted]
        return float(np.concatenate([moved, self._model.held_out.errors[window.clean]]).mean())

    def peer_units(self, window: Window) -> PeerUnits:
        """The window's units as the peers see them."""
        moved = self._moved_peers[window.corruption].take(window.corrupted)
        return moved.followed_by(self._clean_peers.take(window.clean))

    def estimate(self, window: Window, window_map: WindowMap, table: WindowTable, row: int) -> None:
        """Write our estimates of one window."""
        units = self._moved[window.corruption].take(window.corrupted).followed_by(self._clean.take(window.clean))
        reference = self._ours.fit.window_reference
        state = self._state(units)
        stress = window_map.state(units)
        default = estimate_window(state, reference)
        published = estimate_stressed_window(state, stress, reference=reference, window_map=window_map)
        alone = estimate_stressed_window(
            state, stress, reference=reference, window_map=replace(window_map, blend_weight=1.0)
        )
        for name, estimate in ((DEFAULT, default), (STRESS, published)):
            table.estimates[name][row] = estimate.error_rate
            table.intervals[name][row] = estimate.low, estimate.high
            table.alerts[name][row] = estimate.is_alert
        table.estimates[MAP][row] = alone.error_rate
        if default.opinions is not None:
            table.estimates["mean EP"][row] = default.opinions.mean_ep
            table.estimates["ATC-EP"][row] = default.opinions.atc_ep
            table.estimates["codes"][row] = np.nan if default.opinions.codes is None else default.opinions.codes

    def _state(self, units: WindowUnits) -> WindowState:
        return window_state(
            self._ours.fit.window_reference,
            error_proba=units.error_proba,
            confidence=units.confidence,
            codes=units.codes,
        )


def _draw(
    rng: np.random.Generator, labels: NDArray[np.int64], count: int, frequencies: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """Draw rows with replacement, by class frequencies where there are some."""
    if frequencies is None or not count:
        return rng.integers(0, len(labels), count)
    weights = frequencies[labels] / np.bincount(labels, minlength=len(frequencies))[labels]
    return rng.choice(len(labels), count, p=weights / weights.sum())


def _errors(residuals: NDArray[np.float64], kinds: NDArray[np.str_]) -> dict[str, float]:
    sizes = np.abs(residuals)
    by_kind = {kind: float(sizes[kinds == kind].mean()) for kind in KINDS}
    return {
        "all": float(sizes.mean()),
        **by_kind,
        "p90": float(np.quantile(sizes, 0.9)),
        "bias": float(residuals.mean()),
    }
