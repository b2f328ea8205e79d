"""Error rate of a window of production units, without labels (docs/method.md#window)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis import _badges
from mld_pipelines.diagnosis._policy import LEVELS
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from mld_pipelines.diagnosis._window import WindowReference, WindowState

__all__ = [
    "Opinions",
    "WindowEstimate",
    "check_level",
    "combine_opinions",
    "estimate_window",
    "window_interval",
    "window_opinions",
]

#: Factors of the 90 % half-width at other levels: a convention (docs/method.md#interval).
LEVEL_FACTORS = dict(zip(LEVELS, (0.79, 1.0, 1.3), strict=True))
#: Terms of the interval scale: disagreement, distance from the reference, floor (docs/method.md#interval).
DISAGREEMENT_SHARE, SHIFT_SHARE, SCALE_FLOOR = 0.25, 0.2, 0.004
#: Reference errors from which the ATC threshold is no longer a noisy quantile (docs/method.md#window).
MIN_ERRORS_FOR_ATC = 50
#: Units from which ATC counts, and from which an estimate may alert (docs/method.md#badges).
MIN_UNITS_FOR_ATC, MIN_UNITS_FOR_ALERT = 50, 100
#: Half-width never undercut by a reference of fewer than 60 units or one predicted class (docs/method.md#fallback).
MIN_HALF_WIDTH = 0.15
#: "Inputs outside the reference": UNSEEN share surely above this, and above this multiple of its reference value.
UNSEEN_FLOOR, UNSEEN_FACTOR = 0.10, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """What each estimate says alone; None where it does not exist.

    Attributes:
        mean_ep: Mean error probability.
        atc_ep: Share of units above the error-probability threshold (Garg et al. 2022 on EP).
        atc_mc: Share of units below the tempered-confidence threshold (ATC-MC).
        msp_t: 1 − mean tempered confidence.
        codes: Σ w_c θ_c over codes, UNSEEN counting r0.
        unseen_share: Share of UNSEEN units.
    """

    mean_ep: float
    atc_ep: float
    atc_mc: float
    msp_t: float
    codes: float | None
    unseen_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowEstimate:
    """Estimated error rate of a window.

    Attributes:
        error_rate: Estimate, None for an empty window.
        low: Lower bound of the interval.
        high: Upper bound.
        level: Its nominal level.
        n: Units.
        opinions: The single estimates, None for an empty window.
        badges: What a reader must know, in words.
        is_alert: Whether this window alone calls for an alert: n ≥ 100 and `low` above the reference rate.
        is_outside: Whether UNSEEN is surely more frequent than on reference-like inputs.
    """

    error_rate: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    opinions: Opinions | None
    badges: tuple[str, ...]
    is_alert: bool
    is_outside: bool


def check_level(level: float) -> None:
    """Refuse a level without a width factor.

    Raises:
        InvalidInputError: It is none of those.
    """
    if level not in LEVEL_FACTORS:
        raise InvalidInputError(
            f"level is {level}, but only {', '.join(map(str, LEVEL_FACTORS))} have a width factor; "
            "nothing was estimated. Choose one of them."
        )


def estimate_window(state: WindowState, reference: WindowReference, *, level: float = 0.9) -> WindowEstimate:
    """Estimate a window's error rate: `max(mean EP, ATC-EP)`, with an interval (docs/method.md#window).

    With fewer than 50 reference errors or 50 units in the window, or if too many reference units tie, the mean error
    probability stands alone.

    Args:
        state: The window, or the sum of several.
        reference: The result's window reference.
        level: 0.8, 0.9 or 0.95.

    Raises:
        InvalidInputError: Another level was asked for.
    """
    check_level(level)
    badges = _window_badges(state, reference)
    if state.n == 0:
        return WindowEstimate(
            error_rate=None, low=None, high=None, level=level, n=0, opinions=None, badges=badges, is_alert=False,
            is_outside=False,
        )  # fmt: skip
    opinions = window_opinions(state, reference)
    rate, spread = combine_opinions(opinions, state, reference)
    low, high = window_interval(rate, spread, state, reference, level=level)
    is_outside = _is_outside(state, reference)
    return WindowEstimate(
        error_rate=rate,
        low=low,
        high=high,
        level=level,
        n=state.n,
        opinions=opinions,
        badges=(*badges, _badges.OUTSIDE_REFERENCE) if is_outside else badges,
        is_alert=state.n >= MIN_UNITS_FOR_ALERT and low > reference.base_rate,
        is_outside=is_outside,
    )


def window_opinions(state: WindowState, reference: WindowReference) -> Opinions:
    """What each estimate says alone about a window that is not empty."""
    has_codes = bool(state.code_counts)
    weighted = np.dot(state.code_counts, reference.code_rates) if has_codes else 0.0
    return Opinions(
        mean_ep=state.sum_error_proba / state.n,
        atc_ep=state.n_above_ep / state.n,
        atc_mc=state.n_below_mc / state.n,
        msp_t=1.0 - state.sum_confidence / state.n,
        codes=float(weighted + state.n_unseen * reference.base_rate) / state.n if has_codes else None,
        unseen_share=state.n_unseen / state.n if has_codes else None,
    )


def combine_opinions(opinions: Opinions, state: WindowState, reference: WindowReference) -> tuple[float, float]:
    """The default estimate and D, the range of the opinions it rests on."""
    if reference.n_errors == reference.n_ref:  # mirrored prior mode: nothing right has been seen
        rate = (reference.n_ref + 0.5) / (reference.n_ref + 1.0)
        return rate, abs(opinions.mean_ep - opinions.atc_mc)
    if reference.n_errors < MIN_ERRORS_FOR_ATC or state.n < MIN_UNITS_FOR_ATC or reference.is_tied:
        return opinions.mean_ep, abs(opinions.mean_ep - opinions.atc_mc)
    three = (opinions.mean_ep, opinions.atc_ep, opinions.atc_mc)
    return max(opinions.mean_ep, opinions.atc_ep), max(three) - min(three)


def window_interval(
    rate: float, spread: float, state: WindowState, reference: WindowReference, *, level: float
) -> tuple[float, float]:
    """`rate ± q·s`, `s² = p(1−p)(1/n + 1/n_ref) + (0.25 D)² + (0.2 (p − r0))² + 0.004²`, clipped to [0, 1]."""
    from scipy.special import betaincinv

    sampling = rate * (1.0 - rate) * (1.0 / state.n + 1.0 / reference.n_ref)
    shift = (SHIFT_SHARE * (rate - reference.base_rate)) ** 2
    scale = (sampling + (DISAGREEMENT_SHARE * spread) ** 2 + shift + SCALE_FLOOR**2) ** 0.5
    half = reference.width_factor * LEVEL_FACTORS[level] * scale
    if reference.is_coarse:
        half = max(half, MIN_HALF_WIDTH)
    low, high = max(0.0, rate - half), min(1.0, rate + half)
    # Jeffreys bound of a rate never observed to differ from 0 (or from 1): 95 % at the level 0.9.
    bound = float(betaincinv(0.5, reference.n_ref + 0.5, (1.0 + level) / 2.0))
    if reference.n_errors == 0:
        return 0.0, max(high, bound)
    if reference.n_errors == reference.n_ref:
        return min(low, 1.0 - bound), 1.0
    return low, high


def _is_outside(state: WindowState, reference: WindowReference) -> bool:
    """Whether the 95 % lower bound of the UNSEEN share exceeds max(0.10, 3 × its reference value)."""
    from scipy.special import betaincinv

    if reference.unseen_ref is None or state.n_unseen == 0:
        return False
    seen = state.n - state.n_unseen
    bound = betaincinv(state.n_unseen + 0.5, seen + 0.5, 0.05)
    return bool(bound > max(UNSEEN_FLOOR, UNSEEN_FACTOR * reference.unseen_ref))


def _window_badges(state: WindowState, reference: WindowReference) -> tuple[str, ...]:
    conditions = {
        _badges.NO_ERRORS: reference.n_errors == 0,
        _badges.NO_SUCCESSES: reference.n_errors == reference.n_ref,
        _badges.FEW_ERRORS: 0 < reference.n_errors < MIN_ERRORS_FOR_ATC,
        _badges.MANY_TIES: reference.is_tied and reference.n_errors >= MIN_ERRORS_FOR_ATC,
        _badges.FEW_WINDOW_UNITS: state.n < MIN_UNITS_FOR_ATC,
        _badges.NOT_VERIFIED_UNDER_SHIFT: reference.stress_version is None,
    }
    return tuple(badge for badge, holds in conditions.items() if holds)
