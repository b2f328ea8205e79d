"""Gold table of what each error code is: its units, its place, and what distinguishes it."""

from __future__ import annotations

import polars as pl

from mld_pipelines.tables._identity import MODEL_KEY, N_EPOCH, SCHEMA_VERSION_COLUMN
from mld_pipelines.tables._rules import AtLeast, Between, Finite, OneOf, Unique
from mld_pipelines.tables._spec import Column, TableSpec

__all__ = ["CODE_COLUMNS", "EVALUATION_CODES"]

_RATE = (Finite(), Between(0.0, 1.0))

#: Columns that `Result.get_codes()` takes from the table, in their order.
CODE_COLUMNS = (
    Column("error_code", pl.String, "Code: a region of feature space", True),
    Column("dataset", pl.String, "Dataset whose units are described: the deciding one", True),
    Column("counts", pl.Int64, "Units of that dataset", True, (AtLeast(0),)),
    Column("errors", pl.Int64, "Wrong units", True, (AtLeast(0),)),
    Column("error_rate", pl.Float64, "errors / counts", rules=_RATE),
    Column("counts_all", pl.Int64, "Units of all datasets", True, (AtLeast(0),)),
    Column("predicted_classes", pl.List(pl.String), "Predicted classes, most frequent first, at most ten"),
    Column("predicted_shares", pl.List(pl.Float64), "Share of the units with each of `predicted_classes`"),
    Column("confusions", pl.List(pl.String), "Most frequent confusions, `label→prediction`, at most five"),
    Column("confusion_counts", pl.List(pl.Int64), "Units with each of `confusions`"),
    Column("typical_input_ids", pl.List(pl.String), "Units nearest the centroid; of `UNSEEN`, the farthest"),
    Column("typical_wrong_input_ids", pl.List(pl.String), "Wrong units in the same order"),
    Column("distinctions", pl.List(pl.String), "What distinguishes its units from all others, in sentences"),
    Column("distinction_names", pl.List(pl.String), "The score, class, confidence or metadata key of each sentence"),
    Column("distinction_effects", pl.List(pl.Float64), "Its standardised difference"),
    Column("distinction_inside", pl.List(pl.Float64), "Its mean or share among the units of the code"),
    Column("distinction_outside", pl.List(pl.Float64), "Its mean or share among all others"),
    Column("map_x", pl.Float64, "Place on the map of codes, first axis", rules=(Finite(),)),
    Column("map_y", pl.Float64, "Place on the map of codes, second axis", rules=(Finite(),)),
    Column("linked_from", pl.String, "Code of the previous weights that holds the same inputs best"),
    Column("linked_result", pl.String, "Result that `linked_from` belongs to"),
    Column("overlap", pl.Float64, "Jaccard overlap with `linked_from` on the common inputs", rules=_RATE),
    Column("refit_overlap", pl.Float64, "Jaccard overlap with the same cell before a refit", rules=_RATE),
)

EVALUATION_CODES = TableSpec(
    name="evaluation/codes",
    layer="gold",
    description="One error code of a result, described by its units of the deciding dataset.",
    columns=(
        SCHEMA_VERSION_COLUMN,
        Column("evaluation_id", pl.String, "UUIDv7 of the attempt; bound to a name by `evaluation/results`", True),
        Column("result_name", pl.String, "Name the attempt wants", True),
        MODEL_KEY,
        N_EPOCH,
        Column("unit_kind", pl.String, "Kind of unit", True, (OneOf(("input", "prediction", "object")),)),
        *CODE_COLUMNS,
    ),
    key=("evaluation_id", "n_epoch", "unit_kind", "error_code"),
    partition_by=("model_key",),
    rules=(Unique(("evaluation_id", "n_epoch", "unit_kind", "error_code")),),
    writer="evaluation",
)
