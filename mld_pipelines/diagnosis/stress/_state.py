"""What the stress map needs of a window beyond `WindowState`: mergeable sums against a baseline of the reference."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis._scores import SCORE_NAMES
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.stress._units import WindowUnits

__all__ = ["PRODUCT_CLASSES", "SHIFT_SCORES", "StressWindowState", "WindowBaseline", "stress_window_state"]

#: Scores whose mean and tail a window is compared by: all but the code's rate, which has a column of its own.
SHIFT_SCORES = SCORE_NAMES[:-1]
#: Most classes for which Σ P·Pᵀ is kept: 2,080 numbers a window.
PRODUCT_CLASSES = 64
#: Features that vary less on the reference are dead (after ReLU many are) and left out.
DEAD_FEATURE = 1e-6
#: Scores that vary less carry no information.
MIN_SPREAD = 1e-9
#: Reference quantile beyond which a score is in its tail.
TAIL = 0.99


def _no_values() -> NDArray[np.float64]:
    return np.empty(0)


def _no_counts() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowBaseline:
    """Location and scale of scores and features on the reference.

    Attributes:
        score_mean: `(9,)`; NaN where a score is undefined or constant.
        score_scale: Standard deviation, `(9,)`.
        score_tail: 99 % quantile, `(9,)`.
        feature_mean: `(w,)`, empty without features.
        feature_scale: Standard deviation, 0 for dead features, `(w,)`.
        n_classes: Width of the output.
    """

    score_mean: NDArray[np.float64]
    score_scale: NDArray[np.float64]
    score_tail: NDArray[np.float64]
    feature_mean: NDArray[np.float64]
    feature_scale: NDArray[np.float64]
    n_classes: int

    @classmethod
    def fit(cls, reference: WindowUnits) -> WindowBaseline:
        """Measure the reference, whose scores must be those of a cross-fit."""
        scores = reference.risk_scores[:, : len(SHIFT_SCORES)]
        mean, spread, tail = scores.mean(axis=0), scores.std(axis=0), np.full(len(SHIFT_SCORES), np.nan)
        known = np.isfinite(mean) & (spread >= MIN_SPREAD)
        tail[known] = np.quantile(scores[:, known], TAIL, axis=0)
        features = np.empty((1, 0)) if reference.features is None else reference.features.astype(np.float64)
        scale = features.std(axis=0)
        return cls(
            score_mean=np.where(known, mean, np.nan),
            score_scale=np.where(known, spread, np.nan),
            score_tail=tail,
            feature_mean=features.mean(axis=0),
            feature_scale=np.where(scale >= DEAD_FEATURE, scale, 0.0),
            n_classes=reference.probabilities.shape[1],
        )

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """The state for an artifact."""
        return {f"baseline.{f.name}": getattr(self, f.name) for f in fields(self) if f.name != "n_classes"}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, n_classes: int) -> WindowBaseline:
        """The baseline whose state `to_arrays` gave."""
        names = [f.name for f in fields(cls) if f.name != "n_classes"]
        return cls(n_classes=n_classes, **{name: arrays[f"baseline.{name}"] for name in names})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StressWindowState:
    """Mergeable sums of a window's scored units, beside its `WindowState`.

    Sums are taken against one `WindowBaseline`, so only states of one result may be added.

    Attributes:
        n: Units.
        sum_stressed_proba: Σ of the error probability fitted on stressed copies as well.
        sum_scores: Σ z-scores of nine risk scores, `(9,)`; NaN where one is undefined.
        n_tail: Units beyond the reference's 99 % quantile of each, `(9,)` int64.
        predicted_counts: Units predicted as each class, `(K,)` int64.
        sum_probabilities: Σ P at the result's temperature, `(K,)`.
        sum_products: Upper triangle of Σ P·Pᵀ, row by row, `(K(K+1)/2,)`; empty above 64 classes.
        sum_features: Σ (h − mean)/sd of the projected features that live, `(w,)`.
        sum_squares: Σ of their squares, `(w,)`.
    """

    n: int = 0
    sum_stressed_proba: float = 0.0
    sum_scores: NDArray[np.float64] = field(default_factory=_no_values)
    n_tail: NDArray[np.int64] = field(default_factory=_no_counts)
    predicted_counts: NDArray[np.int64] = field(default_factory=_no_counts)
    sum_probabilities: NDArray[np.float64] = field(default_factory=_no_values)
    sum_products: NDArray[np.float64] = field(default_factory=_no_values)
    sum_features: NDArray[np.float64] = field(default_factory=_no_values)
    sum_squares: NDArray[np.float64] = field(default_factory=_no_values)

    def __add__(self, other: StressWindowState) -> StressWindowState:
        """The state of both windows together.

        Raises:
            InvalidInputError: The states belong to different results.
        """
        if not self.n or not other.n:
            return self if self.n else other
        sums: dict[str, Any] = {}
        for item in fields(self):
            one, two = getattr(self, item.name), getattr(other, item.name)
            if np.shape(one) != np.shape(two):
                raise InvalidInputError(
                    f"{item.name} of two window states have shapes {np.shape(one)} and {np.shape(two)}; nothing was "
                    "merged. Merge windows of one result only."
                )
            sums[item.name] = one + two
        return StressWindowState(**sums)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, one per attribute: the columns of a table row."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StressWindowState:
        """The state that `to_dict` described."""
        counts = ("n_tail", "predicted_counts")
        sums = ("sum_scores", "sum_probabilities", "sum_products", "sum_features", "sum_squares")
        arrays: dict[str, Any] = {name: np.asarray(values[name], dtype=np.int64) for name in counts}
        arrays |= {name: np.asarray(values[name], dtype=np.float64) for name in sums}
        return cls(n=values["n"], sum_stressed_proba=values["sum_stressed_proba"], **arrays)


def stress_window_state(
    baseline: WindowBaseline, units: WindowUnits, *, stressed_proba: NDArray[np.float64]
) -> StressWindowState:
    """Sums of a window's units; those with NaN in `error_proba` are left out, as in `window_state`.

    Args:
        baseline: The result's.
        units: The window.
        stressed_proba: Error probability fitted on stressed copies as well, `(N,)`.

    Raises:
        InvalidInputError: Widths differ from the baseline's.
    """
    valid = np.isfinite(units.error_proba)
    rows = units if valid.all() else units.take(valid)
    width = 0 if rows.features is None else rows.features.shape[1]
    if rows.probabilities.shape[1] != baseline.n_classes or width not in (0, len(baseline.feature_mean)):
        raise InvalidInputError(
            f"units have {rows.probabilities.shape[1]} classes and {width} features, the baseline "
            f"{baseline.n_classes} and {len(baseline.feature_mean)}; no window was made. Pass units of the same result."
        )
    if not len(rows):
        return StressWindowState()
    scores = rows.risk_scores[:, : len(SHIFT_SCORES)]
    outputs = rows.probabilities.astype(np.float64)
    standardised = _standardised_features(baseline, rows)
    return StressWindowState(
        n=len(rows),
        sum_stressed_proba=float(stressed_proba[valid].sum()),
        sum_scores=((scores - baseline.score_mean) / baseline.score_scale).sum(axis=0),
        n_tail=(scores > baseline.score_tail).sum(axis=0).astype(np.int64),
        predicted_counts=np.bincount(outputs.argmax(axis=1), minlength=baseline.n_classes).astype(np.int64),
        sum_probabilities=outputs.sum(axis=0),
        sum_products=_products(outputs),
        sum_features=standardised.sum(axis=0),
        sum_squares=np.square(standardised).sum(axis=0),
    )


def _standardised_features(baseline: WindowBaseline, units: WindowUnits) -> NDArray[np.float64]:
    """Features in reference units, dead ones 0: sums of values near 0 lose no digits when a variance is taken."""
    if units.features is None:
        return np.empty((len(units), 0))
    lives = baseline.feature_scale > 0.0
    scale = np.where(lives, baseline.feature_scale, 1.0)
    return np.where(lives, (units.features - baseline.feature_mean) / scale, 0.0)


def _products(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper triangle of `PᵀP`, empty above 64 classes."""
    if outputs.shape[1] > PRODUCT_CLASSES:
        return np.empty(0)
    products: NDArray[np.float64] = (outputs.T @ outputs)[np.triu_indices(outputs.shape[1])]
    return products
