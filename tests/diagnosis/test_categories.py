"""Categories against the published (n, k) table, SciPy's Beta, numerical integration and hand-made codes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from mld_pipelines.diagnosis import (
    ALEATORIC,
    CATEGORIES,
    CRITICAL,
    HOTSPOT,
    OPERATIONAL,
    REASONS,
    RECESSIVE,
    STABLE,
    Policy,
    atc_threshold,
    categorise,
    category_counts,
    count_codes,
    jeffreys_interval,
)
from mld_pipelines.exceptions import InvalidInputError

POLICY = Policy()


def _category(n: int, k: int, k_unflagged: int = 0) -> str:
    return str(categorise([n], [k], [k_unflagged], policy=POLICY).category[0])


@pytest.mark.feature("H14")
@pytest.mark.parametrize(("k", "n"), [(0, 38), (1, 77), (2, 109), (3, 139)])
def test_smallest_stable_code(k: int, n: int) -> None:
    assert _category(n, k) == STABLE
    assert _category(n - 1, k) == OPERATIONAL


@pytest.mark.feature("H15", "H17")
@pytest.mark.parametrize(("k", "n"), [(0, 9), (1, 18), (2, 26), (3, 33)])
def test_smallest_operational_code(k: int, n: int) -> None:
    assert _category(n, k) == OPERATIONAL
    assert _category(n - 1, k) == RECESSIVE


@pytest.mark.feature("H16", "H17")
@pytest.mark.parametrize(("n", "k"), [(20, 8), (30, 10), (50, 15), (100, 27)])
def test_fewest_errors_of_a_hotspot(n: int, k: int) -> None:
    assert _category(n, k) == HOTSPOT
    assert _category(n, k - 1) == RECESSIVE


@pytest.mark.feature("H17")
def test_undecided_at_fifty_units() -> None:
    assert [k for k in range(51) if _category(50, k) == RECESSIVE] == list(range(6, 15))


@pytest.mark.feature("H18")
def test_hotspot_is_critical_when_confidence_would_not_have_warned() -> None:
    assert _category(50, 40, 15) == CRITICAL
    assert _category(50, 40, 14) == HOTSPOT


@pytest.mark.feature("H17")
def test_small_code_is_never_a_hotspot() -> None:
    verdict = categorise([19], [19], [19], policy=POLICY)
    assert verdict.category.tolist() == [RECESSIVE]
    assert verdict.reason.tolist() == ["few_units"]


@pytest.mark.feature("H14", "H15", "H16", "H17", "H18")
def test_every_pair_follows_an_independent_beta() -> None:
    pairs = np.array([(n, k, u) for n in range(0, 70, 3) for k in range(n + 1) for u in {0, k // 2, k}])
    verdicts = categorise(*pairs.T, policy=POLICY)
    for (n, k, u), category in zip(pairs, verdicts.category, strict=True):
        error, unflagged = beta(k + 0.5, n - k + 0.5), beta(u + 0.5, n - u + 0.5)
        # Quantiles instead of the distribution function: another route to the same verdict.
        if error.ppf(0.95) <= 0.05:
            expected = STABLE
        elif error.ppf(0.95) <= 0.20:
            expected = OPERATIONAL
        elif n >= 20 and error.ppf(0.05) >= 0.20:
            expected = CRITICAL if unflagged.ppf(0.05) >= 0.20 else HOTSPOT
        else:
            expected = RECESSIVE
        assert category == expected, (n, k, u)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_each_code_has_exactly_one_category_and_a_reason(codes: list[tuple[int, float, float]]) -> None:
    n = np.array([size for size, _, _ in codes])
    k = np.array([int(size * share) for size, share, _ in codes])
    u = (k * np.array([share for _, _, share in codes])).astype(int)
    verdicts = categorise(n, k, u, policy=POLICY)
    assert len(verdicts.category) == len(codes)
    assert set(verdicts.category.tolist()) <= set(CATEGORIES)
    assert set(verdicts.reason.tolist()) <= set(REASONS)
    confirmed = verdicts.reason == "confirmed"
    np.testing.assert_array_equal(confirmed, verdicts.category != RECESSIVE)


@pytest.mark.feature("H27")
@pytest.mark.parametrize(
    ("n", "k", "options", "category", "reason"),
    [
        (100, 0, {}, STABLE, "confirmed"),
        (0, 0, {}, RECESSIVE, "few_units"),
        (19, 4, {}, RECESSIVE, "few_units"),
        (20, 4, {}, RECESSIVE, "between_tolerances"),
        (100, 0, {"unseen": [True]}, RECESSIVE, "unseen"),
        (100, 0, {"train_only": True}, STABLE, "train_only"),
        (100, 90, {"train_only": True}, HOTSPOT, "train_only"),
        (19, 4, {"train_only": True}, RECESSIVE, "few_units"),
        (100, 0, {"veto_stable": [True]}, OPERATIONAL, "generalisation_gap"),
        (100, 0, {"veto_operational": [True]}, RECESSIVE, "generalisation_gap"),
        (100, 5, {"veto_stable": [True]}, OPERATIONAL, "confirmed"),
        (100, 90, {"veto_operational": [True]}, HOTSPOT, "confirmed"),
    ],
)
def test_reason_says_why(n: int, k: int, options: dict[str, object], category: str, reason: str) -> None:
    verdict = categorise([n], [k], [0], policy=POLICY, **options)  # type: ignore[arg-type]
    assert (verdict.category.tolist(), verdict.reason.tolist()) == ([category], [reason])


@pytest.mark.feature("H27")
def test_interval_equals_scipy_and_holds_95_percent_of_the_posterior() -> None:
    n, k = np.array([10, 50, 200, 7]), np.array([3, 1, 180, 6])
    low, high = jeffreys_interval(n, k)
    np.testing.assert_allclose(low, beta.ppf(0.025, k + 0.5, n - k + 0.5), rtol=1e-9)
    np.testing.assert_allclose(high, beta.ppf(0.975, k + 0.5, n - k + 0.5), rtol=1e-9)
    # By integration of the density, without any Beta routine: 3 errors of 10.
    log_norm = math.lgamma(3.5) + math.lgamma(7.5) - math.lgamma(11)
    mass, _ = quad(lambda t: math.exp(2.5 * math.log(t) + 6.5 * math.log1p(-t) - log_norm), low[0], high[0])
    assert mass == pytest.approx(0.95, abs=1e-8)


@pytest.mark.feature("H27")
def test_interval_is_closed_at_the_ends() -> None:
    low, high = jeffreys_interval([10, 10, 0], [0, 10, 0])
    assert low.tolist()[0] == 0.0
    assert high[0] == pytest.approx(beta.ppf(0.975, 0.5, 10.5))
    assert low[1] == pytest.approx(beta.ppf(0.025, 10.5, 0.5))
    assert high[1] == 1.0
    assert (low[2], high[2]) == (0.0, 1.0)


def test_tolerances_come_from_the_policy() -> None:
    assert _category(100, 30) == HOTSPOT
    assert categorise([100], [30], [0], policy=Policy(tau_operational=0.4)).category.tolist() == [OPERATIONAL]
    assert categorise([5], [5], [0], policy=Policy(n_min=5)).category.tolist() == [HOTSPOT]


@pytest.mark.feature("H14")
def test_true_rate_of_ten_percent_is_hardly_ever_called_stable() -> None:
    # The binomial distribution gives 0.52 % at n = 50 (1.8 % at n = 38, docs/method.md#categories).
    n = np.full(20_000, 50)
    k = np.random.default_rng(0).binomial(50, 0.10, 20_000)
    assert np.mean(categorise(n, k, np.zeros_like(k), policy=POLICY).category == STABLE) <= 0.006


def test_atc_threshold_has_the_error_rate_below_it() -> None:
    confidence = np.random.default_rng(0).random(1000)
    for rate in (0.0, 0.013, 0.5, 0.902, 1.0):
        assert np.mean(confidence < atc_threshold(confidence, rate)) == pytest.approx(rate)


def test_atc_threshold_by_hand() -> None:
    assert atc_threshold([0.9, 0.3, 0.6, 0.8], 0.25) == 0.6
    assert atc_threshold([0.5, 0.5, 0.5], 1 / 3) == 0.5


def test_counts_by_hand() -> None:
    counts = count_codes(
        [0, 0, 0, 1, -1, -1],
        [True, True, False, False, True, False],
        [0.9, 0.2, 0.9, 0.1, 0.5, 0.9],
        n_codes=3,
        threshold=0.5,
    )
    assert counts.n.tolist() == [3, 1, 0, 2]
    assert counts.k.tolist() == [2, 0, 0, 1]
    assert counts.k_unflagged.tolist() == [1, 0, 0, 1]


@pytest.mark.feature("H14", "H15", "H16", "H17", "H18", "H19")
@settings(max_examples=50)
@given(
    st.lists(st.integers(-1, 5), min_size=1, max_size=200),
    st.lists(st.sampled_from(CATEGORIES), min_size=7, max_size=7),
    st.lists(st.booleans(), min_size=7, max_size=7),
)
def test_five_ratios_partition_the_units_and_aleatoric_overlays_them(
    index: list[int], category: list[str], flags: list[bool]
) -> None:
    bad = [flag and name in {HOTSPOT, CRITICAL, RECESSIVE} for flag, name in zip(flags, category, strict=True)]
    counts = category_counts(index, category, aleatoric=bad)
    ratios = {name: count / len(index) for name, count in counts.items()}
    assert sum(ratios[name] for name in CATEGORIES) == pytest.approx(1.0, abs=1e-9)
    assert counts[ALEATORIC] <= counts[HOTSPOT] + counts[RECESSIVE] + counts[CRITICAL]
    assert counts[HOTSPOT] == sum(category[code] == HOTSPOT for code in index)


@pytest.mark.parametrize(
    "call",
    [
        lambda: categorise([5], [6], [0], policy=POLICY),
        lambda: categorise([5], [2], [3], policy=POLICY),
        lambda: categorise([5, 6], [2], [0], policy=POLICY),
        lambda: categorise([5.5], [2], [0], policy=POLICY),
        lambda: categorise([5], [2], [0], policy=POLICY, unseen=[True, False]),
        lambda: atc_threshold([], 0.1),
        lambda: atc_threshold([0.5], 1.1),
        lambda: atc_threshold([math.nan], 0.1),
        lambda: count_codes([0], [True, False], [0.1], n_codes=1, threshold=0.5),
        lambda: count_codes([1], [True], [0.1], n_codes=1, threshold=0.5),
        lambda: category_counts([0], ["good", RECESSIVE]),
        lambda: category_counts([0], [STABLE, RECESSIVE], aleatoric=[True]),
    ],
)
def test_impossible_evidence_is_an_error(call) -> None:
    with pytest.raises(InvalidInputError):
        call()
