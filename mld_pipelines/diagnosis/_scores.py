"""The ten risk scores of a unit: higher means more likely wrong, none needs a label at use time.

Formulas: docs/method.md#scores, numerics: docs/method.md#numerics. Inputs are float32 as stored, arithmetic is
float64, and matrix products run over blocks of one fixed size, so a unit scores the same in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._bank import logits_of
from mld_pipelines.diagnosis._blocks import padded_blocks
from mld_pipelines.diagnosis._distances import BoundaryDistance, ClassGaussians, PrincipalResidual
from mld_pipelines.diagnosis._neighbours import NeighbourIndex, unit_length
from mld_pipelines.diagnosis._projection import Projection
from mld_pipelines.diagnosis._threads import one_thread_if_free
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._bank import Bank, Head, ReferenceUnits

__all__ = ["SCORE_MEANINGS", "SCORE_NAMES", "CodeRates", "RiskScorer", "softmax_scores"]

#: What a high value says about a unit, in the words shown to a user.
SCORE_MEANINGS = {
    "lmsp": "the model is not confident",
    "entropy": "the probability is spread over several classes",
    "dbmin": "close to a decision boundary",
    "knn": "far from any training example",
    "dis": "the neighbours have another label",
    "trust": "another class is nearer than the predicted one",
    "mahamargin": "unlike the predicted class",
    "rmd": "unlike every class",
    "res": "outside the directions the model uses",
    "code": "in a region where the model often errs",
}
#: Column order of every score matrix.
SCORE_NAMES = tuple(SCORE_MEANINGS)
_COLUMN = {name: column for column, name in enumerate(SCORE_NAMES)}
#: Rows in float64 at once: 65 MB per copy at 1,000 classes.
CHUNK_ROWS = 8_192
#: Pseudo-units by which the error rate of a code is pulled to the reference rate (docs/method.md#scores).
PRIOR_UNITS = 4.0
#: The reference rate in that prior stays inside [ε, 1 − ε]: a logit needs it.
RATE_FLOOR = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class CodeRates:
    """Error counts per code on the reference.

    Attributes:
        errors: Reference errors k of each code, `(C,)`.
        counts: Reference units n of each code, `(C,)`; UNSEEN units belong to none.
        base_rate: Reference error rate r0.
    """

    errors: NDArray[np.int64]
    counts: NDArray[np.int64]
    base_rate: float

    @classmethod
    def fit(cls, codes: NDArray[np.int64], errors: NDArray[np.bool_], *, n_codes: int) -> CodeRates:
        """Count errors per code; code -1 is UNSEEN and not counted."""
        seen = codes >= 0
        counts = np.bincount(codes[seen], minlength=n_codes)
        wrong = np.bincount(codes[seen & errors], minlength=n_codes)
        return cls(wrong.astype(np.int64), counts.astype(np.int64), float(errors.mean()))

    @property
    def rates(self) -> NDArray[np.float64]:
        """Smoothed error rate of each code, `(k + 4 r0) / (n + 4)`."""
        return self._smooth(self.errors, self.counts)

    def scores(self, codes: NDArray[np.int64], *, own_errors: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """`logit((k + 4 r0) / (n + 4))` of each unit's code; UNSEEN has the rate r0.

        Args:
            codes: Code index per unit, -1 for UNSEEN.
            own_errors: Errors of the units themselves if they are the reference rows: each is then left out.
        """
        seen = codes >= 0
        left_out = np.zeros(len(codes)) if own_errors is None else own_errors.astype(np.float64)
        errors = np.zeros(len(codes))
        counts = np.zeros(len(codes))
        errors[seen] = self.errors[codes[seen]] - left_out[seen]
        counts[seen] = self.counts[codes[seen]] - (0 if own_errors is None else 1)
        rate = self._smooth(errors, counts)
        return np.log(rate) - np.log1p(-rate)

    def _smooth(self, errors: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.float64]:
        prior = min(max(self.base_rate, RATE_FLOOR), 1.0 - RATE_FLOOR)
        smoothed: NDArray[np.float64] = (errors + PRIOR_UNITS * prior) / (counts + PRIOR_UNITS)
        return smoothed


@dataclass(frozen=True, slots=True, eq=False)
class RiskScorer:
    """State of the label-free scores; parts that the data does not allow are None and their columns NaN.

    Attributes:
        n_classes: Width of the model's output.
        feature_dim: Width of the feature, 0 without features.
        projection: Map to at most 256 columns for the neighbour and Gaussian scores.
        neighbours: Index behind `knn`, `dis`, `trust`.
        gaussians: Behind `mahamargin`, `rmd`.
        boundary: Behind `dbmin`.
        residual: Behind `res`.
    """

    n_classes: int
    feature_dim: int = 0
    projection: Projection | None = None
    neighbours: NeighbourIndex | None = None
    gaussians: ClassGaussians | None = None
    boundary: BoundaryDistance | None = None
    residual: PrincipalResidual | None = None

    @classmethod
    def fit(cls, bank: Bank, *, head: Head | None, projection: Projection | None) -> RiskScorer:
        """Fit every part that the bank allows.

        Args:
            bank: Labelled units.
            head: Last linear layer; without it `dbmin` and `res` are left out.
            projection: The reference's projection, None if there are no features.

        Raises:
            InvalidInputError: The widths of head, bank and projection disagree.
        """
        units = bank.units
        width = None if units.features is None else units.features.shape[1]
        _check_head(head, units.n_classes, width)
        boundary = None if head is None else BoundaryDistance.fit(head)
        if units.features is None or width is None or projection is None or len(units) < 2:
            return cls(n_classes=units.n_classes, boundary=boundary)
        embedded = projection.embed(units.features)
        return cls(
            n_classes=units.n_classes,
            feature_dim=width,
            projection=projection,
            neighbours=NeighbourIndex.fit(bank, projection=projection),
            gaussians=ClassGaussians.fit(embedded, np.asarray(units.labels), n_classes=units.n_classes),
            boundary=boundary,
            residual=None if head is None else PrincipalResidual.fit(units.features.astype(np.float64), head),
        )

    def score(
        self,
        *,
        logits: NDArray[np.floating] | None = None,
        probabilities: NDArray[np.floating] | None = None,
        features: NDArray[np.float32] | None = None,
        hashes: NDArray[np.int64] | None = None,
        code_scores: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """The ten scores of each unit, `(N, 10)` in the order of `SCORE_NAMES`, NaN where undefined.

        Computed in float64 and rounded to what a table holds (float32), so that a stored score gives the same
        error probability as a fresh one.

        Args:
            logits: `(N, K)` as stored.
            probabilities: `(N, K)`, used where there are no logits.
            features: `(N, d)` float32 as stored; required if the scorer was fitted with features.
            hashes: Key hashes; a unit that is itself in the bank is no neighbour of its own.
            code_scores: Column `code`, from `CodeRates.scores`.

        Raises:
            InvalidInputError: A width differs from the fitted one, or outputs or features are missing.
        """
        outputs = logits if logits is not None else probabilities
        self._check(outputs, features)
        rows = 0 if outputs is None else len(outputs)
        scores = np.full((rows, len(SCORE_NAMES)), np.nan)
        own_rows = np.full(rows, -1)
        if hashes is not None and self.neighbours is not None:
            own_rows = self.neighbours.locate(hashes)
        with one_thread_if_free():  # even one block: two threads cost four times as much on a busy machine
            for start in range(0, rows, CHUNK_ROWS):
                part = slice(start, start + CHUNK_ROWS)
                values = logits_of(
                    logits=None if logits is None else logits[part],
                    probabilities=None if probabilities is None else probabilities[part],
                )
                self._score_outputs(scores[part], values)
                if features is not None:
                    self._score_features(scores[part], features[part], values.argmax(axis=1), own_rows[part])
        if code_scores is not None:
            scores[:, _COLUMN["code"]] = code_scores
        return as_stored(scores)

    def _score_outputs(self, scores: NDArray[np.float64], logits: NDArray[np.float64]) -> None:
        """Fill the columns that need outputs only."""
        scores[:, _COLUMN["lmsp"]], scores[:, _COLUMN["entropy"]] = softmax_scores(logits)
        if self.boundary is not None:
            scores[:, _COLUMN["dbmin"]] = self.boundary.scores(logits, logits.argmax(axis=1))

    def _score_features(
        self,
        scores: NDArray[np.float64],
        features: NDArray[np.float32],
        predictions: NDArray[np.intp],
        own_rows: NDArray[np.intp],
    ) -> None:
        """Fill the columns that need features."""
        if self.projection is None or self.neighbours is None:
            return
        embedded = self.projection.embed(features)
        near = self.neighbours.scores(unit_length(embedded), predictions, own_rows=own_rows)
        scores[:, [_COLUMN[name] for name in ("knn", "dis", "trust")]] = np.column_stack(near)
        for rows, (raw, block) in padded_blocks(features, embedded):
            predicted = predictions[rows]
            if self.gaussians is not None:
                margins = self.gaussians.scores(block.astype(np.float64, copy=False), predicted)
                scores[rows, _COLUMN["mahamargin"]], scores[rows, _COLUMN["rmd"]] = margins
            if self.residual is not None:
                scores[rows, _COLUMN["res"]] = self.residual.scores(raw.astype(np.float64))[: len(predicted)]

    def refit_gaussians(self, units: ReferenceUnits) -> RiskScorer:
        """The same scorer with class Gaussians of other labelled units, which must have features."""
        if self.projection is None or units.features is None:
            return self
        embedded = self.projection.embed(units.features)
        gaussians = ClassGaussians.fit(embedded, np.asarray(units.labels), n_classes=self.n_classes)
        return replace(self, gaussians=gaussians)

    def score_gaussians(self, scores: NDArray[np.float64], rows: NDArray[np.intp], units: ReferenceUnits) -> None:
        """Overwrite `mahamargin` and `rmd` of these rows of a score matrix of `units`."""
        if self.projection is None or self.gaussians is None or units.features is None:
            scores[rows[:, None], [_COLUMN["mahamargin"], _COLUMN["rmd"]]] = np.nan
            return
        predictions = units.predictions[rows]
        for covered, (raw,) in padded_blocks(np.asarray(units.features)[rows]):
            margin, relative = self.gaussians.scores(self.projection.embed(raw), predictions[covered])
            scores[rows[covered], _COLUMN["mahamargin"]] = as_stored(margin)
            scores[rows[covered], _COLUMN["rmd"]] = as_stored(relative)

    def _check(self, outputs: NDArray[np.floating] | None, features: NDArray[np.float32] | None) -> None:
        if outputs is None:
            raise InvalidInputError(
                "neither logits nor probabilities were given; nothing was scored. Pass one of them."
            )
        if outputs.ndim != 2 or outputs.shape[1] != self.n_classes:
            raise InvalidInputError(
                f"outputs have shape {outputs.shape}, the estimator was fitted on {self.n_classes} classes; nothing "
                "was scored. Use the result that belongs to this model."
            )
        if not self.feature_dim:
            return
        if features is None or features.shape != (len(outputs), self.feature_dim):
            shape = "none were given" if features is None else f"they have shape {features.shape}"
            raise InvalidInputError(
                f"features of shape ({len(outputs)}, {self.feature_dim}) are needed, {shape}; nothing was scored. "
                "Capture the layer that was traced, or use the result that belongs to this model."
            )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state for an artifact."""
        parts = (self.projection, self.neighbours, self.gaussians, self.residual)
        arrays = {name: array for part in parts if part is not None for name, array in part.to_arrays().items()}
        return arrays if self.boundary is None else {**arrays, "boundary.norms": self.boundary.norms}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, n_classes: int, feature_dim: int) -> RiskScorer:
        """The scorer whose state `to_arrays` gave."""
        boundary = BoundaryDistance(arrays["boundary.norms"]) if "boundary.norms" in arrays else None
        if not feature_dim:
            return cls(n_classes=n_classes, boundary=boundary)
        return cls(
            n_classes=n_classes,
            feature_dim=feature_dim,
            projection=Projection.from_arrays(arrays, feature_dim=feature_dim),
            neighbours=NeighbourIndex.from_arrays(arrays),
            gaussians=ClassGaussians.from_arrays(arrays),
            boundary=boundary,
            residual=PrincipalResidual.from_arrays(arrays),
        )


