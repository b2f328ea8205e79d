"""The production scorer: what a Logger, the scored asset and the SDK all call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from mld_pipelines.diagnosis import (
    Codebook,
    CodebookIdentity,
    ErrorEstimator,
    Policy,
    ProductionScorer,
    ScoredUnits,
    StressWindowState,
    WindowReference,
    estimate_stressed_window,
    fit_codebook,
    fit_estimator,
    fit_window_map,
    select_bank,
)
from mld_pipelines.diagnosis._categories import RECESSIVE
from mld_pipelines.exceptions import InvalidInputError
from tests.support.estimation import World
from tests.support.stressing import stress

WORLD = World(spread=1.2)
TRAIN = WORLD.units(400, "train", seed=1)
REFERENCE = WORLD.units(600, "val", seed=2)
TRAFFIC = WORLD.units(300, "production", seed=3)
POLICY = Policy()


def make(*, features: bool = True, codes: bool = True) -> ProductionScorer:
    reference = REFERENCE if features else WORLD.units(600, "val", seed=2, features=False)
    codebook, index = None, None
    if codes and features:
        identity = CodebookIdentity(
            model_name="net", fingerprint="f", feature_layer="fc", feature_dim=16, output_kind="logits", n_classes=5
        )
        probabilities = softmax(reference.logits.astype(np.float64), axis=1)
        fitted = fit_codebook(reference.features, probabilities, identity=identity, policy=POLICY)
        codebook, index = fitted.codebook, fitted.assignment.index
    fit = fit_estimator(
        reference,
        bank=select_bank(TRAIN) if features else None,
        head=WORLD.head if features else None,
        codes=index,
        n_codes=0 if codebook is None else codebook.n_codes,
        unseen_ref=None if codebook is None else codebook.unseen_ref,
    )
    names = () if codebook is None else codebook.names
    return ProductionScorer(
        result_name="net_v1",
        estimator_version="abc",
        fingerprint="f",
        codebook=codebook,
        estimator=fit.estimator,
        issues={name: ("hotspot", True) if position == 0 else ("stable", False) for position, name in enumerate(names)},
        window_reference=fit.window_reference,
    )


SCORER = make()


def score(rows: slice | np.ndarray = slice(None), scorer: ProductionScorer = SCORER, **changes: object) -> ScoredUnits:
    values = {"logits": TRAFFIC.logits[rows], "features": TRAFFIC.features[rows], **changes}
    return scorer.score(**values)  # type: ignore[arg-type]


WHOLE = score()


def assert_equal(part: ScoredUnits, rows: slice | np.ndarray, whole: ScoredUnits = WHOLE) -> None:
    for name in ("error_proba", "support_distance", "risk_scores", "confidence_t", "is_invalid"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])
    positions = np.arange(300)[rows]
    for name in ("error_code", "category", "is_aleatoric"):
        assert getattr(part, name) == [getattr(whole, name)[position] for position in positions]


@pytest.mark.feature("I18")
def test_every_unit_gets_an_error_probability_a_code_and_a_category():
    assert WHOLE.error_proba.dtype == np.float32
    assert ((WHOLE.error_proba > 0) & (WHOLE.error_proba < 1)).all()
    assert set(WHOLE.error_code) <= {*SCORER.codebook.names, "UNSEEN"}
    assert set(WHOLE.category) <= {"hotspot", "stable", RECESSIVE}
    assert WHOLE.risk_scores.shape == (300, 10)
    assert np.isfinite(WHOLE.risk_scores).all()
    assert (WHOLE.support_distance >= 0).all()
    assert WHOLE.n_invalid == 0


@pytest.mark.feature("I18")
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 299), max_size=4, unique=True))
def test_columns_do_not_depend_on_the_batch(cuts):
    """Bit for bit."""
    for part in np.split(np.arange(300), sorted(cuts)):
        rows = slice(int(part[0]), int(part[-1]) + 1)
        assert_equal(score(rows), rows)


def test_columns_do_not_depend_on_the_order_of_the_units():
    order = np.random.default_rng(0).permutation(300)
    assert_equal(score(order), order)


@pytest.mark.feature("I18")
def test_stored_and_loaded_state_scores_the_same():
    """Logger, asset and SDK each load the artifacts; the columns must be equal bit for bit."""
    loaded = replace(
        SCORER,
        codebook=Codebook.from_bytes(SCORER.codebook.to_bytes()),
        estimator=ErrorEstimator.from_bytes(SCORER.estimator.to_bytes()),
        window_reference=WindowReference.from_bytes(SCORER.window_reference.to_bytes()),
    )
    assert_equal(score(scorer=loaded), slice(None))


def test_error_probability_is_the_estimators_for_the_same_record():
    codes = SCORER.codebook.assign(TRAFFIC.features, softmax(TRAFFIC.logits.astype(np.float64), axis=1)).index
    scores = SCORER.estimator.risk_scores(logits=TRAFFIC.logits, features=TRAFFIC.features, codes=codes)
    np.testing.assert_array_equal(WHOLE.error_proba, SCORER.estimator.error_proba(scores).astype(np.float32))
    again = SCORER.estimator.error_proba(WHOLE.risk_scores.astype(np.float64))
    np.testing.assert_array_equal(WHOLE.error_proba, again.astype(np.float32))


def test_codes_equal_those_of_the_evaluation():
    assignment = SCORER.codebook.assign(REFERENCE.features, softmax(REFERENCE.logits.astype(np.float64), axis=1))
    names = SCORER.codebook.code_names(assignment.index).tolist()
    assert SCORER.score(logits=REFERENCE.logits, features=REFERENCE.features).error_code == names


def test_category_and_overlay_follow_the_code():
    for code, category, aleatoric in zip(WHOLE.error_code, WHOLE.category, WHOLE.is_aleatoric, strict=True):
        assert (category, aleatoric) == SCORER.issues.get(code, (RECESSIVE, False))


def test_an_unseen_input_is_recessive():
    far = TRAFFIC.features[:3] + np.float32(1000)
    units = SCORER.score(logits=TRAFFIC.logits[:3], features=far)
    assert units.error_code == ["UNSEEN"] * 3
    assert units.category == [RECESSIVE] * 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["logits", "features"])
def test_a_unit_that_is_not_finite_is_null_and_counted_and_the_others_are_untouched(field, value):
    broken = getattr(TRAFFIC, field).copy()
    broken[[0, 7], 2] = value
    units = score(**{field: broken})
    assert units.n_invalid == 2
    assert units.is_invalid[[0, 7]].all()
    for name in ("error_proba", "support_distance", "confidence_t"):
        assert np.isnan(getattr(units, name)[[0, 7]]).all()
    assert np.isnan(units.risk_scores[[0, 7]]).all()
    assert (units.error_code[7], units.category[7], units.is_aleatoric[7]) == (None, None, None)
    rest = np.delete(np.arange(300), [0, 7])
    np.testing.assert_array_equal(units.error_proba[rest], WHOLE.error_proba[rest])


def test_no_units_give_empty_columns():
    units = score(slice(0, 0))
    assert len(units.error_proba) == len(units.error_code) == units.n_invalid == 0
    assert units.risk_scores.shape == (0, 10)


def test_only_invalid_units_give_null_columns():
    units = score(slice(0, 2), logits=np.full((2, 5), np.nan, dtype=np.float32))
    assert units.n_invalid == 2
    assert units.error_code == [None, None]


def test_units_without_their_features_stay_unscored_but_valid():
    units = SCORER.score(logits=TRAFFIC.logits)
    assert np.isnan(units.error_proba).all()
    assert units.error_code == [None] * 300
    assert units.n_invalid == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": TRAFFIC.logits[:, :4]}, r"\(units, 5\)"),
        ({"logits": TRAFFIC.logits[:, 0]}, r"\(units, 5\)"),
        ({"features": TRAFFIC.features[:, :4]}, r"needs \(300, 16\)"),
        ({"features": TRAFFIC.features[:4]}, r"needs \(300, 16\)"),
        ({"keys": ["a"]}, "1 keys were given for 300 units"),
        ({"logits": None}, "outputs have shape"),
    ],
)
def test_a_wrong_shape_is_a_clear_error(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        score(**changes)


def test_half_precision_outputs_score_like_their_stored_values():
    half = TRAFFIC.logits.astype(np.float16)
    np.testing.assert_array_equal(score(logits=half).error_proba, score(logits=half.astype(np.float32)).error_proba)


def test_wider_floats_are_rounded_to_what_is_stored():
    assert_equal(
        score(logits=TRAFFIC.logits.astype(np.float64), features=TRAFFIC.features.astype(np.float64)), slice(None)
    )


def test_probabilities_are_accepted_where_there_are_no_logits():
    p = softmax(TRAFFIC.logits.astype(np.float64), axis=1)
    units = score(logits=None, probabilities=p)
    assert np.isfinite(units.error_proba).all()
    agree = np.mean(np.array(units.error_code) == np.array(WHOLE.error_code))
    assert agree > 0.99  # probabilities are rounded to float32, a place on a border may change


def test_a_bank_unit_is_recognised_by_its_key():
    known = SCORER.score(logits=TRAIN.logits, features=TRAIN.features, keys=list(TRAIN.keys))
    unknown = SCORER.score(logits=TRAIN.logits, features=TRAIN.features)
    assert (known.risk_scores[:, 3] >= unknown.risk_scores[:, 3]).all()
    assert (known.risk_scores[:, 3] > unknown.risk_scores[:, 3]).any()


def test_without_a_codebook_units_are_uncoded():
    scorer = make(codes=False)
    units = score(scorer=scorer)
    assert set(units.error_code) == {"UNCODED"}
    assert set(units.category) == {RECESSIVE}
    assert np.isnan(units.support_distance).all()
    assert np.isfinite(units.error_proba).all()


def test_without_features_confidence_alone_scores():
    scorer = make(features=False)
    units = scorer.score(logits=TRAFFIC.logits)
    assert np.isfinite(units.error_proba).all()
    order = np.argsort(softmax(TRAFFIC.logits.astype(np.float64), axis=1).max(axis=1))
    assert (np.diff(units.error_proba[order]) <= 1e-6).all()


def test_features_beyond_need_are_ignored():
    scorer = make(features=False)
    np.testing.assert_array_equal(score(scorer=scorer).error_proba, scorer.score(logits=TRAFFIC.logits).error_proba)


def test_scored_by_names_result_and_estimator():
    assert SCORER.scored_by == "net_v1#abc"


def test_inputs_are_left_alone():
    logits, features = TRAFFIC.logits.copy(), TRAFFIC.features.copy()
    logits[3, 1] = np.nan
    before = logits.copy(), features.copy()
    SCORER.score(logits=logits, features=features)
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(features, before[1])


# windows


def mapped() -> ProductionScorer:
    """A scorer with a stress map, without codes."""
    reference = WORLD.units(600, "val", seed=2)
    bank = select_bank(TRAIN)
    fit = fit_estimator(reference, bank=bank, head=WORLD.head)
    window_map = fit_window_map(fit, reference, stress(WORLD, reference), bank=bank, stress_version="s")
    return replace(
        make(codes=False), estimator=fit.estimator, window_reference=fit.window_reference, window_map=window_map
    )


@pytest.fixture(scope="module")
def with_map() -> ProductionScorer:
    return mapped()


def stress_state(scorer: ProductionScorer, scored: ScoredUnits, rows: slice = slice(None)) -> StressWindowState:
    return scorer.stress_state(
        error_proba=scored.error_proba[rows],
        risk_scores=scored.risk_scores[rows],
        logits=TRAFFIC.logits[rows],
        features=TRAFFIC.features[rows],
    )


def test_a_window_state_counts_scored_units_and_their_codes():
    state = SCORER.window_state(WHOLE)
    assert (state.n, state.n_invalid) == (300, 0)
    assert state.sum_error_proba == pytest.approx(float(WHOLE.error_proba.astype(np.float64).sum()))
    assert state.n_unseen == WHOLE.error_code.count("UNSEEN")
    assert sum(state.code_counts) == 300 - state.n_unseen
    assert state.code_counts[0] == WHOLE.error_code.count(SCORER.codebook.names[0])


def test_without_a_codebook_a_window_state_has_no_codes():
    scorer = make(codes=False)
    assert scorer.window_state(score(scorer=scorer)).code_counts == ()


def test_without_a_map_there_is_no_stress_state():
    assert stress_state(SCORER, WHOLE).n == 0


def test_stress_states_of_parts_add_up_to_that_of_the_whole(with_map, monkeypatch):
    scored = score(scorer=with_map)
    whole = stress_state(with_map, scored)
    parts = stress_state(with_map, scored, slice(0, 110)) + stress_state(with_map, scored, slice(110, None))
    monkeypatch.setattr("mld_pipelines.diagnosis._scorer.CHUNK_UNITS", 37)
    pieces = stress_state(with_map, scored)
    assert whole.n == parts.n == pieces.n == 300
    for name, value in whole.to_dict().items():
        np.testing.assert_allclose(getattr(parts, name), value, rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(getattr(pieces, name), value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_units_that_were_not_scored_are_in_neither_state(with_map):
    logits = TRAFFIC.logits.copy()
    logits[::3] = np.nan
    scored = score(scorer=with_map, logits=logits)
    state = with_map.stress_state(
        error_proba=scored.error_proba, risk_scores=scored.risk_scores, logits=logits, features=TRAFFIC.features
    )
    assert state.n == with_map.window_state(scored).n == 200


def test_states_of_scored_units_give_the_estimate_of_the_map(with_map):
    scored = score(scorer=with_map)
    estimate = estimate_stressed_window(
        with_map.window_state(scored),
        stress_state(with_map, scored),
        reference=with_map.window_reference,
        window_map=with_map.window_map,
    )
    assert estimate.n == 300
    assert "not verified under shift" not in estimate.badges
    assert 0.0 <= estimate.low <= estimate.error_rate <= estimate.high <= 1.0
