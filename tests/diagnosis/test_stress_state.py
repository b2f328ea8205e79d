"""Sums of a window and the 32 columns made of them, against formulas on the raw rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from scipy.special import expit as scipy_expit
from scipy.special import logit

from mld_pipelines.diagnosis import Opinions, StressWindowState, WindowBaseline, WindowState, WindowUnits
from mld_pipelines.diagnosis.stress._columns import COLUMNS, MONOTONE_COLUMNS, clipped_logit, expit, window_columns
from mld_pipelines.diagnosis.stress._state import stress_window_state
from mld_pipelines.exceptions import InvalidInputError


def make_units(n: int, *, k: int = 4, width: int = 6, seed: int = 0, shift: float = 0.0) -> WindowUnits:
    rng = np.random.default_rng(seed)
    scores = rng.normal(shift, 1.0, (n, 10))
    scores[:, 2] = np.nan  # a score that this model does not have
    features = rng.normal(shift, 2.0, (n, width)) + 100.0
    features[:, 1] = 3.25  # dead
    return WindowUnits(
        error_proba=rng.random(n),
        risk_scores=scores,
        probabilities=rng.dirichlet(np.ones(k), n).astype(np.float32),
        features=features.astype(np.float32),
        codes=rng.integers(-1, 5, n),
    )


REFERENCE = make_units(3000)
BASELINE = WindowBaseline.fit(REFERENCE)
WINDOW = make_units(300, seed=1, shift=0.5)
PROBA = np.linspace(0.1, 0.4, 300)
STATE = stress_window_state(BASELINE, WINDOW, stressed_proba=PROBA)
OPINIONS = Opinions(mean_ep=0.2, atc_ep=0.3, atc_mc=0.0, msp_t=0.25, codes=0.15, unseen_share=0.09)
BASE_STATE = WindowState(n=300, n_unseen=27)


def columns(state: StressWindowState = STATE, **changes: object) -> dict[str, float]:
    values = window_columns(BASE_STATE, state, replace(OPINIONS, **changes), BASELINE)
    return dict(zip(COLUMNS, values, strict=True))


def test_there_are_32_columns_with_names():
    assert len(COLUMNS) == len(set(COLUMNS)) == 32
    assert COLUMNS[0] == "stressed_ep"


def test_rates_enter_as_clipped_logits():
    got = columns()
    assert got["stressed_ep"] == pytest.approx(logit(PROBA.mean()))
    assert [got[c] for c in ("mean_ep", "atc_ep", "msp_t", "codes")] == pytest.approx(logit([0.2, 0.3, 0.25, 0.15]))
    assert got["atc_mc"] == pytest.approx(logit(0.002))
    assert clipped_logit([1.0, 0.999]) == pytest.approx(logit([0.998, 0.998]))
    assert expit([-800.0, 0.3, 800.0]) == pytest.approx(scipy_expit([-800.0, 0.3, 800.0]))


def test_nuclear_norm_and_class_histogram_come_from_the_probabilities():
    p = WINDOW.probabilities.astype(np.float64)
    assert columns()["nuclear_norm"] == pytest.approx(-np.linalg.norm(p, "nuc") / np.sqrt(300 * 4))
    predicted = np.eye(4)[p.argmax(axis=1)].mean(axis=0)
    assert columns()["class_histogram"] == pytest.approx(np.abs(predicted - p.mean(axis=0)).sum() / 2)


def test_feature_columns_compare_means_and_spreads_of_living_features():
    """The constant feature is left out; the ratio is floored by 1e-3 and the logarithm by 0.02."""
    lives = [0, 2, 3, 4, 5]
    ours, theirs = (units.features[:, lives].astype(np.float64) for units in (WINDOW, REFERENCE))
    z = (ours.mean(axis=0) - theirs.mean(axis=0)) / theirs.std(axis=0)
    ratio = np.log(ours.std(axis=0) / theirs.std(axis=0) + 1e-3)
    assert columns()["feature_shift"] == pytest.approx(np.log(np.sqrt((z**2).mean()) + 0.02), rel=1e-6)
    assert columns()["feature_spread"] == pytest.approx(np.log(np.abs(ratio).mean() + 0.02), rel=1e-6)


def test_the_last_three_columns_tell_the_direction_of_a_feature_shift():
    lives = [0, 2, 3, 4, 5]
    ours, theirs = (units.features[:, lives].astype(np.float64) for units in (WINDOW, REFERENCE))
    z = (ours - theirs.mean(axis=0)) / theirs.std(axis=0)
    assert columns()["feature_mean"] == pytest.approx(z.mean(), rel=1e-6)
    assert columns()["feature_gain"] == pytest.approx(np.log(z.std(axis=0) + 1e-3).mean(), rel=1e-5)
    assert columns()["feature_energy"] == pytest.approx(np.log((z**2).mean() + 1e-3), rel=1e-6)
    assert COLUMNS[MONOTONE_COLUMNS:] == ("feature_mean", "feature_gain", "feature_energy")


def test_score_columns_are_mean_z_and_root_tail_shares():
    for column, name in ((0, "lmsp"), (5, "trust"), (8, "res")):
        ours, theirs = WINDOW.risk_scores[:, column], REFERENCE.risk_scores[:, column]
        assert columns()[f"z_{name}"] == pytest.approx((ours.mean() - theirs.mean()) / theirs.std())
        assert columns()[f"tail_{name}"] == pytest.approx(np.sqrt((ours > np.quantile(theirs, 0.99)).mean()))
    assert columns()["unseen"] == pytest.approx(0.3)


def test_a_statistic_that_does_not_exist_is_nan():
    got = columns(codes=None, unseen_share=None)
    assert all(np.isnan(got[name]) for name in ("codes", "unseen", "z_dbmin", "tail_dbmin"))
    many = make_units(40, k=70)
    state = stress_window_state(WindowBaseline.fit(many), many, stressed_proba=np.full(40, 0.1))
    assert state.sum_products.size == 0
    assert np.isnan(columns(state)["nuclear_norm"])
    plain = replace(WINDOW, features=None)
    state = stress_window_state(BASELINE, plain, stressed_proba=PROBA)
    assert np.isnan(columns(state)["feature_shift"])


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(0, 300), other=st.integers(0, 300))
def test_states_of_parts_add_up_to_the_state_of_the_whole(cut, other):
    first, last = sorted((cut, other))
    parts = [np.arange(first), np.arange(first, last), np.arange(last, 300)]
    states = [stress_window_state(BASELINE, WINDOW.take(rows), stressed_proba=PROBA[rows]) for rows in parts]
    for total in ((states[0] + states[1]) + states[2], states[2] + (states[1] + states[0])):
        for name, value in total.to_dict().items():
            assert_allclose(value, getattr(STATE, name), rtol=1e-9, atol=1e-9)


def test_nothing_added_changes_nothing_and_empty_windows_add_up():
    for total in (STATE + StressWindowState(), StressWindowState() + STATE):
        assert_equal(total.to_dict(), STATE.to_dict())
    assert (StressWindowState() + StressWindowState()).n == 0
    assert stress_window_state(BASELINE, WINDOW.take(np.arange(0)), stressed_proba=PROBA[:0]).n == 0


def test_a_state_survives_a_table_row():
    again = StressWindowState.from_dict(json.loads(json.dumps(STATE.to_dict())))
    for name in ("sum_products", "n_tail", "sum_squares"):
        assert_array_equal(getattr(again, name), getattr(STATE, name))
        assert getattr(again, name).dtype == getattr(STATE, name).dtype
    assert (again.n, again.sum_stressed_proba) == (STATE.n, STATE.sum_stressed_proba)


def test_units_without_a_probability_are_in_no_sum():
    proba = WINDOW.error_proba.copy()
    proba[:20] = np.nan
    state = stress_window_state(BASELINE, replace(WINDOW, error_proba=proba), stressed_proba=PROBA)
    rest = stress_window_state(BASELINE, WINDOW.take(np.arange(20, 300)), stressed_proba=PROBA[20:])
    assert_equal(state.to_dict(), rest.to_dict())


def test_windows_of_another_result_are_refused():
    other = make_units(50, k=5)
    with pytest.raises(InvalidInputError, match="units of the same result"):
        stress_window_state(BASELINE, other, stressed_proba=np.zeros(50))
    state = stress_window_state(WindowBaseline.fit(other), other, stressed_proba=np.zeros(50))
    with pytest.raises(InvalidInputError, match="one result only"):
        _ = STATE + state