def _check_head(head: Head | None, n_classes: int, width: int | None) -> None:
    """Refuse a layer that does not lead from the feature to the output."""
    if head is None:
        return
    shape = np.shape(head.weight)
    if len(shape) != 2 or shape != (n_classes, shape[1] if width is None else width):
        expected = f"({n_classes}, {'width' if width is None else width})"
        raise InvalidInputError(
            f"the last layer has weights of shape {shape}, expected {expected}; nothing was fitted. "
            "Pass the layer whose input is the traced feature."
        )


def as_stored(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores rounded to float32 precision and bounded by its range, in float64."""
    largest = float(np.finfo(np.float32).max)
    return np.clip(scores, -largest, largest).astype(np.float32).astype(np.float64)


def softmax_scores(logits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`lmsp` and `entropy` of each unit.

    `lmsp` = `ln(1 − max P) − ln max P` equals the log-sum-exp of the other logits less the highest one; in this form
    it loses no digit even where `max P` rounds to 1.

    Args:
        logits: `(N, K)` float64, K ≥ 2.
    """
    rows = np.arange(len(logits))
    top = logits.argmax(axis=1)
    shifted = logits - logits[rows, top][:, None]
    others = shifted.copy()
    others[rows, top] = -np.inf
    nearest = others.max(axis=1)
    lmsp = nearest + np.log(np.exp(others - nearest[:, None]).sum(axis=1))
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1))[:, None]
    return lmsp, -(np.exp(log_p) * log_p).sum(axis=1)
