"""Is a code worse than the rest, and how many more labels would decide it (docs/method.md#significance)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._categories import check_counts, posterior_cdf

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.diagnosis._policy import Policy

__all__ = ["NEEDED_LIMIT", "units_needed", "worse_than_rest"]

NEEDED_LIMIT = 10_000
"""Further units up to which `units_needed` searches: nobody labels more for one code."""


def worse_than_rest(n: ArrayLike, k: ArrayLike) -> NDArray[np.float64]:
    """Return the one-sided Fisher p-value of "more errors inside the code than outside"; NaN without units or rest.

    P(X ≥ k) for X hypergeometric: n units of the code drawn from all N with K errors. The tails of all codes are summed
    as one flat array of at most N terms: 100,000 units in 512 codes cost milliseconds, and `scipy.stats`, half a second
    to import, is not needed.

    Args:
        n: Units per code; together they are the dataset.
        k: Errors per code.

    Raises:
        InvalidInputError: Lengths differ or not 0 ≤ k ≤ n.
    """
    n_, k_, _ = check_counts(n, k, k)
    total, wrong = int(n_.sum()), int(k_.sum())
    p = np.where((n_ > 0) & (n_ < total), 1.0, np.nan)
    tested = np.flatnonzero((n_ > 0) & (n_ < total) & (k_ > 0))
    if not len(tested):
        return p
    units = n_[tested]
    length = np.minimum(units, wrong) - k_[tested] + 1
    starts = np.concatenate([[0], np.cumsum(length)[:-1]])
    code = np.repeat(np.arange(len(tested)), length)
    inside = np.arange(len(code)) - starts[code] + k_[tested][code]
    outside = wrong - inside
    possible = outside <= total - units[code]
    terms = _log_choose(units, tested=code, taken=inside) + _log_choose(
        total - units, tested=code, taken=np.where(possible, outside, 0)
    )
    terms -= _log_choose(np.array([total]), tested=np.zeros(1, dtype=np.int64), taken=np.array([wrong]))
    p[tested] = np.minimum(np.add.reduceat(np.where(possible, np.exp(terms), 0.0), starts), 1.0)
    return p


def _log_choose(of: NDArray[np.int64], *, tested: NDArray[np.int64], taken: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ln C(of[tested], taken); the factorials of `of` are computed once per code."""
    from scipy.special import gammaln

    rest = of[tested] - taken
    value: NDArray[np.float64] = gammaln(of + 1.0)[tested] - gammaln(taken + 1.0) - gammaln(rest + 1.0)
    return value


def units_needed(n: ArrayLike, k: ArrayLike, *, policy: Policy) -> NDArray[np.int64]:
    """Return n*: the fewest further units that decide a code if its observed rate stays (docs/method.md#needed-units).

    Decided means rules 1 to 4 of the categories, vetoes aside: P(θ ≤ τ_o) ≥ 1 − α, or P(θ > τ_o) ≥ 1 − α with at least
    n_min units. The expected errors k·(n + m)/n need not be whole.

    Args:
        n: Units per code.
        k: Errors per code.
        policy: Tolerances and confidence.

    Returns:
        0 where the code is decided already, −1 where even 10,000 do not decide it or there is no unit to tell a rate.

    Raises:
        InvalidInputError: Lengths differ or not 0 ≤ k ≤ n.
    """
    n_, k_, _ = check_counts(n, k, k)
    rate = k_ / np.maximum(n_, 1)

    def is_decided(more: NDArray[np.int64]) -> NDArray[np.bool_]:
        below = posterior_cdf(n_ + more, rate * (n_ + more), policy.tau_operational)
        decided: NDArray[np.bool_] = (below >= 1.0 - policy.alpha) | (
            (below <= policy.alpha) & (n_ + more >= policy.n_min)
        )
        return decided

    low, high = np.full(len(n_), -1), np.full(len(n_), NEEDED_LIMIT)
    solvable = is_decided(high) & (n_ > 0)
    # At a fixed rate the evidence only grows, so bisection finds the first number that decides.
    while (high - low > 1).any():
        middle = (low + high) // 2
        decided = is_decided(middle)
        low, high = np.where(decided, low, middle), np.where(decided, middle, high)
    return np.where(solvable, high, -1).astype(np.int64)
