"""What distinguishes a code: effects by hand, nothing where chance explains the difference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mld_pipelines.diagnosis import Choice, Measure, distinguish


def measure(values: object, name: str = "m", group: str | None = None) -> Measure:
    return Measure(name=name, group=group or name, values=np.asarray(values, dtype=float))


def choice(values: object, labels: tuple[str, ...], name: str = "c", group: str | None = None) -> Choice:
    return Choice(name=name, group=group or name, values=np.asarray(values, dtype=np.int64), labels=labels)


HALVES = np.repeat([0, 1], 50)


def test_the_effect_of_a_measure_is_the_difference_of_means_in_standard_deviations() -> None:
    values = np.concatenate([np.tile([0.0, 2.0], 25), np.tile([4.0, 6.0], 25)])
    (first,), (second,) = distinguish(HALVES, n_codes=2, measures=[measure(values)], choices=[])
    # All 100 values: mean 3, variance (9 + 1 + 1 + 9) / 4 = 5.
    assert first.effect == pytest.approx(-4 / math.sqrt(5))
    assert second.effect == pytest.approx(4 / math.sqrt(5))
    assert (first.inside, first.outside) == (pytest.approx(1.0), pytest.approx(5.0))
    assert first.label is None


def test_the_effect_of_a_choice_is_cohens_h_of_its_most_different_value() -> None:
    values = np.array([0] * 10 + [1] * 40 + [0] * 45 + [1] * 3 + [2] * 2)
    (first,), _ = distinguish(HALVES, n_codes=2, measures=[], choices=[choice(values, ("day", "night", "dusk"))])
    assert first.label == "night"
    assert (first.inside, first.outside) == (pytest.approx(0.8), pytest.approx(0.06))
    assert first.effect == pytest.approx(2 * math.asin(math.sqrt(0.8)) - 2 * math.asin(math.sqrt(0.06)))


def test_of_two_opposite_values_the_frequent_one_is_named() -> None:
    values = np.array([0] * 10 + [1] * 40 + [0] * 40 + [1] * 10)
    first, second = distinguish(HALVES, n_codes=2, measures=[], choices=[choice(values, ("day", "night"))])
    assert (first[0].label, second[0].label) == ("night", "day")


def test_one_difference_per_group_and_three_at_most_the_largest_first() -> None:
    rng = np.random.default_rng(0)
    shifts = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 4.0, "e": 1.5}
    measures = [
        measure(rng.normal(size=100) + shift * HALVES, name, "twins" if name in "bd" else name)
        for name, shift in shifts.items()
    ]
    first, _ = distinguish(HALVES, n_codes=2, measures=measures, choices=[])
    assert [found.name for found in first] == ["d", "c", "e"]


def test_the_largest_difference_in_context_has_a_place() -> None:
    rng = np.random.default_rng(0)
    shifts = {"a": 3.0, "b": 4.0, "c": 3.5, "d": 5.0}
    measures = [measure(rng.normal(size=100) + shift * HALVES, name) for name, shift in shifts.items()]
    context = [
        Measure(name=name, group=name, values=rng.normal(size=100) + shift * HALVES, is_context=True)
        for name, shift in {"site": 1.0, "lamp": 1.5}.items()
    ]
    noise = Measure(name="noise", group="noise", values=rng.normal(size=100), is_context=True)
    for given, expected in (
        (measures, ["d", "b", "c"]),
        ([*measures, *context], ["d", "b", "lamp"]),
        ([*measures, noise], ["d", "b", "c"]),
        ([*measures[:1], *context], ["a", "lamp", "site"]),
    ):
        first, _ = distinguish(HALVES, n_codes=2, measures=given, choices=[])
        assert [found.name for found in first] == expected


def test_codes_that_differ_in_nothing_are_said_to_differ_in_nothing() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 200, 20_000)
    measures = [measure(rng.normal(size=20_000), f"m{i}") for i in range(10)]
    choices = [choice(rng.integers(0, 20, 20_000), tuple(map(str, range(20))))]
    found = distinguish(codes, n_codes=200, measures=measures, choices=choices)
    # Level 0.05 per code: 10 of 200 expected at most, 3 standard deviations above are 19.
    assert sum(bool(one) for one in found) <= 19


def test_two_units_are_too_few_to_say_anything() -> None:
    codes = np.array([0] * 2 + [1] * 98)
    values = np.array([1] * 2 + [1] * 40 + [0] * 58)
    assert distinguish(codes, n_codes=2, measures=[], choices=[choice(values, ("a", "b"))])[0] == ()


def test_a_certain_but_tiny_difference_is_not_named() -> None:
    codes = np.repeat([0, 1], 100_000)
    values = np.random.default_rng(2).normal(size=200_000) + 0.1 * codes
    assert distinguish(codes, n_codes=2, measures=[measure(values)], choices=[]) == [(), ()]


@pytest.mark.parametrize(
    "values", [np.ones(100), np.full(100, np.nan), np.full(100, 1e300), np.where(np.arange(100) == 0, np.inf, 1.0)]
)
def test_a_measure_without_spread_distinguishes_nothing(values: np.ndarray) -> None:
    assert distinguish(HALVES, n_codes=2, measures=[measure(values)], choices=[]) == [(), ()]


def test_unknown_values_are_left_out_of_the_means() -> None:
    values = np.concatenate([np.tile([0.0, 2.0, np.nan, 0.0, 2.0], 10), np.tile([4.0, 6.0], 25)])
    (first,), _ = distinguish(HALVES, n_codes=2, measures=[measure(values)], choices=[])
    assert (first.inside, first.outside) == (pytest.approx(1.0), pytest.approx(5.0))


def test_large_numbers_keep_their_difference() -> None:
    stamps = 1.7e18 + 1e9 * np.concatenate([np.arange(50), 1000 + np.arange(50)])
    (first,), _ = distinguish(HALVES, n_codes=2, measures=[measure(stamps)], choices=[])
    assert first.effect == pytest.approx(
        -1000 / np.std(np.concatenate([np.arange(50), 1000 + np.arange(50)])), rel=1e-3
    )


def test_empty_codes_and_a_single_code_have_no_difference() -> None:
    values = np.arange(100.0)
    assert distinguish(np.zeros(100, dtype=int), n_codes=1, measures=[measure(values)], choices=[]) == [()]
    assert distinguish(HALVES, n_codes=3, measures=[measure(values)], choices=[])[2] == ()
    assert distinguish(np.empty(0, dtype=int), n_codes=2, measures=[measure([])], choices=[]) == [(), ()]


def test_sentences_say_the_direction_and_the_numbers() -> None:
    values = np.concatenate([np.tile([0.0, 2.0], 25), np.tile([4.0, 6.0], 25)])
    first, second = distinguish(HALVES, n_codes=2, measures=[measure(values, "knn")], choices=[])
    assert first[0].sentence == (
        "close to training examples: 1.8 standard deviations below the rest (mean 1, elsewhere 5)"
    )
    assert second[0].sentence.startswith("far from any training example: 1.8 standard deviations above")
    night = np.array([0] * 10 + [1] * 40 + [0] * 50)
    ((named, *_), _) = distinguish(HALVES, n_codes=2, measures=[], choices=[choice(night, ("day", "night"), "light")])
    assert named.sentence == "light is night for 80 % of its units, 0 % elsewhere"
