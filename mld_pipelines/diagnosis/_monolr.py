"""MonoLR: logistic regression with non-negative weights on standardised risk scores (docs/method.md#monolr).

One linear form serves all three modes of the estimator: MonoLR itself, Platt scaling of the confidence, and the
prior mode of a reference in which the model made no error (or nothing but errors).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

__all__ = [
    "ScoreModel",
    "fit_monotone",
    "fit_platt",
    "fit_prior",
    "has_more_than_confidence",
    "penalty_for",
    "stratified_folds",
]

#: Standardised scores are clipped here: one wild score may not decide alone.
CLIP = 4.0
#: Columns that vary less carry no information.
MIN_SPREAD = 1e-9
#: λ = clip(0.3 / m, 0.001, 0.03), m = errors or successes, whichever are fewer (measured, docs/method.md#monolr).
PENALTY_SCALE, PENALTY_LOW, PENALTY_HIGH = 0.3, 1e-3, 3e-2
#: Every weight starts here; zero would start on the bound.
START_WEIGHT = 0.05
#: Slope of the prior mode: a softmax is over-confident on the errors nobody has seen yet (docs/method.md#fallback).
PRIOR_SLOPE = 0.8
#: Bound of |lmsp| in the prior mode: logits of 1e30 would leave no digit for the intercept.
PRIOR_CLIP = 1e6
#: Position of `lmsp` among the scores.
CONFIDENCE_COLUMN = 0


@dataclass(frozen=True, slots=True, eq=False)
class ScoreModel:
    """`P(error) = σ(w0 + Σ w_j Z_j)`, `Z = clip((x − mean) / scale, −clip, clip)`.

    Attributes:
        intercept: w0.
        weights: `(S,)`, ≥ 0; 0 for columns that were dropped.
        mean: `(S,)`.
        scale: `(S,)`, > 0.
        clip: Bound of |Z|; 1e6 (prior) or infinity (Platt) for the models on confidence alone, whose ranking it must
            not tie.
    """

    intercept: float
    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    clip: float

    def contributions(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """`w_j Z_j` of each unit, `(N, S)`: how much each score raises or lowers its log-odds."""
        standardised = np.clip((scores - self.mean) / self.scale, -self.clip, self.clip)
        used = np.where(self.weights > 0.0, standardised, 0.0)  # a dropped column may hold NaN
        weighted: NDArray[np.float64] = used * self.weights
        return weighted

    def log_odds(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """`w0 + Σ w_j Z_j`, `(N,)`; a row sum, so that a unit's value does not depend on its batch."""
        total: NDArray[np.float64] = self.contributions(scores).sum(axis=1) + self.intercept
        return total

    def probability(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(error) of each unit, `(N,)`."""
        return _sigmoid(self.log_odds(scores))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state for an artifact."""
        scalars = np.array([self.intercept, self.clip])
        return {
            "model.scalars": scalars,
            "model.weights": self.weights,
            "model.mean": self.mean,
            "model.scale": self.scale,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ScoreModel:
        """The model whose state `to_arrays` gave."""
        intercept, clip = (float(value) for value in arrays["model.scalars"])
        return cls(intercept, arrays["model.weights"], arrays["model.mean"], arrays["model.scale"], clip)


def penalty_for(errors: int, units: int) -> float:
    """λ of a reference with this many errors among its units."""
    fewer = min(errors, units - errors)
    return float(np.clip(PENALTY_SCALE / max(fewer, 1), PENALTY_LOW, PENALTY_HIGH))


def has_more_than_confidence(scores: NDArray[np.float64]) -> bool:
    """Whether any column besides the confidence can be used: is defined everywhere and varies."""
    varying = _standardisation(scores)[2]
    varying[CONFIDENCE_COLUMN] = False
    return bool(varying.any())


def fit_monotone(
    scores: NDArray[np.float64],
    errors: NDArray[np.bool_],
    *,
    penalty: float,
    sample_weight: NDArray[np.float64] | None = None,
) -> ScoreModel:
    """Minimise `mean(ln(1 + e^η) − yη) + λ‖w‖²` subject to `w ≥ 0` by L-BFGS-B with the analytic gradient.

    Columns with a NaN or with a standard deviation below 1e-9 get weight 0.

    Args:
        scores: `(N, S)`.
        errors: `(N,)`, both values present.
        penalty: λ.
        sample_weight: Positive weights, `(N,)`; they are scaled to sum 1. For the stress pass.
    """
    mean, scale, varying = _standardisation(scores)
    standardised = np.clip((scores[:, varying] - mean[varying]) / scale[varying], -CLIP, CLIP)
    intercept, fitted = _minimise(standardised, errors, penalty=penalty, sample_weight=sample_weight)
    weights = np.zeros(scores.shape[1])
    weights[varying] = fitted
    return ScoreModel(intercept, weights, mean, scale, CLIP)


def fit_platt(scores: NDArray[np.float64], errors: NDArray[np.bool_]) -> ScoreModel:
    """Platt scaling of the confidence: logistic regression on `lmsp` alone with `w ≥ 0`, both values present.

    The penalty `1 / (2N)` is scikit-learn's default C = 1 and only matters for separable data.
    """
    mean, scale, varying = _standardisation(scores)
    varying &= np.arange(scores.shape[1]) == CONFIDENCE_COLUMN
    standardised = (scores[:, varying] - mean[varying]) / scale[varying]
    intercept, fitted = _minimise(standardised, errors, penalty=0.5 / len(errors))
    weights = np.zeros(scores.shape[1])
    weights[varying] = fitted
    return ScoreModel(intercept, weights, mean, scale, np.inf)


def fit_prior(scores: NDArray[np.float64], errors: NDArray[np.bool_]) -> ScoreModel:
    """Prior mode: `σ(0.8·lmsp + a)` with `a` such that the mean is `(errors + ½) / (n + 1)`.

    It needs neither an error nor a success; with nothing but errors the same formula is its mirror image.
    """
    from scipy.optimize import brentq

    slopes = PRIOR_SLOPE * np.clip(scores[:, CONFIDENCE_COLUMN], -PRIOR_CLIP, PRIOR_CLIP)
    target = (errors.sum() + 0.5) / (len(errors) + 1.0)
    # ±50 beyond the extremes: every probability is then 0 or 1 to double precision, so the bracket is certain.
    low, high = -slopes.max() - 50.0, -slopes.min() + 50.0
    # The mean is a staircase if few units lie far apart: Brent's method then falls back on halving, hence the limit.
    root = brentq(lambda shift: _sigmoid(slopes + shift).mean() - target, low, high, xtol=1e-12, maxiter=10_000)
    weights = np.zeros(scores.shape[1])
    weights[CONFIDENCE_COLUMN] = PRIOR_SLOPE
    return ScoreModel(float(root), weights, np.zeros(len(weights)), np.ones(len(weights)), PRIOR_CLIP)


def stratified_folds(errors: NDArray[np.bool_], *, folds: int = 5) -> NDArray[np.int64]:
    """Fold of each unit, `(N,)`: errors and successes are dealt out in turn, in the order of the rows.

    Rows in key-hash order make this a seeded random assignment that does not depend on how they arrived.
    """
    assigned = np.empty(len(errors), dtype=np.int64)
    wrong = np.flatnonzero(errors)
    right = np.flatnonzero(~errors)
    # Successes go on where the errors stopped, so that fold sizes differ by at most one.
    assigned[wrong] = np.arange(len(wrong)) % folds
    assigned[right] = (np.arange(len(right)) + len(wrong)) % folds
    return assigned


def _standardisation(
    scores: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Column means, standard deviations and which columns can be used; the others get mean 0 and scale 1."""
    mean, spread = scores.mean(axis=0), scores.std(axis=0)
    varying = np.isfinite(mean) & np.isfinite(spread) & (spread >= MIN_SPREAD)
    return np.where(varying, mean, 0.0), np.where(varying, spread, 1.0), varying


def _minimise(
    standardised: NDArray[np.float64],
    errors: NDArray[np.bool_],
    *,
    penalty: float,
    sample_weight: NDArray[np.float64] | None = None,
) -> tuple[float, NDArray[np.float64]]:
    """Intercept and non-negative weights of the penalised logistic loss."""
    from scipy.optimize import minimize

    target = errors.astype(np.float64)
    shares = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    shares = shares / shares.sum()

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = parameters[1:]
        odds = standardised @ weights + parameters[0]
        value = shares @ (np.logaddexp(0.0, odds) - target * odds) + penalty * (weights @ weights)
        residual = shares * (_sigmoid(odds) - target)
        gradient = np.concatenate([[residual.sum()], standardised.T @ residual + 2.0 * penalty * weights])
        return float(value), gradient

    columns = standardised.shape[1]
    start = np.full(columns + 1, START_WEIGHT)
    start[0] = np.log((target.sum() + 0.5) / (len(target) - target.sum() + 0.5))
    bounds = [(None, None)] + [(0.0, None)] * columns
    options = {"maxiter": 500, "ftol": 1e-13, "gtol": 1e-8}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return float(found[0]), np.asarray(found[1:])


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + e^−x) without overflow."""
    small = np.exp(-np.abs(values))
    probability: NDArray[np.float64] = np.where(values >= 0.0, 1.0, small) / (1.0 + small)
    return probability
