"""The edge cases of docs/method.md#edge-cases, row by row: one outcome each, and none of them is a confident number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp, softmax
from scipy.stats import beta, spearmanr

from mld_pipelines.diagnosis import (
    SCORE_NAMES,
    ErrorEstimator,
    EstimatorFit,
    Head,
    ProductionScorer,
    ReferenceUnits,
    WindowEstimate,
    WindowReference,
    estimate_window,
    fit_estimator,
    select_bank,
    window_state,
)
from mld_pipelines.exceptions import InvalidInputError
from tests.support.degenerate import LABELS, VALUES, fitted_scorer, made_units
from tests.support.estimation import World

WORLD = World(spread=1.2)
TRAIN = WORLD.units(500, "train", seed=1)
BIG = WORLD.units(6000, "val", seed=4)
TRAFFIC = WORLD.units(400, "production", seed=5)


def with_errors(errors: int, units: int) -> ReferenceUnits:
    """A reference of this size with exactly this many errors."""
    wrong, right = np.flatnonzero(BIG.errors), np.flatnonzero(~BIG.errors)
    return BIG.take(np.concatenate([wrong[:errors], right[: units - errors]]))


def fit(reference: ReferenceUnits, **changes: object) -> EstimatorFit:
    return fit_estimator(reference, **{"bank": select_bank(TRAIN), "head": WORLD.head, **changes})  # type: ignore[arg-type]


def window(fitted: EstimatorFit, units: ReferenceUnits = TRAFFIC) -> WindowEstimate:
    scorer = ProductionScorer(
        result_name="net_v1",
        estimator_version="1",
        fingerprint="f",
        codebook=None,
        estimator=fitted.estimator,
        issues={},
        window_reference=fitted.window_reference,
    )
    return judged(scorer, units)


def judged(scorer: ProductionScorer, units: ReferenceUnits) -> WindowEstimate:
    """The estimate for these units as production gets it."""
    outputs = {"logits": units.logits} if units.logits is not None else {"probabilities": units.probabilities}
    scored = scorer.score(**outputs, features=units.features)
    return estimate_window(scorer.window_state(scored), scorer.window_reference)


def relabelled(units: ReferenceUnits, **changes: object) -> ReferenceUnits:
    given = {name: getattr(units, name) for name in ("labels", "keys", "logits", "probabilities", "features")}
    return ReferenceUnits(**{**given, **changes})


def column(scores: np.ndarray, name: str) -> np.ndarray:
    return scores[:, SCORE_NAMES.index(name)]


# --- no errors in the reference


def test_no_errors_the_prior_speaks_and_the_interval_reaches_the_jeffreys_bound():
    fitted = fit(with_errors(0, 400))
    estimate = window(fitted)
    assert fitted.estimator.mode == "prior"
    assert estimate.low == 0.0
    assert estimate.high >= beta.ppf(0.95, 0.5, 400.5)
    assert "no errors seen" in estimate.badges


def test_no_errors_a_window_of_any_error_rate_is_no_alert_on_the_estimate():
    fitted = fit(with_errors(0, 400))
    worst = WORLD.units(400, "production", seed=6, shift=3.0)
    assert worst.errors.mean() > 0.3
    assert not window(fitted, worst).is_alert


# --- all wrong


def test_all_wrong_the_estimate_is_the_smoothed_share_and_the_interval_reaches_one():
    fitted = fit(with_errors(100, 100))
    estimate = window(fitted)
    assert estimate.error_rate == pytest.approx(100.5 / 101)
    assert estimate.high == 1.0
    assert "no successes seen" in estimate.badges


# --- 1 to 49 errors


@pytest.mark.parametrize("errors", [1, 10, 49])
def test_few_errors_the_mean_stands_alone_under_a_stronger_penalty(errors):
    fitted = fit(with_errors(errors, 500))
    estimate = window(fitted)
    assert fitted.diagnostics["penalty"] == pytest.approx(min(0.03, max(0.001, 0.3 / errors)))
    assert estimate.error_rate == estimate.opinions.mean_ep
    assert "few errors" in estimate.badges


def test_fifty_errors_are_no_longer_few():
    estimate = window(fit(with_errors(50, 500)))
    assert estimate.error_rate == max(estimate.opinions.mean_ep, estimate.opinions.atc_ep)
    assert "few errors" not in estimate.badges


def test_one_error_in_ten_thousand_units_keeps_the_truth_inside_the_interval():
    """Extreme imbalance: the window has the rate of the reference, and its interval spans many times that rate."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(10_000, 4)).astype(np.float32)
    logits = np.column_stack([np.full(10_000, 5.0), features[:, 0]]).astype(np.float32)
    labels = np.zeros(10_000, dtype=np.int64)
    labels[77] = 1
    reference = ReferenceUnits(
        labels=labels, keys=[str(row) for row in range(10_000)], logits=logits, features=features
    )
    fitted = fit_estimator(reference)
    estimate = window(fitted, reference.take(np.arange(2000)))
    assert estimate.low <= 1e-4 <= estimate.high
    assert estimate.high > 10 * 1e-4
    assert not estimate.is_alert


