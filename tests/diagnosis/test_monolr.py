"""MonoLR, Platt scaling and the prior mode against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import LinearConstraint, minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from mld_pipelines.diagnosis._monolr import (
    ScoreModel,
    fit_monotone,
    fit_platt,
    fit_prior,
    penalty_for,
    stratified_folds,
)


def drawn(n: int = 800, *, weights: tuple[float, ...] = (1.0, 0.5, 0.8), seed: int = 0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, len(weights))) * [1.0, 3.0, 0.2] + [0.0, 5.0, -2.0]
    standard = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    return scores, rng.random(n) < expit(standard @ np.array(weights) - 1.5)


@pytest.mark.parametrize("penalty", [0.001, 0.03])
def test_equals_scikit_learn_where_no_weight_is_on_its_bound(penalty):
    scores, errors = drawn()
    model = fit_monotone(scores, errors, penalty=penalty)
    z = np.clip((scores - scores.mean(axis=0)) / scores.std(axis=0), -4, 4)
    # scikit-learn minimises C·Σ loss + ½‖w‖²; ours is mean loss + λ‖w‖², so C = 1 / (2 λ n).
    peer = LogisticRegression(C=1 / (2 * penalty * len(z)), tol=1e-10, max_iter=1000).fit(z, errors)
    assert (model.weights > 0).all()
    assert_allclose(model.weights, peer.coef_[0], rtol=1e-4)
    assert_allclose(model.intercept, peer.intercept_[0], rtol=1e-4)


def test_equals_a_constrained_optimum_where_a_weight_is_on_its_bound():
    scores, errors = drawn(weights=(1.0, -0.7, 0.8))
    z = np.clip((scores - scores.mean(axis=0)) / scores.std(axis=0), -4, 4)
    model = fit_monotone(scores, errors, penalty=0.01)

    def loss(b):
        eta = b[0] + z @ b[1:]
        return np.mean(np.logaddexp(0, eta) - errors * eta) + 0.01 * np.sum(b[1:] ** 2)

    bound = LinearConstraint(np.eye(4)[1:], lb=0)
    peer = minimize(loss, np.zeros(4), method="SLSQP", constraints=[bound], options={"ftol": 1e-12}).x
    assert model.weights[1] == 0.0
    assert_allclose(model.weights, np.maximum(peer[1:], 0), atol=1e-4)
    assert loss(np.r_[model.intercept, model.weights]) <= loss(peer) + 1e-9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), signs=st.tuples(*[st.sampled_from([-1.0, 0.0, 1.0])] * 3))
def test_weights_are_never_negative_and_probability_never_falls_with_a_score(seed, signs):
    scores, errors = drawn(120, weights=signs, seed=seed)
    if errors.all() or not errors.any():
        return
    model = fit_monotone(scores, errors, penalty=0.01)
    assert (model.weights >= 0).all()
    raised = scores + np.abs(np.random.default_rng(seed).normal(size=scores.shape))
    assert (model.probability(raised) >= model.probability(scores)).all()


def test_columns_without_variation_or_with_nan_are_dropped():
    scores, errors = drawn()
    padded = np.column_stack([scores, np.full(len(scores), 7.0), np.full(len(scores), np.nan)])
    model = fit_monotone(padded, errors, penalty=0.01)
    assert model.weights[3:].tolist() == [0.0, 0.0]
    assert_allclose(model.probability(padded), fit_monotone(scores, errors, penalty=0.01).probability(scores))


def test_scores_are_clipped_at_four_standard_deviations():
    scores, errors = drawn()
    model = fit_monotone(scores, errors, penalty=0.01)
    wild = scores.mean(axis=0) + 4.0 * scores.std(axis=0)
    assert_allclose(model.probability(wild[None] + 1e6), model.probability(wild[None]), rtol=1e-12)


def test_sample_weights_count_as_repetitions():
    scores, errors = drawn(200)
    counts = np.random.default_rng(0).integers(1, 4, 200)
    repeated = fit_monotone(np.repeat(scores, counts, axis=0), np.repeat(errors, counts), penalty=0.01)
    weighted = fit_monotone(scores, errors, penalty=0.01, sample_weight=counts.astype(float))
    # Standardisation differs (weights do not enter it), so the comparison is on one standardised scale.
    z = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    peer = LogisticRegression(C=1 / (2 * 0.01 * counts.sum()), tol=1e-10).fit(z, errors, sample_weight=counts)
    assert_allclose(weighted.weights, peer.coef_[0], rtol=1e-3)
    assert repeated.weights.shape == weighted.weights.shape


@pytest.mark.parametrize(
    ("errors", "units", "expected"), [(1, 100, 0.03), (30, 1000, 0.01), (970, 1000, 0.01), (5000, 99999, 0.001)]
)
def test_penalty_rule(errors, units, expected):
    assert penalty_for(errors, units) == pytest.approx(expected)


def test_platt_equals_scikit_learn_on_the_confidence_alone():
    scores, errors = drawn()
    model = fit_platt(scores, errors)
    z = ((scores - scores.mean(axis=0)) / scores.std(axis=0))[:, :1]
    peer = LogisticRegression(C=1.0, tol=1e-10).fit(z, errors)
    assert_allclose(model.probability(scores), peer.predict_proba(z)[:, 1], rtol=1e-4)
    assert (model.weights[1:] == 0).all()


def test_platt_never_reverses_the_confidence():
    scores, errors = drawn(weights=(-1.0, 0.0, 0.0))
    assert fit_platt(scores, errors).weights[0] == 0.0


@pytest.mark.parametrize(("errors", "n"), [(0, 50), (50, 50), (3, 50), (0, 1)])
def test_prior_mode_has_slope_point_eight_and_the_smoothed_mean(errors, n):
    scores = np.random.default_rng(0).normal(-5, 4, size=(n, 10))
    wrong = np.arange(n) < errors
    model = fit_prior(scores, wrong)
    p = model.probability(scores)
    assert p.mean() == pytest.approx((errors + 0.5) / (n + 1), rel=1e-9)
    if n > 1:
        slope = np.diff(model.log_odds(scores[:2]))[0] / np.diff(scores[:2, 0])[0]
        assert slope == pytest.approx(0.8)


def test_prior_mode_survives_extreme_confidence():
    scores = np.full((20, 10), -800.0)
    assert fit_prior(scores, np.zeros(20, dtype=bool)).probability(scores).mean() == pytest.approx(0.5 / 21)


@given(errors=st.lists(st.booleans(), min_size=5, max_size=200))
def test_folds_share_errors_and_successes_evenly(errors):
    wrong = np.array(errors)
    folds = stratified_folds(wrong)
    for group in (folds, folds[wrong], folds[~wrong]):
        sizes = np.bincount(group, minlength=5)
        assert sizes.max() - sizes.min() <= 1


def test_contributions_add_up_to_the_log_odds():
    model = ScoreModel(-1.0, np.array([2.0, 0.0]), np.zeros(2), np.ones(2), 4.0)
    scores = np.array([[0.5, np.nan], [9.0, 1.0]])
    assert_allclose(model.contributions(scores), [[1.0, 0.0], [8.0, 0.0]])
    assert_allclose(model.log_odds(scores), [0.0, 7.0])
    assert_allclose(model.probability(scores), expit([0.0, 7.0]))
