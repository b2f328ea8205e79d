"""Drift of a histogram against the reference, with a threshold that knows both sample sizes.

Statistic: Jensen-Shannon distance (base 2, in [0, 1]). Threshold: the 99th percentile of the same statistic over
pairs of two independent multinomial draws of sizes n_ref and n from the reference distribution (docs/method.md#drift).
Resampling windows out of the reference rows themselves would be wrong: it forgets the noise of the reference and
fires without drift in up to every window.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["DRIFT_LEVEL", "MIN_UNITS", "align_counts", "drift_threshold", "jensen_shannon"]

#: Windows below this are "too few": never a verdict (docs/method.md#drift).
MIN_UNITS = 30
#: A window without drift exceeds the threshold with probability 1 − level.
DRIFT_LEVEL = 0.99
#: Standard error of the simulated 99th percentile's level is 0.5 % at 400 pairs; 1,000 pairs (0.3 %) cost ≤ 60 ms
#: at 512 cells, once per bucket.
_PAIRS = 1_000
#: n is rounded down to 30·2^(k/4) before simulating: at most 19 % lower, so the threshold errs upwards.
_STEPS_PER_DOUBLING = 4


def jensen_shannon(counts: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Return the Jensen-Shannon distance between histograms along the last axis.

    Args:
        counts: Counts or shares, shape (..., C); broadcasts against `reference`.
        reference: Counts or shares, shape (..., C).

    Returns:
        √JSD with base-2 logarithms, in [0, 1]; NaN where a side is empty. Source: Endres and Schindelin 2003.
    """
    p, q = _normalise(counts), _normalise(reference)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return np.asarray(np.sqrt(np.clip(divergence / np.log(2.0), 0.0, 1.0)))


def drift_threshold(
    reference: Sequence[int], n: int, *, level: float = DRIFT_LEVEL, seed: int = 0, design_effect: float = 1.0
) -> float:
    """Return the distance that a window of `n` units without drift exceeds with probability `1 − level`.

    Args:
        reference: Baseline counts (cross-fitted for codes), summing to n_ref.
        n: Units of the window; simulated at the nearest bucket below, which errs towards silence.
        level: Percentile of the simulated distances.
        seed: Seed of the simulation; equal arguments give equal thresholds.
        design_effect: How many times the units of a frame that belong together vary more than as many independent
            ones (docs/method.md#drift): both sizes are divided by it.

    Raises:
        InvalidInputError: The reference is empty or n is below 1.
    """
    counts = tuple(int(value) for value in reference)
    effect = max(float(design_effect), 1.0)
    if sum(counts) < 1 or n < 1:
        raise InvalidInputError(f"drift needs a reference and a window: reference has {sum(counts)} units, window {n}.")
    return _simulate(counts, _bucket(max(int(n / effect), 1)), level, seed, max(int(sum(counts) / effect), 1))


def align_counts(counts: Mapping[str, int], reference: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """Return both histograms over the sorted union of their names."""
    names = sorted({*counts, *reference})
    return [counts.get(name, 0) for name in names], [reference.get(name, 0) for name in names]


def _bucket(n: int) -> int:
    if n <= MIN_UNITS:
        return n
    step = int(np.floor(np.log2(n / MIN_UNITS) * _STEPS_PER_DOUBLING + 1e-9))
    return min(n, int(MIN_UNITS * 2.0 ** (step / _STEPS_PER_DOUBLING)))


@lru_cache(maxsize=4096)
def _simulate(reference: tuple[int, ...], n: int, level: float, seed: int, n_reference: int) -> float:
    counts = np.array([value for value in reference if value > 0], np.float64)
    rng = np.random.default_rng([seed, n])
    shares = counts / counts.sum()
    references = rng.multinomial(n_reference, shares, size=_PAIRS)
    windows = rng.multinomial(n, shares, size=_PAIRS)
    return float(np.quantile(jensen_shannon(windows, references), level, method="higher"))


def _normalise(values: ArrayLike) -> NDArray[np.float64]:
    counts = np.asarray(values, np.float64)
    total = counts.sum(axis=-1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    return shares


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio = np.divide(p, q, out=np.ones_like(p * q), where=p > 0)
    return np.asarray((p * np.log(ratio)).sum(axis=-1))
