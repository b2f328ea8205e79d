"""Gold tables of production monitoring: scored inferences, mergeable window states, codes per day, alerts."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from mld_pipelines.tables._detection import DETECTION_SCORES, DETECTION_SUMS, SCORED_BOXES
from mld_pipelines.tables._identity import CATEGORIES, MODEL_KEY, SCHEMA_VERSION_COLUMN, SCORE
from mld_pipelines.tables._rules import AtLeast, Between, Finite, LengthIs, OneOf, Unique
from mld_pipelines.tables._spec import TIMESTAMP, Column, TableSpec

__all__ = ["MONITORING_ALERTS", "MONITORING_CODES", "MONITORING_SCORED", "MONITORING_WINDOWS"]

_COUNT = (AtLeast(0),)
_RATE = (Finite(), Between(0.0, 1.0))
_SUM = (Finite(), AtLeast(0.0))
_COUNTS = pl.List(pl.Int64)
_SUMS = pl.List(pl.Float64)


def _length(size: int) -> tuple[LengthIs]:
    return (LengthIs(size, size, "elements"),)


_EVENT_DAY = Column("event_day", pl.Date, "UTC day of the event", True)
_RESULT = Column("result_name", pl.String, "Result the error columns belong to; null in basic metrics")
_SLICE = Column("slice", pl.String, "Group of inferences; `all` is every one", True, (LengthIs(1, 500),))

#: Sums that the window map of a result judges by (docs/storage.md#shift-sums); null without a map.
_SHIFT = (
    Column("shift_n", pl.Int64, "Scored inferences in the sums below; null without a window map"),
    Column("shift_proba_sum", pl.Float64, "Σ error probability by the estimator that saw stressed copies"),
)
_SHIFT_LISTS = (
    Column("shift_score_sums", _SUMS, "Σ z-score of each of nine risk scores", vector=True),
    Column("shift_tail_counts", _COUNTS, "Units beyond the reference's 99 % quantile of each", vector=True),
    Column("shift_class_counts", _COUNTS, "Units by predicted class index", vector=True),
    Column("shift_probability_sums", _SUMS, "Σ P, the class probabilities at the result's temperature", vector=True),
    Column("shift_product_sums", _SUMS, "Upper triangle of Σ P·Pᵀ, row by row; empty above 64 classes", vector=True),
    Column("shift_feature_sums", _SUMS, "Σ of the projected features, in units of the reference", vector=True),
    Column("shift_square_sums", _SUMS, "Σ of their squares", vector=True),
)

#: What a detector's windows hold beside the columns of all; null for a classifier. For a detector the columns of
#: confidence, classes, error probability, codes and categories count boxes: those recorded in windows without a result,
#: those at or above the operating point in windows of a result.
_FRAMES = (
    Column("n_frames", pl.Int64, "Frames whose boxes are counted; null for a classifier"),
    Column("n_boxes", pl.Int64, "Boxes in them"),
    Column("n_boxes_squared", pl.Int64, "Σ over frames of the square of their number"),
    Column("n_candidates", pl.Int64, "Places where an object may have been missed"),
    Column("n_candidates_over", pl.Int64, "Those with a probability above the threshold of the result"),
    Column("missed_proba_sum", pl.Float64, "Σ of their probabilities"),
)
_FRAME_LISTS = (
    Column("boxes_histogram", _COUNTS, "Frames by boxes: 16 bins of one number, then four per doubling", vector=True),
    Column("range_histogram", _COUNTS, "Boxes by distance from the sensor, 24 bins of 5 m", vector=True),
    Column("missed_codes", pl.List(pl.String), "Codes of candidates seen, sorted", vector=True),
    Column("missed_code_counts", _COUNTS, "Candidates of each of `missed_codes`", vector=True),
    Column("missed_code_proba_sums", _SUMS, "Σ probability of each of `missed_codes`", vector=True),
)

MONITORING_SCORED = TableSpec(
    name="monitoring/scored",
    layer="gold",
    description="One production inference seen through one result: error probability, code and category.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        Column("stream_id", pl.String, "Stream of the logger", True),
        Column("seq", pl.Int64, "Batch within the stream", True, _COUNT),
        Column("row", pl.Int32, "Row within the batch", True, _COUNT),
        Column("request_id", pl.String, "Joins labels that arrive later", True),
        _EVENT_DAY,
        Column("event_at", TIMESTAMP, "When the inference happened", True),
        MODEL_KEY,
        Column("result_name", pl.String, "Result that scored the row", True),
        Column("fingerprint", pl.String, "Weights that made the row", True),
        Column("clock_skewed", pl.Boolean, "The clock was over 60 s ahead: `event_at` is the ingest time", True),
        Column("latency_ms", pl.Float64, "Wall time of the forward pass, ms", rules=_SUM),
        Column("batch_size", pl.Int32, "Inputs in the same call", rules=(AtLeast(1),)),
        Column("prediction", pl.Int64, "Predicted class index", rules=_COUNT),
        Column("confidence", pl.Float32, "Largest class probability", rules=_RATE),
        Column("confidence_t", pl.Float32, "Largest class probability at the result's temperature", rules=_RATE),
        Column("is_invalid", pl.Boolean, "The output was not finite: counted, never scored", True),
        *SCORE[:-1],
        *DETECTION_SUMS,
        *_SHIFT,
        SCORE[-1],
        *_SHIFT_LISTS,
        *SCORED_BOXES,
        *DETECTION_SCORES,
    ),
    key=("stream_id", "seq", "row", "result_name"),
    partition_by=("event_day",),
    append_only=True,
    writer="asset `monitoring/scored`, `commit_once` per range of landing versions",
    retention=timedelta(days=365),
    zorder=("model_key",),
)

MONITORING_WINDOWS = TableSpec(
    name="monitoring/windows",
    layer="gold",
    description="State of one UTC hour: sums and histograms that add up to days; quantiles and rates are derived.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        _EVENT_DAY,
        Column("hour", pl.Int32, "UTC hour of the day; null in a state rolled up to the day", rules=(Between(0, 23),)),
        MODEL_KEY,
        _RESULT,
        _SLICE,
        Column("n", pl.Int64, "Inferences", True, _COUNT),
        Column("n_invalid", pl.Int64, "Inferences whose output was not finite", True, _COUNT),
        Column("n_clock_skewed", pl.Int64, "Inferences whose clock was over 60 s ahead", True, _COUNT),
        Column("first_at", TIMESTAMP, "First event", True),
        Column("last_at", TIMESTAMP, "Last event", True),
        Column("call_sum", pl.Float64, "Σ 1/batch_size: the number of calls", True, _SUM),
        Column("batch_histogram", _COUNTS, "Inferences by ⌊log2 batch size⌋, 16 bins", True, _length(16)),
        Column("latency_histogram", _COUNTS, "Inferences by latency, 64 bins, 3 per doubling from 2^-6 ms", True),
        Column("latency_sum_ms", pl.Float64, "Σ latency, ms", True, _SUM),
        Column("latency_max_ms", pl.Float64, "Largest latency, ms", rules=_SUM),
        Column("confidence_histogram", _COUNTS, "Inferences by confidence, 20 bins", True, _length(20)),
        Column("confidence_sum", pl.Float64, "Σ confidence", True, _SUM),
        Column("class_counts", _COUNTS, "Inferences by predicted class index, without trailing zeros", True),
        Column("n_scored", pl.Int64, "Inferences with an error probability", rules=_COUNT),
        Column("error_proba_histogram", _COUNTS, "Scored inferences by error probability, 20 bins"),
        Column("error_proba_sum", pl.Float64, "Σ error probability", rules=_SUM),
        Column("n_over_threshold", pl.Int64, "Scored with error probability above t_EP of the result", rules=_COUNT),
        Column("n_below_confidence", pl.Int64, "Scored with confidence_t below t_MC of the result", rules=_COUNT),
        Column("confidence_t_sum", pl.Float64, "Σ confidence_t of the scored", rules=_SUM),
        Column("n_unseen", pl.Int64, "Inferences with code `UNSEEN`", rules=_COUNT),
        Column("category_counts", _COUNTS, "Inferences by category: " + ", ".join(CATEGORIES)),
        Column("codes", pl.List(pl.String), "Error codes seen, sorted"),
        Column("code_counts", _COUNTS, "Inferences of each of `codes`"),
        Column("code_error_proba_sums", _SUMS, "Σ error probability of each of `codes`"),
        Column("n_labelled", pl.Int64, "Inferences with a label", rules=_COUNT),
        Column("n_label_errors", pl.Int64, "Labelled inferences that were wrong", rules=_COUNT),
        Column("n_labelled_scored", pl.Int64, "Labelled inferences with an error probability", rules=_COUNT),
        Column("n_labelled_scored_errors", pl.Int64, "Wrong ones of them", rules=_COUNT),
        Column("labelled_error_proba_sum", pl.Float64, "Σ error probability of them", rules=_SUM),
        *_SHIFT,
        *_FRAMES,
        *_SHIFT_LISTS,
        *_FRAME_LISTS,
    ),
    key=("event_day", "hour", "model_key", "result_name", "slice"),
    partition_by=("event_day",),
    rules=(Unique(("event_day", "hour", "model_key", "result_name", "slice")),),
    writer="asset `monitoring/windows`, replaces the touched days",
    zorder=("model_key",),
)

MONITORING_CODES = TableSpec(
    name="monitoring/codes",
    layer="gold",
    description="One error code of one day against the reference of its result.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        _EVENT_DAY,
        MODEL_KEY,
        Column("result_name", pl.String, "Result whose codebook named the code", True),
        Column("unit_kind", pl.String, "Kind of unit", True, (OneOf(("input", "prediction", "object")),)),
        Column("error_code", pl.String, "Code: a region of feature space", True),
        Column("category", pl.String, "Verdict of the result about the code", rules=(OneOf(CATEGORIES),)),
        Column("counts", pl.Int64, "Units of the day; of objects Σ P(missed), rounded", True, _COUNT),
        Column("n", pl.Int64, "Coded units of the day, all codes", True, _COUNT),
        Column("share", pl.Float64, "counts / n", rules=_RATE),
        Column("reference_counts", pl.Int64, "The same of the reference", True, _COUNT),
        Column("reference_n", pl.Int64, "Units of the reference, all codes", True, _COUNT),
        Column("reference_share", pl.Float64, "reference_counts / reference_n", rules=_RATE),
        Column("delta", pl.Float64, "share − reference share, percentage points", rules=(Finite(), Between(-100, 100))),
        Column("delta_low", pl.Float64, "Lower end of its 95 % interval (Newcombe), percentage points"),
        Column("delta_high", pl.Float64, "Upper end of its 95 % interval (Newcombe), percentage points"),
        Column("q_value", pl.Float64, "Benjamini-Hochberg q over the codes of the day and result", rules=_RATE),
        Column("mean_error_proba", pl.Float64, "Mean error probability of the units", rules=_RATE),
        Column("is_masked", pl.Boolean, "Fewer than 30 units on either side: no verdict", True),
    ),
    key=("event_day", "model_key", "result_name", "unit_kind", "error_code"),
    partition_by=("event_day",),
    rules=(Unique(("event_day", "model_key", "result_name", "unit_kind", "error_code")),),
    writer="asset `monitoring/codes`, replaces the touched days",
    zorder=("model_key",),
)

MONITORING_ALERTS = TableSpec(
    name="monitoring/alerts",
    layer="gold",
    description="One alert from its first window to its last; `alert_id` is a hash, so a replay changes nothing.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        Column("alert_id", pl.String, "Hash of rule, model, result, slice and first window", True),
        Column("rule", pl.String, "What was judged", True),
        MODEL_KEY,
        _RESULT,
        _SLICE,
        Column("grain", pl.String, "Length of its windows", True, (OneOf(("hour", "day", "run")),)),
        Column("severity", pl.String, "How much it matters", True, (OneOf(("critical", "warning", "info")),)),
        Column("state", pl.String, "Where it stands", True, (OneOf(("ok", "pending", "firing", "resolved")),)),
        Column("value", pl.Float64, "Judged value in the last breaching window"),
        Column("low", pl.Float64, "Lower end of its interval, where it has one"),
        Column("high", pl.Float64, "Upper end of its interval, where it has one"),
        Column("threshold", pl.Float64, "Threshold in the same window"),
        Column("origin", pl.String, "Where the threshold comes from", True, (OneOf(("reference", "history", "user")),)),
        Column("n", pl.Int64, "Inferences of the same window", True, _COUNT),
        Column("opened_at", TIMESTAMP, "Start of the first breaching window", True),
        Column("fired_at", TIMESTAMP, "Start of the window that made it fire; null while pending or if it never did"),
        Column("closed_at", TIMESTAMP, "Start of the window that resolved it"),
        Column("last_seen", TIMESTAMP, "Start of the last breaching window", True),
        Column("message", pl.String, "What happened, in words", True),
        Column("versions", pl.String, "Delta versions it was computed from, JSON"),
    ),
    key=("alert_id",),
    rules=(Unique(("alert_id",)),),
    writer="asset `monitoring/alerts`, sensors `run_failure` and `run_recovery`",
)
