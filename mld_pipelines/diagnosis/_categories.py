"""Issue categories: a three-way verdict per code at a stated confidence (docs/method.md#categories)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._codefit import code_histogram
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.diagnosis._policy import Policy

__all__ = [
    "ALEATORIC",
    "CATEGORIES",
    "CRITICAL",
    "HOTSPOT",
    "OPERATIONAL",
    "REASONS",
    "RECESSIVE",
    "STABLE",
    "CodeCounts",
    "Verdicts",
    "atc_threshold",
    "categorise",
    "category_counts",
    "check_counts",
    "count_codes",
    "jeffreys_interval",
    "posterior_cdf",
]

STABLE = "stable_coverage"
OPERATIONAL = "operational_coverage"
HOTSPOT = "hotspot"
RECESSIVE = "recessive_hotspot"
CRITICAL = "critical_hotspot"
ALEATORIC = "aleatoric_hotspot"

CATEGORIES = (STABLE, OPERATIONAL, HOTSPOT, RECESSIVE, CRITICAL)
"""The five that partition the units, in the order of the summary; `ALEATORIC` overlays them."""

REASONS = (
    "confirmed",
    "few_units",
    "between_tolerances",
    "generalisation_gap",
    "train_only",
    "unseen",
    "no_features",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodeCounts:
    """Evidence per code on the decision dataset; the last entry is `UNSEEN`.

    Attributes:
        n: Units, int64, shape (C + 1,).
        k: Errors among them.
        k_unflagged: Errors whose confidence was at or above the threshold: the model would not have warned.
    """

    n: NDArray[np.int64]
    k: NDArray[np.int64]
    k_unflagged: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdicts:
    """The category of every code with its evidence, arrays of one length.

    Attributes:
        category: One of `CATEGORIES`.
        reason: One of `REASONS`; "recessive" must never look like a verdict without it.
        rate: Observed error rate k/n, NaN without units.
        low: Lower end of the Jeffreys interval of the error rate at 1 − alpha.
        high: Upper end.
    """

    category: NDArray[np.str_]
    reason: NDArray[np.str_]
    rate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def atc_threshold(confidence: ArrayLike, error_rate: float) -> float:
    """Return t*: the share of units with confidence below it equals the error rate (ATC, Garg et al. 2022).

    It is the order statistic at which exactly round(error_rate · N) units lie below (fewer under ties); with an error
    rate of 1 it lies just above the largest confidence.

    Args:
        confidence: Reference confidences, shape (N,), N ≥ 1.
        error_rate: Reference error rate in [0, 1].

    Raises:
        InvalidInputError: No confidence, a value that is not finite, or an error rate outside [0, 1].
    """
    values = np.sort(np.asarray(confidence, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InvalidInputError(f"confidence must be a non-empty finite vector, got shape {values.shape}.")
    if not 0.0 <= error_rate <= 1.0:
        raise InvalidInputError(f"the error rate must lie between 0 and 1, got {error_rate}.")
    below = round(error_rate * len(values))
    return float(values[below]) if below < len(values) else float(np.nextafter(values[-1], np.inf))


def count_codes(
    index: ArrayLike, is_error: ArrayLike, confidence: ArrayLike, *, n_codes: int, threshold: float
) -> CodeCounts:
    """Return units, errors and unflagged errors per code, `UNSEEN` last.

    Args:
        index: Code of every unit, −1 is `UNSEEN`, shape (N,).
        is_error: Error indicator, shape (N,).
        confidence: Largest probability, shape (N,).
        n_codes: Codes of the codebook.
        threshold: t* of `atc_threshold`.

    Raises:
        InvalidInputError: Lengths differ or an index does not fit.
    """
    codes, wrong = np.asarray(index, dtype=np.int64), np.asarray(is_error, dtype=np.bool_)
    sure = np.asarray(confidence, dtype=np.float64) >= threshold
    if not codes.shape == wrong.shape == sure.shape:
        raise InvalidInputError(
            f"codes {codes.shape}, errors {wrong.shape} and confidences {sure.shape} must be equally long."
        )
    return CodeCounts(
        n=code_histogram(codes, n_codes=n_codes),
        k=code_histogram(codes[wrong], n_codes=n_codes),
        k_unflagged=code_histogram(codes[wrong & sure], n_codes=n_codes),
    )


def categorise(
    n: ArrayLike,
    k: ArrayLike,
    k_unflagged: ArrayLike,
    *,
    policy: Policy,
    unseen: ArrayLike | None = None,
    train_only: bool = False,
    veto_stable: ArrayLike | None = None,
    veto_operational: ArrayLike | None = None,
) -> Verdicts:
    """Return the category and reason of every code; the first rule that holds wins (docs/method.md#categories).

    1 stable if P(θ ≤ τ_s) ≥ 1 − α; 2 operational if P(θ ≤ τ_o) ≥ 1 − α; 3 critical if P(θ > τ_o) ≥ 1 − α, n ≥ n_min
    and P(θ_u > τ_o) ≥ 1 − α; 4 hotspot without the last; 5 recessive otherwise, with θ ~ Beta(k + ½, n − k + ½).

    Args:
        n: Units per code.
        k: Errors per code.
        k_unflagged: Errors per code that the confidence would not have flagged.
        policy: Tolerances and confidence.
        unseen: Which entries are `UNSEEN` (always recessive, reason `unseen`).
        train_only: Whether training data decided; confirmed verdicts then carry that reason, as training error is
            optimistic.
        veto_stable: Codes another dataset contradicts at τ_s: not stable; operational then has reason
            `generalisation_gap`.
        veto_operational: Codes another dataset contradicts at τ_o: no coverage at all, reason `generalisation_gap`.

    Raises:
        InvalidInputError: Lengths differ or not 0 ≤ k_unflagged ≤ k ≤ n.
    """
    n_, k_, k_u = check_counts(n, k, k_unflagged)
    is_unseen, no_stable, no_cover = (
        _mask(name, mask, len(n_))
        for name, mask in (("unseen", unseen), ("veto_stable", veto_stable), ("veto_operational", veto_operational))
    )
    sure = 1.0 - policy.alpha
    passes_stable = posterior_cdf(n_, k_, policy.tau_stable) >= sure
    passes_operational = posterior_cdf(n_, k_, policy.tau_operational) >= sure
    is_bad = (posterior_cdf(n_, k_, policy.tau_operational) <= policy.alpha) & (n_ >= policy.n_min)
    is_silent = posterior_cdf(n_, k_u, policy.tau_operational) <= policy.alpha
    rules = [
        is_unseen,
        passes_stable & ~no_stable & ~no_cover,
        passes_operational & ~no_cover,
        is_bad & is_silent,
        is_bad,
    ]
    category = np.select(rules, [RECESSIVE, STABLE, OPERATIONAL, CRITICAL, HOTSPOT], RECESSIVE)
    gap = (passes_operational & no_cover) | (passes_stable & no_stable)
    reason = np.select(
        [is_unseen, gap, category != RECESSIVE, n_ < policy.n_min],
        ["unseen", "generalisation_gap", "train_only" if train_only else "confirmed", "few_units"],
        "between_tolerances",
    )
    low, high = jeffreys_interval(n_, k_, alpha=policy.alpha)
    rate = np.divide(k_, n_, out=np.full(len(n_), np.nan), where=n_ > 0)
    return Verdicts(category=category, reason=reason, rate=rate, low=low, high=high)


def jeffreys_interval(
    n: ArrayLike, k: ArrayLike, *, alpha: float = 0.05
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the equal-tailed Jeffreys interval of a proportion: quantiles of Beta(k + ½, n − k + ½).

    As Brown, Cai and DasGupta (2001) have it, the lower end is 0 at k = 0 and the upper end 1 at k = n.

    Args:
        n: Trials.
        k: Successes.
        alpha: One minus the level.

    Raises:
        InvalidInputError: Lengths differ or not 0 ≤ k ≤ n.
    """
    from scipy.special import betaincinv

    n_, k_, _ = check_counts(n, k, k)
    low = np.where(k_ == 0, 0.0, betaincinv(k_ + 0.5, n_ - k_ + 0.5, alpha / 2))
    high = np.where(k_ == n_, 1.0, betaincinv(k_ + 0.5, n_ - k_ + 0.5, 1.0 - alpha / 2))
    return low, high


def category_counts(index: ArrayLike, category: ArrayLike, *, aleatoric: ArrayLike | None = None) -> Mapping[str, int]:
    """Return the units of a dataset in each of the five categories and, as an overlay, in aleatoric codes.

    The five sum to the number of units; ratios are these counts over that number.

    Args:
        index: Code of every unit, −1 is `UNSEEN`, shape (N,).
        category: Category per code, `UNSEEN` last, shape (C + 1,).
        aleatoric: Overlay flag per code, same shape.

    Raises:
        InvalidInputError: An index does not fit, the flag is not as long as the categories, or a category is unknown.
    """
    names = np.asarray(category)
    units = code_histogram(index, n_codes=len(names) - 1)
    if unknown := sorted(set(names.tolist()) - set(CATEGORIES)):
        raise InvalidInputError(f"unknown categories {unknown}; each code has one of {CATEGORIES}.")
    flags = _mask("aleatoric", aleatoric, len(names))
    counts = {name: int(units[names == name].sum()) for name in CATEGORIES}
    return {**counts, ALEATORIC: int(units[flags].sum())}


def posterior_cdf(n: ArrayLike, k: ArrayLike, at: float) -> NDArray[np.float64]:
    """Return P(θ ≤ at) under the Jeffreys posterior Beta(k + ½, n − k + ½).

    Args:
        n: Units.
        k: Errors among them; an expectation need not be whole.
        at: Error rate.
    """
    from scipy.special import betainc

    units, errors = np.asarray(n), np.asarray(k)
    probability: NDArray[np.float64] = betainc(errors + 0.5, units - errors + 0.5, at)
    return probability


def check_counts(
    n: ArrayLike, k: ArrayLike, k_unflagged: ArrayLike, *, like: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], ...]:
    """Return the three counts as int64 vectors of one length (that of `like`).

    Raises:
        InvalidInputError: Lengths differ or not 0 ≤ k_unflagged ≤ k ≤ n.
    """
    arrays = tuple(np.atleast_1d(np.asarray(counts)) for counts in (n, k, k_unflagged))
    if not arrays[0].shape == arrays[1].shape == arrays[2].shape or arrays[0].ndim != 1:
        raise InvalidInputError(f"counts must be equally long vectors, got shapes {[a.shape for a in arrays]}.")
    if like is not None and arrays[0].shape != like.shape:
        raise InvalidInputError(
            f"counts of two datasets must be of the same codes, got {len(arrays[0])} and {len(like)}."
        )
    n_, k_, k_u = arrays
    bad = ~((k_u >= 0) & (k_u <= k_) & (k_ <= n_))
    if bad.any() or any(not np.issubdtype(a.dtype, np.integer) for a in arrays):
        at = int(np.argmax(bad))
        raise InvalidInputError(
            f"code {at} has {n_[at]} units, {k_[at]} errors, {k_u[at]} of them unflagged; integers with "
            "0 <= unflagged <= errors <= units are needed."
        )
    return tuple(a.astype(np.int64) for a in arrays)


def _mask(name: str, mask: ArrayLike | None, length: int) -> NDArray[np.bool_]:
    flags = np.zeros(length, dtype=np.bool_) if mask is None else np.asarray(mask, dtype=np.bool_)
    if flags.shape != (length,):
        raise InvalidInputError(f"{name} must hold one flag per code, shape ({length},), got {flags.shape}.")
    return flags
