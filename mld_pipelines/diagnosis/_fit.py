"""Fitting the error estimator: scores, cross-fitting, the fallback rule (docs/method.md#error-probability)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis import _badges
from mld_pipelines.diagnosis._bank import Head, hash_keys, select_bank
from mld_pipelines.diagnosis._estimator import ErrorEstimator
from mld_pipelines.diagnosis._monolr import (
    fit_monotone,
    fit_platt,
    fit_prior,
    has_more_than_confidence,
    penalty_for,
    stratified_folds,
)
from mld_pipelines.diagnosis._policy import Policy
from mld_pipelines.diagnosis._projection import fit_projection
from mld_pipelines.diagnosis._scores import SCORE_NAMES, CodeRates, RiskScorer
from mld_pipelines.diagnosis._threads import one_thread
from mld_pipelines.diagnosis._window import fit_window_reference
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import average_precision, roc_auc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._bank import Bank, ReferenceUnits
    from mld_pipelines.diagnosis._monolr import ScoreModel
    from mld_pipelines.diagnosis._projection import Projection
    from mld_pipelines.diagnosis._window import WindowReference

__all__ = ["CrossFit", "EstimatorFit", "cross_fit", "fit_estimator"]

#: Cross-fitting folds (docs/method.md#monolr).
FOLDS = 5
#: Errors (and successes) from which the comparison with plain confidence is worth making (docs/method.md#fallback).
MIN_FOR_COMPARISON = 10
#: AUROC by which MonoLR may be below plain confidence before it is replaced.
COMPARISON_MARGIN = 0.005


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EstimatorFit:
    """An estimator together with what fitting it tells about the reference.

    Attributes:
        estimator: Fitted on the whole reference; for every row outside the reference.
        error_proba: Cross-fitted P(error) of the reference rows, `(N,)` float64: no row is scored by a model that
            saw its label.
        risk_scores: Their scores with their own code count left out, `(N, 10)`.
        folds: Fold of each reference row, `(N,)`. A stressed copy of a row shares its fold.
        fold_models: Model fitted without each fold.
        window_reference: What `estimate_window` needs.
        diagnostics: JSON values: mode, λ, ranking metrics out of fold beside those of plain confidence, weights by
            score name.
    """

    estimator: ErrorEstimator
    error_proba: NDArray[np.float64]
    risk_scores: NDArray[np.float64]
    folds: NDArray[np.int64]
    fold_models: tuple[ScoreModel, ...]
    window_reference: WindowReference
    diagnostics: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class CrossFit:
    """Models of one mode: on all rows, per fold, and the out-of-fold probabilities."""

    mode: str
    model: ScoreModel
    fold_models: tuple[ScoreModel, ...]
    error_proba: NDArray[np.float64]


def fit_estimator(
    reference: ReferenceUnits,
    *,
    bank: Bank | None = None,
    head: Head | None = None,
    codes: NDArray[np.int64] | None = None,
    n_codes: int = 0,
    unseen_ref: float | None = None,
    projection: Projection | None = None,
    policy: Policy | None = None,
) -> EstimatorFit:
    """Fit the error estimator on a labelled reference.

    The result does not depend on the order of the rows: they are fitted in the order of their key hashes.

    Args:
        reference: Units of the decision dataset.
        bank: Neighbours, `select_bank` of the training set; None takes the reference itself, leave-one-out.
        head: Last linear layer; None, or one that is not finite, solves least squares of the bank's logits on [h, 1].
        codes: Code index of each reference unit, -1 for UNSEEN; None without a codebook.
        n_codes: Codes of the codebook.
        unseen_ref: Cross-fitted UNSEEN share of the reference; None without a codebook.
        projection: The codebook's projection; None fits one on the reference.
        policy: Conventions; None takes the defaults.

    Raises:
        InvalidInputError: The reference is empty, or widths disagree.
    """
    policy = policy or Policy()
    if not len(reference):
        raise InvalidInputError("the reference has no units; nothing was fitted. Trace a labelled dataset first.")
    if codes is not None and np.shape(codes) != (len(reference),):
        raise InvalidInputError(
            f"codes have shape {np.shape(codes)}, expected ({len(reference)},); nothing was fitted. Pass one per unit."
        )
    bank = bank or select_bank(reference, limit=policy.bank_limit, seed=policy.seed)
    order = np.argsort(hash_keys(reference.keys, seed=policy.seed), kind="stable")
    ordered = reference.take(order)
    if codes is None or len(reference) < policy.n_ref_min:
        coded = None
    else:
        rates = CodeRates.fit(codes[order], ordered.errors, n_codes=n_codes)
        coded = _Coded(rates, rates.scores(codes[order], own_errors=ordered.errors), unseen_ref)
    with one_thread("scipy.optimize"):  # sums do not depend on the machine, busy neighbours do not stall the products
        scorer = _fit_scorer(ordered, bank, head=head, projection=projection, policy=policy)
        fit = _fit_ordered(ordered, bank, scorer, coded, policy=policy)
    back = np.argsort(order)
    return replace(fit, error_proba=fit.error_proba[back], risk_scores=fit.risk_scores[back], folds=fit.folds[back])


@dataclass(frozen=True, slots=True, eq=False)
class _Coded:
    """The codebook's part: rates, the reference's leave-one-out scores, the expected UNSEEN share."""

    rates: CodeRates
    scores: NDArray[np.float64]
    unseen_ref: float | None


def _fit_ordered(
    reference: ReferenceUnits, bank: Bank, scorer: RiskScorer, coded: _Coded | None, *, policy: Policy
) -> EstimatorFit:
    """Fit on rows in key order, after everything that does not need their labels."""
    errors = reference.errors
    folds = stratified_folds(errors, folds=FOLDS)
    scores = _score_reference(scorer, reference, bank, folds, None if coded is None else coded.scores)
    fitted, badges = _choose_mode(scores, reference, folds, scorer, policy=policy)
    estimator = ErrorEstimator(
        mode=fitted.mode,
        badges=badges,
        scorer=scorer,
        model=fitted.model,
        code_rates=None if coded is None else coded.rates,
        n_ref=len(errors),
        n_errors=int(errors.sum()),
    )
    window = fit_window_reference(
        reference,
        fitted.error_proba,
        in_use=fitted.model.probability(scores),
        code_rates=None if coded is None else coded.rates.rates,
        unseen_ref=None if coded is None else coded.unseen_ref,
        is_coarse=_badges.FEW_UNITS in badges or _badges.ONE_CLASS in badges,
    )
    return EstimatorFit(
        estimator=estimator,
        error_proba=fitted.error_proba,
        risk_scores=scores,
        folds=folds,
        fold_models=fitted.fold_models,
        window_reference=window,
        diagnostics=_diagnose(fitted, scores, errors, badges),
    )


def _fit_scorer(
    reference: ReferenceUnits, bank: Bank, *, head: Head | None, projection: Projection | None, policy: Policy
) -> RiskScorer:
    if head is not None and not head.is_finite:
        head = None
    if reference.features is None or bank.units.features is None:
        return RiskScorer.fit(bank, head=head, projection=None)
    projection = projection or fit_projection(reference.features, limit=policy.feature_limit, seed=policy.seed)
    return RiskScorer.fit(bank, head=head or Head.from_units(bank.units), projection=projection)


def _score_reference(
    scorer: RiskScorer,
    reference: ReferenceUnits,
    bank: Bank,
    folds: NDArray[np.int64],
    code_scores: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Scores of the reference rows, in which no row has seen itself.

    A row is no neighbour of its own, its error does not count in its code, and where the bank holds it, the class
    Gaussians are refitted without its fold. (The last matters: digits, 600 reference units as their own bank, AUROC
    out of fold 0.982 against 0.948 held out when each class mean contained the row it was compared with.)
    """
    hashes = hash_keys(reference.keys)
    scores = scorer.score(
        logits=reference.logits,
        probabilities=reference.probabilities,
        features=reference.features if scorer.feature_dim else None,
        hashes=hashes,
        code_scores=code_scores,
    )
    if scorer.neighbours is None or not (scorer.neighbours.locate(hashes) >= 0).any():
        return scores
    for fold in range(FOLDS):
        rows = np.flatnonzero(folds == fold)
        if len(rows):
            without = ~np.isin(bank.hashes, hashes[rows])
            refitted = scorer.refit_gaussians(bank.units.take(np.flatnonzero(without)))
            refitted.score_gaussians(scores, rows, reference)
    return scores


