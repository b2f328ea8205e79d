"""Units as the stress map sees them, and stressed copies scored without a leak (docs/method.md#cross-fitting)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mld_pipelines.diagnosis._bank import hash_keys, logits_of
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._bank import Bank, ReferenceUnits
    from mld_pipelines.diagnosis._estimator import ErrorEstimator
    from mld_pipelines.diagnosis._fit import EstimatorFit

__all__ = ["StressedCopies", "WindowUnits", "score_copies", "tempered_probabilities", "window_units"]

T = TypeVar("T", bound=np.generic)
#: Rows in float64 at once.
CHUNK_ROWS = 8_192


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StressedCopies:
    """Corrupted copies of reference inputs, with what the model made of them.

    Attributes:
        units: The copies' outputs, features and labels; `keys` are not used.
        origins: Row of the reference that each is a copy of, `(M,)`.
        set_index: Position in `sets`, `(M,)`.
        sets: (family, kind, severity) of each corrupted set.
        codes: Code index of each copy, -1 for UNSEEN; None without a codebook.

    Raises:
        InvalidInputError: Lengths disagree or a set index is outside `sets`.
    """

    units: ReferenceUnits
    origins: NDArray[np.int64]
    set_index: NDArray[np.int64]
    sets: Sequence[tuple[str, str, int]]
    codes: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        rows = (len(self.units),)
        columns = {"origins": self.origins, "set_index": self.set_index, "codes": self.codes}
        for name, column in columns.items():
            if column is not None and np.shape(column) != rows:
                raise InvalidInputError(
                    f"{name} have shape {np.shape(column)}, expected {rows}; nothing was fitted. Pass one per copy."
                )
        if not rows[0] or self.set_index.min() < 0 or self.set_index.max() >= len(self.sets):
            raise InvalidInputError(
                f"{rows[0]} stressed copies do not fit {len(self.sets)} sets; nothing was fitted. Pass the set of "
                "each copy."
            )

    def check_origins(self, n_reference: int) -> None:
        """Refuse copies of rows that a reference of this size does not have.

        Raises:
            InvalidInputError: An origin is no row of the reference.
        """
        low, high = int(self.origins.min()), int(self.origins.max())
        if low < 0 or high >= n_reference:
            raise InvalidInputError(
                f"origins run from {low} to {high} but the reference has {n_reference} rows; nothing was fitted. Pass "
                "the reference row of each copy."
            )

    @property
    def families(self) -> tuple[str, ...]:
        """Family names, sorted."""
        return tuple(sorted({self.sets[index][0] for index in np.unique(self.set_index)}))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowUnits:
    """Scored units of a window; NaN in `error_proba` marks a unit that could not be scored.

    Attributes:
        error_proba: Error probability of the default estimator, `(N,)` float64.
        risk_scores: The ten scores, `(N, 10)` float64.
        probabilities: At the result's temperature, `(N, K)` float32.
        features: Projected, at most 256 columns, `(N, w)` float32; None without features.
        codes: Code index, -1 for UNSEEN; None without a codebook.
    """

    error_proba: NDArray[np.float64]
    risk_scores: NDArray[np.float64]
    probabilities: NDArray[np.float32]
    features: NDArray[np.float32] | None = None
    codes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.error_proba)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Largest tempered probability, `(N,)`."""
        largest: NDArray[np.float64] = self.probabilities.max(axis=1).astype(np.float64)
        return largest

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> WindowUnits:
        """The units at these positions."""
        return WindowUnits(
            error_proba=self.error_proba[rows],
            risk_scores=self.risk_scores[rows],
            probabilities=self.probabilities[rows],
            features=None if self.features is None else self.features[rows],
            codes=None if self.codes is None else self.codes[rows],
        )

    def followed_by(self, other: WindowUnits) -> WindowUnits:
        """These units and then the others, which must have the same columns."""
        return WindowUnits(
            error_proba=np.concatenate([self.error_proba, other.error_proba]),
            risk_scores=np.concatenate([self.risk_scores, other.risk_scores]),
            probabilities=np.concatenate([self.probabilities, other.probabilities]),
            features=_joined(self.features, other.features),
            codes=_joined(self.codes, other.codes),
        )


