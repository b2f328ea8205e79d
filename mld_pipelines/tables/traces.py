"""Silver traces: deduplicated, one row per model, dataset, epoch and input."""

from __future__ import annotations

from mld_pipelines.tables._rules import Unique
from mld_pipelines.tables._spec import TableSpec
from mld_pipelines.tables.landing import LANDING_TRACES

__all__ = ["TRACES_INPUTS"]

_KEY = ("model_key", "dataset_type", "n_epoch", "input_id")

TRACES_INPUTS = TableSpec(
    name="traces/inputs",
    layer="silver",
    description="One traced input; of several traces of the same input the last write wins.",
    columns=LANDING_TRACES.columns,
    key=_KEY,
    partition_by=("model_key",),
    rules=(Unique(_KEY),),
    writer="asset `traces/inputs`, replaces a model's partition",
    zorder=("dataset_type", "n_epoch"),
)
