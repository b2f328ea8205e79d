"""False-positive and miss rate of a window of frames by the default rule, with the scale of their intervals.

`docs/method.md#detection` has the rule, `docs/method.md#interval` the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mld_pipelines.diagnosis._window_estimate import (
    DISAGREEMENT_SHARE,
    LEVEL_FACTORS,
    MIN_ERRORS_FOR_ATC,
    MIN_HALF_WIDTH,
    MIN_UNITS_FOR_ATC,
    SCALE_FLOOR,
    SHIFT_SHARE,
)

if TYPE_CHECKING:
    from mld_pipelines.diagnosis.detection._window import DetectionWindowReference, DetectionWindowState

__all__ = ["MIN_FRAMES", "RateEstimate", "WindowRates", "has_miss_tail", "has_tail", "window_rates"]

#: Frames below which an interval takes Student's quantile for the normal one: few frames, few independent draws.
MIN_FRAMES = 50
#: Reference units below which no interval is narrower than ±0.15, as for classification.
MIN_REFERENCE_UNITS = 60


@dataclass(frozen=True, slots=True)
class _Rule:
    """Errors and misses by one rule, and the rates they make; None where undefined."""

    errors: float
    misses: float
    boxes: int
    mistaken_share: float

    @property
    def false_positive(self) -> float | None:
        return self.errors / self.boxes if self.boxes else None

    @property
    def lost(self) -> float:
        """Objects not found."""
        return self.misses + self.mistaken_share * self.errors

    @property
    def objects(self) -> float:
        return self.boxes - self.errors + self.lost

    @property
    def miss(self) -> float | None:
        return self.lost / self.objects if self.objects > 0.0 else None


@dataclass(frozen=True, slots=True)
class _Sample:
    """Units that come in frames."""

    units: float
    frames: int
    correlation: float

    @property
    def independent(self) -> float:
        """As many independent units would say as much: units / (1 + (b − 1)·ρ), b units per frame."""
        extra = max(self.units / max(self.frames, 1) - 1.0, 0.0)
        return max(self.units / (1.0 + extra * self.correlation), min(self.units, 1.0))


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """A rate of a window and what its interval is made of.

    Attributes:
        rate: By the default rule.
        spread: |one opinion − the other|; 0 where there is one.
        window: Units that the rate is a share of.
        known: The same of the reference.
        events: Times the event happened on the reference.
    """

    rate: float
    spread: float
    window: _Sample
    known: _Sample
    events: int

    def scale(self, rate: float) -> float:
        """`s² = p(1−p)(1/n + 1/n_ref) + (0.25 D)² + (0.2 (p − r0))² + 0.004²` at a rate, n in independent units."""
        # One event more than none and less than all, so that a rate of 0 or 1 has a sampling error, too.
        n, n_ref = self.window.independent, self.known.independent
        certain = min(max(rate, 0.5 / (n + 1.0)), 1.0 - 0.5 / (n + 1.0))
        sampling = certain * (1.0 - certain) * (1.0 / n + 1.0 / n_ref)
        shift = (SHIFT_SHARE * (rate - self.events / self.known.units)) ** 2
        return float((sampling + (DISAGREEMENT_SHARE * self.spread) ** 2 + shift + SCALE_FLOOR**2) ** 0.5)

    def interval(self, rate: float, *, width_factor: float, level: float) -> tuple[float, float]:
        """`rate ± q·s`, wider for few frames, and for a reference that is small or shows no event.

        Args:
            rate: Published rate.
            width_factor: q at 90 %.
            level: 0.8, 0.9 or 0.95.
        """
        from scipy.special import betaincinv, ndtri, stdtrit

        half = width_factor * LEVEL_FACTORS[level] * self.scale(rate)
        tail = (1.0 + level) / 2.0
        frames = min(self.window.frames, self.known.frames)
        if frames < MIN_FRAMES:
            half *= float(stdtrit(max(frames - 1, 1), tail) / ndtri(tail))
        if self.known.units < MIN_REFERENCE_UNITS:
            half = max(half, MIN_HALF_WIDTH)
        low, high = max(0.0, rate - half), min(1.0, rate + half)
        # of a rate never observed to differ from 0, or from 1
        bound = float(betaincinv(0.5, self.known.independent + 0.5, tail))
        if self.events == 0:
            return 0.0, max(high, bound)
        if self.events >= self.known.units:
            return min(low, 1.0 - bound), 1.0
        return low, high


@dataclass(frozen=True, slots=True)
class WindowRates:
    """What the rules say about a window that has frames.

    Attributes:
        worse: The default rule: of mean and tail of the error probabilities the worse, of misses the mean.
        mean: By mean probabilities.
        tail: By shares above the reference thresholds.
        false_positives: Rate of false positives; None without a box, or where the reference has none.
        lost: Rate of objects not found; None where nothing is expected, or the reference has no object.
    """

    worse: _Rule
    mean: _Rule
    tail: _Rule
    false_positives: RateEstimate | None
    lost: RateEstimate | None


def window_rates(state: DetectionWindowState, reference: DetectionWindowReference) -> WindowRates:
    """Apply the default rule.

    Args:
        state: The window, or the sum of several.
        reference: The result's window reference.
    """
    share = reference.mistaken_share
    mean = _Rule(state.sum_error_proba, state.sum_miss_proba + state.sum_without_candidate, state.boxes, share)
    tail = _Rule(float(state.n_above_ep), state.n_candidates_above + state.sum_without_candidate, state.boxes, share)
    errors = max(mean.errors, tail.errors) if has_tail(state, reference) else mean.errors
    worse = _Rule(errors, mean.misses, state.boxes, share)
    return WindowRates(
        worse,
        mean,
        tail,
        _false_positives(worse, mean, tail, state, reference),
        _lost(worse, mean, tail, state, reference),
    )


def has_tail(state: DetectionWindowState, reference: DetectionWindowReference) -> bool:
    """Whether the threshold on error probabilities is more than a noisy quantile here."""
    enough = reference.n_errors >= MIN_ERRORS_FOR_ATC and state.boxes >= MIN_UNITS_FOR_ATC
    return enough and not reference.is_tied


def has_miss_tail(state: DetectionWindowState, reference: DetectionWindowReference) -> bool:
    """The same for the threshold on miss probabilities."""
    enough = reference.n_shown >= MIN_ERRORS_FOR_ATC and state.candidates >= MIN_UNITS_FOR_ATC
    return enough and not reference.is_miss_tied


def _false_positives(
    worse: _Rule, mean: _Rule, tail: _Rule, state: DetectionWindowState, reference: DetectionWindowReference
) -> RateEstimate | None:
    rate, one, other = worse.false_positive, mean.false_positive, tail.false_positive
    if rate is None or one is None or other is None or reference.precision is None:
        return None
    return RateEstimate(
        rate,
        abs(one - other) if has_tail(state, reference) else 0.0,
        _Sample(state.boxes, state.frames, reference.error_correlation),
        _Sample(reference.boxes, reference.frames, reference.error_correlation),
        reference.n_errors,
    )


def _lost(
    worse: _Rule, mean: _Rule, tail: _Rule, state: DetectionWindowState, reference: DetectionWindowReference
) -> RateEstimate | None:
    rate, one, other = worse.miss, mean.miss, tail.miss
    if rate is None or one is None or reference.recall is None:
        return None
    both = other is not None and (has_tail(state, reference) or has_miss_tail(state, reference))
    return RateEstimate(
        rate,
        abs(one - (other if both and other is not None else one)),
        _Sample(worse.objects, state.frames, reference.miss_correlation),
        _Sample(reference.objects, reference.frames, reference.miss_correlation),
        reference.n_missed + reference.n_mistaken,
    )
