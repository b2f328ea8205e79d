"""Fitting the stress map, and verifying it on families it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._bank import hash_keys
from mld_pipelines.diagnosis._monolr import fit_monotone, fit_prior, penalty_for
from mld_pipelines.diagnosis._threads import one_thread
from mld_pipelines.diagnosis._window import window_state
from mld_pipelines.diagnosis._window_estimate import (
    DISAGREEMENT_SHARE,
    SCALE_FLOOR,
    SHIFT_SHARE,
    combine_opinions,
    window_opinions,
)
from mld_pipelines.diagnosis.stress._columns import clipped_logit, window_columns
from mld_pipelines.diagnosis.stress._map import WindowMap, blend
from mld_pipelines.diagnosis.stress._ridge import fit_ridge
from mld_pipelines.diagnosis.stress._state import WindowBaseline, stress_window_state
from mld_pipelines.diagnosis.stress._units import StressedCopies, WindowUnits, score_copies, window_units
from mld_pipelines.diagnosis.stress._verify import (
    choose_blend,
    family_errors,
    held_out_clean,
    width_factor,
    with_coverage,
)
from mld_pipelines.diagnosis.stress._windows import CLEAN, draw_windows
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._bank import Bank, ReferenceUnits
    from mld_pipelines.diagnosis._fit import EstimatorFit
    from mld_pipelines.diagnosis._monolr import ScoreModel
    from mld_pipelines.diagnosis._window import WindowReference
    from mld_pipelines.diagnosis.stress._windows import TrainingWindow

__all__ = ["fit_window_map"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pool:
    """Reference rows and then copies, with what windows are drawn by."""

    units: WindowUnits
    labels: NDArray[np.int64]
    errors: NDArray[np.bool_]
    folds: NDArray[np.int64]
    set_index: NDArray[np.int64]
    families: tuple[str, ...]

    def family_rows(self, family: str) -> NDArray[np.bool_]:
        """Copies of one family."""
        own = [index for index, name in enumerate(self.families) if name == family]
        return np.isin(self.set_index, own)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Table:
    """Training windows as numbers; `columns[:, 0]` waits for the stressed probability."""

    families: NDArray[np.str_]
    columns: NDArray[np.float64]
    error_rates: NDArray[np.float64]
    defaults: NDArray[np.float64]
    spreads: NDArray[np.float64]
    sizes: NDArray[np.int64]


def fit_window_map(
    fit: EstimatorFit,
    reference: ReferenceUnits,
    copies: StressedCopies,
    *,
    bank: Bank,
    stress_version: str,
    codes: NDArray[np.int64] | None = None,
    cross_fitted_codes: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> WindowMap:
    """Learn a window's error rate from corrupted copies, and verify it by leaving out one family at a time.

    A copy never sees its original (`score_copies`), copies share their original's fold, and the result does not
    depend on the order of rows.

    Args:
        fit: The error estimator's fit on this reference.
        reference: Its units, in the same order.
        copies: Corrupted copies of its rows, of at least two families.
        bank: The bank that `fit` was fitted with.
        stress_version: Identifies the stress pass.
        codes: Code index of each reference row under the codebook; needed if the estimator was fitted with codes.
        cross_fitted_codes: The same from a cross-fit, whose UNSEEN share is honest; None takes `codes`.
        seed: Seed of the windows.

    Raises:
        InvalidInputError: There are too few units, families or outcomes to learn from, or rows do not fit.
    """
    families = copies.families
    _check(fit, reference, families)
    copies.check_origins(len(reference))
    reference_order, copy_order = _canonical_order(reference, copies, seed=seed)
    with one_thread():
        pool = _make_pool(fit, reference, copies, bank=bank, codes=codes, cross_fitted_codes=cross_fitted_codes)
        pool = _reorder(pool, np.concatenate([reference_order, len(reference) + copy_order]))
        baseline = WindowBaseline.fit(pool.units.take(pool.set_index < 0))
        windows = draw_windows(pool.labels, pool.set_index, pool.families, n_classes=reference.n_classes, seed=seed)
        table = _tabulate(pool, windows, baseline, fit.window_reference)
        unseen = {
            family: _base_column(_cross_fit_stressed(pool, without=pool.family_rows(family)), windows)
            for family in families
        }
        seen = _base_column(_cross_fit_stressed(pool, without=np.zeros(len(pool.labels), np.bool_)), windows)
        held_out = _leave_out(table, unseen, seen)
        errors = family_errors(table.families, held_out, defaults=table.defaults, truths=table.error_rates)
        weight = choose_blend(errors)
        residuals = _residuals(table, held_out, weight, fit.window_reference)
        factor = width_factor(residuals)
        ridge = fit_ridge(_with_base(table, seen), table.error_rates)
        model = _fit_stressed(pool, np.ones(len(pool.labels), np.bool_))
    window = fit.window_reference
    return WindowMap(
        ridge=ridge,
        stressed_model=model,
        baseline=baseline,
        blend_weight=weight,
        width_factor=factor,
        family_errors=with_coverage(errors, table.families, residuals, factor),
        stress_version=stress_version,
        n_sets=len(np.unique(copies.set_index)),
        temperature=window.temperature,
        threshold_ep=window.threshold_ep,
        threshold_mc=window.threshold_mc,
    )


def _check(fit: EstimatorFit, reference: ReferenceUnits, families: tuple[str, ...]) -> None:
    if len(fit.error_proba) != len(reference):
        raise InvalidInputError(
            f"the estimator was fitted on {len(fit.error_proba)} units, {len(reference)} were given; no stress map was "
            "fitted. Pass the reference of that fit, in its order."
        )
    if fit.window_reference.is_coarse:
        raise InvalidInputError(
            "the reference has fewer than 60 units or one predicted class; no stress map was fitted. Label more units."
        )
    if len(families) < 2 or CLEAN in families:
        raise InvalidInputError(
            f"the stressed copies are of the families {families}; no stress map was fitted. Verification leaves one "
            f"family out, so run at least two, none of them called {CLEAN!r}."
        )


def _canonical_order(
    reference: ReferenceUnits, copies: StressedCopies, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Reference rows by key hash; copies by set name and then by their original's place."""
    order = np.argsort(hash_keys(reference.keys, seed=seed), kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return order, np.lexsort([rank[copies.origins], _set_rank(copies)[copies.set_index]])


def _set_rank(copies: StressedCopies) -> NDArray[np.int64]:
    """Place of each set when sets are sorted by name."""
    by_name = sorted(range(len(copies.sets)), key=lambda index: copies.sets[index])
    rank = np.empty(len(by_name), dtype=np.int64)
    rank[by_name] = np.arange(len(by_name))
    return rank


def _make_pool(
    fit: EstimatorFit,
    reference: ReferenceUnits,
    copies: StressedCopies,
    *,
    bank: Bank,
    codes: NDArray[np.int64] | None,
    cross_fitted_codes: NDArray[np.int64] | None,
) -> _Pool:
    scores, proba = score_copies(fit, reference, copies, bank=bank, codes=codes)
    temperature = fit.window_reference.temperature
    clean = window_units(
        fit.estimator,
        temperature=temperature,
        risk_scores=fit.risk_scores,
        error_proba=fit.error_proba,
        logits=reference.logits,
        probabilities=reference.probabilities,
        features=reference.features,
        codes=codes if cross_fitted_codes is None else cross_fitted_codes,
    )
    stressed = window_units(
        fit.estimator,
        temperature=temperature,
        risk_scores=scores,
        error_proba=proba,
        logits=copies.units.logits,
        probabilities=copies.units.probabilities,
        features=copies.units.features,
        codes=copies.codes,
    )
    rank = _set_rank(copies)
    return _Pool(
        units=clean.followed_by(stressed),
        labels=np.concatenate([np.asarray(reference.labels), np.asarray(copies.units.labels)]).astype(np.int64),
        errors=np.concatenate([reference.errors, copies.units.errors]),
        folds=np.concatenate([fit.folds, fit.folds[copies.origins]]),
        set_index=np.concatenate([np.full(len(reference), -1), rank[copies.set_index]]),
        families=tuple(name[0] for name in sorted(copies.sets)),
    )


def _reorder(pool: _Pool, order: NDArray[np.int64]) -> _Pool:
    return _Pool(
        units=pool.units.take(order),
        labels=pool.labels[order],
        errors=pool.errors[order],
        folds=pool.folds[order],
        set_index=pool.set_index[order],
        families=pool.families,
    )


def _tabulate(
    pool: _Pool, windows: list[TrainingWindow], baseline: WindowBaseline, reference: WindowReference
) -> _Table:
    """Columns, default estimate and true error rate of each training window."""
    columns, defaults, spreads = [], [], []
    confidence = pool.units.confidence
    for window in windows:
        units = pool.units.take(window.rows)
        state = window_state(
            reference, error_proba=units.error_proba, confidence=confidence[window.rows], codes=units.codes
        )
        opinions = window_opinions(state, reference)
        stress = stress_window_state(baseline, units, stressed_proba=np.zeros(len(units)))
        columns.append(window_columns(state, stress, opinions, baseline))
        default, spread = combine_opinions(opinions, state, reference)
        defaults.append(default)
        spreads.append(spread)
    return _Table(
        families=np.array([window.family for window in windows]),
        columns=np.stack(columns),
        error_rates=np.array([pool.errors[window.rows].mean() for window in windows]),
        defaults=np.array(defaults),
        spreads=np.array(spreads),
        sizes=np.array([len(window.rows) for window in windows]),
    )


def _cross_fit_stressed(pool: _Pool, *, without: NDArray[np.bool_]) -> NDArray[np.float64]:
    """EPv of every row of the pool, fitted without its fold and without some copies."""
    proba = np.empty(len(pool.errors))
    for fold in np.unique(pool.folds):
        held_out = pool.folds == fold
        model = _fit_stressed(pool, ~held_out & ~without)
        proba[held_out] = model.probability(pool.units.risk_scores[held_out])
    return proba


def _fit_stressed(pool: _Pool, rows: NDArray[np.bool_]) -> ScoreModel:
    """MonoLR on clean rows and copies, half of the weight each."""
    scores, errors = pool.units.risk_scores[rows], pool.errors[rows]
    if errors.all() or not errors.any():
        return fit_prior(scores, errors)
    is_clean = pool.set_index[rows] < 0
    weight = np.where(is_clean, 0.5 / max(is_clean.sum(), 1), 0.5 / max((~is_clean).sum(), 1))
    penalty = penalty_for(int(errors.sum()), len(errors))
    return fit_monotone(scores, errors, penalty=penalty, sample_weight=weight)


def _base_column(proba: NDArray[np.float64], windows: list[TrainingWindow]) -> NDArray[np.float64]:
    """Column 0: logit of each window's mean EPv."""
    return clipped_logit([proba[window.rows].mean() for window in windows])


def _with_base(table: _Table, base: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([base, table.columns[:, 1:]])


def _leave_out(table: _Table, unseen: dict[str, NDArray[np.float64]], seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of each window under a map (and EPv) that has not seen its family; NaN where none was made.

    Of the clean windows one half is left out and predicted by the other and all families.
    """
    log_odds = np.full(len(table.families), np.nan)
    for family, base in unseen.items():
        own = table.families == family
        columns = _with_base(table, base)
        log_odds[own] = fit_ridge(columns[~own], table.error_rates[~own]).log_odds(columns[own])
    half = held_out_clean(table.families)
    columns = _with_base(table, seen)
    log_odds[half] = fit_ridge(columns[~half], table.error_rates[~half]).log_odds(columns[half])
    return log_odds


def _residuals(
    table: _Table, log_odds: NDArray[np.float64], weight: float, reference: WindowReference
) -> NDArray[np.float64]:
    """|p − B|/s of every window whose family was left out; NaN elsewhere."""
    rows = np.isfinite(log_odds)
    rate = blend(table.defaults[rows], log_odds[rows], weight)
    sampling = rate * (1.0 - rate) * (1.0 / table.sizes[rows] + 1.0 / reference.n_ref)
    shift = (SHIFT_SHARE * (rate - reference.base_rate)) ** 2
    scale = np.sqrt(sampling + (DISAGREEMENT_SHARE * table.spreads[rows]) ** 2 + shift + SCALE_FLOOR**2)
    residuals = np.full(len(log_odds), np.nan)
    residuals[rows] = np.abs(rate - table.error_rates[rows]) / scale
    return residuals
