"""Vetoes: another dataset contradicts what the deciding one says about a code (docs/method.md#vetoes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._categories import check_counts, posterior_cdf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.diagnosis._policy import Policy

__all__ = ["Vetoes", "find_vetoes", "probability_exceeds"]

GAP = 0.05
"""Difference of two error rates from which a code does not behave the same in both datasets (a convention)."""
_NODES = 64
"""Gauss-Legendre nodes: the density is smooth in the angle, so the error stays below 1e-5 (tests compare)."""
_TAIL = 1e-10
"""Posterior mass left out on either side of the integral."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vetoes:
    """Contradictions per code, arrays of one length.

    Attributes:
        stable: Some dataset is surely above τ_s, or surely more than `GAP` above the deciding one.
        operational: Some dataset is surely above τ_o.
        by: Names of the datasets that contradict, per code.
    """

    stable: NDArray[np.bool_]
    operational: NDArray[np.bool_]
    by: tuple[tuple[str, ...], ...]


def find_vetoes(
    n: ArrayLike, k: ArrayLike, others: Mapping[str, tuple[ArrayLike, ArrayLike]], *, policy: Policy
) -> Vetoes:
    """Return which codes other datasets contradict; one with fewer than n_min units in a code says nothing about it.

    Args:
        n: Units per code of the deciding dataset.
        k: Errors per code of the deciding dataset.
        others: Units and errors per code of every other dataset, by name.
        policy: Tolerances and confidence.

    Raises:
        InvalidInputError: Lengths differ or not 0 ≤ errors ≤ units.
    """
    n_, k_, _ = check_counts(n, k, k)
    stable, operational = np.zeros(len(n_), dtype=np.bool_), np.zeros(len(n_), dtype=np.bool_)
    by: list[list[str]] = [[] for _ in n_]
    for name, (units, errors) in others.items():
        n_d, k_d, _ = check_counts(units, errors, errors, like=n_)
        speaks = n_d >= policy.n_min
        unstable = speaks & (posterior_cdf(n_d, k_d, policy.tau_stable) <= policy.alpha)
        unusable = speaks & (posterior_cdf(n_d, k_d, policy.tau_operational) <= policy.alpha)
        # Surely more than GAP above the other is surely more than GAP: up to that tolerance nothing is left to find.
        is_open = speaks & ~unstable & (policy.tau_stable > GAP)
        open_codes = np.flatnonzero(is_open)
        rises = probability_exceeds(n_d[open_codes], k_d[open_codes], n_[open_codes], k_[open_codes], margin=GAP)
        unstable[open_codes] |= rises >= 1.0 - policy.alpha
        stable, operational = stable | unstable, operational | unusable
        for code in np.flatnonzero(unstable | unusable):
            by[code].append(name)
    return Vetoes(stable=stable, operational=operational, by=tuple(tuple(names) for names in by))


def probability_exceeds(
    n_a: ArrayLike, k_a: ArrayLike, n_b: ArrayLike, k_b: ArrayLike, *, margin: float
) -> NDArray[np.float64]:
    """Return P(θ_a − θ_b > margin) for independent Jeffreys posteriors of two error rates.

    The integral runs over the narrower posterior, in the angle φ with θ = sin² φ, where its density has no pole and the
    cumulative distribution of the wider one changes slowly.

    Args:
        n_a: Units of a, shape (C,).
        k_a: Errors of a.
        n_b: Units of b.
        k_b: Errors of b.
        margin: In [0, 1).

    Raises:
        InvalidInputError: Lengths differ or not 0 ≤ errors ≤ units.
    """
    a, b = check_counts(n_a, k_a, k_a)[:2], check_counts(n_b, k_b, k_b)[:2]
    # θ_a − θ_b = (1 − θ_b) − (1 − θ_a): mirrored, b takes the place of a.
    swap = b[0] > a[0]
    inner = [np.where(swap, x, y) for x, y in zip((b[0], b[0] - b[1]), a, strict=True)]
    outer = [np.where(swap, x, y) for x, y in zip((a[0], a[0] - a[1]), b, strict=True)]
    return _integrate(inner[0], inner[1], outer[0], outer[1], margin)


def _integrate(
    n: NDArray[np.int64], k: NDArray[np.int64], n_wide: NDArray[np.int64], k_wide: NDArray[np.int64], margin: float
) -> NDArray[np.float64]:
    """Return ∫ f(θ) F_wide(θ − margin) dθ."""
    from scipy.special import betainc, betaincinv, betaln

    low = np.maximum(betaincinv(k + 0.5, n - k + 0.5, _TAIL), margin)
    high = np.maximum(betaincinv(k + 0.5, n - k + 0.5, 1.0 - _TAIL), low)
    start, stop = np.arcsin(np.sqrt(low)), np.arcsin(np.sqrt(high))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * (stop - start)[:, None]
    angle = start[:, None] + half * (nodes + 1.0)
    # dθ = 2 sin φ cos φ dφ takes the ½ powers of the Jeffreys posterior with it.
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = _xlogy(2 * k, np.sin(angle)) + _xlogy(2 * (n - k), np.cos(angle))
    density = 2.0 * np.exp(powers - betaln(k + 0.5, n - k + 0.5)[:, None])
    beyond = np.clip(np.sin(angle) ** 2 - margin, 0.0, 1.0)
    mass = betainc((k_wide + 0.5)[:, None], (n_wide - k_wide + 0.5)[:, None], beyond)
    total: NDArray[np.float64] = (half * weights * density * mass).sum(axis=1)
    return np.clip(total, 0.0, 1.0)


def _xlogy(power: NDArray[np.int64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(power[:, None] == 0, 0.0, power[:, None] * np.log(base))
