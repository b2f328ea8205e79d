"""Fisher's test against SciPy, and the labels that decide against a search by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, fisher_exact

from mld_pipelines.diagnosis import NEEDED_LIMIT, Policy, units_needed, worse_than_rest
from mld_pipelines.exceptions import InvalidInputError

CODES = st.lists(st.integers(0, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=2, max_size=8)


def _fisher(n: np.ndarray, k: np.ndarray, code: int) -> float:
    rest_n, rest_k = n.sum() - n[code], k.sum() - k[code]
    table = [[k[code], n[code] - k[code]], [rest_k, rest_n - rest_k]]
    return float(fisher_exact(table, alternative="greater").pvalue)


@given(CODES)
@pytest.mark.feature("H22")
def test_p_value_is_the_one_sided_exact_test_of_scipy(codes: list[tuple[int, int]]) -> None:
    n, k = np.array(codes).T
    p = worse_than_rest(n, k)
    for code in range(len(n)):
        if 0 < n[code] < n.sum():
            assert p[code] == pytest.approx(_fisher(n, k, code), rel=1e-9, abs=1e-14)
        else:
            assert np.isnan(p[code])


def test_many_units_do_not_cost_the_digits() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(1, 3000, 60)
    k = rng.binomial(n, rng.choice([0.01, 0.1, 0.4], 60))
    p = worse_than_rest(n, k)
    expected = [_fisher(n, k, code) for code in range(60)]
    np.testing.assert_allclose(p, expected, rtol=1e-6, atol=1e-300)


def test_one_hand_calculated_table() -> None:
    """Three of three wrong here, none of three there: C(3,3)·C(3,0)/C(6,3) = 1/20."""
    assert worse_than_rest([3, 3], [3, 0])[0] == pytest.approx(0.05)


@pytest.mark.parametrize(("n", "k"), [([7], [3]), ([0, 7], [0, 3]), ([0, 0], [0, 0])])
def test_without_units_or_without_a_rest_there_is_no_test(n: list[int], k: list[int]) -> None:
    assert np.isnan(worse_than_rest(n, k)).all()


def test_hundred_thousand_units_in_512_codes_cost_milliseconds() -> None:
    rng = np.random.default_rng(0)
    n = rng.multinomial(100_000, np.full(512, 1 / 512))
    k = rng.binomial(n, 0.1)
    worse_than_rest(n[:2], k[:2])
    start = time.process_time()
    worse_than_rest(n, k)
    units_needed(n, k, policy=Policy())
    assert time.process_time() - start < 0.2  # measured: 0.012


def _is_decided(n: float, k: float, policy: Policy) -> bool:
    below = beta.cdf(policy.tau_operational, k + 0.5, n - k + 0.5)
    return bool(below >= 1 - policy.alpha or (1 - below >= 1 - policy.alpha and n >= policy.n_min))


@pytest.mark.feature("H17")
@pytest.mark.parametrize(
    ("n", "k"), [(5, 0), (1, 0), (5, 5), (19, 19), (20, 6), (12, 1), (50, 6), (50, 14), (33, 11), (3, 1), (150, 25)]
)
def test_needed_units_are_the_fewest_that_decide_at_the_observed_rate(n: int, k: int) -> None:
    policy = Policy()
    found = int(units_needed([n], [k], policy=policy)[0])
    decided = [_is_decided(n + m, k / n * (n + m), policy) for m in range(found + 200)]
    assert decided.index(True) == found
    assert all(decided[found:])


@pytest.mark.feature("H17")
def test_no_errors_need_nine_units_as_the_table_says() -> None:
    assert units_needed([5, 8, 9, 40], [0, 0, 0, 0], policy=Policy()).tolist() == [4, 1, 0, 0]


@pytest.mark.feature("H17")
def test_a_rate_at_the_tolerance_and_a_code_without_units_have_no_number() -> None:
    assert units_needed([100, 0, 1000], [20, 0, 198], policy=Policy()).tolist() == [-1, -1, -1]
    # 198 of 1,000: at 19.8 % even 11,000 units leave P(θ ≤ 0.2) below 0.95.
    assert beta.cdf(0.2, 0.198 * 11_000 + 0.5, 0.802 * 11_000 + 0.5) < 0.95
    assert NEEDED_LIMIT == 10_000


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="errors"):
        worse_than_rest([3, 3], [4, 0])
    with pytest.raises(InvalidInputError, match="errors"):
        units_needed([3], [4], policy=Policy())
