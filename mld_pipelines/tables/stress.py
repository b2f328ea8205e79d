"""Stressed copies: corrupted reference inputs that a model was run on, as received and deduplicated.

They are no dataset: nothing but the window fit of an evaluation reads them (docs/storage.md#stress). What is really in
a frame is what was in its original, so no true boxes are stored again.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from mld_pipelines.tables._detection import DETECTIONS, DETECTOR
from mld_pipelines.tables._identity import CAPTURE, DELIVERY, N_EPOCH
from mld_pipelines.tables._rules import AtLeast, Between, LengthIs, Unique
from mld_pipelines.tables._spec import TIMESTAMP, Column, TableSpec

__all__ = ["LANDING_STRESS", "TRACES_STRESS"]

_NAME = (LengthIs(1, 200),)
_KEY = ("model_key", "fingerprint", "n_epoch", "source_dataset", "input_id", "kind", "severity")

LANDING_STRESS = TableSpec(
    name="landing/stress",
    layer="landing",
    description="One corrupted copy of a labelled input, with what the model made of it.",
    columns=(
        *DELIVERY,
        Column("source_dataset", pl.String, "Dataset the original belongs to, e.g. `val`", True, _NAME),
        N_EPOCH,
        Column("input_id", pl.String, "The original", True, (LengthIs(1, 1000),)),
        Column("family", pl.String, "Family of the corruption: what verification leaves out", True, _NAME),
        Column("kind", pl.String, "Corruption within the family", True, _NAME),
        Column("severity", pl.Int32, "Its strength, from 1", True, (Between(1, 5),)),
        Column("seed", pl.Int64, "Seed of the stress pass", True),
        Column("family_version", pl.String, "Changes when the same input would come out differently", True),
        Column("captured_at", TIMESTAMP, "When the forward pass ended", True),
        Column(
            "label",
            pl.Int64,
            "True class index of the original; −1 for detectors, whose truths are boxes",
            True,
            (AtLeast(-1),),
        ),
        *DETECTOR,
        *CAPTURE,
        *DETECTIONS,
    ),
    key=("stream_id", "seq", "row"),
    partition_by=("ingest_day",),
    append_only=True,
    writer="`tracer.stress`, stress runs",
    retention=timedelta(days=365),
)

TRACES_STRESS = TableSpec(
    name="traces/stress",
    layer="silver",
    description="One corrupted copy of an input; of several runs of the same copy the last finished one wins.",
    columns=LANDING_STRESS.columns,
    key=_KEY,
    partition_by=("model_key",),
    rules=(Unique(_KEY),),
    writer="evaluation, replaces a model's partition",
    zorder=("fingerprint", "source_dataset"),
)