# --- one class predicted or present


def test_one_predicted_class_is_prior_mode_and_no_interval_below_fifteen_points():
    logits = TRAIN.logits.copy()
    logits[:, 2] = logits.max(axis=1) + 1
    fitted = fit(relabelled(TRAIN, logits=logits))
    estimate = window(fitted)
    assert fitted.estimator.mode == "prior"
    assert "one predicted class" in fitted.estimator.badges
    assert estimate.high - estimate.low >= min(0.15 + estimate.error_rate, 0.3) - 1e-9


def test_one_present_class_drops_the_scores_that_need_two():
    one = BIG.take(np.flatnonzero(np.asarray(BIG.labels) == 0))
    fitted = fit_estimator(one, head=WORLD.head)
    assert {name for name, weight in fitted.diagnostics["weights"].items() if weight == 0.0} >= {"mahamargin", "rmd"}
    assert fitted.estimator.mode == "monotone"


def test_if_only_the_confidence_varies_platt_scaling_takes_over():
    """Saturated outputs on constant features whose bank holds neither of the predicted classes; no last layer."""
    n = 200
    tops = np.arange(n) % 2
    rest = np.where(np.arange(n) % 3 == 0, 2e-12, 1.2e-12)  # lmsp varies by 0.5, entropy by less than 1e-9
    p = np.where(np.arange(3) == tops[:, None], 1.0, rest[:, None]).astype(np.float32)
    reference = ReferenceUnits(
        labels=np.where(np.arange(n) % 5 == 0, 1 - tops, tops),
        keys=[str(row) for row in range(n)],
        probabilities=p,
        features=np.ones((n, 3), dtype=np.float32),
    )
    elsewhere = relabelled(
        reference, labels=np.full(n, 2), keys=[f"train/{row}" for row in range(n)], probabilities=np.roll(p, 1, axis=1)
    )
    fitted = fit_estimator(reference, bank=select_bank(elsewhere))
    varying = [name for name, values in zip(SCORE_NAMES, fitted.risk_scores.T, strict=True) if values.std() >= 1e-9]
    assert varying == ["lmsp"]
    assert (fitted.estimator.mode, fitted.estimator.badges) == ("platt", ("only the confidence varies",))


# --- class absent from the bank


def test_a_class_absent_from_the_bank_is_scored_as_far_as_the_farthest():
    bank = select_bank(TRAIN.take(np.flatnonzero(np.asarray(TRAIN.labels) != 4)))
    fitted = fit(with_errors(100, 600), bank=bank)
    rows = np.flatnonzero(TRAFFIC.predictions == 4)
    scores = fitted.estimator.risk_scores(logits=TRAFFIC.logits[rows], features=TRAFFIC.features[rows])
    assert (column(scores, "dis") == 1.0).all()
    assert (column(scores, "trust") > 0.0).all()
    assert (column(scores, "mahamargin") > 0.0).all()


# --- binary


def test_of_two_classes_boundary_and_confidence_are_the_same_ranking():
    world = World(n_classes=2, width=8, spread=2.0, seed=3)
    fitted = fit_estimator(world.units(800, "val", seed=1), head=world.head)
    lmsp, dbmin = (column(fitted.risk_scores, name) for name in ("lmsp", "dbmin"))
    assert spearmanr(lmsp, dbmin).statistic == pytest.approx(1.0, abs=1e-6)
    fresh = world.units(2000, "production", seed=2)
    estimate = window(fitted, fresh)
    assert estimate.low <= fresh.errors.mean() <= estimate.high


# --- a thousand classes


def test_a_thousand_classes_skip_those_with_fewer_than_two_bank_rows():
    units = made_units(1500, n_classes=1000, width=8, seed=1)
    fitted = fit_estimator(units)
    counts = np.bincount(np.asarray(units.labels), minlength=1000)
    gaussians = fitted.estimator.scorer.gaussians
    assert_array_equal(gaussians.column_of_class >= 0, counts >= 2)
    assert np.isfinite(fitted.error_proba).all()


