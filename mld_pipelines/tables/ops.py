"""The platform's own tables: registrations, quality, quarantine, pins, promotions."""

from __future__ import annotations

import polars as pl

from mld_pipelines.tables._identity import MODEL_KEY, SCHEMA_VERSION_COLUMN
from mld_pipelines.tables._rules import AtLeast, Matches, OneOf, Unique
from mld_pipelines.tables._spec import TIMESTAMP, Column, TableSpec

__all__ = ["OPS_MODELS", "OPS_PINS", "OPS_PROMOTIONS", "OPS_QUALITY", "OPS_QUARANTINE"]

OPS_MODELS = TableSpec(
    name="ops/models",
    layer="ops",
    description="A registered model or dataset: a factory the platform can call.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        Column("name", pl.String, "Name of the registration", True),
        Column("kind", pl.String, "What the factory makes", True, (OneOf(("model", "dataset")),)),
        Column("factory", pl.String, "`module:function`", True, (Matches(r"^[\w.]+:[\w.]+$", "`module:function`"),)),
        Column("params", pl.String, "Keyword arguments of the factory as a JSON object", True),
        Column("model_name", pl.String, "Model identifier (models only)"),
        Column("version_name", pl.String, "Version identifier (models only)"),
        Column("registered_at", TIMESTAMP, "When", True),
        Column("families", pl.String, "Corruption families of a stress pass (models only); null: by the inputs' shape"),
        Column("settings", pl.String, "What a detector's tracer would be told, as a JSON object; null: nothing"),
    ),
    key=("kind", "name"),
    rules=(Unique(("kind", "name")),),
    writer="`mld models register`",
)

OPS_QUALITY = TableSpec(
    name="ops/quality",
    layer="ops",
    description="Outcome of one quality check on one version of a table.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        Column("table", pl.String, "Checked table", True),
        Column("version", pl.Int64, "Delta version that was checked", True),
        Column("partition", pl.String, "Partition that was checked; null for the whole table"),
        Column("check", pl.String, "Stable name of the expectation", True),
        Column("engine", pl.String, "Who judged", True, (OneOf(("polars", "gx")),)),
        Column("severity", pl.String, "How much it matters", True, (OneOf(("critical", "warning", "info")),)),
        Column("passed", pl.Boolean, "Outcome", True),
        Column("rows", pl.Int64, "Rows judged", True, (AtLeast(0),)),
        Column("unexpected", pl.Int64, "Rows that broke the expectation", rules=(AtLeast(0),)),
        Column("observed", pl.String, "Observed value as JSON"),
        Column("sample", pl.String, "Some unexpected values as JSON"),
        Column("run_id", pl.String, "Dagster run"),
        Column("checked_at", TIMESTAMP, "When", True),
    ),
    key=("table", "version", "partition", "check", "checked_at"),
    append_only=True,
    writer="checks",
)

OPS_QUARANTINE = TableSpec(
    name="ops/quarantine",
    layer="ops",
    description="A row that broke its table's contract, kept with the reason.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        Column("stream_id", pl.String, "Stream of the row", True),
        Column("seq", pl.Int64, "Batch of the row within its stream, as the row itself says where it does", True),
        Column("row", pl.Int64, "Row within the batch; −1 for a whole batch", True),
        Column("table", pl.String, "Table the row was meant for", True),
        Column("model_key", pl.String, "Model of the row, where known"),
        Column("dataset_type", pl.String, "Dataset of the row, where known"),
        Column("n_epoch", pl.Int64, "Epoch of the row, where known"),
        Column("input_id", pl.String, "Input of the row, where known"),
        Column("rule", pl.String, "Broken rule, `column|rule`", True),
        Column("reason", pl.String, "What was wrong, in words", True),
        Column("quarantined_at", TIMESTAMP, "When", True),
        Column("ingest_day", pl.Date, "UTC day of `quarantined_at`", True),
        Column("payload", pl.Binary, "The row as an Arrow IPC stream", vector=True),
    ),
    key=("stream_id", "seq", "row", "table"),
    partition_by=("ingest_day",),
    append_only=True,
    writer="lake, trace runs",
)

OPS_PINS = TableSpec(
    name="ops/pins",
    layer="ops",
    description="A Delta version that an evaluation result was computed from; vacuum keeps it.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        Column("result_name", pl.String, "Result that needs the version", True),
        Column("table", pl.String, "Table", True),
        Column("version", pl.Int64, "Delta version", True, (AtLeast(0),)),
        Column("pinned_at", TIMESTAMP, "When", True),
    ),
    key=("result_name", "table"),
    writer="evaluation",
)

OPS_PROMOTIONS = TableSpec(
    name="ops/promotions",
    layer="ops",
    description="A result declared current by hand; the latest per model wins over the newest result before it.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        MODEL_KEY,
        Column("result_name", pl.String, "Result that is current from now on", True),
        Column("promoted_by", pl.String, "Who", True),
        Column("promoted_at", TIMESTAMP, "When", True),
    ),
    key=("model_key", "promoted_at"),
    append_only=True,
    writer="`mld results promote`",
)
