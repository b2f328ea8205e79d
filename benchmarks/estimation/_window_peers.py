"""What others make of a window without labels, in this benchmark's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.estimation._peers import log_odds_of_error, softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.estimation._generation import Outputs

    Floats = NDArray[np.float64]

__all__ = ["BEST_OF", "PeerUnits", "WindowPeers"]

BEST_OF = (
    "MSP", "MSP + temperature", "isotonic(MSP)", "Platt(MSP)", "CBPE", "ATC-MC", "ATC-NE", "DoC", "COT + BBSE",
    "COTT + BBSE", "BBSE",
)  # fmt: skip
"""Peers among which the best of a model is picked in hindsight."""

_MOST_ASSIGNED = 400
"""Units of an optimal transport: assignment costs their cube."""


@dataclass(frozen=True, slots=True, eq=False)
class PeerUnits:
    """What the peers need of each unit: one row each of `columns`, tempered probabilities, predictions."""

    columns: Floats
    tempered: Floats
    predictions: NDArray[np.int64]

    def take(self, rows: NDArray[np.integer]) -> PeerUnits:
        """The units at these rows."""
        return PeerUnits(self.columns[rows], self.tempered[rows], self.predictions[rows])

    def followed_by(self, other: PeerUnits) -> PeerUnits:
        """These units and then the others."""
        return PeerUnits(
            np.concatenate([self.columns, other.columns]),
            np.concatenate([self.tempered, other.tempered]),
            np.concatenate([self.predictions, other.predictions]),
        )


@dataclass(eq=False)
class WindowPeers:
    """Peers fitted on a labelled reference.

    Args:
        reference: The reference.
    """

    reference: Outputs

    def __post_init__(self) -> None:
        """Fit temperature, calibrators, thresholds and the confusion matrix."""
        from scipy.optimize import minimize_scalar
        from sklearn.isotonic import IsotonicRegression
        from sklearn.linear_model import LogisticRegression

        labels, errors = self.reference.labels, self.reference.errors
        self._base, self._classes = float(errors.mean()), self.reference.logits.shape[1]
        rows = np.arange(len(labels))

        def loss(temperature: float) -> float:
            return float(-np.log(softmax(self.reference.logits, temperature)[rows, labels] + 1e-12).mean())

        self._temperature = float(minimize_scalar(loss, bounds=(0.3, 6.0), method="bounded").x)
        single, plain = log_odds_of_error(self.reference.logits), softmax(self.reference.logits)
        self._isotonic = IsotonicRegression(out_of_bounds="clip").fit(single, errors)
        self._platt = LogisticRegression(C=1e4).fit(single[:, None], errors)
        self._class_wise = [
            IsotonicRegression(out_of_bounds="clip").fit(plain[:, one], labels == one) for one in range(self._classes)
        ]
        self._prior = np.bincount(labels, minlength=self._classes) / len(labels)
        predictions = self.reference.logits.argmax(axis=1)
        self._confusion = np.zeros((self._classes, self._classes))
        np.add.at(self._confusion, (predictions, labels), 1.0 / len(labels))
        wrong = np.bincount(labels, errors, self._classes)
        seen = np.maximum(np.bincount(labels, minlength=self._classes), 1)
        self._class_errors = np.where(np.bincount(labels, minlength=self._classes) > 0, wrong / seen, self._base)
        self._fit_thresholds()

    def prepare(self, outputs: Outputs) -> PeerUnits:
        """Per-unit columns: 1 − confidence (plain, tempered), entropy, isotonic, Platt, CBPE."""
        plain, tempered = softmax(outputs.logits), softmax(outputs.logits, self._temperature)
        predictions = outputs.logits.argmax(axis=1)
        single = log_odds_of_error(outputs.logits)
        calibrated = np.column_stack([one.predict(plain[:, i]) for i, one in enumerate(self._class_wise)])
        calibrated /= calibrated.sum(axis=1, keepdims=True) + 1e-12
        columns = [
            1.0 - plain.max(axis=1),
            1.0 - tempered.max(axis=1),
            -(tempered * np.log(tempered + 1e-12)).sum(axis=1),
            self._isotonic.predict(single),
            self._platt.predict_proba(single[:, None])[:, 1],
            1.0 - calibrated[np.arange(len(calibrated)), predictions],
        ]
        return PeerUnits(np.column_stack(columns), tempered, predictions)

    def estimate(self, units: PeerUnits, rng: np.random.Generator) -> dict[str, float]:
        """Error rate of a window according to each peer."""
        plain, tempered, _, isotonic, platt, cbpe = units.columns.mean(axis=0).tolist()
        shifted = self._label_shift(units.predictions)
        costs = self._transport(units.tempered, shifted, rng)
        return {
            "MSP": plain,
            "MSP + temperature": tempered,
            "isotonic(MSP)": isotonic,
            "Platt(MSP)": platt,
            "CBPE": cbpe,
            "ATC-MC": float((units.columns[:, 1] > self._threshold_mc).mean()),
            "ATC-NE": float((units.columns[:, 2] > self._threshold_ne).mean()),
            "DoC": self._base + tempered - self._mean_tempered,
            "COT + BBSE": float(costs.mean()),
            "COTT + BBSE": float((costs > self._threshold_cost).mean()),
            "BBSE": float(shifted @ self._class_errors),
        }

    def _fit_thresholds(self) -> None:
        """Thresholds that a share of the reference equal to its error rate exceeds (Garg et al. 2022)."""
        units = self.prepare(self.reference)
        self._threshold_mc = float(np.quantile(units.columns[:, 1], 1.0 - self._base))
        self._threshold_ne = float(np.quantile(units.columns[:, 2], 1.0 - self._base))
        self._mean_tempered = float(units.columns[:, 1].mean())
        costs = self._transport(units.tempered, self._prior, np.random.default_rng(1))
        self._threshold_cost = float(np.quantile(costs, 1.0 - self._base))

    def _label_shift(self, predictions: NDArray[np.int64]) -> Floats:
        """Class frequencies of the window from its predictions (Lipton et al. 2018), slightly regularised."""
        observed = np.bincount(predictions, minlength=self._classes) / len(predictions)
        design = np.vstack([self._confusion, 0.05 * np.eye(self._classes)])
        target = np.concatenate([observed, np.full(self._classes, 0.05)])
        weights = np.maximum(np.linalg.lstsq(design, target, rcond=None)[0], 0.0)
        frequencies = weights * self._prior
        total: Floats = frequencies / frequencies.sum()
        return total

    def _transport(self, probabilities: Floats, frequencies: Floats, rng: np.random.Generator) -> Floats:
        """Cost of each unit under the cheapest assignment of labels of these frequencies (Lu et al. 2023)."""
        from scipy.optimize import linear_sum_assignment

        if len(probabilities) > _MOST_ASSIGNED:
            probabilities = probabilities[rng.permutation(len(probabilities))[:_MOST_ASSIGNED]]
        ends = np.round(np.cumsum(frequencies) * len(probabilities)).astype(np.int64)
        labels = np.searchsorted(ends, np.arange(len(probabilities)), side="right").clip(0, self._classes - 1)
        table = 1.0 - probabilities[:, labels]
        rows, columns = linear_sum_assignment(table)
        costs: Floats = table[rows, columns]
        return costs