# --- more features than units


def test_more_features_than_units_stay_regular():
    units = made_units(80, n_classes=3, width=400, seed=2)
    scorer, fitted = fitted_scorer(units)
    assert scorer.codebook.space.projection.width < 80
    assert np.isfinite(fitted.risk_scores).all()


# --- NaN and infinite values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_counted_and_in_no_sum(bad):
    scorer, _ = fitted_scorer(with_errors(60, 400), bank=select_bank(TRAIN), head=WORLD.head)
    logits = TRAFFIC.logits.copy()
    logits[7, 2] = bad
    scored = scorer.score(logits=logits, features=TRAFFIC.features)
    state = scorer.window_state(scored)
    assert (state.n, state.n_invalid, scored.error_code[7]) == (399, 1, None)
    rest = np.delete(np.arange(400), 7)
    clean = scorer.score(logits=TRAFFIC.logits[rest], features=TRAFFIC.features[rest])
    assert state.sum_error_proba == pytest.approx(scorer.window_state(clean).sum_error_proba)


def test_values_beyond_float32_count_as_infinite():
    scorer, _ = fitted_scorer(with_errors(60, 400), bank=select_bank(TRAIN), head=WORLD.head)
    logits = TRAFFIC.logits.astype(np.float64)
    logits[3, 0] = 1e300
    assert_array_equal(np.flatnonzero(scorer.score(logits=logits, features=TRAFFIC.features).is_invalid), [3])


# --- probabilities only


def test_probabilities_alone_lose_the_two_scores_of_the_last_layer():
    p = softmax(BIG.logits[:600].astype(np.float64), axis=1).astype(np.float32)
    reference = relabelled(BIG.take(np.arange(600)), logits=None, probabilities=p)
    fitted = fit_estimator(reference)
    missing = [name for name in SCORE_NAMES if np.isnan(column(fitted.risk_scores, name)).all()]
    assert missing == ["dbmin", "res", "code"]
    logits = np.log(np.maximum(p.astype(np.float64), 1e-12))
    own = logits.argmax(axis=1)
    others = np.where(np.arange(5) == own[:, None], -np.inf, logits)
    assert_allclose(column(fitted.risk_scores, "lmsp"), logsumexp(others, axis=1) - logits.max(axis=1), rtol=1e-5)


def test_a_last_layer_that_is_not_finite_is_solved_for_instead():
    masked = Head(weight=WORLD.head.weight, bias=np.where(np.arange(5) == 4, -np.inf, WORLD.head.bias))
    reference = with_errors(60, 400)
    assert_array_equal(fit(reference, head=masked).risk_scores, fit(reference, head=None).risk_scores)


# --- features unavailable


def test_without_features_confidence_and_its_threshold_are_all_there_is():
    reference = relabelled(with_errors(100, 600), features=None)
    scorer, fitted = fitted_scorer(reference)
    estimate = judged(scorer, relabelled(TRAFFIC, features=None))
    assert (fitted.estimator.mode, scorer.codebook) == ("platt", None)
    assert estimate.opinions.atc_mc >= 0.0
    assert estimate.opinions.codes is None
    assert "no features" in fitted.estimator.badges


def test_features_missing_at_use_leave_the_window_without_a_number():
    scorer, _ = fitted_scorer(with_errors(60, 400), bank=select_bank(TRAIN), head=WORLD.head)
    estimate = judged(scorer, relabelled(TRAFFIC, features=None))
    assert (estimate.n, estimate.error_rate, estimate.low) == (0, None, None)


# --- label shift only


def test_label_shift_alone_needs_no_branch_of_its_own():
    """Twenty windows of other class shares: the interval covers at its level, the reference rate is farther off."""
    fitted = fit(BIG.take(np.arange(1500)))
    fresh = WORLD.units(6000, "production", seed=50)
    truth = np.asarray(fresh.labels)
    rng = np.random.default_rng(0)
    covered, off, reference_off = [], [], []
    for _ in range(20):
        shares = rng.dirichlet(np.full(5, 1.0))
        shifted = fresh.take(rng.choice(6000, 1000, p=(shares / np.bincount(truth))[truth]))
        estimate, rate = window(fitted, shifted), shifted.errors.mean()
        covered.append(estimate.low <= rate <= estimate.high)
        off.append(abs(estimate.error_rate - rate))
        reference_off.append(abs(fitted.window_reference.base_rate - rate))
    assert np.mean(covered) >= 0.9
    assert np.mean(off) < 0.6 * np.mean(reference_off)


