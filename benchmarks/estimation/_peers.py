"""What others do without labels, per unit and per window, in this benchmark's own code (see `docs/estimation.md`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.estimation._generation import Outputs

    Floats = NDArray[np.float64]

__all__ = ["RANKING_PEERS", "UnitPeers", "softmax"]

RANKING_PEERS = ("MSP", "entropy", "energy", "kNN distance", "neighbour disagreement", "trust score", "Mahalanobis")
"""Single scores: they rank units and are no probabilities."""

_NEAREST, _FAR = 10, 50
_CHUNK = 2_000


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Softmax in float64."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def log_odds_of_error(logits: NDArray[np.floating]) -> Floats:
    """`ln(1 − max P) − ln max P` from sums of powers, so that a confidence near 1 keeps its digits."""
    ordered = np.sort(logits.astype(np.float64), axis=1)
    others = np.exp(ordered[:, :-1] - ordered[:, -1:]).sum(axis=1)
    log_odds: Floats = np.log(np.maximum(others, 1e-300))
    return log_odds


class UnitPeers:
    """Per-unit peers: single scores from the training units, and what learns from a labelled reference.

    Args:
        train: Training units: neighbours and class statistics.
    """

    def __init__(self, train: Outputs) -> None:
        self._train = train
        self._places = _unit_length(train.features)
        self._known: dict[str, dict[str, Floats]] = {}
        self._fit_gaussians()

    def learn(self, reference: Outputs, codes: NDArray[np.int64] | None) -> None:
        """Fit what learns.

        Args:
            reference: Labelled units.
            codes: Code of each; the regression on six scores uses code error rates.
        """
        from sklearn.isotonic import IsotonicRegression
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        errors = reference.errors
        self._base = float(errors.mean())
        own = np.zeros(len(errors), dtype=np.int64) if codes is None else codes
        self._count_codes(own, errors)
        single = log_odds_of_error(reference.logits)
        self.is_learned = 0 < errors.sum() < len(errors)
        if not self.is_learned:
            return
        self._isotonic = IsotonicRegression(out_of_bounds="clip").fit(single, errors)
        self._platt = LogisticRegression(C=1e4).fit(single[:, None], errors)
        six = self._six(reference, self._score(reference), self._own_rates(own, errors))
        self._regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(six, errors)

    def scores(self, outputs: Outputs, *, name: str) -> dict[str, Floats]:
        """Scores of `RANKING_PEERS`, higher is more likely wrong.

        Args:
            outputs: Units.
            name: Names the units: scores of a name are computed once, also for fewer of its first units.
        """
        known = self._known.get(name)
        if known is None or len(known[RANKING_PEERS[0]]) < len(outputs):
            known = self._known[name] = self._score(outputs)
        return {peer: values[: len(outputs)] for peer, values in known.items()}

    def _score(self, outputs: Outputs) -> dict[str, Floats]:
        probabilities = softmax(outputs.logits)
        distances, disagreement, trust = self._neighbours(outputs)
        values = (
            log_odds_of_error(outputs.logits),
            _entropy(probabilities),
            -_log_sum(outputs.logits),
            distances,
            disagreement,
            trust,
            self._mahalanobis(outputs),
        )
        return dict(zip(RANKING_PEERS, values, strict=True))

    def probabilities(
        self, outputs: Outputs, scores: dict[str, Floats], codes: NDArray[np.int64] | None
    ) -> dict[str, Floats]:
        """Error probabilities of the peers that give some; none without both outcomes in the reference."""
        if not self.is_learned:
            return {}
        single = scores["MSP"]
        # A little of the score itself keeps the order within an isotonic step.
        step = self._isotonic.predict(single) + 1e-7 / (1.0 + np.exp(-np.clip(single, -50, 50)))
        rates = np.full(len(outputs), self._base) if codes is None else self._rates[codes]
        return {
            "isotonic(MSP)": step,
            "Platt(MSP)": self._platt.predict_proba(single[:, None])[:, 1],
            "regression on six": self._regression.predict_proba(self._six(outputs, scores, rates))[:, 1],
        }

    def _count_codes(self, codes: NDArray[np.int64], errors: NDArray[np.bool_]) -> None:
        seen, size = codes >= 0, int(codes.max()) + 1
        self._counts = np.bincount(codes[seen], minlength=size)
        self._wrong = np.bincount(codes[seen], errors[seen], size)
        # The last entry serves UNSEEN, index −1.
        self._rates = np.append((self._wrong + 4.0 * self._base) / (self._counts + 4.0), self._base)

    def _own_rates(self, codes: NDArray[np.int64], errors: NDArray[np.bool_]) -> Floats:
        """Rate of each reference unit's code without the unit itself."""
        own = (self._wrong[codes] - errors + 4.0 * self._base) / (self._counts[codes] + 3.0)
        return np.where(codes >= 0, own, self._base)

    def _six(self, outputs: Outputs, scores: dict[str, Floats], rates: Floats) -> Floats:
        ordered = np.sort(softmax(outputs.logits), axis=1)
        margin = ordered[:, -2] - ordered[:, -1]
        clipped = np.clip(rates, 1e-4, 1 - 1e-4)
        names = ("MSP", "entropy", "kNN distance", "neighbour disagreement")
        return np.column_stack([margin, *(scores[name] for name in names), np.log(clipped / (1 - clipped))])

    def _neighbours(self, outputs: Outputs) -> tuple[Floats, Floats, Floats]:
        """Log distance to the tenth neighbour, disagreement of ten, and the ratio of nearest same to nearest other."""
        far = min(_FAR, len(self._train) - 1)
        near = min(_NEAREST, far)
        squared, labels = np.empty((len(outputs), far)), np.empty((len(outputs), far), dtype=np.int64)
        for start in range(0, len(outputs), _CHUNK):
            part = slice(start, start + _CHUNK)
            table = 2.0 - 2.0 * _unit_length(outputs.features[part]) @ self._places.T
            found = np.argpartition(table, far - 1, axis=1)[:, :far]
            values = np.take_along_axis(table, found, axis=1)
            order = np.argsort(values, axis=1)
            squared[part] = np.take_along_axis(values, order, axis=1)
            labels[part] = self._train.labels[np.take_along_axis(found, order, axis=1)]
        distances = np.sqrt(np.maximum(squared, 0.0))
        is_same = labels == outputs.logits.argmax(axis=1)[:, None]
        limit = 2.0 * distances[:, -1]
        same = np.minimum(np.where(is_same, distances, np.inf).min(axis=1), limit)
        other = np.minimum(np.where(is_same, np.inf, distances).min(axis=1), limit)
        trust = np.log(same + 1e-4) - np.log(other + 1e-4)
        return np.log(distances[:, near - 1] + 1e-4), 1.0 - is_same[:, :near].mean(axis=1), trust

    def _fit_gaussians(self) -> None:
        features, labels = self._train.features.astype(np.float64), self._train.labels
        self._classes = np.flatnonzero(np.bincount(labels, minlength=self._train.logits.shape[1]) > 1)
        self._means = np.stack([features[labels == one].mean(axis=0) for one in self._classes])
        centred = np.concatenate([features[labels == one] - self._means[i] for i, one in enumerate(self._classes)])
        covariance = np.cov(centred.T)
        width = len(covariance)
        shrunk = 0.9 * covariance + (0.1 * np.trace(covariance) / width + 1e-9) * np.eye(width)
        self._whiten = np.linalg.cholesky(np.linalg.inv(shrunk))

    def _mahalanobis(self, outputs: Outputs) -> Floats:
        """Squared distance to the predicted class less that to the nearest other class."""
        places, means = outputs.features.astype(np.float64) @ self._whiten, self._means @ self._whiten
        table = (places**2).sum(axis=1)[:, None] + (means**2).sum(axis=1) - 2.0 * places @ means.T
        column = np.full(outputs.logits.shape[1], -1)
        column[self._classes] = np.arange(len(self._classes))
        own = column[outputs.logits.argmax(axis=1)]
        rows = np.arange(len(table))
        to_own = np.where(own >= 0, table[rows, own], table.max(axis=1))
        table[rows[own >= 0], own[own >= 0]] = np.inf
        difference: Floats = to_own - table.min(axis=1)
        return difference


def _unit_length(features: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (features / (lengths + 1e-9)).astype(np.float32)
    return scaled


def _entropy(probabilities: Floats) -> Floats:
    entropy: Floats = -(probabilities * np.log(probabilities + 1e-12)).sum(axis=1)
    return entropy


def _log_sum(logits: NDArray[np.floating]) -> Floats:
    values = logits.astype(np.float64)
    highest = values.max(axis=1)
    total: Floats = highest + np.log(np.exp(values - highest[:, None]).sum(axis=1))
    return total
