"""Contradictions between datasets, judged by SciPy's Beta distribution and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from mld_pipelines.diagnosis import Policy, categorise, find_vetoes, probability_exceeds
from mld_pipelines.exceptions import InvalidInputError

COUNTS = st.integers(0, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


def _by_quantiles(a: tuple[int, int], b: tuple[int, int], margin: float) -> float:
    """Mean over 100,000 quantiles of one posterior of the other's tail: SciPy alone, no shared code."""
    first, second = (beta(k + 0.5, n - k + 0.5) for n, k in (a, b))
    levels = (np.arange(100_000) + 0.5) / 100_000
    if b[0] >= a[0]:
        return float(first.sf(second.ppf(levels) + margin).mean())
    return float(second.cdf(first.ppf(levels) - margin).mean())


@pytest.mark.feature("H14", "H15")
@pytest.mark.parametrize(
    ("a", "b", "margin"),
    [
        ((20, 3), (60, 0), 0.05), ((100, 12), (100, 4), 0.05), ((5000, 400), (38, 0), 0.05), ((20, 20), (20, 0), 0.5),
        ((40, 2), (20_000, 900), 0.05), ((1, 1), (1, 0), 0.05), ((0, 0), (50, 1), 0.05),
        ((90_000, 5200), (300, 2), 0.05),
        ((77, 3), (77, 3), 0.0),
    ],
)  # fmt: skip
def test_chance_of_a_larger_rate_is_that_of_two_beta_distributions(
    a: tuple[int, int], b: tuple[int, int], margin: float
) -> None:
    got = probability_exceeds([a[0]], [a[1]], [b[0]], [b[1]], margin=margin)[0]
    assert got == pytest.approx(_by_quantiles(a, b, margin), abs=2e-5)


@given(COUNTS, COUNTS)
def test_one_of_two_rates_is_the_larger(a: tuple[int, int], b: tuple[int, int]) -> None:
    chances = [probability_exceeds([x[0]], [x[1]], [y[0]], [y[1]], margin=0.0)[0] for x, y in ((a, b), (b, a))]
    assert sum(chances) == pytest.approx(1.0, abs=2e-5)


def _veto(deciding: tuple[int, int], other: tuple[int, int], **policy: float) -> tuple[bool, bool, tuple[str, ...]]:
    found = find_vetoes([deciding[0]], [deciding[1]], {"d": ([other[0]], [other[1]])}, policy=Policy(**policy))
    return bool(found.stable[0]), bool(found.operational[0]), found.by[0]


@pytest.mark.feature("H14", "H15")
@pytest.mark.parametrize(
    ("other", "stable", "operational"),
    [
        # P(θ > 0.2) ≥ 0.95 takes 15 of 50 (the table of docs/method.md#categories); P(θ > 0.05) takes 6 of 50.
        ((50, 15), True, True),
        ((50, 14), True, False),
        ((50, 6), True, False),
        ((50, 5), False, False),
        ((50, 0), False, False),
        ((19, 19), False, False),
        ((20, 20), True, True),
        ((0, 0), False, False),
    ],
)
def test_another_dataset_contradicts_when_it_is_surely_above_a_tolerance(
    other: tuple[int, int], stable: bool, operational: bool
) -> None:
    assert beta.sf(0.05, 6.5, 44.5) >= 0.95 > beta.sf(0.05, 5.5, 45.5)
    assert _veto((200, 0), other) == (stable, operational, ("d",) if stable else ())


@pytest.mark.feature("H14")
def test_a_sure_gap_contradicts_although_both_rates_are_tolerated() -> None:
    """With τ_s at 0.15, 11 % against 1 % is within the tolerance, but it is not the same code any more."""
    wide = {"tau_stable": 0.15}
    assert beta.sf(0.15, 110.5, 890.5) < 0.05
    assert _by_quantiles((1000, 110), (1000, 10), 0.05) > 0.95
    assert _veto((1000, 10), (1000, 110), **wide) == (True, False, ("d",))
    assert _veto((1000, 10), (1000, 60), **wide) == (False, False, ())
    assert _veto((1000, 110), (1000, 10), **wide) == (False, False, ())


@pytest.mark.feature("H14", "H15")
def test_every_dataset_may_contradict_and_all_that_do_are_named() -> None:
    found = find_vetoes(
        [200, 200], [0, 0], {"test": ([50, 50], [15, 0]), "train": ([50, 50], [6, 0]), "more": ([9, 9], [9, 9])},
        policy=Policy(),
    )  # fmt: skip
    assert found.by == (("test", "train"), ())
    assert found.stable.tolist() == found.operational.tolist() == [True, False]


@pytest.mark.feature("H14", "H15", "H17")
@pytest.mark.parametrize(
    ("other", "category", "reason"),
    [
        ((50, 0), "stable_coverage", "confirmed"),
        ((50, 6), "operational_coverage", "generalisation_gap"),
        ((50, 15), "recessive_hotspot", "generalisation_gap"),
    ],
)
def test_a_contradicted_code_falls_by_the_tolerance_that_was_broken(
    other: tuple[int, int], category: str, reason: str
) -> None:
    vetoes = find_vetoes([200], [0], {"d": ([other[0]], [other[1]])}, policy=Policy())
    found = categorise([200], [0], [0], policy=Policy(), veto_stable=vetoes.stable, veto_operational=vetoes.operational)
    assert (found.category[0], found.reason[0]) == (category, reason)


def test_equal_datasets_are_hardly_ever_called_contradictory() -> None:
    """512 codes of 200 units at 2 % in both: chance alone must not tear coverage down."""
    rng = np.random.default_rng(0)
    n = np.full(512, 200)
    found = find_vetoes(n, rng.binomial(n, 0.02), {"d": (n, rng.binomial(n, 0.02))}, policy=Policy())
    assert found.stable.mean() <= 0.01


def test_counts_of_other_codes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="same codes"):
        find_vetoes([10, 10], [0, 0], {"d": ([10], [0])}, policy=Policy())
