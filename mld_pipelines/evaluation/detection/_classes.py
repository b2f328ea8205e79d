"""Average precision and box errors of every class of a detector, from the frames that its result was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.evaluation.detection._frame_boxes import BOX_COLUMNS, TRUTH_COLUMNS, frame_boxes, frame_truths
from mld_pipelines.evaluation.detection._metrics import RecordedBoxes, class_metrics
from mld_pipelines.exceptions import LakeError
from mld_pipelines.tables import TRACES_INPUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.evaluation._load import StoredResult

__all__ = ["detection_class_metrics"]

_SCHEMA = {
    "dataset": pl.String, "n_epoch": pl.Int64, "label": pl.Int64,
    **dict.fromkeys(("ap", "ate", "ase", "aoe", "ave"), pl.Float64),
}  # fmt: skip


def detection_class_metrics(stored: StoredResult, *, n_classes: int, class_names: Sequence[str] = ()) -> pl.DataFrame:
    """Return AP and the errors of matched boxes by dataset, epoch and class.

    Args:
        stored: The result.
        n_classes: Classes of the detector.
        class_names: Names by class index.

    Returns:
        Columns: dataset, n_epoch, label, ap, ate, ase, aoe, ave; no row where the traces were vacuumed.
    """
    version = stored.inputs["table_versions"].get(TRACES_INPUTS.name)
    names = ["dataset_type", "n_epoch", "input_id", *BOX_COLUMNS, *TRUTH_COLUMNS]
    try:
        traced = (
            stored.lake.scan(TRACES_INPUTS, version=version, model_key=stored.model_key)
            .filter(
                pl.col("truth_labels").is_not_null() & pl.col("n_epoch").is_in(stored.row["epochs"], nulls_equal=True)
            )
            .select(names)
            .collect()
        )
    except LakeError:  # the version was vacuumed
        return pl.DataFrame(schema=_SCHEMA)
    parts = [pl.DataFrame(schema=_SCHEMA)]
    for (dataset, epoch), rows in traced.group_by("dataset_type", "n_epoch", maintain_order=True):
        boxes = RecordedBoxes(rows["input_id"].to_list(), frame_boxes(rows).recorded, frame_truths(rows))
        found = class_metrics(boxes, n_classes=n_classes, class_names=class_names)
        identity = pl.lit(dataset, pl.String).alias("dataset"), pl.lit(epoch, pl.Int64).alias("n_epoch")
        parts.append(found.with_columns(*identity).select(*_SCHEMA))
    return pl.concat(parts)