# --- few distinct outputs


@pytest.mark.parametrize("seed", range(6))
def test_outputs_of_two_values_are_estimated_by_the_mean_for_want_of_a_threshold(seed):
    """Every second unit ties: ATC would put all of them, or none, above its threshold (0.50 instead of 0.28)."""
    rng = np.random.default_rng(seed)
    one = rng.normal(size=3)
    logits = np.where(np.arange(400)[:, None] % 2, one, np.roll(one, 1)).astype(np.float32)
    top = logits.argmax(axis=1)
    reference = ReferenceUnits(
        labels=np.where(rng.random(400) < 0.7, top, (top + 1) % 3),
        keys=[f"val/{row}" for row in range(400)],
        logits=logits,
        features=np.ones((400, 3), dtype=np.float32),
    )
    scorer, _ = fitted_scorer(reference)
    estimate = judged(scorer, reference)
    assert estimate.error_rate == pytest.approx(reference.errors.mean(), abs=0.01)
    assert "many units share one error probability" in estimate.badges


# --- small windows


@pytest.mark.parametrize("n", [1, 49])
def test_a_window_of_fewer_than_fifty_units_is_the_mean_without_an_alert(n):
    fitted = fit(with_errors(100, 600))
    wrong = np.flatnonzero(BIG.errors)[-n:]
    estimate = window(fitted, BIG.take(wrong))
    assert estimate.error_rate == estimate.opinions.mean_ep
    assert not estimate.is_alert
    assert "few units in the window" in estimate.badges
    assert estimate.high - estimate.low > 0.05


# --- features of another width


def test_features_of_another_width_are_refused_with_both_widths():
    scorer, _ = fitted_scorer(with_errors(60, 400), bank=select_bank(TRAIN), head=WORLD.head)
    with pytest.raises(InvalidInputError, match=r"\(400, 3\).*\(400, 16\)"):
        scorer.score(logits=TRAFFIC.logits, features=TRAFFIC.features[:, :3])


# --- constant features, duplicated rows, enormous and tiny values, other dtypes, two units per class


def test_constant_features_leave_the_scores_of_the_outputs():
    reference = relabelled(with_errors(100, 600), features=np.full((600, 16), 0.5, dtype=np.float32))
    fitted = fit_estimator(reference)
    assert all(fitted.diagnostics["weights"][name] == 0.0 for name in ("knn", "mahamargin", "rmd", "res"))
    assert np.isfinite(fitted.error_proba).all()


def test_a_bank_of_duplicates_gives_every_copy_the_same_score():
    rows = np.repeat(np.arange(100), 7)
    copies = relabelled(BIG.take(rows), keys=[f"val/{row}" for row in range(700)])
    fitted = fit_estimator(copies, head=WORLD.head)
    scores = fitted.estimator.risk_scores(logits=copies.logits, features=copies.features)
    assert_array_equal(scores[::7], scores[6::7])


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-42])
def test_logits_of_any_scale_rank_as_they_did(scale):
    """Only the confidence changes with the scale; neighbours do not see it."""
    reference = with_errors(100, 600)
    scaled = relabelled(reference, logits=(reference.logits.astype(np.float64) * scale).astype(np.float32))
    fitted = fit_estimator(scaled, bank=select_bank(TRAIN))
    assert np.isfinite(fitted.error_proba).all()
    assert_array_equal(column(fitted.risk_scores, "knn"), column(fit(reference, head=None).risk_scores, "knn"))


def test_half_precision_inputs_score_as_their_float32_values():
    scorer, _ = fitted_scorer(with_errors(60, 400), bank=select_bank(TRAIN), head=WORLD.head)
    halves = {"logits": TRAFFIC.logits.astype(np.float16), "features": TRAFFIC.features.astype(np.float16)}
    wide = {name: values.astype(np.float32) for name, values in halves.items()}
    assert_array_equal(scorer.score(**halves).error_proba, scorer.score(**wide).error_proba)


def test_a_half_precision_reference_fits_as_its_float32_values():
    reference = with_errors(60, 400)
    halves = relabelled(
        reference, logits=reference.logits.astype(np.float16), features=reference.features.astype(np.float16)
    )
    wide = relabelled(halves, logits=halves.logits.astype(np.float32), features=halves.features.astype(np.float32))
    scorer, fitted = fitted_scorer(halves)
    assert fitted.estimator.to_bytes() == fitted_scorer(wide)[1].estimator.to_bytes()
    assert judged(scorer, TRAFFIC).n == 400


