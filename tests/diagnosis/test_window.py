"""Window states merge exactly; estimates follow the published formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import softmax
from scipy.stats import beta
from sklearn.metrics import log_loss

from mld_pipelines.diagnosis import (
    WindowReference,
    WindowState,
    estimate_window,
    fit_temperature,
    fit_window_reference,
    tempered_confidence,
    window_state,
)
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError
from tests.support.estimation import World

WORLD = World(spread=1.6)
UNITS = WORLD.units(1500, "val", seed=3)


def reference(**changes: object) -> WindowReference:
    values: dict[str, object] = {
        "n_ref": 1000, "n_errors": 100, "threshold_ep": 0.5, "threshold_mc": 0.6, "temperature": 1.5,
        "unseen_ref": 0.02, "code_rates": np.array([0.05, 0.4]),
    }  # fmt: skip
    return WindowReference(**{**values, **changes})  # type: ignore[arg-type]


def state(**changes: object) -> WindowState:
    values: dict[str, object] = {
        "n": 400, "sum_error_proba": 60.0, "n_above_ep": 80, "sum_confidence": 340.0, "n_below_mc": 48,
        "n_unseen": 8, "code_counts": (300, 92),
    }  # fmt: skip
    return WindowState(**{**values, **changes})  # type: ignore[arg-type]


def half_width(p: float, spread: float, *, n: int = 400, n_ref: int = 1000, r0: float = 0.1, q: float = 2.0) -> float:
    return q * math.sqrt(p * (1 - p) * (1 / n + 1 / n_ref) + (0.25 * spread) ** 2 + (0.2 * (p - r0)) ** 2 + 0.004**2)


def test_opinions_are_the_sums_over_n():
    opinions = estimate_window(state(), reference()).opinions
    assert opinions.mean_ep == pytest.approx(0.15)
    assert opinions.atc_ep == pytest.approx(0.20)
    assert opinions.atc_mc == pytest.approx(0.12)
    assert opinions.msp_t == pytest.approx(0.15)
    assert opinions.codes == pytest.approx((300 * 0.05 + 92 * 0.4 + 8 * 0.1) / 400)
    assert opinions.unseen_share == pytest.approx(0.02)


def test_the_estimate_is_the_larger_of_mean_ep_and_atc_ep():
    estimate = estimate_window(state(), reference())
    assert estimate.error_rate == pytest.approx(0.20)
    assert estimate.low == pytest.approx(0.20 - half_width(0.20, 0.08))
    assert estimate.high == pytest.approx(0.20 + half_width(0.20, 0.08))
    assert estimate_window(state(sum_error_proba=100.0), reference()).error_rate == pytest.approx(0.25)


def test_few_reference_errors_leave_the_mean_alone():
    estimate = estimate_window(state(), reference(n_errors=49))
    assert estimate.error_rate == pytest.approx(0.15)
    assert estimate.high == pytest.approx(0.15 + half_width(0.15, 0.03, r0=0.049))
    assert "few errors" in estimate.badges
    assert "few errors" not in estimate_window(state(), reference(n_errors=50)).badges


def test_a_small_window_shows_the_mean_and_raises_no_alert():
    estimate = estimate_window(state(n=49, sum_error_proba=40.0, n_above_ep=49), reference())
    assert estimate.error_rate == pytest.approx(40 / 49)
    assert not estimate.is_alert
    assert "few units in the window" in estimate.badges


@pytest.mark.parametrize(("level", "factor"), [(0.8, 0.79), (0.9, 1.0), (0.95, 1.3)])
def test_levels_scale_the_interval(level, factor):
    estimate = estimate_window(state(), reference(), level=level)
    assert estimate.high - estimate.low == pytest.approx(2 * factor * half_width(0.20, 0.08))


@pytest.mark.parametrize("level", [0.5, 0.99, 90])
def test_another_level_is_an_error(level):
    with pytest.raises(InvalidInputError, match=r"0\.8, 0\.9, 0\.95"):
        estimate_window(state(), reference(), level=level)


def test_a_stress_pass_widens_the_interval_and_removes_the_badge():
    plain, stressed = (
        estimate_window(state(), reference(**extra)) for extra in ({}, {"width_factor": 3.0, "stress_version": "1"})
    )
    assert "not verified under shift" in plain.badges
    assert "not verified under shift" not in stressed.badges
    assert stressed.high - stressed.low == pytest.approx(1.5 * (plain.high - plain.low))


@pytest.mark.parametrize(("n", "expected"), [(100, True), (99, False)])
def test_an_alert_needs_a_hundred_units_and_a_lower_bound_above_the_reference(n, expected):
    estimate = estimate_window(state(n=n, sum_error_proba=0.8 * n, n_above_ep=n, n_below_mc=n, n_unseen=0), reference())
    assert estimate.low > 0.1
    assert estimate.is_alert is expected


def test_no_alert_while_the_interval_holds_the_reference_rate():
    calm = state(sum_error_proba=42.0, n_above_ep=42, n_below_mc=42)
    assert not estimate_window(calm, reference()).is_alert


def test_no_errors_in_the_reference_gives_the_jeffreys_bound():
    calm = state(sum_error_proba=0.4, n_above_ep=0, n_below_mc=0)
    estimate = estimate_window(calm, reference(n_errors=0, n_ref=100))
    assert estimate.error_rate == pytest.approx(0.001)
    assert estimate.low == 0.0
    assert estimate.high == pytest.approx(beta.ppf(0.95, 0.5, 100.5))
    assert "no errors seen" in estimate.badges


def test_no_errors_in_the_reference_never_alert_on_the_estimate():
    shifted = state(sum_error_proba=380.0, n_above_ep=400, n_below_mc=400)
    estimate = estimate_window(shifted, reference(n_errors=0))
    assert estimate.error_rate == pytest.approx(0.95)
    assert estimate.high == 1.0
    assert not estimate.is_alert


def test_nothing_but_errors_is_the_mirror_image():
    estimate = estimate_window(state(), reference(n_errors=100, n_ref=100))
    assert estimate.error_rate == pytest.approx(100.5 / 101)
    assert estimate.high == 1.0
    assert estimate.low <= beta.ppf(0.05, 100.5, 0.5)
    assert "no successes seen" in estimate.badges


def test_a_coarse_reference_keeps_at_least_fifteen_points_on_either_side():
    estimate = estimate_window(state(), reference(is_coarse=True))
    assert estimate.error_rate - estimate.low == pytest.approx(0.15)
    assert estimate.high - estimate.error_rate == pytest.approx(0.15)


@pytest.mark.parametrize(("unseen", "expected"), [(8, False), (40, False), (49, False), (51, True), (120, True)])
def test_unseen_inputs_are_flagged_when_the_lower_bound_exceeds_ten_percent(unseen, expected):
    estimate = estimate_window(state(n_unseen=unseen), reference())
    assert (beta.ppf(0.05, unseen + 0.5, 400 - unseen + 0.5) > 0.10) == expected
    assert estimate.is_outside is expected
    assert any("outside the reference" in badge for badge in estimate.badges) is expected


def test_unseen_is_judged_against_three_times_its_reference_share():
    assert not estimate_window(state(n_unseen=100), reference(unseen_ref=0.1)).is_outside
    assert estimate_window(state(n_unseen=160), reference(unseen_ref=0.1)).is_outside


def test_an_empty_window_has_no_estimate():
    estimate = estimate_window(WindowState(n_invalid=3), reference())
    assert (estimate.error_rate, estimate.low, estimate.high, estimate.opinions) == (None, None, None, None)
    assert not estimate.is_alert


def test_without_a_codebook_there_is_no_code_opinion():
    opinions = estimate_window(state(code_counts=()), reference(code_rates=np.empty(0))).opinions
    assert opinions.codes is None
    assert opinions.unseen_share is None


def test_state_counts_the_units_of_a_window():
    got = window_state(
        reference(),
        error_proba=np.array([0.9, 0.5, 0.1, np.nan], dtype=np.float32),
        confidence=np.array([0.3, 0.6, 0.9, np.nan], dtype=np.float32),
        codes=np.array([1, 0, -1, -1]),
    )
    assert (got.n, got.n_invalid, got.n_above_ep, got.n_below_mc, got.n_unseen) == (3, 1, 1, 1, 1)
    assert got.code_counts == (1, 1)
    assert got.sum_error_proba == pytest.approx(1.5)
    assert got.sum_confidence == pytest.approx(1.8)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 200), max_size=4))
def test_states_of_hours_add_up_to_the_state_of_the_day(seed, cuts):
    rng = np.random.default_rng(seed)
    columns = {
        "error_proba": rng.random(200),
        "confidence": rng.random(200),
        "codes": rng.integers(-1, 2, 200),
    }
    parts = np.split(np.arange(200), sorted(cuts))
    merged = sum(
        (window_state(reference(), **{name: values[part] for name, values in columns.items()}) for part in parts),
        WindowState(),
    )
    whole = window_state(reference(), **columns)
    assert merged.code_counts == whole.code_counts
    assert (merged.n, merged.n_above_ep, merged.n_below_mc, merged.n_unseen) == (
        whole.n, whole.n_above_ep, whole.n_below_mc, whole.n_unseen,
    )  # fmt: skip
    assert merged.sum_error_proba == pytest.approx(whole.sum_error_proba)
    together, apart = estimate_window(whole, reference()), estimate_window(merged, reference())
    assert apart.error_rate == pytest.approx(together.error_rate)


def test_states_of_different_codebooks_do_not_merge():
    with pytest.raises(InvalidInputError, match="2 and 3 codes"):
        state() + state(code_counts=(1, 2, 3))


def test_a_code_outside_the_codebook_is_an_error():
    with pytest.raises(InvalidInputError, match="codebook has 2"):
        window_state(reference(), error_proba=np.zeros(1), confidence=np.ones(1), codes=np.array([2]))


def test_columns_of_different_length_are_an_error():
    with pytest.raises(InvalidInputError, match="differ in length"):
        window_state(reference(), error_proba=np.zeros(2), confidence=np.ones(1))


def test_temperature_minimises_the_log_loss():
    temperature = fit_temperature(UNITS)
    losses = {
        t: log_loss(UNITS.labels, softmax(UNITS.logits.astype(np.float64) / t, axis=1), labels=range(5))
        for t in (0.99 * temperature, temperature, 1.01 * temperature, 1.0)
    }
    assert 1.2 < temperature < 6.0  # the head assumes spread 1, the data have 1.6: T = 1.6² = 2.56 in the population
    assert min(losses, key=losses.get) == temperature
    assert temperature == pytest.approx(2.56, rel=0.15)


def test_temperature_stays_inside_its_bounds():
    right = UNITS.take(np.flatnonzero(~UNITS.errors))
    wrong = UNITS.take(np.flatnonzero(UNITS.errors))
    assert fit_temperature(right) == pytest.approx(0.3, abs=1e-3)
    assert fit_temperature(wrong) == pytest.approx(6.0, abs=1e-3)


def test_tempered_confidence_equals_scipy():
    expected = softmax(UNITS.logits.astype(np.float64) / 1.7, axis=1).max(axis=1)
    assert_allclose(tempered_confidence(1.7, logits=UNITS.logits), expected, rtol=1e-12)


def test_thresholds_are_exceeded_by_a_share_r0_of_the_reference():
    ep = np.random.default_rng(0).random(len(UNITS))
    fitted = fit_window_reference(UNITS, ep)
    confidence = tempered_confidence(fitted.temperature, logits=UNITS.logits)
    r0 = UNITS.errors.mean()
    assert fitted.base_rate == pytest.approx(r0)
    assert np.mean(ep > fitted.threshold_ep) == pytest.approx(r0, abs=1 / len(UNITS))
    assert np.mean(confidence < fitted.threshold_mc) == pytest.approx(r0, abs=1 / len(UNITS))


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
def test_a_unit_that_ties_with_the_threshold_is_on_the_same_side_in_either_precision(value):
    """float32(0.3) > 0.3 and float32(0.7) < 0.7: a threshold in float64 would split what ties."""
    fitted = fit_window_reference(UNITS, np.full(len(UNITS), value))
    for dtype in (np.float32, np.float64):
        proba = np.full(20, value, dtype=dtype)
        assert window_state(fitted, error_proba=proba, confidence=np.ones(20)).n_above_ep == 0


def test_ties_are_found_by_the_share_above_the_threshold():
    spread = np.random.default_rng(0).random(len(UNITS))
    assert not fit_window_reference(UNITS, spread, in_use=spread).is_tied
    assert fit_window_reference(UNITS, spread, in_use=np.full(len(UNITS), 1.0)).is_tied
    assert fit_window_reference(UNITS, spread, in_use=np.zeros(len(UNITS))).is_tied


def test_with_ties_the_mean_stands_alone_and_says_so():
    estimate = estimate_window(state(), reference(is_tied=True))
    assert estimate.error_rate == pytest.approx(0.15)
    assert estimate.high == pytest.approx(0.15 + half_width(0.15, 0.03))
    assert "many units share one error probability" in estimate.badges


def test_reference_round_trips_bit_for_bit():
    original = reference(threshold_ep=0.1 + 0.2, stress_version="1")
    data = original.to_bytes()
    loaded = WindowReference.from_bytes(data)
    assert loaded.to_bytes() == data
    assert (loaded.threshold_ep, loaded.stress_version, loaded.unseen_ref) == (0.1 + 0.2, "1", 0.02)
    np.testing.assert_array_equal(loaded.code_rates, original.code_rates)


def test_other_bytes_are_no_reference():
    with pytest.raises(CorruptArtifactError):
        WindowReference.from_bytes(b"nothing of the kind")
