"""Intervals and tests for shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ONE_SIDED_95", "benjamini_hochberg", "difference_interval", "difference_p_value", "wilson_interval"]

#: Two-sided 95 % of the standard normal distribution.
_Z95 = 1.959963984540054
#: One-sided 95 %: for "surely more than".
ONE_SIDED_95 = 1.6448536269514722


def wilson_interval(counts: ArrayLike, n: ArrayLike, *, z: float = _Z95) -> tuple[NDArray[np.float64], ...]:
    """Return (low, high) of a share by Wilson's score interval; (0, 1) where n is zero.

    Source: Wilson 1927; recommended for small n by Brown, Cai and DasGupta 2001.
    """
    k, size = np.asarray(counts, np.float64), np.asarray(n, np.float64)
    safe = np.maximum(size, 1.0)
    p = k / safe
    centre = (p + z * z / (2 * safe)) / (1 + z * z / safe)
    half = z / (1 + z * z / safe) * np.sqrt(p * (1 - p) / safe + z * z / (4 * safe * safe))
    low, high = np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)
    return np.where(size > 0, low, 0.0), np.where(size > 0, high, 1.0)


def difference_interval(
    counts: ArrayLike, n: ArrayLike, reference_counts: ArrayLike, reference_n: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95 % interval of `counts/n − reference_counts/reference_n`.

    Source: Newcombe 1998, method 10 (hybrid of two Wilson intervals): close to nominal for small counts and shares
    near zero, where the Wald interval collapses.
    """
    p1, p2 = _share(counts, n), _share(reference_counts, reference_n)
    low1, high1 = wilson_interval(counts, n)
    low2, high2 = wilson_interval(reference_counts, reference_n)
    below = np.sqrt((p1 - low1) ** 2 + (high2 - p2) ** 2)
    above = np.sqrt((high1 - p1) ** 2 + (p2 - low2) ** 2)
    return p1 - p2 - below, p1 - p2 + above


def difference_p_value(
    counts: ArrayLike, n: ArrayLike, reference_counts: ArrayLike, reference_n: ArrayLike
) -> NDArray[np.float64]:
    """Return two-sided p-values of equal shares by the pooled z-test (Pearson's χ², uncorrected); 1 if n = 0."""
    k1, n1 = np.asarray(counts, np.float64), np.asarray(n, np.float64)
    k2, n2 = np.asarray(reference_counts, np.float64), np.asarray(reference_n, np.float64)
    pooled = _share(k1 + k2, n1 + n2)
    variance = pooled * (1 - pooled) * (1 / np.maximum(n1, 1) + 1 / np.maximum(n2, 1))
    testable = (variance > 0) & (n1 > 0) & (n2 > 0)
    z = np.abs(_share(k1, n1) - _share(k2, n2)) / np.sqrt(np.where(testable, variance, 1.0))
    tails = np.array([math.erfc(value / math.sqrt(2)) for value in np.atleast_1d(z)]).reshape(z.shape)
    return np.where(testable, tails, 1.0)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return q-values (Benjamini and Hochberg 1995): the smallest false-discovery rate that rejects each."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    q = np.minimum.accumulate(scaled[::-1])[::-1]
    result = np.empty_like(p)
    result[order] = np.minimum(q, 1.0)
    return result


def _share(counts: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    k, size = np.asarray(counts, np.float64), np.asarray(n, np.float64)
    return np.divide(k, size, out=np.zeros(np.broadcast(k, size).shape), where=size > 0)
