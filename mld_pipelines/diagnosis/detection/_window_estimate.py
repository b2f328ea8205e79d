"""Precision and recall of a window of frames, without labels (docs/method.md#detection)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mld_pipelines.diagnosis import _badges
from mld_pipelines.diagnosis._window_estimate import MIN_ERRORS_FOR_ATC, check_level
from mld_pipelines.diagnosis.detection._rates import MIN_FRAMES, has_miss_tail, has_tail, window_rates
from mld_pipelines.diagnosis.detection._shift_map import is_corrected

if TYPE_CHECKING:
    from mld_pipelines.diagnosis.detection._rates import RateEstimate, WindowRates
    from mld_pipelines.diagnosis.detection._window import DetectionWindowReference, DetectionWindowState

__all__ = ["DetectionEstimate", "DetectionOpinions", "estimate_detection_window"]


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
        verified_families: Corruption families on which both intervals held when they were left out; empty without a
            stress pass, and for a window that it says nothing about (fewer than 50 boxes).
        missed_families: Those on which one of them did not.
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
    verified_families: tuple[str, ...] = ()
    missed_families: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return both rates with their intervals, and the badges."""
        parts = [
            _line("precision", self.precision, (self.precision_low, self.precision_high), self.level),
            _line("recall", self.recall, (self.recall_low, self.recall_high), self.level),
        ]
        lines = [
            f"{'; '.join(parts)}; {self.boxes} boxes in {self.frames} frames",
            *(f"- {one}" for one in self.badges),
        ]
        if self.verified_families:
            lines.append(f"- verified on: {', '.join(self.verified_families)}")
        if self.missed_families:
            lines.append(f"- an interval did not hold on: {', '.join(self.missed_families)}")
        return "\n".join(lines)


def estimate_detection_window(
    state: DetectionWindowState, reference: DetectionWindowReference, *, level: float = 0.9
) -> DetectionEstimate:
    """Estimate precision and recall of a window, with intervals (docs/method.md#detection).

    TP = Σ (1 − EP); precision = TP / boxes; recall = TP / (TP + lost), where lost objects are the expected misses and
    those that a wrong box is mistaken about (their share of the errors is that of the reference). Of mean error
    probability and share above the reference threshold the worse counts, where the reference has 50 errors and the
    window 50 boxes. Of misses the mean alone counts: under shift clusters of candidates multiply, and the share above
    a threshold with them (measured, docs/method.md#detection); it is an opinion. Where a stress pass taught how both
    rates err under shift, they are corrected, and their intervals have its factors.

    Args:
        state: The window, or the sum of several.
        reference: The result's window reference.
        level: 0.8, 0.9 or 0.95.

    Raises:
        InvalidInputError: Another level was asked for.
    """
    check_level(level)
    shift = reference.shift
    said: dict[str, Any] = {"level": level, "badges": _window_badges(state, reference)}
    if shift is not None and is_corrected(state, reference):
        said |= {"verified_families": shift.verified_families, "missed_families": shift.missed_families}
    if state.frames == 0:
        return DetectionEstimate(frames=0, boxes=0, **said)
    rates = window_rates(state, reference)
    published = rates.worse.false_positive, rates.worse.miss
    factors = (reference.width_factor, reference.width_factor)
    if shift is not None:
        published, factors = shift.published(rates, state, reference), shift.width_factors
    precision = _share(published[0], rates.false_positives, width_factor=factors[0], level=level)
    recall = _share(published[1], rates.lost, width_factor=factors[1], level=level)
    return DetectionEstimate(
        frames=state.frames,
        boxes=state.boxes,
        precision=precision[0],
        precision_low=precision[1],
        precision_high=precision[2],
        recall=recall[0],
        recall_low=recall[1],
        recall_high=recall[2],
        f1=_f1(precision[0], recall[0]),
        opinions=_opinions(state, reference, rates),
        **said,
    )


def _line(name: str, rate: float | None, ends: tuple[float | None, float | None], level: float) -> str:
    if rate is None:
        return f"estimated {name}: not enough evidence"
    low, high = ends
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}] at {level:.0%}"
    return f"estimated {name} {rate:.3f}{interval}"


def _share(
    rate: float | None, estimate: RateEstimate | None, *, width_factor: float, level: float
) -> tuple[float | None, float | None, float | None]:
    """1 − rate with its interval, which a rate that the reference cannot judge has not."""
    if rate is None or estimate is None:
        return _complement(rate), None, None
    low, high = estimate.interval(rate, width_factor=width_factor, level=level)
    return 1.0 - rate, 1.0 - high, 1.0 - low


def _f1(precision: float | None, recall: float | None) -> float | None:
    if precision is None or recall is None:
        return None
    return 2.0 * precision * recall / (precision + recall) if precision + recall > 0.0 else 0.0


def _opinions(
    state: DetectionWindowState, reference: DetectionWindowReference, rates: WindowRates
) -> DetectionOpinions:
    has_any = has_tail(state, reference) or has_miss_tail(state, reference)
    return DetectionOpinions(
        precision_mean=_complement(rates.mean.false_positive),
        precision_atc=_complement(rates.tail.false_positive) if has_tail(state, reference) else None,
        recall_mean=_complement(rates.mean.miss),
        recall_atc=_complement(rates.tail.miss) if has_any else None,
        expected_errors=rates.worse.errors,
        expected_misses=rates.worse.misses,
        assumed_misses=state.sum_without_candidate,
        mistaken=rates.worse.mistaken_share * rates.worse.errors,
        unseen_share=state.n_unseen / state.boxes if reference.unseen_ref is not None and state.boxes else None,
    )


def _complement(rate: float | None) -> float | None:
    return None if rate is None else 1.0 - rate


def _window_badges(state: DetectionWindowState, reference: DetectionWindowReference) -> tuple[str, ...]:
    # under strong shift the intervals of windows that keep the default estimates held 0.40 to 0.83 of them (measured)
    knows = reference.shift is not None and is_corrected(state, reference)
    verified = reference.shift.verified_families if knows and reference.shift else ()
    conditions = {
        _badges.NO_ERRORS: reference.boxes > 0 and reference.n_errors == 0,
        _badges.NO_SUCCESSES: reference.boxes > 0 and reference.n_errors == reference.boxes,
        _badges.FEW_ERRORS: 0 < reference.n_errors < MIN_ERRORS_FOR_ATC,
        _badges.MANY_TIES: reference.is_tied and reference.n_errors >= MIN_ERRORS_FOR_ATC,
        _badges.FEW_FRAMES: min(state.frames, reference.frames) < MIN_FRAMES,
        _badges.NO_CANDIDATES: reference.clusters == 0,
        _badges.ASSUMED_MISSES: reference.without_candidate > 0.0,
        _badges.NOT_VERIFIED_UNDER_SHIFT: not verified,
        _badges.PARTLY_VERIFIED: bool(verified and reference.shift and reference.shift.missed_families),
    }
    return tuple(badge for badge, holds in conditions.items() if holds)
