"""The overlay flags ambiguity that the model states, and nothing on a model that knows nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from mld_pipelines.diagnosis import CRITICAL, HOTSPOT, OPERATIONAL, RECESSIVE, STABLE, find_aleatoric, unit_ambiguity
from mld_pipelines.exceptions import InvalidInputError


def _log(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows))


def _blend(n: int, *, honest: bool, classes: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units between classes 0 and 1: an honest model says so, a proud one is sure of class 0."""
    scores = np.full((n, classes), -8.0)
    scores[:, 0], scores[:, 1] = (0.1, 0.0) if honest else (6.0, 0.0)
    labels = np.random.default_rng(seed).integers(0, 2, n)
    return scores, labels, labels != 0


@pytest.mark.feature("H19")
def test_excess_variance_and_rivals_by_hand() -> None:
    units = unit_ambiguity(_log([0.5, 0.4, 0.1], [0.5, 0.4, 0.1]), [0, 2], temperature=1.0)
    p = np.array([0.5, 0.4, 0.1])
    h = entropy(p)
    np.testing.assert_allclose(units.excess, [np.log(2) - h, np.log(10) - h])
    np.testing.assert_allclose(units.variance, np.full(2, (p * np.log(p) ** 2).sum() - h**2))
    assert units.rivals.tolist() == [2, 2]


def test_temperature_flattens_the_distribution() -> None:
    units = unit_ambiguity(_log([0.8, 0.2]), [0], temperature=2.0)
    p = np.sqrt([0.8, 0.2]) / np.sqrt([0.8, 0.2]).sum()
    np.testing.assert_allclose(units.excess, [-np.log(p[0]) - entropy(p)])


@pytest.mark.feature("H19")
def test_excess_sums_to_net_loss_minus_net_entropy() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(500, 7)), rng.integers(0, 7, 500)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(500), labels]).sum() - entropy(p, axis=1).sum()
    assert unit_ambiguity(logits, labels, temperature=1.0).excess.sum() == pytest.approx(expected)


@pytest.mark.feature("H19")
def test_excess_of_a_calibrated_model_is_standard_normal_noise() -> None:
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(4), 40_000)
    labels = (rng.random((40_000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    units = unit_ambiguity(np.log(p), labels, temperature=1.0)
    z = units.excess.reshape(400, 100).sum(axis=1) / np.sqrt(units.variance.reshape(400, 100).sum(axis=1))
    assert abs(z.mean()) < 4 / 20
    assert z.std() == pytest.approx(1.0, abs=0.15)


@pytest.mark.feature("H19")
@pytest.mark.parametrize(
    ("honest", "category", "flagged"),
    [
        (True, HOTSPOT, True), (True, CRITICAL, True), (True, RECESSIVE, True), (True, OPERATIONAL, False),
        (True, STABLE, False), (False, HOTSPOT, False),
    ],
)  # fmt: skip
def test_stated_ambiguity_in_a_bad_code_is_aleatoric(honest: bool, category: str, flagged: bool) -> None:
    scores, labels, wrong = _blend(60, honest=honest)
    found = find_aleatoric(
        unit_ambiguity(scores, labels, temperature=1.0),
        np.zeros(60, int),
        wrong,
        category=[category, RECESSIVE],
        n_classes=10,
    )
    assert found.is_aleatoric.tolist() == [flagged, False]
    assert np.isnan(found.z[1])


@pytest.mark.feature("H19")
def test_fewer_than_three_errors_are_never_aleatoric() -> None:
    scores, _, _ = _blend(30, honest=True)
    for errors, flagged in ((2, False), (3, True)):
        labels = np.zeros(30, int)
        labels[:errors] = 1
        found = find_aleatoric(
            unit_ambiguity(scores, labels, temperature=1.0), np.zeros(30, int), labels != 0,
            category=[RECESSIVE, RECESSIVE], n_classes=10,
        )  # fmt: skip
        assert bool(found.is_aleatoric[0]) == flagged


@pytest.mark.feature("H19")
def test_ignorance_over_many_classes_is_not_ambiguity() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 10)) * 0.05, rng.integers(0, 10, 200)
    found = find_aleatoric(
        unit_ambiguity(scores, labels, temperature=1.0), np.zeros(200, int), scores.argmax(axis=1) != labels,
        category=[HOTSPOT, RECESSIVE], n_classes=10,
    )  # fmt: skip
    assert found.z[0] <= 1.645
    assert found.rivals[0] == 10
    assert not found.is_aleatoric.any()


@pytest.mark.feature("H19")
@pytest.mark.parametrize("classes", [2, 3])
def test_two_rivals_are_few_classes_however_few_there_are(classes: int) -> None:
    scores, labels, wrong = _blend(60, honest=True, classes=classes)
    units = unit_ambiguity(scores, labels, temperature=1.0)
    found = find_aleatoric(units, np.zeros(60, int), wrong, category=[HOTSPOT, RECESSIVE], n_classes=classes)
    assert found.rivals[0] == 2
    assert found.is_aleatoric[0]


@pytest.mark.feature("H19")
def test_unseen_is_never_aleatoric() -> None:
    scores, labels, wrong = _blend(60, honest=True)
    units = unit_ambiguity(scores, labels, temperature=1.0)
    found = find_aleatoric(units, np.full(60, -1), wrong, category=[HOTSPOT, RECESSIVE], n_classes=10)
    assert found.z[-1] <= 1.645
    assert not found.is_aleatoric.any()


@pytest.mark.feature("H19")
def test_one_hot_and_wrong_is_infinitely_surprising() -> None:
    scores = np.tile([800.0, 0.0, 0.0], (5, 1))
    found = find_aleatoric(
        unit_ambiguity(scores, np.ones(5, int), temperature=1.0), np.zeros(5, int), np.ones(5, bool),
        category=[HOTSPOT, RECESSIVE], n_classes=3,
    )  # fmt: skip
    assert found.z[0] == np.inf
    assert not found.is_aleatoric[0]


def test_guard_can_only_take_a_flag_away() -> None:
    scores, labels, wrong = _blend(60, honest=True)
    units = unit_ambiguity(scores, labels, temperature=1.0)
    for guard, flagged in (([True, True], True), ([False, True], False)):
        found = find_aleatoric(
            units, np.zeros(60, int), wrong, category=[HOTSPOT, RECESSIVE], n_classes=10, guards=[guard]
        )
        assert bool(found.is_aleatoric[0]) == flagged


def test_blocks_of_units_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    whole = unit_ambiguity(logits, labels, temperature=1.3)
    monkeypatch.setattr("mld_pipelines.diagnosis._aleatoric._ELEMENTS_AT_ONCE", 28)
    np.testing.assert_array_equal(unit_ambiguity(logits, labels, temperature=1.3).excess, whole.excess)


@pytest.mark.parametrize(
    ("scores", "labels", "temperature"),
    [([[0.0, 1.0]], [2], 1.0), ([[0.0, 1.0]], [0, 1], 1.0), ([[0.0, 1.0]], [0], 0.0), ([[0.0]], [0], 1.0)],
)
def test_bad_units_are_an_error(scores: list[list[float]], labels: list[int], temperature: float) -> None:
    with pytest.raises(InvalidInputError):
        unit_ambiguity(scores, labels, temperature=temperature)
