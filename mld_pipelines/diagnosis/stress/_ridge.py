"""Ridge regression of a window's error logit, most weights non-negative, pulled to the identity on its base column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis.stress._columns import COLUMNS, MONOTONE_COLUMNS, clipped_logit
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["WindowRidge", "fit_ridge"]

#: Columns are clipped to this quantile range of the training windows …
QUANTILES = (0.005, 0.995)
#: … widened by this share of it on both sides: a map must not extrapolate.
MARGIN = 0.25
#: λ = 3·N/columns (measured: 0.3 lets tabular maps wander, nine models).
PENALTY = 3.0
#: Columns that vary less are dropped.
MIN_SPREAD = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class WindowRidge:
    """`logit(error rate) = w0 + Σ w_j (clip(x_j) − mean_j)/scale_j`.

    Attributes:
        intercept: w0.
        weights: `(C,)`, ≥ 0 but for the signed columns; 0 for columns that were dropped.
        low: Lower clip bounds, `(C,)`.
        high: Upper clip bounds, `(C,)`.
        mean: Of the clipped training columns, `(C,)`.
        scale: Their standard deviations, 1 for dropped columns, `(C,)`.
    """

    intercept: float
    weights: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def log_odds(self, columns: NDArray[np.float64], *, names: Sequence[str] = COLUMNS) -> NDArray[np.float64]:
        """Logit of the error rate of each window, `(N, C) → (N,)`.

        Args:
            columns: Statistics of the windows.
            names: Their C names, for messages.

        Raises:
            InvalidInputError: A window lacks a column that the map uses.
        """
        used = self.weights != 0.0
        lacking = np.flatnonzero(used & np.isnan(columns).any(axis=0))
        if len(lacking):
            raise InvalidInputError(
                f"the window lacks {', '.join(names[column] for column in lacking.tolist())}, which the stress map of "
                "this result uses; nothing was estimated. Pass codes and features of the same result."
            )
        standardised = (np.clip(columns, self.low, self.high) - self.mean) / self.scale
        total: NDArray[np.float64] = np.where(used, standardised, 0.0) @ self.weights + self.intercept
        return total

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """The state for an artifact."""
        names = ("weights", "low", "high", "mean", "scale")
        return {"ridge.intercept": np.array([self.intercept]), **{f"ridge.{n}": getattr(self, n) for n in names}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> WindowRidge:
        """The ridge whose state `to_arrays` gave."""
        names = ("weights", "low", "high", "mean", "scale")
        return cls(float(arrays["ridge.intercept"][0]), *(arrays[f"ridge.{name}"] for name in names))


def fit_ridge(
    columns: NDArray[np.float64], error_rates: NDArray[np.float64], *, n_monotone: int = MONOTONE_COLUMNS
) -> WindowRidge:
    """Minimise `‖lg(B) − w0 − Xw‖² + 3·N/k·‖w − w_id‖²`, X the k columns that vary, `w ≥ 0` but for signed ones.

    `w_id` holds the standard deviation of the base column, column 0, and zeros: without evidence the map returns it.

    Args:
        columns: `(N, C)`; a column with NaN or without variation is dropped.
        error_rates: Realised error rate of each window, `(N,)`.
        n_monotone: The first so many columns have weights ≥ 0.
    """
    from scipy.optimize import lsq_linear

    usable = np.isfinite(columns).all(axis=0)
    known = np.where(usable, columns, 0.0)
    low, high = np.quantile(known, QUANTILES, axis=0)
    margin = MARGIN * (high - low)
    low, high = low - margin, high + margin
    clipped = np.clip(known, low, high)
    mean, spread = clipped.mean(axis=0), clipped.std(axis=0)
    usable &= spread >= MIN_SPREAD
    kept = np.flatnonzero(usable)
    identity = np.where(kept == 0, spread[kept], 0.0)
    root = np.sqrt(PENALTY * len(columns) / max(len(kept), 1))
    design = (clipped[:, kept] - mean[kept]) / spread[kept]
    rows = np.vstack(
        [
            np.column_stack([np.ones(len(design)), design]),
            np.column_stack([np.zeros(len(kept)), root * np.eye(len(kept))]),
        ]
    )
    target = np.concatenate([clipped_logit(error_rates), root * identity])
    bounds = (np.concatenate([[-np.inf], np.where(kept < n_monotone, 0.0, -np.inf)]), np.inf)
    # BVLS, an active-set method, ends at the exact minimum; the interior method stops near it.
    solution = lsq_linear(rows, target, bounds=bounds, method="bvls").x
    weights = np.zeros(columns.shape[1])
    weights[kept] = np.where(kept < n_monotone, np.maximum(solution[1:], 0.0), solution[1:])
    return WindowRidge(float(solution[0]), weights, low, high, mean, np.where(usable, spread, 1.0))
