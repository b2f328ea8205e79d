"""Error probability of every unit of a population: cross-fitted on the reference, the full fit elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis import EstimatorFit, ReferenceUnits, fit_estimator, select_bank
from mld_pipelines.evaluation._datasets import TRAIN
from mld_pipelines.evaluation._duplicates import content_keys

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

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
    banked = _banked(population, decision_dataset)
    units = ReferenceUnits(
        labels=population.frame["label"].to_numpy(),
        keys=content_keys(population.frame, banked=banked),
        logits=population.logits,
        probabilities=population.probabilities,
        features=population.features,
    )
    codebook = coding.codebook
    bank = _bank(units, banked, policy=policy)
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


def _banked(population: Population, decision_dataset: str) -> pl.Series:
    """Return which units are neighbours: the training data; without them the reference is its own bank."""
    datasets = population.frame["dataset_type"]
    training = datasets.str.to_lowercase() == TRAIN
    return datasets == decision_dataset if decision_dataset.lower() == TRAIN or not training.any() else training


def _bank(units: ReferenceUnits, banked: pl.Series, *, policy: Policy) -> Bank:
    """Return the neighbours, one per content: what is in the bank twice could be left out once only."""
    rows = np.flatnonzero(banked.to_numpy())
    _, first = np.unique([units.keys[row] for row in rows.tolist()], return_index=True)
    return select_bank(units.take(rows[np.sort(first)]), limit=policy.bank_limit, seed=policy.seed)


def _score(fit: EstimatorFit, units: ReferenceUnits, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    estimator = fit.estimator
    return estimator.risk_scores(
        logits=units.logits,
        probabilities=units.probabilities,
        features=units.features if estimator.scorer.feature_dim else None,
        codes=codes if estimator.code_rates is not None else None,
        keys=units.keys,
    )