def test_two_units_per_class_give_an_estimate_with_a_wide_interval():
    units = made_units(20, n_classes=10, width=4, seed=3)
    pairs = relabelled(units, labels=np.repeat(np.arange(10), 2))
    scorer, _ = fitted_scorer(pairs)
    estimate = judged(scorer, made_units(200, n_classes=10, width=4, seed=4, name="production"))
    assert scorer.codebook is None
    assert estimate.high - estimate.low >= 0.15


def test_inputs_far_outside_the_reference_are_flagged_though_the_model_is_sure():
    """Confident errors on far-away inputs are what every estimate misses, so they carry a flag of their own."""
    scorer, _ = fitted_scorer(BIG.take(np.arange(2000)), bank=select_bank(TRAIN), head=WORLD.head)
    far = 40.0 * np.random.default_rng(0).normal(size=(300, 16))
    logits = far @ WORLD.head.weight.T + WORLD.head.bias
    assert np.median(softmax(logits, axis=1).max(axis=1)) > 0.999
    scored = scorer.score(logits=logits, features=far)
    estimate = estimate_window(scorer.window_state(scored), scorer.window_reference)
    assert estimate.is_outside
    assert any("outside the reference" in badge for badge in estimate.badges)


# --- anything


@settings(max_examples=60, deadline=None)
@given(
    rows=st.sampled_from([1, 2, 5, 59, 60, 61, 150]),
    n_classes=st.sampled_from([2, 3, 12]),
    width=st.sampled_from([1, 2, 7, 260]),
    outputs=st.sampled_from(VALUES),
    features=st.sampled_from([None, *VALUES]),
    truth=st.sampled_from(LABELS),
    bank=st.sampled_from([None, *VALUES]),
    traffic=st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)),
    probabilities=st.booleans(),
    has_head=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_finite_reference_gives_probabilities_an_interval_and_an_artifact(
    rows, n_classes, width, outputs, features, truth, bank, traffic, probabilities, has_head, seed
):
    shape = {"n_classes": n_classes, "width": width, "probabilities": probabilities}
    reference = made_units(rows, seed=seed, outputs=outputs, features=features, truth=truth, **shape)
    trained = None
    if bank is not None and features is not None:
        trained = select_bank(made_units(70, seed=seed + 1, outputs=outputs, features=bank, name="train", **shape))
    head = None
    if has_head and features is not None:
        weight = np.random.default_rng(seed).normal(size=(n_classes, width))
        head = Head(weight=weight, bias=np.zeros(n_classes))
    scorer, fitted = fitted_scorer(reference, bank=trained, head=head)
    assert ((fitted.error_proba >= 0.0) & (fitted.error_proba <= 1.0)).all()

    z, h = traffic
    fresh = made_units(60, seed=seed + 2, outputs=z, features=None if features is None else h, name="new", **shape)
    given = {"probabilities": fresh.probabilities} if probabilities else {"logits": fresh.logits}
    scored = scorer.score(**given, features=fresh.features)
    assert ((scored.error_proba >= 0.0) & (scored.error_proba <= 1.0)).all()
    last = None if fresh.features is None else fresh.features[-1:]
    alone = scorer.score(**{name: values[-1:] for name, values in given.items()}, features=last)
    assert_array_equal(alone.risk_scores[0], scored.risk_scores[-1])
    assert alone.error_code[0] == scored.error_code[-1]

    estimate = estimate_window(scorer.window_state(scored), scorer.window_reference)
    assert 0.0 <= estimate.low <= estimate.error_rate <= estimate.high <= 1.0
    assert estimate.high - estimate.low >= (0.15 if rows < 60 else 0.008)
    assert len(fitted.estimator.reasons(scored.risk_scores.astype(np.float64))) == 60
    assert ErrorEstimator.from_bytes(fitted.estimator.to_bytes()).to_bytes() == fitted.estimator.to_bytes()
    assert WindowReference.from_bytes(scorer.window_reference.to_bytes()).n_ref == rows


def test_a_window_of_values_without_spread_has_a_state():
    fitted = fit(with_errors(60, 400))
    state = window_state(fitted.window_reference, error_proba=np.zeros(3), confidence=np.ones(3))
    assert estimate_window(state, fitted.window_reference).error_rate == 0.0
