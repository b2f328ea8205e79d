"""The ridge of the stress map against other solvers, and its guards."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize, nnls
from scipy.special import expit, logit

from mld_pipelines.diagnosis.stress._columns import COLUMNS, MONOTONE_COLUMNS
from mld_pipelines.diagnosis.stress._ridge import fit_ridge
from mld_pipelines.exceptions import InvalidInputError

RNG = np.random.default_rng(0)
N = 300
LATENT = RNG.normal(-2, 1, N)
TABLE = LATENT[:, None] * RNG.uniform(-1, 2, 29) + RNG.normal(0, 0.7, (N, 29))
TABLE[:, 0] = LATENT + RNG.normal(0, 0.4, N)
RATES = expit(1.2 * LATENT + 0.3 + RNG.normal(0, 0.2, N))
FIT = fit_ridge(TABLE, RATES)


def prepared(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clipped and standardised columns and their spreads, written out again from the rule."""
    low, high = np.quantile(table, 0.005, axis=0), np.quantile(table, 0.995, axis=0)
    clipped = np.clip(table, low - 0.25 * (high - low), high + 0.25 * (high - low))
    return (clipped - clipped.mean(axis=0)) / clipped.std(axis=0), clipped.std(axis=0)


def objective(parameters: np.ndarray, design: np.ndarray, spread: float, target: np.ndarray) -> float:
    intercept, weights = parameters[0], parameters[1:]
    identity = np.zeros(29)
    identity[0] = spread
    penalty = 3.0 * len(target) / 29.0 * ((weights - identity) ** 2).sum()
    return ((target - intercept - design @ weights) ** 2).sum() + penalty


def test_weights_are_those_of_non_negative_least_squares():
    """Lawson–Hanson on the stacked system, the intercept removed by centring."""
    design, spread = prepared(TABLE)
    target = logit(np.clip(RATES, 0.002, 0.998))
    root = np.sqrt(3.0 * N / 29.0)
    identity = np.eye(29)[0] * spread[0]
    stacked = np.vstack([design, root * np.eye(29)])
    weights, _ = nnls(stacked, np.concatenate([target - target.mean(), root * identity]))
    assert_allclose(FIT.weights, weights, atol=1e-9)
    assert pytest.approx(target.mean()) == FIT.intercept
    assert 3 < (FIT.weights == 0).sum() < 26  # the constraint matters here


def test_no_feasible_direction_lowers_the_objective():
    design, spread = prepared(TABLE)
    target = logit(np.clip(RATES, 0.002, 0.998))
    found = np.concatenate([[FIT.intercept], FIT.weights])
    best = minimize(
        objective, found + 0.1, args=(design, spread[0], target), method="L-BFGS-B",
        bounds=[(None, None)] + [(0, None)] * 29, options={"maxiter": 5000, "maxfun": 10**6},
    )  # fmt: skip
    assert objective(found, design, spread[0], target) <= best.fun * (1 + 1e-9)


def test_the_prediction_is_the_linear_form_on_clipped_columns():
    design, _ = prepared(TABLE)
    assert_allclose(FIT.log_odds(TABLE), FIT.intercept + design @ FIT.weights)


def test_without_further_evidence_the_map_is_its_base_column():
    """Other columns are noise and the base is the answer: the identity on column 0 comes back."""
    table = RNG.normal(size=(4000, 29))
    table[:, 0] = RNG.normal(-2, 0.8, 4000)
    got = fit_ridge(table, expit(table[:, 0])).log_odds(table)
    assert_allclose(got, table[:, 0], atol=0.1)


def test_only_the_directions_of_a_feature_shift_may_count_against_an_error():
    """A column that falls with the error rate is used if it is signed, and ignored if it is not."""
    falling = -LATENT + RNG.normal(0, 0.1, N)
    for column, is_used in ((5, False), (len(COLUMNS) - 1, True)):
        table = RNG.normal(size=(N, len(COLUMNS)))
        table[:, column] = falling
        weights = fit_ridge(table, expit(LATENT)).weights
        assert (weights[column] < -0.1) == is_used
        assert (weights[:MONOTONE_COLUMNS] >= 0.0).all()


def test_a_window_beyond_the_training_range_is_treated_as_its_edge():
    beyond = TABLE.max(axis=0) + 1e6
    edge = FIT.high
    assert_allclose(FIT.log_odds(beyond[None]), FIT.log_odds(edge[None]))
    span = np.quantile(TABLE, 0.995, axis=0) - np.quantile(TABLE, 0.005, axis=0)
    assert_allclose(FIT.high, np.quantile(TABLE, 0.995, axis=0) + 0.25 * span)
    assert_allclose(FIT.low, np.quantile(TABLE, 0.005, axis=0) - 0.25 * span)


def test_columns_without_variation_or_with_nan_leave_the_map():
    table = TABLE.copy()
    table[:, 3], table[:, 7], table[0, 9] = 5.0, np.nan, np.nan
    fitted = fit_ridge(table, RATES)
    assert_array_equal(fitted.weights[[3, 7, 9]], 0.0)
    kept = np.delete(np.arange(29), [3, 7, 9])
    design, spread = prepared(table[:, kept])
    root = np.sqrt(3.0 * N / 26.0)
    target = logit(np.clip(RATES, 0.002, 0.998))
    stacked = np.vstack([design, root * np.eye(26)])
    weights, _ = nnls(stacked, np.concatenate([target - target.mean(), root * np.eye(26)[0] * spread[0]]))
    assert_allclose(fitted.weights[kept], weights, atol=1e-9)
    assert np.isfinite(fitted.log_odds(table)).all()


def test_a_window_without_a_column_that_the_map_uses_is_refused_by_name():
    used = int(np.flatnonzero(FIT.weights > 0)[-1])
    lacking = TABLE[:1].copy()
    lacking[0, used] = np.nan
    with pytest.raises(InvalidInputError, match=COLUMNS[used]):
        FIT.log_odds(lacking)
