"""Logged frames of a detector → window states: frames are counted once, boxes and expected misses inside them.

A state of a detector is three states of `aggregate` in one row: that of its frames (number, latency, batches), that of
its boxes (confidence, classes, error probability, codes) and that of the places where something may have been missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.exceptions import ContractError
from mld_pipelines.tables import TIMESTAMP
from mld_pipelines.windows._aggregate import aggregate
from mld_pipelines.windows._bins import BOX_COUNT_BINS, RANGE_BINS, box_count_bin, range_bin
from mld_pipelines.windows._lists import count_bins, to_lists
from mld_pipelines.windows._state import (
    CODE_LISTS,
    DETECTOR_COLUMNS,
    HISTOGRAM_COLUMNS,
    KEY,
    STATE_SCHEMA,
    empty_states,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.diagnosis import DetectionWindowReference

__all__ = ["aggregate_frames", "frame_columns", "ranges_of"]

_FLOATS, _INTEGERS, _TEXTS = pl.List(pl.Float32), pl.List(pl.Int64), pl.List(pl.String)
_FRAME: dict[str, pl.DataType] = {
    "event_at": TIMESTAMP,
    "model_key": pl.String(),
    "result_name": pl.String(),
    "slice": pl.String(),
    "latency_ms": pl.Float64(),
    "batch_size": pl.Int32(),
    "clock_skewed": pl.Boolean(),
}
_BOXES: dict[str, pl.DataType] = {"scores": _FLOATS, "labels": _INTEGERS, "ranges_m": _FLOATS}
_SCORES: dict[str, pl.DataType] = {
    "box_error_proba": _FLOATS,
    "box_error_codes": _TEXTS,
    "box_categories": _TEXTS,
    "missed_proba": _FLOATS,
    "missed_codes": _TEXTS,
}
_IDENTITY = ("event_at", "model_key", "result_name", "slice")

#: Columns of a state that hold boxes instead of frames, where the frames are a detector's.
_OF_BOXES = (
    "confidence_histogram",
    "confidence_sum",
    "class_counts",
    "n_scored",
    "error_proba_histogram",
    "error_proba_sum",
    "n_over_threshold",
    "n_below_confidence",
    "confidence_t_sum",
    "n_unseen",
    "category_counts",
    *CODE_LISTS[0],
)
_BASIC = _OF_BOXES[:3]
#: Column of the state of candidates → column of the window.
_OF_CANDIDATES = {
    "n_scored": "n_candidates",
    "n_over_threshold": "n_candidates_over",
    "error_proba_sum": "missed_proba_sum",
    **dict(zip(*CODE_LISTS, strict=True)),
}


@dataclass(frozen=True, slots=True)
class _Limits:
    """A threshold of boxes or of candidates; confidence has none."""

    threshold_ep: float
    threshold_mc: float = 0.0


def aggregate_frames(
    rows: pl.DataFrame,
    *,
    references: Mapping[str, DetectionWindowReference] | None = None,
    errors: bool = True,
) -> pl.DataFrame:
    """Aggregate a detector's frames to the mergeable states of their hours.

    With `errors`, frames that were scored (`box_error_proba` is not null) are counted by their boxes at or above the
    operating point; without, all recorded boxes are.

    Args:
        rows: One row per frame: `event_at`, `model_key` and what else of `frame_columns` there is.
        references: Window references by result name. Counts against unknown thresholds are zero.
        errors: False gives the basic metrics of every frame, whatever its result (`result_name` null).

    Returns:
        States as those of `aggregate`; `n`, times, latency and batches count frames, `n_frames` those whose boxes are
        in the other columns.

    Raises:
        ContractError: A required column is missing.
    """
    if missing := sorted({"event_at", "model_key"} - set(rows.columns)):
        raise ContractError(f"frames lack the columns {missing}; no window was computed.")
    if rows.is_empty():
        return empty_states()
    frames = _inputs(rows, errors=errors)
    known = references or {}
    ep = {name: _Limits(reference.threshold_ep) for name, reference in known.items()}
    miss = {name: _Limits(reference.threshold_miss) for name, reference in known.items()}
    boxes, candidates = _boxes(frames, errors=errors), _candidates(frames)
    states = aggregate(frames.select(list(_FRAME)), errors=errors).drop(*DETECTOR_COLUMNS)
    states = _with(states, aggregate(boxes, references=ep, errors=errors), {name: name for name in _OF_BOXES})
    if errors:
        states = _with(states, aggregate(candidates, references=miss), _OF_CANDIDATES)
    return _finished(states, frames, boxes)


def frame_columns(*, errors: bool) -> list[str]:
    """Return the columns that `aggregate_frames` reads.

    Args:
        errors: As at `aggregate_frames`.
    """
    of_result = ("result_name",) if not errors else ()
    names = [*_FRAME, *_BOXES, *(_SCORES if errors else ())]
    return [name for name in names if name not in of_result]


def ranges_of(boxes: str = "boxes_3d") -> pl.Expr:
    """Return the distance of each box's centre from the sensor along the ground, in metres, as `ranges_m`.

    Args:
        boxes: List column of canonical boxes, 7 values each.
    """
    x, y = pl.col(boxes).list.gather_every(7, 0), pl.col(boxes).list.gather_every(7, 1)
    return (x * x + y * y).list.eval(pl.element().sqrt()).cast(_FLOATS).alias("ranges_m")


def _inputs(rows: pl.DataFrame, *, errors: bool) -> pl.DataFrame:
    """Return the frames with all columns, numbered by the window that they belong to; `counted` holds their boxes."""
    wanted = {**_FRAME, **_BOXES, **_SCORES}
    read = {*frame_columns(errors=errors)}
    typed = rows.select(
        pl.col(name).cast(dtype) if name in rows.columns and name in read else pl.lit(None, dtype).alias(name)
        for name, dtype in wanted.items()
    )
    is_counted = pl.col("box_error_proba").is_not_null() if errors else pl.col("scores").is_not_null()
    kept = pl.col("box_error_proba").list.drop_nulls() if errors else pl.col("scores")
    return typed.with_columns(is_counted.alias("is_counted"), kept.list.len().cast(pl.Int64).alias("boxes"))


def _boxes(frames: pl.DataFrame, *, errors: bool) -> pl.DataFrame:
    """Return one row per box that is counted, shaped like an inference."""
    lists = [*_BOXES, *(("box_error_proba", "box_error_codes", "box_categories") if errors else ())]
    filled = frames.filter("is_counted", pl.col("boxes") > 0)
    aligned = [_aligned(name, filled) for name in lists]
    rows = filled.select(*_IDENTITY, *aligned).explode(lists)
    names = {"scores": "confidence", "labels": "prediction", "ranges_m": "range"}
    names |= {"box_error_proba": "error_proba", "box_error_codes": "error_code", "box_categories": "category"}
    rows = rows.rename({name: names[name] for name in lists})
    return rows.filter(pl.col("error_proba").is_not_null()) if errors else rows


def _aligned(name: str, frames: pl.DataFrame) -> pl.Expr | pl.Series:
    """A list column as long as `scores`: rows of older code may lack it."""
    if frames[name].null_count() == 0:
        return pl.col(name)
    inner: Any = frames.schema[name].inner  # type: ignore[attr-defined]
    gap = pl.col("scores").list.eval(pl.lit(None, dtype=inner))
    return pl.col(name).fill_null(gap).alias(name)


def _candidates(frames: pl.DataFrame) -> pl.DataFrame:
    """Return one row per place where something may have been missed, shaped like an inference."""
    filled = frames.filter("is_counted", pl.col("missed_proba").list.len() > 0)
    names = {"missed_proba": "error_proba", "missed_codes": "error_code"}
    return filled.select(*_IDENTITY, *names).explode(list(names)).rename(names)


def _with(states: pl.DataFrame, others: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """Return states with columns of other states of the same windows; what has no such units holds none."""
    own = others.select(*KEY, *(pl.col(name).alias(new) for name, new in names.items()))
    rest = states.drop(new for new in names.values() if new in states.columns)
    joined = rest.join(own, on=list(KEY), how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(
        pl.when(_applies(new)).then(pl.col(new).fill_null(_nothing(new))).alias(new) for new in names.values()
    )


def _applies(name: str) -> pl.Expr:
    """Whether a window has the column: the basic metrics know nothing of errors."""
    return pl.lit(value=True) if name in _BASIC else pl.col("result_name").is_not_null()


def _nothing(name: str) -> pl.Expr:
    """What a column holds where there are no units."""
    dtype = STATE_SCHEMA[name]
    if not isinstance(dtype, pl.List):
        return pl.lit(0, dtype)
    return pl.lit([0] * (HISTOGRAM_COLUMNS.get(name) or 0), dtype)


def _finished(states: pl.DataFrame, frames: pl.DataFrame, boxes: pl.DataFrame) -> pl.DataFrame:
    """Add numbers and histograms of boxes per frame and of ranges."""
    counted = frames.filter("is_counted").select(*_window_key(), "boxes", box_count_bin("boxes").alias("bin"))
    per_frame = counted.group_by(KEY).agg(
        pl.len().cast(pl.Int64).alias("n_frames"),
        pl.col("boxes").sum().alias("n_boxes"),
        (pl.col("boxes") ** 2).sum().cast(pl.Int64).alias("n_boxes_squared"),
        pl.col("bin"),
    )
    per_frame = _histogram(per_frame, "boxes_histogram", BOX_COUNT_BINS)
    ranges = boxes.select(*_window_key(), range_bin("range").alias("bin")).drop_nulls("bin")
    by_range = _histogram(ranges.group_by(KEY).agg("bin"), "range_histogram", RANGE_BINS)
    for part in (per_frame, by_range):
        states = states.join(part, on=list(KEY), how="left", nulls_equal=True, maintain_order="left")
    absent = {name: dtype for name, dtype in DETECTOR_COLUMNS.items() if name not in states.columns}
    states = states.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())
    always = ("n_frames", "n_boxes", "n_boxes_squared", "boxes_histogram", "range_histogram")
    return (
        states.with_columns(pl.col(name).fill_null(_nothing(name)) for name in always)
        .select(STATE_SCHEMA.names())
        .cast(STATE_SCHEMA)
        .sort(KEY)
    )


def _window_key() -> list[pl.Expr]:
    return [
        pl.col("event_at").dt.date().alias("event_day"),
        pl.col("event_at").dt.hour().cast(pl.Int32).alias("hour"),
        pl.col("model_key"),
        pl.col("result_name"),
        pl.col("slice").fill_null("all"),
    ]


def _histogram(grouped: pl.DataFrame, name: str, size: int) -> pl.DataFrame:
    lists = to_lists(count_bins(grouped["bin"], size)) if grouped.height else pl.Series([], dtype=pl.List(pl.Int64))
    return grouped.drop("bin").with_columns(lists.alias(name))
