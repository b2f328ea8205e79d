"""Stressed copies are scored without having seen their originals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from mld_pipelines.diagnosis import (
    CodeRates,
    EstimatorFit,
    ReferenceUnits,
    StressedCopies,
    fit_estimator,
    select_bank,
    window_units,
)
from mld_pipelines.diagnosis._scores import SCORE_NAMES
from mld_pipelines.diagnosis.stress._units import score_copies, tempered_probabilities
from mld_pipelines.exceptions import InvalidInputError
from tests.support.estimation import World
from tests.support.stressing import rerun, stress

WORLD = World(spread=1.2)
TRAIN = WORLD.units(400, "train", seed=1)
REFERENCE = WORLD.units(400, "val", seed=2)
RNG = np.random.default_rng(0)
CODES = RNG.integers(-1, 12, len(REFERENCE))


def fit(bank_units: ReferenceUnits, *, codes: np.ndarray | None = None) -> EstimatorFit:
    return fit_estimator(
        REFERENCE, bank=select_bank(bank_units), head=WORLD.head, codes=codes, n_codes=12, unseen_ref=0.05
    )


def untouched(codes: np.ndarray | None = None) -> StressedCopies:
    """Copies that are their originals, in another order."""
    rows = RNG.permutation(len(REFERENCE))
    return StressedCopies(
        units=REFERENCE.take(rows),
        origins=rows,
        set_index=np.zeros(len(rows), dtype=np.int64),
        sets=[("none", "none", 1)],
        codes=None if codes is None else codes[rows],
    )


@pytest.mark.parametrize("bank", [TRAIN, REFERENCE], ids=["train", "itself"])
@pytest.mark.parametrize("codes", [None, CODES], ids=["without", "with"])
def test_an_unchanged_copy_scores_exactly_like_its_original_in_the_cross_fit(bank, codes):
    """All of "no leak" in one: neighbours, class Gaussians, code rates and models are those that left the row out."""
    fitted, copies = fit(bank, codes=codes), untouched(codes)
    scores, proba = score_copies(fitted, REFERENCE, copies, bank=select_bank(bank), codes=codes)
    assert_array_equal(scores, fitted.risk_scores[copies.origins])
    assert_array_equal(proba, fitted.error_proba[copies.origins])


def test_with_the_original_kept_the_copy_would_betray_its_label():
    """What the rule prevents: noisy copies beside their originals in the bank look far too easy."""
    fitted = fit(REFERENCE)
    noisy = rerun(WORLD, REFERENCE, REFERENCE.features + 0.1 * RNG.normal(size=REFERENCE.features.shape))
    copies = StressedCopies(
        units=noisy,
        origins=np.arange(len(noisy)),
        set_index=np.zeros(len(noisy), dtype=np.int64),
        sets=[("noise", "noise", 1)],
    )
    honest, _ = score_copies(fitted, REFERENCE, copies, bank=select_bank(REFERENCE))
    leaking = fitted.estimator.risk_scores(logits=noisy.logits, features=noisy.features)
    fresh_units = WORLD.units(2000, "fresh", seed=9)
    fresh = fitted.estimator.risk_scores(logits=fresh_units.logits, features=fresh_units.features)
    column = SCORE_NAMES.index("trust")
    aurocs = [
        roc_auc_score(units.errors, scores[:, column])
        for units, scores in ((noisy, leaking), (noisy, honest), (fresh_units, fresh))
    ]
    assert aurocs[0] > 0.99
    assert aurocs[1] == pytest.approx(aurocs[2], abs=0.05)


def test_a_copy_in_another_code_than_its_original_counts_all_of_that_code():
    fitted, copies = fit(TRAIN, codes=CODES), untouched(CODES)
    moved = (copies.codes + 2) % 12
    elsewhere = StressedCopies(
        units=copies.units, origins=copies.origins, set_index=copies.set_index, sets=copies.sets, codes=moved
    )
    scores, _ = score_copies(fitted, REFERENCE, elsewhere, bank=select_bank(TRAIN), codes=CODES)
    rates = CodeRates.fit(CODES, REFERENCE.errors, n_codes=12).scores(moved)
    assert_allclose(scores[:, SCORE_NAMES.index("code")], rates, rtol=1e-6)


def test_codes_are_demanded_where_the_estimator_uses_them():
    with pytest.raises(InvalidInputError, match="Pass both"):
        score_copies(fit(TRAIN, codes=CODES), REFERENCE, untouched(), bank=select_bank(TRAIN), codes=CODES)


def test_copies_that_do_not_fit_are_refused():
    copies = untouched()
    with pytest.raises(InvalidInputError, match="origins run from"):
        score_copies(fit(TRAIN), REFERENCE.take(np.arange(50)), copies, bank=select_bank(TRAIN))
    with pytest.raises(InvalidInputError, match="origins have shape"):
        StressedCopies(units=copies.units, origins=copies.origins[:3], set_index=copies.set_index, sets=copies.sets)
    with pytest.raises(InvalidInputError, match="do not fit 0 sets"):
        StressedCopies(units=copies.units, origins=copies.origins, set_index=copies.set_index, sets=[])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_tempered_probabilities_are_a_softmax(temperature):
    logits = RNG.normal(0, 20, (50, 7)).astype(np.float32)
    expected = softmax(logits.astype(np.float64) / temperature, axis=1)
    assert_allclose(tempered_probabilities(temperature, logits=logits), expected, rtol=1e-5, atol=1e-12)


def test_units_of_a_window_hold_the_estimators_probabilities():
    fitted, copies = fit(TRAIN), stress(WORLD, REFERENCE, v=20)
    scores = fitted.estimator.risk_scores(logits=copies.units.logits, features=copies.units.features)
    units = window_units(
        fitted.estimator,
        temperature=1.5,
        risk_scores=scores,
        logits=copies.units.logits,
        features=copies.units.features,
    )
    assert_array_equal(units.error_proba, fitted.estimator.error_proba(scores))
    assert_array_equal(units.features, copies.units.features)  # narrow features are not projected
    both = units.take(np.arange(5)).followed_by(units.take(np.arange(5, len(units))))
    assert_array_equal(both.probabilities, units.probabilities)
    assert both.codes is None
