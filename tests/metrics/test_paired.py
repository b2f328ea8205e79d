"""Paired comparison of two models: against SciPy, scikit-learn and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import PAIRED_METRICS, ModelOutcomes, compare_paired, mcnemar


def outcomes(labels: np.ndarray, *, seed: int, error: float = 0.2, classes: int = 4) -> ModelOutcomes:
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(labels)) < error
    prediction = np.where(wrong, (labels + rng.integers(1, classes, len(labels))) % classes, labels)
    confidence = np.clip(rng.beta(5, 2, len(labels)) - 0.3 * wrong, 0.25, 1.0).round(2)
    return ModelOutcomes(
        prediction=prediction,
        confidence=confidence,
        entropy=rng.random(len(labels)),
        loss=np.where(wrong, 2.0, 0.3) + rng.random(len(labels)),
        error_proba=np.clip(0.5 * wrong + 0.4 * rng.random(len(labels)), 0.0, 1.0),
    )


def labels_of(n: int, *, seed: int = 0, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, n)


def by_name(found):
    return {item.metric: item for item in found}


# -- McNemar ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fixed", "broken"), [(8, 1), (0, 5), (12, 12), (3, 4), (24, 0), (1, 0)])
def test_few_discordant_pairs_are_tested_exactly(fixed, broken):
    test = mcnemar(fixed, broken)
    assert test.method == "mcnemar exact"
    assert test.p_value == pytest.approx(stats.binomtest(min(fixed, broken), fixed + broken, 0.5).pvalue, rel=1e-12)


@pytest.mark.parametrize(("fixed", "broken"), [(20, 5), (150, 100), (59, 6), (86, 150)])
def test_many_discordant_pairs_are_tested_by_chi_squared_with_continuity(fixed, broken):
    test = mcnemar(fixed, broken)
    statistic = (abs(fixed - broken) - 1) ** 2 / (fixed + broken)
    assert test.method == "mcnemar chi2"
    assert test.statistic == pytest.approx(statistic)
    assert test.p_value == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-10)


def test_the_textbook_example_of_mcnemar():
    """Agresti, Categorical Data Analysis, approval ratings: 86 and 150 changed; z = 4.17 before the correction."""
    test = mcnemar(86, 150)
    assert math.sqrt(test.statistic) == pytest.approx(4.17 * 63 / 64, abs=5e-3)
    assert test.p_value == pytest.approx(4.115e-05, rel=1e-3)


def test_without_discordant_pairs_nothing_speaks_for_a_difference():
    assert mcnemar(0, 0).p_value == 1.0
    assert mcnemar(40, 40).p_value == 1.0


def test_negative_counts_are_refused():
    with pytest.raises(InvalidInputError, match="-1"):
        mcnemar(-1, 3)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_does_not_depend_on_which_model_comes_first(fixed, broken):
    assert mcnemar(fixed, broken).p_value == mcnemar(broken, fixed).p_value
    assert 0.0 <= mcnemar(fixed, broken).p_value <= 1.0


# -- values -----------------------------------------------------------------------------------------------------------


def test_the_values_are_those_of_scikit_learn():
    labels = labels_of(500)
    before, after = outcomes(labels, seed=1), outcomes(labels, seed=2, error=0.1)
    found = by_name(compare_paired(labels, before, after, n_boot=100))
    for model, side in ((before, "before"), (after, "after")):
        wrong = model.prediction != labels
        assert getattr(found["accuracy"], side) == pytest.approx(1 - wrong.mean())
        assert getattr(found["macro_f1"], side) == pytest.approx(f1_score(labels, model.prediction, average="macro"))
        assert getattr(found["mean_loss"], side) == pytest.approx(model.loss.mean(), rel=1e-12)
        assert getattr(found["mean_entropy"], side) == pytest.approx(model.entropy.mean(), rel=1e-12)
        assert getattr(found["mean_error_proba"], side) == pytest.approx(model.error_proba.mean(), rel=1e-12)
        assert getattr(found["confidence_auroc"], side) == pytest.approx(roc_auc_score(wrong, -model.confidence))
        assert getattr(found["error_proba_auroc"], side) == pytest.approx(roc_auc_score(wrong, model.error_proba))
    assert list(found) == list(PAIRED_METRICS)


def test_the_calibration_error_is_the_mean_gap_of_bins_of_equal_mass():
    # 30 units in 15 bins of two; in every bin confidence 0.6 and 0.6 + k/100 exist and one of two is right.
    confidence = np.repeat(0.5 + np.arange(15) / 100, 2)
    labels = np.tile([0, 1], 15)
    model = ModelOutcomes(
        prediction=np.zeros(30, dtype=np.int64), confidence=confidence, entropy=np.zeros(30), loss=np.zeros(30),
        error_proba=np.full(30, 0.25),
    )  # fmt: skip
    found = by_name(compare_paired(labels, model, model, n_boot=100))
    assert found["ece"].before == pytest.approx(np.mean(np.arange(15) / 100))
    assert found["error_proba_ece"].before == pytest.approx(0.25)


def test_macro_f1_is_the_mean_over_the_classes_of_the_labels():
    labels = np.array([0, 0, 1, 1])
    predicted = ModelOutcomes(
        prediction=np.array([0, 2, 1, 1]), confidence=np.full(4, 0.9), entropy=np.zeros(4), loss=np.ones(4),
        error_proba=np.full(4, 0.1),
    )  # fmt: skip
    found = by_name(compare_paired(labels, predicted, predicted))
    assert found["macro_f1"].before == pytest.approx((2 / 3 + 1.0) / 2)


# -- intervals and p-values -------------------------------------------------------------------------------------------


def test_the_interval_of_the_accuracy_is_that_of_bonett_and_price():
    labels = np.zeros(100, dtype=np.int64)
    fixed, broken = 12, 3

    def model(wrong: range) -> ModelOutcomes:
        prediction = np.zeros(100, dtype=np.int64)
        prediction[list(wrong)] = 1
        flat = np.full(100, 0.9)
        return ModelOutcomes(prediction=prediction, confidence=flat, entropy=flat, loss=flat, error_proba=flat)

    found = by_name(compare_paired(labels, model(range(fixed)), model(range(50, 50 + broken)), n_boot=100))
    # By hand: p12 = 13/102, p21 = 4/102, z = 1.959964.
    half = 1.959963984540054 * math.sqrt((13 / 102 + 4 / 102 - (9 / 102) ** 2) / 102)
    accuracy = found["accuracy"]
    assert (accuracy.low, accuracy.high) == pytest.approx((9 / 102 - half, 9 / 102 + half))
    assert accuracy.delta == pytest.approx(0.09)
    assert accuracy.p_value == pytest.approx(stats.binomtest(3, 15, 0.5).pvalue)


def test_the_bootstrap_of_a_mean_agrees_with_its_normal_theory():
    labels = labels_of(2_000)
    before, after = outcomes(labels, seed=1), outcomes(labels, seed=2)
    differences = after.loss - before.loss
    found = by_name(compare_paired(labels, before, after, n_boot=2_000))["mean_loss"]
    low, high = stats.norm.interval(0.95, differences.mean(), stats.sem(differences))
    width = high - low
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * width)
    assert found.p_value == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue, abs=0.06)


def test_every_metric_covers_no_difference_about_as_often_as_promised():
    """Two models of the same quality, 60 draws: 90 % intervals miss 0 in 10 %, so 14 of 60 or more in 0.2 % of runs."""
    missed = dict.fromkeys(PAIRED_METRICS, 0)
    for seed in range(60):
        labels = labels_of(300, seed=seed)
        pair = outcomes(labels, seed=1000 + seed), outcomes(labels, seed=2000 + seed)
        for item in compare_paired(labels, *pair, n_boot=200, level=0.9):
            missed[item.metric] += not item.low <= 0.0 <= item.high
    assert {name: count for name, count in missed.items() if count > 14} == {}


def test_the_resamples_are_those_of_the_seed():
    labels = labels_of(200)
    pair = outcomes(labels, seed=1), outcomes(labels, seed=2)
    assert compare_paired(labels, *pair, seed=3) == compare_paired(labels, *pair, seed=3)
    assert compare_paired(labels, *pair, seed=3) != compare_paired(labels, *pair, seed=4)


@settings(max_examples=20, deadline=None)
@given(st.integers(30, 200), st.integers(0, 10_000))
def test_swapping_the_models_mirrors_every_difference(n, seed):
    labels = labels_of(n, seed=seed)
    pair = outcomes(labels, seed=seed + 1), outcomes(labels, seed=seed + 2)
    there = compare_paired(labels, *pair, n_boot=100)
    back = compare_paired(labels, *pair[::-1], n_boot=100)
    for one, two in zip(there, back, strict=True):
        assert (one.before, one.after) == (two.after, two.before)
        if one.low is not None:
            assert (one.low, one.high) == pytest.approx((-two.high, -two.low), abs=1e-6)
            assert one.p_value == pytest.approx(two.p_value)


def test_a_model_compared_with_itself_shows_no_difference():
    labels = labels_of(100)
    model = outcomes(labels, seed=1)
    for item in compare_paired(labels, model, model, n_boot=100):
        assert item.delta == 0.0
        assert item.low <= 0.0 <= item.high
        assert item.p_value == 1.0


# -- too little -------------------------------------------------------------------------------------------------------


def test_below_thirty_units_no_bootstrap_interval_is_given():
    labels = labels_of(29)
    found = by_name(compare_paired(labels, outcomes(labels, seed=1), outcomes(labels, seed=2)))
    assert found["mean_loss"].delta is not None
    assert {item.low for name, item in found.items() if name != "accuracy"} == {None}
    assert found["accuracy"].low is not None


def test_an_auroc_without_errors_is_undefined():
    labels = labels_of(60)
    right = outcomes(labels, seed=1, error=0.0)
    found = by_name(compare_paired(labels, right, outcomes(labels, seed=2)))
    assert (found["confidence_auroc"].before, found["confidence_auroc"].delta) == (None, None)
    assert found["confidence_auroc"].p_value is None
    assert found["mean_loss"].p_value is not None


def test_without_error_probabilities_their_metrics_are_left_out():
    labels = labels_of(60)
    model = outcomes(labels, seed=1)
    blind = ModelOutcomes(
        prediction=model.prediction, confidence=model.confidence, entropy=model.entropy, loss=model.loss,
        error_proba=np.full(60, np.nan),
    )  # fmt: skip
    names = {item.metric for item in compare_paired(labels, model, blind)}
    assert not any(name.endswith("error_proba") or name.startswith("error_proba") for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_boot": 10}, "at least 100"),
        ({"n_boot": 100.5}, "whole number"),
        ({"seed": -1}, "-1"),
        ({"level": 0.3}, "0.3"),
        ({"level": 1.0}, "1.0"),
        ({"level": "high"}, "'high'"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    labels = labels_of(50)
    model = outcomes(labels, seed=1)
    with pytest.raises(InvalidInputError, match=message):
        compare_paired(labels, model, model, **arguments)


def test_no_unit_is_refused():
    empty = np.empty(0)
    nothing = ModelOutcomes(
        prediction=empty.astype(np.int64), confidence=empty, entropy=empty, loss=empty, error_proba=empty
    )
    with pytest.raises(InvalidInputError, match="no unit"):
        compare_paired(empty.astype(np.int64), nothing, nothing)
