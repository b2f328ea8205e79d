"""Columns that many tables share, declared once."""

from __future__ import annotations

import polars as pl

from mld_pipelines.tables._rules import AtLeast, Between, Finite, LengthIs, Matches, OneOf
from mld_pipelines.tables._spec import TIMESTAMP, VECTOR, Column

__all__ = ["CAPTURE", "CATEGORIES", "DELIVERY", "MODEL_KEY", "N_EPOCH", "SCHEMA_VERSION_COLUMN", "SCORE", "TASKS"]

CATEGORIES = ("stable_coverage", "operational_coverage", "hotspot", "recessive_hotspot", "critical_hotspot")
TASKS = ("classification", "od", "od3d")

SCHEMA_VERSION_COLUMN = Column("schema_version", pl.Int32, "Version of the catalogue the row was written by", True)
MODEL_KEY = Column(
    "model_key", pl.String, "`model_name@version_name`", True, (Matches(r"^[^@]+@[^@]+$", "`name@version`"),)
)
N_EPOCH = Column("n_epoch", pl.Int64, "Epoch number; null when none was given", rules=(AtLeast(0),))

#: How a row arrived. (stream_id, seq, row) identifies it for ever, across retries and restarts.
DELIVERY = (
    SCHEMA_VERSION_COLUMN,
    Column("stream_id", pl.String, "UUIDv7 of the tracer or logger instance", True, (LengthIs(1, 200),)),
    Column("seq", pl.Int64, "Number of the batch within its stream, from 0", True, (AtLeast(0),)),
    Column("row", pl.Int32, "Number of the row within its batch, from 0", True, (AtLeast(0),)),
    Column("ingested_at", TIMESTAMP, "When the row was taken into the spool", True),
    Column("ingest_day", pl.Date, "UTC day of `ingested_at`", True),
    Column("sdk_version", pl.String, "Version of mld_pipelines that wrote the row", True),
)

#: What a forward pass leaves behind, with or without a label.
CAPTURE = (
    Column("model_name", pl.String, "Model identifier", True),
    Column("version_name", pl.String, "Version identifier", True),
    MODEL_KEY,
    Column("task", pl.String, "Task of the model", True, (OneOf(TASKS),)),
    Column("framework", pl.String, "`torch` or `tensorflow`", True),
    Column("fingerprint", pl.String, "Hash over names, shapes, dtypes and strided values of the weights", True),
    Column("input_hash", pl.String, "SHA-256 over all modalities", rules=(Matches("^[0-9a-f]{64}$", "64 hex"),)),
    Column("input_uri", pl.String, "Where the raw input can be found again"),
    Column("metadata", pl.String, "User columns as a JSON object of scalars"),
    Column(
        "output_kind", pl.String, "What the model returns", rules=(OneOf(("logits", "probabilities", "log_probs")),)
    ),
    Column("output_evidence", pl.String, "Why `output_kind` was concluded"),
    Column("prediction", pl.Int64, "Index of the largest class probability", rules=(AtLeast(0),)),
    Column("confidence", pl.Float32, "Largest class probability", rules=(Finite(), Between(0.0, 1.0))),
    Column("feature_layer", pl.String, "Module path whose input is `feature`"),
    Column("logits", VECTOR, "Class scores before softmax, K values", rules=(Finite(),), vector=True),
    Column("probs", VECTOR, "Class probabilities, K values", rules=(Finite(),), vector=True),
    Column("feature", VECTOR, "Input of the last linear layer, d values", rules=(Finite(),), vector=True),
)

#: What the error estimator says about one unit; all null until it has been scored.
SCORE = (
    Column("error_proba", pl.Float32, "P(the unit is wrong)", rules=(Finite(), Between(0.0, 1.0))),
    Column("error_code", pl.String, "Cell of the codebook: `E001` …, `UNSEEN` or `UNCODED`"),
    Column("category", pl.String, "Issue category of the code", rules=(OneOf(CATEGORIES),)),
    Column("is_aleatoric", pl.Boolean, "The code carries the aleatoric overlay"),
    Column("support_distance", pl.Float32, "Distance to the code's centroid", rules=(Finite(), AtLeast(0.0))),
    Column("scored_by", pl.String, "`result_name#estimator_id` that made these columns"),
    Column("risk_scores", VECTOR, "The ten risk scores in the order of the estimator", vector=True),
)
