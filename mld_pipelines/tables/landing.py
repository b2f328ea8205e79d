"""Landing tables: rows as they were received, append-only."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from mld_pipelines.tables._detection import DETECTION_SCORES, DETECTION_SUMS, DETECTIONS, DETECTOR, TRUTHS
from mld_pipelines.tables._identity import CAPTURE, DELIVERY, MODEL_KEY, N_EPOCH, SCORE
from mld_pipelines.tables._rules import AtLeast, Finite, LengthIs, NotBefore, OneOf, Unique
from mld_pipelines.tables._spec import TIMESTAMP, Column, TableSpec

__all__ = [
    "FIRST_EVENT_DAY",
    "LANDING_FEEDBACK",
    "LANDING_INFERENCES",
    "LANDING_MODELS",
    "LANDING_RECEIPTS",
    "LANDING_REQUESTS",
    "LANDING_TRACES",
]

FIRST_EVENT_DAY = date(2020, 1, 1)
"""First day of the monitoring partitions: an earlier event would belong to no window, so its clock is wrong."""

_ARRIVAL = ("stream_id", "seq", "row")
_DATASET = Column("dataset_type", pl.String, "Dataset the input belongs to, e.g. `train`", True, (LengthIs(1, 200),))

LANDING_TRACES = TableSpec(
    name="landing/traces",
    layer="landing",
    description="One traced input with its ground truth, as the tracer recorded it.",
    columns=(
        *DELIVERY,
        _DATASET,
        N_EPOCH,
        Column("input_id", pl.String, "Smallest unit whose inference is reproducible", True, (LengthIs(1, 1000),)),
        Column("captured_at", TIMESTAMP, "When the forward pass ended", True),
        Column("label", pl.Int64, "True class index", rules=(AtLeast(0),)),
        *DETECTOR,
        *CAPTURE,
        *DETECTIONS,
        *TRUTHS,
    ),
    key=_ARRIVAL,
    partition_by=("ingest_day",),
    append_only=True,
    writer="tracer sink, trace runs",
    retention=timedelta(days=365),
)

LANDING_RECEIPTS = TableSpec(
    name="landing/receipts",
    layer="landing",
    description="A finished trace of one dataset and epoch; rows without a receipt are an unfinished trace.",
    columns=(
        *DELIVERY,
        MODEL_KEY,
        _DATASET,
        N_EPOCH,
        Column("purpose", pl.String, "What was traced", True, (OneOf(("trace", "stress")),)),
        Column("state", pl.String, "How the trace ended", True, (OneOf(("complete", "accepted", "discarded")),)),
        Column("last_seq", pl.Int64, "Last batch of the stream that belongs to this receipt", True),
        Column("rows", pl.Int64, "Rows recorded", True, (AtLeast(0),)),
        Column("dropped", pl.Int64, "Rows lost and counted", True, (AtLeast(0),)),
        Column("fingerprint", pl.String, "Fingerprint of the weights at `wait_for_save`", True),
        Column("weights_changed", pl.Boolean, "The weights changed while this dataset was traced", True),
        Column("note", pl.String, "What a reader should know, e.g. quarantined batches"),
        Column("completed_at", TIMESTAMP, "When the trace was declared complete", True),
        Column("source", pl.String, "Registered model and dataset of a run by the platform, as a JSON object"),
    ),
    key=("stream_id", "purpose", "dataset_type", "n_epoch"),
    partition_by=("ingest_day",),
    append_only=True,
    writer="`wait_for_save`, `mld trace accept|discard`",
)

LANDING_MODELS = TableSpec(
    name="landing/models",
    layer="landing",
    description="One set of weights of a model, with what another process needs to score its rows.",
    columns=(
        *DELIVERY,
        MODEL_KEY,
        Column("fingerprint", pl.String, "Hash of the weights", True),
        Column("task", pl.String, "Task of the model", True),
        Column("architecture", pl.String, "Class name of the model"),
        Column("output_kind", pl.String, "What the model returns"),
        Column("feature_layer", pl.String, "Module path whose input is the feature"),
        Column("feature_dim", pl.Int64, "Width of the feature", rules=(AtLeast(1),)),
        Column("n_classes", pl.Int64, "Number of classes", rules=(AtLeast(1),)),
        Column("class_names", pl.List(pl.String), "Names of the classes by index"),
        Column("first_seen", TIMESTAMP, "First call with these weights", True),
        Column("head", pl.Binary, "Last linear layer as safetensors (W, b); null above 64 MB", vector=True),
    ),
    key=("model_key", "fingerprint"),
    partition_by=("ingest_day",),
    append_only=True,
    writer="tracer and logger sinks",
)

LANDING_INFERENCES = TableSpec(
    name="landing/inferences",
    layer="landing",
    description="One production inference, without ground truth.",
    columns=(
        *DELIVERY,
        Column("request_id", pl.String, "Joins labels that arrive later", True, (LengthIs(1, 1000),)),
        Column("result_name", pl.String, "Result the logger was given"),
        Column("n_epoch", pl.Int64, "Epoch whose fingerprint the model has"),
        Column("event_at", TIMESTAMP, "When the inference happened, by the logger's clock", True),
        Column("event_day", pl.Date, "UTC day of `event_at`", True, (NotBefore(FIRST_EVENT_DAY),)),
        Column("clock_skewed", pl.Boolean, "The clock was over 60 s ahead: `event_at` is the ingest time", True),
        Column("latency_ms", pl.Float64, "Wall time of the forward pass, ms", True, (Finite(), AtLeast(0.0))),
        Column("batch_size", pl.Int32, "Inputs in the same call", True, (AtLeast(1),)),
        Column("device", pl.String, "Device of the output"),
        *SCORE[:-1],
        *DETECTION_SUMS,
        *DETECTOR,
        *CAPTURE,
        SCORE[-1],
        *DETECTIONS,
        *DETECTION_SCORES,
    ),
    key=_ARRIVAL,
    partition_by=("ingest_day",),
    append_only=True,
    writer="logger sink",
    retention=timedelta(days=365),
)

LANDING_FEEDBACK = TableSpec(
    name="landing/feedback",
    layer="landing",
    description="A label for an earlier inference; the latest by `labelled_at` wins.",
    columns=(
        *DELIVERY,
        Column("request_id", pl.String, "The inference that is labelled", True, (LengthIs(1, 1000),)),
        Column("label", pl.Int64, "True class index", True, (AtLeast(0),)),
        Column("source", pl.String, "Who labelled", True),
        Column("labelled_at", TIMESTAMP, "When the label was given", True),
    ),
    key=("request_id", "labelled_at"),
    partition_by=("ingest_day",),
    append_only=True,
    writer="`log_labels`, `mld labels import`",
)

LANDING_REQUESTS = TableSpec(
    name="landing/requests",
    layer="landing",
    description="A request for an evaluation that the platform fulfils.",
    columns=(
        *DELIVERY,
        Column("request_id", pl.String, "Identifies the request; also the run key", True),
        Column("kind", pl.String, "What is asked for", True, (OneOf(("evaluation",)),)),
        MODEL_KEY,
        Column("n_epoch_spec", pl.String, "`latest`, `all` or a number", True),
        Column("result_name", pl.String, "Wanted name"),
        Column("params", pl.String, "Policy overrides as JSON"),
        Column("requested_by", pl.String, "Who asked", True),
        Column("requested_at", TIMESTAMP, "When", True),
    ),
    key=("request_id",),
    append_only=True,
    rules=(Unique(("request_id",)),),
    writer="SDK, CLI",
)