def window_units(
    estimator: ErrorEstimator,
    *,
    temperature: float,
    risk_scores: NDArray[np.float64],
    error_proba: NDArray[np.float64] | None = None,
    logits: NDArray[np.floating] | None = None,
    probabilities: NDArray[np.floating] | None = None,
    features: NDArray[np.float32] | None = None,
    codes: NDArray[np.int64] | None = None,
) -> WindowUnits:
    """Gather what a window's sums need of each unit.

    Args:
        estimator: The result's error estimator.
        temperature: Of the result's window reference.
        risk_scores: `(N, 10)`, from `ErrorEstimator.risk_scores` or as stored.
        error_proba: `(N,)`; None takes the estimator's.
        logits: `(N, K)` as stored.
        probabilities: `(N, K)`, used where the model gives no logits.
        features: `(N, d)` as stored; needed if the estimator was fitted with features.
        codes: Code index per unit, -1 for UNSEEN.
    """
    scores = np.asarray(risk_scores, dtype=np.float64)
    projection = estimator.scorer.projection
    projected = None
    if projection is not None and features is not None:
        projected = projection.project(features).astype(np.float32)
    return WindowUnits(
        error_proba=estimator.error_proba(scores) if error_proba is None else np.asarray(error_proba, np.float64),
        risk_scores=scores,
        probabilities=tempered_probabilities(temperature, logits=logits, probabilities=probabilities),
        features=projected,
        codes=codes,
    )


def tempered_probabilities(
    temperature: float,
    *,
    logits: NDArray[np.floating] | None = None,
    probabilities: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Softmax at this temperature, `(N, K)` float32."""
    given = logits if logits is not None else probabilities
    outputs = np.empty((0, 0) if given is None else given.shape, dtype=np.float32)
    for start in range(0, len(outputs), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        values = logits_of(
            logits=None if logits is None else logits[part],
            probabilities=None if probabilities is None else probabilities[part],
        )
        powers = np.exp((values - values.max(axis=1, keepdims=True)) / temperature)
        outputs[part] = powers / powers.sum(axis=1, keepdims=True)
    return outputs


def score_copies(
    fit: EstimatorFit,
    reference: ReferenceUnits,
    copies: StressedCopies,
    *,
    bank: Bank,
    codes: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Risk scores `(M, 10)` and error probabilities `(M,)` of copies that have not seen their originals.

    The original is no neighbour of its copy and does not count in the copy's code; class Gaussians are refitted
    without its fold where the bank holds it, and the model of that fold gives the probability. (Measured with the
    reference as bank: AUROC of `trust` on noisy copies is 1.000 with the original kept, 0.956 without, 0.958 on fresh
    units.)

    Args:
        fit: The fit on this reference.
        reference: The units that `fit` was fitted on, in the same order.
        copies: Corrupted copies of its rows.
        bank: The bank that `fit` was fitted with.
        codes: Code index of each reference row under the codebook.

    Raises:
        InvalidInputError: An origin is no row of the reference.
    """
    copies.check_origins(len(reference))
    origins = copies.origins
    hashes = hash_keys(reference.keys)[origins]
    scorer = fit.estimator.scorer
    scores = scorer.score(
        logits=copies.units.logits,
        probabilities=copies.units.probabilities,
        features=copies.units.features if scorer.feature_dim else None,
        hashes=hashes,
        code_scores=_code_scores(fit, reference, copies, codes),
    )
    folds = fit.folds[origins]
    is_banked = scorer.neighbours is not None and bool((scorer.neighbours.locate(hashes) >= 0).any())
    probabilities = np.empty(len(scores))
    for fold, model in enumerate(fit.fold_models):
        rows = np.flatnonzero(folds == fold)
        if is_banked and len(rows):
            own = hash_keys([reference.keys[row] for row in np.flatnonzero(fit.folds == fold).tolist()])
            others = np.flatnonzero(~np.isin(bank.hashes, own))
            scorer.refit_gaussians(bank.units.take(others)).score_gaussians(scores, rows, copies.units)
        probabilities[rows] = model.probability(scores[rows])
    return scores, probabilities


def _joined(one: NDArray[T] | None, two: NDArray[T] | None) -> NDArray[T] | None:
    return None if one is None or two is None else np.concatenate([one, two])


def _code_scores(
    fit: EstimatorFit, reference: ReferenceUnits, copies: StressedCopies, codes: NDArray[np.int64] | None
) -> NDArray[np.float64] | None:
    """Column `code` of the copies; where a copy falls into its original's code, the original is left out of it."""
    rates = fit.estimator.code_rates
    if rates is None:
        return None
    if copies.codes is None or codes is None or np.shape(codes) != (len(reference),):
        raise InvalidInputError(
            "the estimator was fitted with codes, but those of the copies or of the reference are missing; nothing "
            "was scored. Pass both."
        )
    scores = rates.scores(copies.codes)
    shared = np.flatnonzero(copies.codes == codes[copies.origins])
    scores[shared] = rates.scores(copies.codes[shared], own_errors=reference.errors[copies.origins[shared]])
    return scores