def _choose_mode(
    scores: NDArray[np.float64],
    reference: ReferenceUnits,
    folds: NDArray[np.int64],
    scorer: RiskScorer,
    *,
    policy: Policy,
) -> tuple[CrossFit, tuple[str, ...]]:
    """Apply the fallback rule (docs/method.md#fallback); also the badges that explain it."""
    errors = reference.errors
    if badges := _prior_badges(reference, policy=policy):
        return cross_fit("prior", scores, errors, folds), badges
    if not scorer.feature_dim:
        return cross_fit("platt", scores, errors, folds), (_badges.NO_FEATURES,)
    if not has_more_than_confidence(scores):
        return cross_fit("platt", scores, errors, folds), (_badges.ONLY_CONFIDENCE,)
    fitted = cross_fit("monotone", scores, errors, folds)
    enough = min(errors.sum(), (~errors).sum()) >= MIN_FOR_COMPARISON
    if enough and _is_below(roc_auc(fitted.error_proba, errors), roc_auc(scores[:, 0], errors)):
        return cross_fit("platt", scores, errors, folds), (_badges.CONFIDENCE_IS_BETTER,)
    return fitted, ()


def _diagnose(
    fitted: CrossFit, scores: NDArray[np.float64], errors: NDArray[np.bool_], badges: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "mode": fitted.mode,
        "penalty": penalty_for(int(errors.sum()), len(errors)),
        "n_ref": len(errors),
        "n_errors": int(errors.sum()),
        "error_proba_auroc": roc_auc(fitted.error_proba, errors),
        "error_proba_auprc": average_precision(fitted.error_proba, errors),
        "error_proba_auprc_success": average_precision(-fitted.error_proba, ~errors),
        "confidence_auroc": roc_auc(scores[:, 0], errors),
        "weights": dict(zip(SCORE_NAMES, fitted.model.weights.tolist(), strict=True)),
        "intercept": fitted.model.intercept,
        "badges": list(badges),
    }


