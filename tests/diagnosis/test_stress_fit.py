"""Fitting the stress map: verification by family left out, blend, width, and what may not influence what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mld_pipelines.diagnosis import (
    FamilyError,
    ReferenceUnits,
    StressedCopies,
    WindowMap,
    fit_estimator,
    fit_window_map,
    select_bank,
)
from mld_pipelines.diagnosis._monolr import fit_monotone, penalty_for
from mld_pipelines.diagnosis.stress import _fit as stress_fit
from mld_pipelines.diagnosis.stress._columns import clipped_logit
from mld_pipelines.diagnosis.stress._map import blend
from mld_pipelines.exceptions import InvalidInputError
from tests.support.estimation import World
from tests.support.stressing import stress

WORLD = World(spread=1.3)
TRAIN = WORLD.units(400, "train", seed=1)
BANK = select_bank(TRAIN)
REFERENCE = WORLD.units(500, "val", seed=2)
CODES = np.random.default_rng(0).integers(-1, 12, len(REFERENCE))
COPIES = stress(WORLD, REFERENCE)
FIT = fit_estimator(REFERENCE, bank=BANK, head=WORLD.head)


def fit_map(reference=REFERENCE, copies=COPIES, **changes) -> WindowMap:
    fitted = FIT if reference is REFERENCE else fit_estimator(reference, bank=BANK, head=WORLD.head)
    return fit_window_map(fitted, reference, copies, bank=BANK, stress_version="v1", **changes)


MAP = fit_map()


def relabelled(copies: StressedCopies, family: str) -> StressedCopies:
    """The copies of one family with other labels."""
    labels = np.asarray(copies.units.labels).copy()
    own = [index for index, name in enumerate(copies.sets) if name[0] == family]
    rows = np.isin(copies.set_index, own)
    labels[rows] = (labels[rows] + 1) % 5
    units = ReferenceUnits(
        labels=labels, keys=copies.units.keys, logits=copies.units.logits, features=copies.units.features
    )
    return replace(copies, units=units)


def parts(copies: StressedCopies = COPIES):
    """Pool, windows and table of a fit, as `fit_window_map` makes them."""
    pool = stress_fit._make_pool(FIT, REFERENCE, copies, bank=BANK, codes=None, cross_fitted_codes=None)
    windows = stress_fit.draw_windows(pool.labels, pool.set_index, pool.families, n_classes=5)
    baseline = stress_fit.WindowBaseline.fit(pool.units.take(pool.set_index < 0))
    return pool, windows, stress_fit._tabulate(pool, windows, baseline, FIT.window_reference)


POOL, WINDOWS, TABLE = parts()


@pytest.mark.parametrize(
    ("default", "half", "full", "expected"),
    [
        (0.020, 0.021, 0.030, 0.0),  # half is 5 % worse
        (0.020, 0.0206, 0.030, 0.5),  # half is 3 % worse: a tie
        (0.041, 0.030, 0.024, 1.0),
        (0.030, 0.0247, 0.024, 0.5),
        (0.020, 0.0207, 0.020, 0.0),  # equal apart from the half: the default stays
    ],
)
def test_the_blend_with_the_smallest_error_is_chosen_and_ties_go_to_the_half(default, half, full, expected):
    """Each family counts once, whatever its number of windows."""
    errors = {
        "a": FamilyError(default * 1.5, half * 1.5, full * 1.5, 300),
        "clean": FamilyError(default * 0.5, half * 0.5, full * 0.5, 10),
    }
    assert stress_fit.choose_blend(errors) == expected


def test_every_family_and_clean_windows_are_verified():
    """Three severities, one kind, five windows each; half of the 120 clean ones."""
    assert {name: error.n_windows for name, error in MAP.family_errors.items()} == {
        "clean": 60, "noise": 15, "scale": 15, "shift": 15,
    }  # fmt: skip
    assert MAP.n_sets == 9
    assert MAP.stress_version == "v1"


def test_a_family_left_out_does_not_influence_its_own_prediction():
    """Neither its labels through the per-unit model, nor its error rates through the map."""
    changed, _, _ = parts(relabelled(COPIES, "noise"))
    own = POOL.family_rows("noise")
    assert (changed.errors[own] != POOL.errors[own]).any()
    before = stress_fit._cross_fit_stressed(POOL, without=own)
    assert_array_equal(stress_fit._cross_fit_stressed(changed, without=own), before)
    everything = stress_fit._cross_fit_stressed(POOL, without=np.zeros_like(own))
    assert not np.allclose(stress_fit._cross_fit_stressed(changed, without=np.zeros_like(own)), everything)

    base = {f: stress_fit._base_column(before, WINDOWS) for f in ("noise", "scale", "shift")}
    own_windows = TABLE.families == "noise"
    wrong = replace(TABLE, error_rates=np.where(own_windows, 1.0 - TABLE.error_rates, TABLE.error_rates))
    one, two = (stress_fit._leave_out(table, base, base["noise"]) for table in (TABLE, wrong))
    assert_array_equal(one[own_windows], two[own_windows])
    others = ~own_windows & np.isfinite(one)
    assert (one[others] != two[others]).mean() > 0.9


def test_a_row_and_its_copies_are_scored_by_a_model_that_saw_neither():
    assert_array_equal(POOL.folds[len(REFERENCE) :], FIT.folds[COPIES.origins])
    proba = stress_fit._cross_fit_stressed(POOL, without=np.zeros(len(POOL.errors), bool))
    train = POOL.folds != 2
    errors, clean = POOL.errors[train], POOL.set_index[train] < 0
    weight = np.where(clean, 0.5 / clean.sum(), 0.5 / (~clean).sum())
    model = fit_monotone(
        POOL.units.risk_scores[train], errors, penalty=penalty_for(int(errors.sum()), len(errors)), sample_weight=weight
    )
    assert_allclose(proba[~train], model.probability(POOL.units.risk_scores[~train]), rtol=1e-9)


def test_training_windows_carry_their_true_rate_and_the_default_estimate():
    for row in (0, 20, len(WINDOWS) - 1):
        rows = WINDOWS[row].rows
        proba = POOL.units.error_proba[rows]
        assert TABLE.error_rates[row] == pytest.approx(POOL.errors[rows].mean())
        above = (proba > FIT.window_reference.threshold_ep).mean()
        expected = max(proba.mean(), above) if REFERENCE.errors.sum() >= 50 else proba.mean()
        assert TABLE.defaults[row] == pytest.approx(expected)
        assert TABLE.columns[row, 1] == pytest.approx(float(clipped_logit(proba.mean())))


def test_the_width_is_the_90_percent_quantile_of_residuals_and_at_least_2():
    log_odds = clipped_logit(np.clip(TABLE.error_rates + 0.2, 0, 1))
    log_odds[TABLE.families == "clean"] = np.nan
    got = stress_fit.width_factor(stress_fit._residuals(TABLE, log_odds, 1.0, FIT.window_reference))
    rows = np.isfinite(log_odds)
    rate, truth, n = blend(TABLE.defaults, log_odds, 1.0)[rows], TABLE.error_rates[rows], TABLE.sizes[rows]
    r0 = REFERENCE.errors.mean()
    variance = rate * (1 - rate) * (1 / n + 1 / 500)
    variance += (0.25 * TABLE.spreads[rows]) ** 2 + (0.2 * (rate - r0)) ** 2 + 0.004**2
    assert got == pytest.approx(np.quantile(np.abs(rate - truth) / np.sqrt(variance), 0.9))
    assert got > 2.0
    perfect = stress_fit._residuals(TABLE, clipped_logit(TABLE.error_rates), 1.0, FIT.window_reference)
    assert stress_fit.width_factor(perfect) == 2.0


def test_the_share_of_windows_that_the_interval_held_is_told_by_family():
    families = np.array(["a", "a", "a", "a", "b", "b", "clean", "clean"])
    residuals = np.array([0.1, 1.9, 2.5, 2.6, 2.5, np.nan, 0.0, np.nan])
    errors = {name: FamilyError(0.0, 0.0, 0.0, 1) for name in ("a", "b", "clean")}
    found = stress_fit.with_coverage(errors, families, residuals, 2.5)
    assert {name: error.covered for name, error in found.items()} == {"a": 0.75, "b": 1.0, "clean": 1.0}
    assert all(0.0 <= error.covered <= 1.0 for error in MAP.family_errors.values())


def test_the_same_rows_in_any_order_give_the_same_bytes():
    rng = np.random.default_rng(3)
    assert fit_map().to_bytes() == MAP.to_bytes()
    order, shuffled = rng.permutation(len(REFERENCE)), rng.permutation(len(COPIES.units))
    place = np.argsort(order)
    names = [COPIES.sets[index] for index in rng.permutation(len(COPIES.sets))]
    at = np.array([names.index(name) for name in COPIES.sets])
    copies = StressedCopies(
        units=COPIES.units.take(shuffled),
        origins=place[COPIES.origins][shuffled],
        set_index=at[COPIES.set_index][shuffled],
        sets=names,
    )
    assert fit_map(REFERENCE.take(order), copies).to_bytes() == MAP.to_bytes()


def test_another_seed_draws_other_windows():
    assert fit_map(seed=1).to_bytes() != MAP.to_bytes()


def test_codes_enter_the_columns_and_their_honest_unseen_share_can_be_given():
    fitted = fit_estimator(REFERENCE, bank=BANK, head=WORLD.head, codes=CODES, n_codes=12, unseen_ref=0.08)
    copies = replace(COPIES, codes=np.random.default_rng(4).integers(-1, 12, len(COPIES.units)))
    values = {"bank": BANK, "stress_version": "v", "codes": CODES}
    plain = fit_window_map(fitted, REFERENCE, copies, **values)
    honest = fit_window_map(fitted, REFERENCE, copies, **values, cross_fitted_codes=np.full(len(CODES), -1))
    assert plain.ridge.high[10] - plain.ridge.low[10] > 0
    assert honest.to_bytes() != plain.to_bytes()


@pytest.mark.parametrize(
    ("copies", "words"),
    [
        (stress(WORLD, REFERENCE, families=("noise",)), "at least two"),
        (replace(COPIES, sets=[("clean", k, s) if f == "noise" else (f, k, s) for f, k, s in COPIES.sets]), "'clean'"),
        (replace(COPIES, origins=COPIES.origins + 400), "origins run from"),
    ],
)
def test_copies_that_nothing_can_be_learned_from_are_refused(copies, words):
    with pytest.raises(InvalidInputError, match=words):
        fit_map(copies=copies)


def test_a_coarse_or_foreign_reference_is_refused():
    small = REFERENCE.take(np.arange(50))
    with pytest.raises(InvalidInputError, match="fewer than 60 units"):
        fit_map(small, stress(WORLD, small, v=50))
    with pytest.raises(InvalidInputError, match="fitted on 500 units, 50 were given"):
        fit_window_map(FIT, small, stress(WORLD, small, v=50), bank=BANK, stress_version="v")


def test_a_reference_without_errors_learns_from_the_errors_of_its_copies():
    right = REFERENCE.take(np.flatnonzero(~REFERENCE.errors))
    learned = fit_map(right, stress(WORLD, right))
    assert learned.stressed_model.weights.max() > 0
    assert learned.width_factor >= 2.0


def test_a_model_without_features_gets_a_map_of_its_outputs():
    def plain(units: ReferenceUnits) -> ReferenceUnits:
        return ReferenceUnits(labels=units.labels, keys=units.keys, logits=units.logits)

    reference, copies = plain(REFERENCE), replace(COPIES, units=plain(COPIES.units))
    bank = select_bank(plain(TRAIN))
    learned = fit_window_map(
        fit_estimator(reference, bank=bank), reference, copies, bank=bank, stress_version="outputs"
    )
    assert (learned.ridge.weights[[8, 9]] == 0).all()
    assert learned.ridge.weights[0] > 0
