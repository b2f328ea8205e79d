"""What people read of a detector's window: boxes per frame, ranges, estimated precision and recall."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.diagnosis import (
    DetectionWindowState,
    estimate_detection_window,
    misses_per_frame,
    shows_no_candidates,
    with_candidate_badge,
)
from mld_pipelines.windows._bins import range_quantiles
from mld_pipelines.windows._drift import MIN_UNITS, drift_threshold, jensen_shannon

if TYPE_CHECKING:
    from mld_pipelines.diagnosis import DetectionWindowReference
    from mld_pipelines.windows._baseline import Baseline

__all__ = ["FRAME_SCHEMA", "derive_estimate", "derive_frames", "derive_frames_drift"]

#: Two-sided 95 % of the standard normal distribution.
_Z95 = 1.959963984540054
#: With 95 % confidence an event that n trials did not show has a rate below 3/n (Hanley and Lippman-Hand 1983).
_RULE_OF_THREE = 3.0

#: Columns of a derived window that only detectors have.
FRAME_SCHEMA: dict[str, pl.DataType] = {
    "n_frames": pl.Int64(),
    "n_boxes": pl.Int64(),
    "detections_per_frame": pl.Float64(),
    "detections_per_frame_low": pl.Float64(),
    "detections_per_frame_high": pl.Float64(),
    "detections_per_frame_reference": pl.Float64(),
    "detections_ratio": pl.Float64(),
    "range_p05_m": pl.Float64(),
    "range_p50_m": pl.Float64(),
    "range_p95_m": pl.Float64(),
    "expected_misses": pl.Float64(),
    "precision_estimated": pl.Float64(),
    "precision_low": pl.Float64(),
    "precision_high": pl.Float64(),
    "precision_reference": pl.Float64(),
    "recall_estimated": pl.Float64(),
    "recall_low": pl.Float64(),
    "recall_high": pl.Float64(),
    "recall_reference": pl.Float64(),
    "f1_estimated": pl.Float64(),
    "drift_range": pl.Float64(),
    "drift_range_threshold": pl.Float64(),
}


def derive_frames(state: dict[str, Any], baseline: Baseline | None) -> dict[str, Any]:
    """Return boxes per frame with their 95 % interval, and quantiles of the range.

    `detections_ratio` says how far the interval is from that of the reference: the quotient of the near ends, at most 1
    where they meet.

    Args:
        state: A window state as a mapping of columns.
        baseline: Reference counts of its result.
    """
    frames, boxes = state["n_frames"], state["n_boxes"]
    near, middle, far = range_quantiles(state["range_histogram"], (0.05, 0.5, 0.95))
    row: dict[str, Any] = {
        "n_frames": frames,
        "n_boxes": boxes,
        "range_p05_m": near,
        "range_p50_m": middle,
        "range_p95_m": far,
    }
    if not frames:
        return row
    low, high = _mean_interval(frames, boxes, state["n_boxes_squared"])
    row |= {
        "detections_per_frame": boxes / frames,
        "detections_per_frame_low": low,
        "detections_per_frame_high": high,
    }
    if baseline is not None and baseline.frames and state["result_name"] is not None:
        usual_low, usual_high = _mean_interval(baseline.frames, baseline.n, baseline.boxes_squared)
        row["detections_per_frame_reference"] = baseline.n / baseline.frames
        row["detections_ratio"] = max(low / usual_high, usual_low / high)
    return row


def derive_estimate(state: dict[str, Any], reference: DetectionWindowReference) -> dict[str, Any]:
    """Return estimated precision, recall and F1 with 90 % intervals and badges; nulls for a window without frames.

    Args:
        state: A window state as a mapping of columns.
        reference: Window reference of its result.
    """
    frames = state["n_frames"]
    is_blind = shows_no_candidates(reference, frames=frames, candidates=state["n_candidates"])
    sums = DetectionWindowState(
        frames=frames,
        boxes=state["n_scored"],
        sum_error_proba=state["error_proba_sum"],
        n_above_ep=state["n_over_threshold"],
        candidates=state["n_candidates"],
        sum_miss_proba=state["missed_proba_sum"],
        n_candidates_above=state["n_candidates_over"],
        sum_without_candidate=frames * (misses_per_frame(reference) if is_blind else reference.without_candidate),
        n_unseen=state["n_unseen"],
    )
    estimate = with_candidate_badge(estimate_detection_window(sums, reference), sums, reference)
    return {
        "expected_misses": sums.sum_miss_proba + sums.sum_without_candidate if frames else None,
        "precision_estimated": estimate.precision,
        "precision_low": estimate.precision_low,
        "precision_high": estimate.precision_high,
        "precision_reference": reference.precision,
        "recall_estimated": estimate.recall,
        "recall_low": estimate.recall_low,
        "recall_high": estimate.recall_high,
        "recall_reference": reference.recall,
        "f1_estimated": estimate.f1,
        "badges": list(estimate.badges),
    }


def derive_frames_drift(state: dict[str, Any], baseline: Baseline) -> dict[str, Any]:
    """Return the drift of ranges with its threshold; nothing where either side has too few boxes.

    Args:
        state: A window state as a mapping of columns.
        baseline: Reference counts of its result.
    """
    counts, expected = state["range_histogram"], list(baseline.ranges)
    if sum(counts) < MIN_UNITS or sum(expected) < MIN_UNITS:
        return {}
    effect = baseline.design_effects.get("range", 1.0)
    return {
        "drift_range": float(jensen_shannon(counts, expected)),
        "drift_range_threshold": drift_threshold(expected, sum(counts), design_effect=effect),
    }


def _mean_interval(frames: int, boxes: int, squared: int) -> tuple[float, float]:
    """95 % interval of boxes per frame, frames taken as independent."""
    mean = boxes / frames
    variance = max(squared / frames - mean * mean, 0.0) * frames / max(frames - 1, 1)
    half = _Z95 * math.sqrt(variance / frames)
    return max(mean - half, 0.0), max(mean + half, _RULE_OF_THREE / frames)