def _is_below(auroc: float | None, confidence_auroc: float | None) -> bool:
    return auroc is not None and confidence_auroc is not None and auroc < confidence_auroc - COMPARISON_MARGIN


def _prior_badges(reference: ReferenceUnits, *, policy: Policy) -> tuple[str, ...]:
    """Why this reference allows the prior mode only; empty if it allows more."""
    errors = reference.errors
    predictions = reference.predictions
    causes = {
        _badges.NO_ERRORS: not errors.any(),
        _badges.NO_SUCCESSES: bool(errors.all()),
        _badges.FEW_UNITS: len(errors) < policy.n_ref_min,
        _badges.ONE_CLASS: bool((predictions == predictions[0]).all()),
    }
    return tuple(badge for badge, holds in causes.items() if holds)


def cross_fit(mode: str, scores: NDArray[np.float64], errors: NDArray[np.bool_], folds: NDArray[np.int64]) -> CrossFit:
    """Fit one mode on all rows and without each fold."""
    penalty = penalty_for(int(errors.sum()), len(errors))
    models = []
    probabilities = np.empty(len(errors))
    for fold in range(FOLDS):
        held_out = folds == fold
        training = ~held_out if held_out.sum() < len(errors) else held_out
        model = _fit(mode, scores[training], errors[training], penalty=penalty)
        probabilities[held_out] = model.probability(scores[held_out])
        models.append(model)
    whole = _fit(mode, scores, errors, penalty=penalty)
    return CrossFit(mode, whole, tuple(models), probabilities)


def _fit(mode: str, scores: NDArray[np.float64], errors: NDArray[np.bool_], *, penalty: float) -> ScoreModel:
    """Fit one model; rows of one outcome only allow the prior mode."""
    if mode == "prior" or errors.all() or not errors.any():
        return fit_prior(scores, errors)
    if mode == "platt":
        return fit_platt(scores, errors)
    return fit_monotone(scores, errors, penalty=penalty)
