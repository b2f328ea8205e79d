"""Precision and recall of a window of frames, without labels (docs/method.md#detection)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mld_pipelines.diagnosis import _badges
from mld_pipelines.diagnosis._window_estimate import (
    DISAGREEMENT_SHARE,
    LEVEL_FACTORS,
    MIN_ERRORS_FOR_ATC,
    MIN_HALF_WIDTH,
    MIN_UNITS_FOR_ATC,
    SCALE_FLOOR,
    SHIFT_SHARE,
)
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from mld_pipelines.diagnosis.detection._window import DetectionWindowReference, DetectionWindowState

__all__ = ["DetectionEstimate", "DetectionOpinions", "estimate_detection_window"]

#: Frames below which an interval takes Student's quantile for the normal one: few frames, few independent draws.
MIN_FRAMES = 50
#: Reference units below which no interval is narrower than ±0.15, as for classification.
MIN_REFERENCE_UNITS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionOpinions:
    """What each estimate says alone; None where it does not exist.

    Attributes:
        precision_mean: 1 − mean error probability.
        precision_atc: 1 − share of boxes above the error-probability threshold.
        recall_mean: Recall from mean error and miss probabilities.
        recall_atc: Recall from the shares above both thresholds.
        expected_errors: Kept boxes that are probably no true positives.
        expected_misses: Objects that probably nothing found, assumed ones included.
        assumed_misses: Those of them that no candidate shows.
        mistaken: Objects that a prediction is probably mistaken about.
        unseen_share: Share of UNSEEN boxes; None without a codebook.
    """

    precision_mean: float | None
    precision_atc: float | None
    recall_mean: float | None
    recall_atc: float | None
    expected_errors: float
    expected_misses: float
    assumed_misses: float
    mistaken: float
    unseen_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionEstimate:
    """Estimated quality of a detector in a window.

    Attributes:
        frames: Frames.
        boxes: Kept boxes.
        precision: Share of kept boxes that are true positives; None without a box.
        precision_low: Lower bound of its interval.
        precision_high: Upper bound.
        recall: Share of true objects that were found; None where neither a box nor a miss is expected.
        recall_low: Lower bound of its interval.
        recall_high: Upper bound.
        f1: Harmonic mean of precision and recall; None where either is.
        level: Nominal level of both intervals.
        badges: What a reader must know, in words.
        opinions: The single estimates, None for a window without frames.
    """

    frames: int
    boxes: int
    precision: float | None = None
    precision_low: float | None = None
    precision_high: float | None = None
    recall: float | None = None
    recall_low: float | None = None
    recall_high: float | None = None
    f1: float | None = None
    level: float = 0.9
    badges: tuple[str, ...] = ()
    opinions: DetectionOpinions | None = None


@dataclass(frozen=True, slots=True)
class _Rates:
    """False-positive and miss rate by one rule; None where undefined."""

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


def estimate_detection_window(
    state: DetectionWindowState, reference: DetectionWindowReference, *, level: float = 0.9
) -> DetectionEstimate:
    """Estimate precision and recall of a window, with intervals (docs/method.md#detection).

    TP = Σ (1 − EP); precision = TP / boxes; recall = TP / (TP + lost), where lost objects are the expected misses and
    those that a wrong box is mistaken about (their share of the errors is that of the reference). Of mean error
    probability and share above the reference threshold the worse counts, where the reference has 50 errors and the
    window 50 boxes. Of misses the mean alone counts: under shift clusters of candidates multiply, and the share above
    a threshold with them (measured, docs/method.md#detection); it is an opinion.

    Args:
        state: The window, or the sum of several.
        reference: The result's window reference.
        level: 0.8, 0.9 or 0.95.

    Raises:
        InvalidInputError: Another level was asked for.
    """
    if level not in LEVEL_FACTORS:
        raise InvalidInputError(
            f"level is {level}, but only {', '.join(map(str, LEVEL_FACTORS))} have a width factor; "
            "nothing was estimated. Choose one of them."
        )
    badges = _window_badges(state, reference)
    if state.frames == 0:
        return DetectionEstimate(frames=0, boxes=0, level=level, badges=badges)
    share = reference.mistaken_share
    mean = _Rates(state.sum_error_proba, state.sum_miss_proba + state.sum_without_candidate, state.boxes, share)
    tail = _Rates(float(state.n_above_ep), state.n_candidates_above + state.sum_without_candidate, state.boxes, share)
    worse = _Rates(
        max(mean.errors, tail.errors) if _has_tail(state, reference) else mean.errors,
        mean.misses,
        state.boxes,
        share,
    )
    precision = _precision(worse, mean, tail, state, reference, level=level)
    recall = _recall(worse, mean, tail, state, reference, level=level)
    return DetectionEstimate(
        frames=state.frames,
        boxes=state.boxes,
        **dict(zip(("precision", "precision_low", "precision_high"), precision, strict=True)),
        **dict(zip(("recall", "recall_low", "recall_high"), recall, strict=True)),
        f1=_f1(precision[0], recall[0]),
        level=level,
        badges=badges,
        opinions=_opinions(state, reference, worse, mean, tail),
    )


def _has_tail(state: DetectionWindowState, reference: DetectionWindowReference) -> bool:
    """Whether the threshold on error probabilities is more than a noisy quantile here."""
    enough = reference.n_errors >= MIN_ERRORS_FOR_ATC and state.boxes >= MIN_UNITS_FOR_ATC
    return enough and not reference.is_tied


def _has_miss_tail(state: DetectionWindowState, reference: DetectionWindowReference) -> bool:
    """The same for the threshold on miss probabilities."""
    enough = reference.n_shown >= MIN_ERRORS_FOR_ATC and state.candidates >= MIN_UNITS_FOR_ATC
    return enough and not reference.is_miss_tied


def _precision(
    worse: _Rates,
    mean: _Rates,
    tail: _Rates,
    state: DetectionWindowState,
    reference: DetectionWindowReference,
    *,
    level: float,
) -> tuple[float | None, float | None, float | None]:
    rate, one, other = worse.false_positive, mean.false_positive, tail.false_positive
    if rate is None or one is None or other is None or reference.precision is None:
        return (None if rate is None else 1.0 - rate), None, None
    low, high = _interval(
        rate,
        spread=abs(one - other) if _has_tail(state, reference) else 0.0,
        window=_Sample(state.boxes, state.frames, reference.error_correlation),
        known=_Sample(reference.boxes, reference.frames, reference.error_correlation),
        events=reference.n_errors,
        factor=reference.width_factor * LEVEL_FACTORS[level],
        level=level,
    )
    return 1.0 - rate, 1.0 - high, 1.0 - low


def _recall(
    worse: _Rates,
    mean: _Rates,
    tail: _Rates,
    state: DetectionWindowState,
    reference: DetectionWindowReference,
    *,
    level: float,
) -> tuple[float | None, float | None, float | None]:
    rate, one, other = worse.miss, mean.miss, tail.miss
    if rate is None or one is None or reference.recall is None:
        return (None if rate is None else 1.0 - rate), None, None
    both = other is not None and (_has_tail(state, reference) or _has_miss_tail(state, reference))
    low, high = _interval(
        rate,
        spread=abs(one - (other if both and other is not None else one)),
        window=_Sample(worse.objects, state.frames, reference.miss_correlation),
        known=_Sample(reference.objects, reference.frames, reference.miss_correlation),
        events=reference.n_missed + reference.n_mistaken,
        factor=reference.width_factor * LEVEL_FACTORS[level],
        level=level,
    )
    return 1.0 - rate, 1.0 - high, 1.0 - low


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


def _interval(
    rate: float,
    *,
    spread: float,
    window: _Sample,
    known: _Sample,
    events: int,
    factor: float,
    level: float,
) -> tuple[float, float]:
    """`rate ± q·s`, `s² = p(1−p)(1/n + 1/n_ref) + (0.25 D)² + (0.2 (p − r0))² + 0.004²`, n in independent units."""
    from scipy.special import betaincinv, ndtri, stdtrit

    base = events / known.units
    # One event more than none and less than all, so that a rate of 0 or 1 has a sampling error, too.
    n, n_ref = window.independent, known.independent
    certain = min(max(rate, 0.5 / (n + 1.0)), 1.0 - 0.5 / (n + 1.0))
    sampling = certain * (1.0 - certain) * (1.0 / n + 1.0 / n_ref)
    shift = (SHIFT_SHARE * (rate - base)) ** 2
    half = factor * (sampling + (DISAGREEMENT_SHARE * spread) ** 2 + shift + SCALE_FLOOR**2) ** 0.5
    tail = (1.0 + level) / 2.0
    frames = min(window.frames, known.frames)
    if frames < MIN_FRAMES:
        half *= float(stdtrit(max(frames - 1, 1), tail) / ndtri(tail))
    if known.units < MIN_REFERENCE_UNITS:
        half = max(half, MIN_HALF_WIDTH)
    low, high = max(0.0, rate - half), min(1.0, rate + half)
    bound = float(betaincinv(0.5, n_ref + 0.5, tail))  # of a rate never observed to differ from 0, or from 1
    if events == 0:
        return 0.0, max(high, bound)
    if events >= known.units:
        return min(low, 1.0 - bound), 1.0
    return low, high


def _f1(precision: float | None, recall: float | None) -> float | None:
    if precision is None or recall is None:
        return None
    return 2.0 * precision * recall / (precision + recall) if precision + recall > 0.0 else 0.0


def _opinions(
    state: DetectionWindowState, reference: DetectionWindowReference, worse: _Rates, mean: _Rates, tail: _Rates
) -> DetectionOpinions:
    has_any = _has_tail(state, reference) or _has_miss_tail(state, reference)
    return DetectionOpinions(
        precision_mean=_complement(mean.false_positive),
        precision_atc=_complement(tail.false_positive) if _has_tail(state, reference) else None,
        recall_mean=_complement(mean.miss),
        recall_atc=_complement(tail.miss) if has_any else None,
        expected_errors=worse.errors,
        expected_misses=worse.misses,
        assumed_misses=state.sum_without_candidate,
        mistaken=worse.mistaken_share * worse.errors,
        unseen_share=state.n_unseen / state.boxes if reference.unseen_ref is not None and state.boxes else None,
    )


def _complement(rate: float | None) -> float | None:
    return None if rate is None else 1.0 - rate


def _window_badges(state: DetectionWindowState, reference: DetectionWindowReference) -> tuple[str, ...]:
    conditions = {
        _badges.NO_ERRORS: reference.boxes > 0 and reference.n_errors == 0,
        _badges.NO_SUCCESSES: reference.boxes > 0 and reference.n_errors == reference.boxes,
        _badges.FEW_ERRORS: 0 < reference.n_errors < MIN_ERRORS_FOR_ATC,
        _badges.MANY_TIES: reference.is_tied and reference.n_errors >= MIN_ERRORS_FOR_ATC,
        _badges.FEW_FRAMES: min(state.frames, reference.frames) < MIN_FRAMES,
        _badges.NO_CANDIDATES: reference.clusters == 0,
        _badges.ASSUMED_MISSES: reference.without_candidate > 0.0,
        _badges.NOT_VERIFIED_UNDER_SHIFT: reference.stress_version is None,
    }
    return tuple(badge for badge, holds in conditions.items() if holds)
