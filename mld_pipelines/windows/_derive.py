"""Window states → what people read: quantiles, rates, estimates with intervals, drift."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.tables import CATEGORIES, TIMESTAMP
from mld_pipelines.windows._bins import latency_quantiles, unit_quantiles
from mld_pipelines.windows._derive_frames import FRAME_SCHEMA, derive_estimate, derive_frames, derive_frames_drift
from mld_pipelines.windows._drift import MIN_UNITS, align_counts, drift_threshold, jensen_shannon
from mld_pipelines.windows._estimate import estimate_state
from mld_pipelines.windows._proportions import ONE_SIDED_95, wilson_interval
from mld_pipelines.windows._state import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mld_pipelines.diagnosis import DetectionWindowReference, WindowMap, WindowReference
    from mld_pipelines.windows._baseline import Baseline

__all__ = ["DERIVED_SCHEMA", "derive"]

_SECONDS = {"hour": 3600.0, "day": 86400.0}
#: "Inputs outside the reference": the lower bound of the share above max(0.10, 3·unseen_ref) (docs/method.md#baseline).
_UNSEEN_FLOOR, _UNSEEN_FACTOR = 0.10, 3.0

_BAD = ("hotspot", "critical_hotspot")
_RATES = pl.List(pl.Float64())
DERIVED_SCHEMA = pl.Schema(
    {
        "event_day": pl.Date(),
        "hour": pl.Int32(),
        "model_key": pl.String(),
        "result_name": pl.String(),
        "slice": pl.String(),
        "grain": pl.String(),
        "window_start": TIMESTAMP,
        "n": pl.Int64(),
        "too_few": pl.Boolean(),
        "n_invalid": pl.Int64(),
        "n_clock_skewed": pl.Int64(),
        "calls": pl.Float64(),
        "batch_size_mean": pl.Float64(),
        "throughput_per_s": pl.Float64(),
        "latency_mean_ms": pl.Float64(),
        "latency_p50_ms": pl.Float64(),
        "latency_p95_ms": pl.Float64(),
        "latency_p99_ms": pl.Float64(),
        "latency_max_ms": pl.Float64(),
        "confidence_mean": pl.Float64(),
        "confidence_p05": pl.Float64(),
        "confidence_p50": pl.Float64(),
        "confidence_p95": pl.Float64(),
        "class_mix": _RATES,
        "n_scored": pl.Int64(),
        "error_proba_mean": pl.Float64(),
        "error_rate_estimated": pl.Float64(),
        "error_rate_low": pl.Float64(),
        "error_rate_high": pl.Float64(),
        "error_rate_reference": pl.Float64(),
        "error_rate_codes": pl.Float64(),
        "badges": pl.List(pl.String()),
        "atc_error_proba": pl.Float64(),
        "atc_confidence": pl.Float64(),
        "confidence_error_rate": pl.Float64(),
        "unseen_share": pl.Float64(),
        "unseen_low": pl.Float64(),
        "unseen_threshold": pl.Float64(),
        "coverage": pl.Float64(),
        "category_mix": _RATES,
        "bad_share": pl.Float64(),
        "bad_low": pl.Float64(),
        "bad_threshold": pl.Float64(),
        "n_labelled": pl.Int64(),
        "error_rate_realised": pl.Float64(),
        "error_rate_realised_low": pl.Float64(),
        "error_rate_realised_high": pl.Float64(),
        "error_rate_estimated_labelled": pl.Float64(),
        "drift_codes": pl.Float64(),
        "drift_codes_threshold": pl.Float64(),
        "drift_classes": pl.Float64(),
        "drift_classes_threshold": pl.Float64(),
        "drift_confidence": pl.Float64(),
        "drift_confidence_threshold": pl.Float64(),
        **FRAME_SCHEMA,
    }
)


def derive(
    states: pl.DataFrame,
    baselines: Mapping[str, Baseline] | None = None,
    references: Mapping[str, WindowReference | DetectionWindowReference] | None = None,
    maps: Mapping[str, WindowMap] | None = None,
) -> pl.DataFrame:
    """Return the readable numbers of each window.

    Args:
        states: Window states, hours or days.
        baselines: Reference counts by result name, for drift and unseen inputs.
        references: Window references by result name, for the estimated error rate with its 90 % interval, or precision
            and recall of a detector.
        maps: Window maps by result name, of the results that a stress pass verified.

    Returns:
        One row per state with the columns of `DERIVED_SCHEMA`, in the order of the states. Latency quantiles are
        within 12.2 % (half a bin), confidence quantiles within 0.025. `too_few` marks n < 30: never a verdict, and
        drift is not judged there. Columns without their reference are null.
    """
    sources: tuple[Mapping[str, Any], ...] = (baselines or {}, references or {}, maps or {})
    rows = [
        _derive_row(state, *(source.get(state["result_name"]) for source in sources))
        for state in states.iter_rows(named=True)
    ]
    return pl.DataFrame(rows, schema=DERIVED_SCHEMA)


def _derive_row(
    state: dict[str, Any],
    baseline: Baseline | None,
    reference: Any,
    window_map: WindowMap | None,
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(DERIVED_SCHEMA.names())
    row.update({name: state[name] for name in KEY})
    row.update(_basic(state))
    is_detector = state["n_frames"] is not None
    if is_detector:
        row.update(derive_frames(state, baseline))
    if state["result_name"] is not None:
        row.update(_errors(state) | _labelled(state))
        if reference is not None and is_detector:
            row.update(derive_estimate(state, reference))
        elif reference is not None:
            names = baseline.code_names if baseline is not None else None
            row.update(estimate_state(state, reference, code_names=names, window_map=window_map))
        if baseline is not None:
            row.update(_unseen(state, baseline) | _bad(state, baseline) | _drift(state, baseline))
        if baseline is not None and is_detector:
            row.update(derive_frames_drift(state, baseline))
            row["error_rate_reference"] = None  # precision and recall have references of their own
    return row


def _basic(state: dict[str, Any]) -> dict[str, Any]:
    n, grain = state["n"], "day" if state["hour"] is None else "hour"
    timed, confident = sum(state["latency_histogram"]), sum(state["confidence_histogram"])
    p50, p95, p99 = latency_quantiles(state["latency_histogram"], (0.5, 0.95, 0.99), largest=state["latency_max_ms"])
    low, middle, high = unit_quantiles(state["confidence_histogram"], (0.05, 0.5, 0.95))
    return {
        "grain": grain,
        "window_start": datetime.combine(state["event_day"], time(state["hour"] or 0), UTC),
        "n": n,
        "too_few": n < MIN_UNITS,
        "n_invalid": state["n_invalid"],
        "n_clock_skewed": state["n_clock_skewed"],
        "calls": state["call_sum"],
        "batch_size_mean": _ratio(sum(state["batch_histogram"]), state["call_sum"]),
        "throughput_per_s": n / _SECONDS[grain],
        "latency_mean_ms": _ratio(state["latency_sum_ms"], timed),
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "latency_p99_ms": p99,
        "latency_max_ms": state["latency_max_ms"],
        "confidence_mean": _ratio(state["confidence_sum"], confident),
        "confidence_p05": low,
        "confidence_p50": middle,
        "confidence_p95": high,
        "class_mix": _mix(state["class_counts"]),
    }


def _errors(state: dict[str, Any]) -> dict[str, Any]:
    scored, coded = state["n_scored"], sum(state["code_counts"])
    return {
        "n_scored": scored,
        "error_proba_mean": _ratio(state["error_proba_sum"], scored),
        "atc_error_proba": _ratio(state["n_over_threshold"], scored),
        "atc_confidence": _ratio(state["n_below_confidence"], scored),
        "confidence_error_rate": _complement(_ratio(state["confidence_t_sum"], scored)),
        "unseen_share": _ratio(state["n_unseen"], coded),
        "coverage": _ratio(sum(state["category_counts"][:2]), coded),
        "category_mix": _mix(state["category_counts"]),
    }


def _labelled(state: dict[str, Any]) -> dict[str, Any]:
    """Realised error rate with its Wilson interval, and the estimate for the very same units."""
    n, wrong = state["n_labelled"], state["n_label_errors"]
    low, high = wilson_interval(wrong, n)
    return {
        "n_labelled": n,
        "error_rate_realised": _ratio(wrong, n),
        "error_rate_realised_low": float(low) if n else None,
        "error_rate_realised_high": float(high) if n else None,
        "error_rate_estimated_labelled": _ratio(state["labelled_error_proba_sum"], state["n_labelled_scored"]),
    }


def _unseen(state: dict[str, Any], baseline: Baseline) -> dict[str, Any]:
    coded = sum(state["code_counts"])
    low, _ = wilson_interval(state["n_unseen"], coded, z=ONE_SIDED_95)
    return {
        "error_rate_reference": baseline.error_rate,
        "unseen_low": float(low) if coded else None,
        "unseen_threshold": max(_UNSEEN_FLOOR, _UNSEEN_FACTOR * baseline.unseen_share),
    }


def _bad(state: dict[str, Any], baseline: Baseline) -> dict[str, Any]:
    """Share of the family "bad" (families survive a refit, the five names less so: docs/method.md#categories).

    The threshold is the upper bound of the reference's own share, so both sides' sampling noise is allowed for.
    """
    coded, reference_n = sum(state["code_counts"]), sum(baseline.codes.values())
    if not coded or not reference_n:
        return {}
    bad = sum(count for name, count in zip(CATEGORIES, state["category_counts"], strict=True) if name in _BAD)
    expected = sum(count for code, count in baseline.codes.items() if baseline.categories.get(code) in _BAD)
    low, _ = wilson_interval(bad, coded, z=ONE_SIDED_95)
    _, threshold = wilson_interval(expected, reference_n, z=ONE_SIDED_95)
    return {"bad_share": bad / coded, "bad_low": float(low), "bad_threshold": float(threshold)}


def _drift(state: dict[str, Any], baseline: Baseline) -> dict[str, Any]:
    codes = dict(zip(state["codes"], state["code_counts"], strict=True))
    width = max(len(state["class_counts"]), len(baseline.classes))
    pairs = {
        "drift_codes": align_counts(codes, baseline.codes),
        "drift_classes": (_pad(state["class_counts"], width), _pad(baseline.classes, width)),
        "drift_confidence": (list(state["confidence_histogram"]), list(baseline.confidence)),
    }
    return {
        key: value
        for name, (counts, expected) in pairs.items()
        if sum(counts) >= MIN_UNITS and sum(expected) >= MIN_UNITS
        for key, value in (
            (name, float(jensen_shannon(counts, expected))),
            (f"{name}_threshold", _threshold(name, counts, expected, baseline)),
        )
    }


def _threshold(name: str, counts: Sequence[int], expected: Sequence[int], baseline: Baseline) -> float:
    effect = baseline.design_effects.get(name.removeprefix("drift_"), 1.0)
    return drift_threshold(expected, sum(counts), design_effect=effect)


def _mix(counts: list[int]) -> list[float] | None:
    total = sum(counts)
    return [count / total for count in counts] if total else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _complement(value: float | None) -> float | None:
    return None if value is None else 1.0 - value


def _pad(counts: Sequence[int], width: int) -> list[int]:
    return [*counts, *([0] * (width - len(counts)))]
