"""Error probability of every unit of a population: cross-fitted on the reference, the full fit elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis import EstimatorFit, ReferenceUnits, fit_estimator, select_bank
from mld_pipelines.evaluation._datasets import TRAIN

if TYPE_CHECKING:
    import numpy.typing as npt

    from mld_pipelines.diagnosis import Bank, Head, Policy
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation._population import Population

__all__ = ["Estimation", "estimate_population"]


@dataclass(frozen=True, slots=True, eq=False)
class Estimation:
    """Fit and values of the error estimator.

    Attributes:
        units: The units it was made of.
        bank: The neighbours it was fitted with.
        fit: The fit on the reference.
        error_proba: P(unit is wrong), (N,) float64; cross-fitted for reference rows.
        risk_scores: The ten scores, (N, 10); NaN where one cannot be computed.
    """

    units: ReferenceUnits
    bank: Bank
    fit: EstimatorFit
    error_proba: npt.NDArray[np.float64]
    risk_scores: npt.NDArray[np.float64]


def estimate_population(
    population: Population,
    coding: Coding,
    reference: npt.NDArray[np.bool_],
    *,
    decision_dataset: str,
    head: Head | None,
    policy: Policy,
) -> Estimation:
    """Fit the estimator on the reference and score every unit of the population.

    Args:
        population: The units.
        coding: Their codes.
        reference: True for the units of the decision dataset.
        decision_dataset: Its name.
        head: Last linear layer, if it was recorded.
        policy: Bounds and seed.
    """
    units = ReferenceUnits(
        labels=population.frame["label"].to_numpy(),
        keys=population.keys,
        logits=population.logits,
        probabilities=population.probabilities,
        features=population.features,
    )
    codebook = coding.codebook
    bank = _bank(units, population, decision_dataset, policy=policy)
    fit = fit_estimator(
        units.take(np.flatnonzero(reference)),
        bank=bank,
        head=head,
        codes=coding.index[reference] if codebook else None,
        n_codes=codebook.n_codes if codebook else 0,
        unseen_ref=codebook.unseen_ref if codebook else None,
        projection=codebook.space.projection if codebook else None,
        policy=policy,
    )
    error_proba = np.empty(len(units))
    risk_scores = np.empty((len(units), fit.risk_scores.shape[1]))
    error_proba[reference], risk_scores[reference] = fit.error_proba, fit.risk_scores
    if not reference.all():
        others = np.flatnonzero(~reference)
        risk_scores[others] = _score(fit, units.take(others), coding.index[others])
        error_proba[others] = fit.estimator.error_proba(risk_scores[others])
    return Estimation(units, bank, fit, error_proba, risk_scores)


def _bank(units: ReferenceUnits, population: Population, decision_dataset: str, *, policy: Policy) -> Bank:
    """Return the neighbours: the training data; without them the reference is its own bank, leave-one-out."""
    datasets = population.frame["dataset_type"]
    rows = np.flatnonzero((datasets.str.to_lowercase() == TRAIN).to_numpy())
    if decision_dataset.lower() == TRAIN or not len(rows):
        rows = np.flatnonzero((datasets == decision_dataset).to_numpy())
    return select_bank(units.take(rows), limit=policy.bank_limit, seed=policy.seed)


def _score(fit: EstimatorFit, units: ReferenceUnits, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    estimator = fit.estimator
    return estimator.risk_scores(
        logits=units.logits,
        probabilities=units.probabilities,
        features=units.features if estimator.scorer.feature_dim else None,
        codes=codes if estimator.code_rates is not None else None,
        keys=units.keys,
    )
