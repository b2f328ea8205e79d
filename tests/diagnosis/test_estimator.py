"""The error estimator: cross-fitting, the fallback rule, edge cases, storage, and how well it ranks errors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neural_network import MLPClassifier

from mld_pipelines.diagnosis import (
    SCORE_MEANINGS,
    SCORE_NAMES,
    ErrorEstimator,
    EstimatorFit,
    Head,
    ReferenceUnits,
    estimate_window,
    fit_estimator,
    select_bank,
    tempered_confidence,
    window_state,
)
from mld_pipelines.diagnosis._artifact import pack_artifact
from mld_pipelines.diagnosis._fit import _is_below
from mld_pipelines.diagnosis._monolr import fit_monotone, fit_platt, fit_prior, penalty_for
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError
from tests.support.estimation import World

WORLD = World(spread=1.2)
TRAIN = WORLD.units(500, "train", seed=1)
REFERENCE = WORLD.units(600, "val", seed=2)
HELD_OUT = WORLD.units(900, "test", seed=3)
RNG = np.random.default_rng(0)
CODES = RNG.integers(-1, 12, len(REFERENCE))


def fit(reference: ReferenceUnits = REFERENCE, **changes: object) -> EstimatorFit:
    values: dict[str, object] = {"bank": select_bank(TRAIN), "head": WORLD.head, "codes": None, "n_codes": 12}
    return fit_estimator(reference, **{**values, **changes})  # type: ignore[arg-type]


FIT = fit(codes=CODES, unseen_ref=0.05)


def thinned(errors: int, units: int = 400) -> ReferenceUnits:
    """A reference of this size with exactly this many errors."""
    big = WORLD.units(3000, "val", seed=4)
    wrong, right = np.flatnonzero(big.errors), np.flatnonzero(~big.errors)
    assert len(wrong) >= errors
    return big.take(np.concatenate([wrong[:errors], right[: units - errors]]))


def predict(estimator: ErrorEstimator, units: ReferenceUnits, **extra: object) -> np.ndarray:
    scores = estimator.risk_scores(logits=units.logits, features=units.features, **extra)  # type: ignore[arg-type]
    return estimator.error_proba(scores)


@pytest.mark.feature("H10")
def test_reference_rows_are_scored_by_a_model_that_did_not_see_them():
    """Refit each fold by hand: the out-of-fold probability is that fold's, not the whole model's."""
    errors = REFERENCE.errors
    penalty = penalty_for(int(errors.sum()), len(errors))
    for fold in range(5):
        held_out = FIT.folds == fold
        model = fit_monotone(FIT.risk_scores[~held_out], errors[~held_out], penalty=penalty)
        assert_allclose(FIT.error_proba[held_out], model.probability(FIT.risk_scores[held_out]), rtol=1e-4)
    in_sample = FIT.estimator.error_proba(FIT.risk_scores)
    assert not np.allclose(in_sample, FIT.error_proba, rtol=1e-3)


@pytest.mark.feature("H10", "H11")
def test_ranking_metrics_are_those_of_the_out_of_fold_probabilities():
    """The in-sample values are higher and not the ones reported."""
    wrong, p, got = REFERENCE.errors, FIT.error_proba, FIT.diagnostics
    assert got["error_proba_auroc"] == pytest.approx(roc_auc_score(wrong, p))
    assert got["error_proba_auprc"] == pytest.approx(average_precision_score(wrong, p))
    assert got["error_proba_auprc_success"] == pytest.approx(average_precision_score(~wrong, -p))
    assert got["confidence_auroc"] == pytest.approx(roc_auc_score(wrong, FIT.risk_scores[:, 0]))
    in_sample = FIT.estimator.error_proba(FIT.risk_scores)
    assert roc_auc_score(wrong, in_sample) > got["error_proba_auroc"]


def test_folds_hold_equal_shares_of_errors():
    assert np.ptp(np.bincount(FIT.folds[REFERENCE.errors])) <= 1
    assert np.ptp(np.bincount(FIT.folds)) <= 1


def test_flipping_one_label_leaves_the_other_rows_of_its_fold_almost_alone():
    """A label reaches rows of its own fold through shared code counts and bank labels only, here neither."""
    plain = fit()
    row = int(np.flatnonzero(~REFERENCE.errors)[0])
    labels = np.asarray(REFERENCE.labels).copy()
    labels[row] = (labels[row] + 1) % 5
    changed = fit(
        ReferenceUnits(labels=labels, keys=REFERENCE.keys, logits=REFERENCE.logits, features=REFERENCE.features)
    )
    assert changed.estimator.n_errors == plain.estimator.n_errors + 1
    np.testing.assert_array_equal(
        np.delete(changed.risk_scores, row, axis=0), np.delete(plain.risk_scores, row, axis=0)
    )


def test_the_reference_as_its_own_bank_gives_honest_scores():
    """Out-of-fold AUROC must not exceed the held-out one by more than noise (0.03 when rows saw themselves)."""
    world = World(n_classes=8, width=60, spread=2.6, seed=5)
    reference, held_out = world.units(500, "val", seed=6), world.units(3000, "test", seed=7)
    fitted = fit_estimator(reference, head=world.head)
    inside = roc_auc_score(reference.errors, fitted.error_proba)
    outside = roc_auc_score(held_out.errors, predict(fitted.estimator, held_out))
    assert inside <= outside + 0.02
    assert fitted.error_proba.mean() == pytest.approx(predict(fitted.estimator, held_out).mean(), abs=0.03)


def test_the_fit_does_not_depend_on_the_order_of_the_rows():
    order = np.random.default_rng(1).permutation(len(REFERENCE))
    shuffled = fit(REFERENCE.take(order), codes=CODES[order], unseen_ref=0.05)
    np.testing.assert_array_equal(shuffled.error_proba, FIT.error_proba[order])
    np.testing.assert_array_equal(shuffled.risk_scores, FIT.risk_scores[order])
    assert shuffled.estimator.to_bytes() == FIT.estimator.to_bytes()
    assert shuffled.window_reference.to_bytes() == FIT.window_reference.to_bytes()


def test_code_scores_of_reference_rows_leave_the_row_out():
    row = int(np.flatnonzero(CODES == 3)[0])
    errors = REFERENCE.errors
    r0 = errors.mean()
    mates = (CODES == 3) & (np.arange(len(CODES)) != row)
    rate = (errors[mates].sum() + 4 * r0) / (mates.sum() + 4)
    assert expit(FIT.risk_scores[row, SCORE_NAMES.index("code")]) == pytest.approx(rate, rel=1e-5)


def test_new_rows_use_the_whole_count_and_unseen_the_base_rate():
    errors, r0 = REFERENCE.errors, REFERENCE.errors.mean()
    scores = FIT.estimator.risk_scores(
        logits=HELD_OUT.logits[:2], features=HELD_OUT.features[:2], codes=np.array([3, -1])
    )
    mates = CODES == 3
    expected = [(errors[mates].sum() + 4 * r0) / (mates.sum() + 4), r0]
    assert_allclose(expit(scores[:, SCORE_NAMES.index("code")]), expected, rtol=1e-5)


def test_codes_are_required_once_fitted_with_them():
    with pytest.raises(InvalidInputError, match="needs the code"):
        predict(FIT.estimator, HELD_OUT)


@pytest.mark.parametrize("errors", [1, 2, 5, 9])
def test_few_errors_still_give_a_monotone_model_that_ranks(errors):
    fitted = fit(thinned(errors))
    assert fitted.estimator.mode == "monotone"
    assert fitted.diagnostics["penalty"] == pytest.approx(min(0.03, max(0.001, 0.3 / errors)))
    assert roc_auc_score(HELD_OUT.errors, predict(fitted.estimator, HELD_OUT)) > 0.7


def test_a_fold_without_errors_in_its_training_part_uses_the_prior_mode():
    reference = thinned(1)
    fitted = fit(reference)
    (fold,) = fitted.folds[reference.errors]
    rest = fitted.folds != fold
    by_hand = fit_prior(fitted.risk_scores[rest], reference.errors[rest])
    assert_allclose(fitted.error_proba[~rest], by_hand.probability(fitted.risk_scores[~rest]), rtol=1e-6)


def test_no_errors_switch_to_the_prior_mode():
    fitted = fit(thinned(0))
    assert fitted.estimator.mode == "prior"
    assert fitted.estimator.badges == ("no errors seen",)
    lmsp = fitted.risk_scores[:, 0]
    whole = fitted.estimator.error_proba(fitted.risk_scores)
    assert whole.mean() == pytest.approx(0.5 / 401, rel=1e-6)
    slopes = np.diff(np.log(whole / (1 - whole))) / np.diff(lmsp)
    assert_allclose(slopes[np.abs(np.diff(lmsp)) > 0.1], 0.8, rtol=1e-5)


def test_nothing_but_errors_is_the_mirrored_prior_mode():
    fitted = fit(thinned(100, units=100))
    assert fitted.estimator.mode == "prior"
    assert fitted.estimator.badges == ("no successes seen",)
    assert fitted.estimator.error_proba(fitted.risk_scores).mean() == pytest.approx(100.5 / 101)


def test_fewer_than_sixty_units_use_the_prior_mode_without_codes():
    reference = REFERENCE.take(np.arange(59))
    fitted = fit(reference, codes=CODES[:59])
    assert fitted.estimator.mode == "prior"
    assert "few units" in fitted.estimator.badges
    assert fitted.estimator.code_rates is None
    assert fitted.window_reference.is_coarse
    assert fit(REFERENCE.take(np.arange(60)), codes=CODES[:60]).estimator.mode == "monotone"


@pytest.mark.parametrize("n", [1, 2, 6])
def test_a_handful_of_units_is_enough_for_a_prior(n):
    fitted = fit(REFERENCE.take(np.arange(n)))
    assert np.isfinite(fitted.error_proba).all()


def test_one_predicted_class_uses_the_prior_mode():
    logits = REFERENCE.logits.copy()
    logits[:, 2] = logits.max(axis=1) + 1
    reference = ReferenceUnits(labels=REFERENCE.labels, keys=REFERENCE.keys, logits=logits, features=REFERENCE.features)
    fitted = fit(reference)
    assert fitted.estimator.mode == "prior"
    assert "one predicted class" in fitted.estimator.badges
    assert fitted.window_reference.is_coarse


def test_one_labelled_class_drops_the_columns_that_need_two():
    one = REFERENCE.take(np.flatnonzero(np.asarray(REFERENCE.labels) == 0))
    bank = select_bank(TRAIN.take(np.flatnonzero(np.asarray(TRAIN.labels) == 0)))
    fitted = fit(one, bank=bank)
    weights = fitted.diagnostics["weights"]
    assert weights["mahamargin"] == weights["rmd"] == 0.0
    assert np.isfinite(fitted.error_proba).all()


def test_without_features_confidence_is_all_there_is():
    reference = WORLD.units(600, "val", seed=2, features=False)
    fitted = fit_estimator(reference)
    assert (fitted.estimator.mode, fitted.estimator.badges) == ("platt", ("no features",))
    by_hand = fit_platt(fitted.risk_scores, reference.errors)
    assert_allclose(
        fitted.estimator.error_proba(fitted.risk_scores), by_hand.probability(fitted.risk_scores), rtol=1e-4
    )


def test_a_bank_without_features_counts_as_without_features():
    bare = select_bank(WORLD.units(500, "train", seed=1, features=False))
    assert fit(bank=bare, head=None).estimator.mode == "platt"


def test_a_better_confidence_replaces_the_model_and_says_so():
    """Features that say nothing about errors: MonoLR over-fits them, plain confidence ranks better."""
    rng = np.random.default_rng(3)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(80, 3)).astype(np.float32) * 2
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = np.array([rng.choice(3, p=row / row.sum()) for row in p])
        reference = ReferenceUnits(
            labels=labels,
            keys=[f"val/{row}" for row in range(80)],
            logits=logits,
            features=rng.normal(size=(80, 4)).astype(np.float32),
        )
        fitted = fit_estimator(reference)
        assert (fitted.estimator.mode == "platt") == ("confidence is the better score" in fitted.estimator.badges)
        if fitted.estimator.mode == "platt":
            assert (fitted.estimator.model.weights[1:] == 0).all()
            return
    pytest.fail("no reference of forty was better served by confidence")


@pytest.mark.parametrize(("auroc", "replaced"), [(0.9449, True), (0.9451, False), (0.96, False)])
def test_confidence_replaces_a_model_that_ranks_worse_by_more_than_five_thousandths(auroc, replaced):
    assert _is_below(auroc, 0.95) is replaced


@pytest.mark.parametrize(("errors", "modes"), [(9, {"monotone"}), (10, {"monotone", "platt"})])
def test_nine_errors_are_too_few_to_compare_with_confidence(errors, modes):
    """Forty references whose features are noise: with ten errors confidence wins at least once, with nine never."""
    seen = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(80, 3)).astype(np.float32)
        margin = np.diff(np.sort(logits, axis=1), axis=1)[:, -1]
        wrong = np.argsort(margin + 0.3 * rng.normal(size=80))[:errors]
        labels = logits.argmax(axis=1)
        labels[wrong] = (labels[wrong] + 1) % 3
        features = rng.normal(size=(80, 4)).astype(np.float32)
        keys = [f"val/{row}" for row in range(80)]
        seen.add(
            fit_estimator(ReferenceUnits(labels=labels, keys=keys, logits=logits, features=features)).estimator.mode
        )
    assert seen == modes


def test_probabilities_only_are_enough():
    p = np.exp(REFERENCE.logits - REFERENCE.logits.max(axis=1, keepdims=True)).astype(np.float32)
    p /= p.sum(axis=1, keepdims=True)
    reference = ReferenceUnits(
        labels=REFERENCE.labels, keys=REFERENCE.keys, probabilities=p, features=REFERENCE.features
    )
    bank = select_bank(
        ReferenceUnits(labels=TRAIN.labels, keys=TRAIN.keys, probabilities=_softmax(TRAIN), features=TRAIN.features)
    )
    fitted = fit_estimator(reference, bank=bank)
    missing = [name for name in SCORE_NAMES if np.isnan(fitted.risk_scores[:, SCORE_NAMES.index(name)]).any()]
    assert missing == ["dbmin", "res", "code"]
    with_logits = fit(head=None)
    assert_allclose(fitted.risk_scores[:, 0], with_logits.risk_scores[:, 0], atol=0.2)
    assert fitted.estimator.mode == "monotone"


def _softmax(units: ReferenceUnits) -> np.ndarray:
    p = np.exp(units.logits - units.logits.max(axis=1, keepdims=True))
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def test_an_empty_reference_is_a_clear_error():
    with pytest.raises(InvalidInputError, match="no units"):
        fit(REFERENCE.take(np.arange(0)))


def test_codes_of_another_length_are_a_clear_error():
    with pytest.raises(InvalidInputError, match="codes have shape"):
        fit(codes=CODES[:10])


def test_reasons_are_the_three_largest_contributions():
    scores = FIT.estimator.risk_scores(logits=HELD_OUT.logits, features=HELD_OUT.features, codes=np.zeros(900, int))
    contributions = FIT.estimator.model.contributions(scores)
    reasons = FIT.estimator.reasons(scores)
    for row in (0, 17, 555):
        expected = sorted((value for value in contributions[row] if value > 0), reverse=True)[:3]
        assert [reason.contribution for reason in reasons[row]] == pytest.approx(expected)
        assert all(reason.meaning == SCORE_MEANINGS[reason.score] for reason in reasons[row])


@pytest.mark.feature("I18")
def test_the_stored_estimator_gives_the_same_probabilities_bit_for_bit():
    data = FIT.estimator.to_bytes()
    loaded = ErrorEstimator.from_bytes(data)
    codes = np.random.default_rng(0).integers(-1, 12, len(HELD_OUT))
    np.testing.assert_array_equal(predict(loaded, HELD_OUT, codes=codes), predict(FIT.estimator, HELD_OUT, codes=codes))
    assert loaded.to_bytes() == data
    assert (loaded.mode, loaded.badges, loaded.n_ref) == (FIT.estimator.mode, FIT.estimator.badges, 600)


@pytest.mark.parametrize(
    "reference",
    [thinned(0), WORLD.units(600, "val", seed=2, features=False), REFERENCE.take(np.arange(5))],
    ids=["prior", "platt", "tiny"],
)
def test_every_mode_survives_storage(reference):
    bank = None if reference.features is None else select_bank(TRAIN)
    estimator = fit_estimator(reference, bank=bank).estimator
    loaded = ErrorEstimator.from_bytes(estimator.to_bytes())
    units = HELD_OUT if reference.features is not None else WORLD.units(100, "test", seed=3, features=False)
    np.testing.assert_array_equal(predict(loaded, units), predict(estimator, units))


def test_a_stored_risk_score_gives_the_same_probability_as_a_fresh_one():
    stored = FIT.risk_scores.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(FIT.estimator.error_proba(stored), FIT.estimator.error_proba(FIT.risk_scores))


def test_an_estimator_artifact_without_its_arrays_is_refused():
    with pytest.raises(CorruptArtifactError, match="lacks"):
        ErrorEstimator.from_bytes(pack_artifact("estimator", 1, tensors={}, parameters={"n_ref": 1, "n_errors": 0}))


def test_the_window_artifact_is_no_estimator():
    with pytest.raises(CorruptArtifactError, match="expected 'estimator'"):
        ErrorEstimator.from_bytes(FIT.window_reference.to_bytes())


# --- how well it works, on real data that scikit-learn brings (docs/method.md#measurements; bounds x 1.3) ---


def network(data: np.ndarray, target: np.ndarray, *, seed: int, n_train: int) -> tuple[MLPClassifier, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(data))
    model = MLPClassifier((64,), max_iter=40, early_stopping=False, random_state=seed, tol=0.0, n_iter_no_change=100)
    train = order[:n_train]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # 40 iterations are meant not to converge: errors are wanted
        model.fit(data[train], target[train])
    return model, order


def traced(model: MLPClassifier, data: np.ndarray, target: np.ndarray, name: str) -> ReferenceUnits:
    hidden = np.maximum(data @ model.coefs_[0] + model.intercepts_[0], 0).astype(np.float32)
    logits = hidden @ model.coefs_[1] + model.intercepts_[1]
    if logits.shape[1] == 1:  # binary: one output, read as the log-odds of class 1
        logits = np.column_stack([np.zeros(len(logits)), logits[:, 0]])
    return ReferenceUnits(
        labels=target, keys=[f"{name}/{row}" for row in range(len(data))], logits=logits.astype(np.float32),
        features=hidden,
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> dict[str, object]:
    data, target = load_digits(return_X_y=True)
    data = data / 16 + np.random.default_rng(0).normal(0, 0.25, data.shape)
    model, order = network(data, target, seed=0, n_train=500)
    pieces = {"train": order[:500], "val": order[500:1100], "test": order[1100:]}
    units = {name: traced(model, data[rows], target[rows], name) for name, rows in pieces.items()}
    head = Head(weight=model.coefs_[1].T, bias=model.intercepts_[1])
    noisy = data[pieces["test"]] + np.random.default_rng(1).normal(0, 0.25, data[pieces["test"]].shape)
    units["noisy"] = traced(model, noisy, target[pieces["test"]], "noisy")
    return {"fit": fit_estimator(units["val"], bank=select_bank(units["train"]), head=head), **units}


@pytest.mark.feature("H10")
def test_digits_errors_are_ranked_at_least_as_well_as_by_confidence(digits):
    for name in ("test", "noisy"):
        units = digits[name]
        scores = digits["fit"].estimator.risk_scores(logits=units.logits, features=units.features)
        p = digits["fit"].estimator.error_proba(scores)
        singles = [roc_auc_score(units.errors, scores[:, column]) for column in range(9)]
        assert roc_auc_score(units.errors, p) >= singles[0]
        assert roc_auc_score(units.errors, p) >= max(singles) - 0.005 * 1.3


def test_digits_probabilities_are_calibrated(digits):
    """Expected calibration error over ten equal-mass bins: target 0.025 at 300 or more units, times 1.3, plus noise."""
    units = digits["test"]
    p = predict(digits["fit"].estimator, units)
    order = np.argsort(p)
    gaps = [abs(p[rows].mean() - units.errors[rows].mean()) for rows in np.array_split(order, 10)]
    noise = np.sqrt(units.errors.mean() * (1 - units.errors.mean()) / (len(p) / 10)) * np.sqrt(2 / np.pi)
    assert np.mean(gaps) <= 0.025 * 1.3 + noise


def test_digits_window_estimates_are_nearer_than_confidence(digits):
    fitted, rng = digits["fit"], np.random.default_rng(5)
    reference = fitted.window_reference
    ours, plain, covered = [], [], []
    for name, share in [(n, s) for n in ("test", "noisy") for s in (100, 200, 400)] * 10:
        units = digits[name].take(rng.integers(0, len(digits[name]), share))
        p = predict(fitted.estimator, units)
        confidence = tempered_confidence(reference.temperature, logits=units.logits)
        estimate = estimate_window(window_state(reference, error_proba=p, confidence=confidence), reference)
        truth = units.errors.mean()
        ours.append(abs(estimate.error_rate - truth))
        plain.append(abs(estimate.opinions.msp_t - truth))
        covered.append(estimate.low <= truth <= estimate.high)
    assert np.mean(ours) <= 1.05 * 1.3 * np.mean(plain)
    assert np.mean(covered) >= 0.72


def test_breast_cancer_with_few_errors_stays_near_confidence():
    data, target = load_breast_cancer(return_X_y=True)
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    model, order = network(data, target, seed=1, n_train=150)
    pieces = {"train": order[:150], "val": order[150:350], "test": order[350:]}
    units = {name: traced(model, data[rows], target[rows], name) for name, rows in pieces.items()}
    fitted = fit_estimator(units["val"], bank=select_bank(units["train"]))
    held_out = units["test"]
    scores = fitted.estimator.risk_scores(logits=held_out.logits, features=held_out.features)
    ours = roc_auc_score(held_out.errors, fitted.estimator.error_proba(scores))
    assert ours >= roc_auc_score(held_out.errors, scores[:, 0]) - 0.01 * 1.3
