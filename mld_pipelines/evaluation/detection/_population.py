"""The frames of one epoch of a detector, in key order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.evaluation._duplicates import duplicate_warnings
from mld_pipelines.evaluation._population import load_model_facts
from mld_pipelines.evaluation.detection._frame_boxes import BOX_COLUMNS, TRUTH_COLUMNS, frame_boxes, frame_truths
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables import TRACES_INPUTS

if TYPE_CHECKING:
    import numpy.typing as npt

    from mld_pipelines.evaluation._plan import EvaluationPlan
    from mld_pipelines.evaluation.detection._frame_boxes import FrameBoxes
    from mld_pipelines.lake import Lake
    from mld_pipelines.records import Truths3D

__all__ = ["DetectionPopulation", "load_detection_population"]

_KEYS = ["dataset_type", "input_id"]
_FRAME_COLUMNS = ["dataset_type", "n_epoch", "input_id", "metadata", "input_hash", "fingerprint"]


@dataclass(frozen=True, slots=True, eq=False)
class DetectionPopulation:
    """All frames of one epoch, sorted by dataset and input id.

    Attributes:
        n_epoch: The epoch; None for rows without one.
        rows: One row per frame: identity, and the list columns of what was recorded and what is there.
        boxes: The same as arrays.
        truths: True boxes.
        n_classes: Classes of the detector.
        class_names: Their names; empty where nobody said them.
        warnings: What a reader should know.
    """

    n_epoch: int | None
    rows: pl.DataFrame
    boxes: FrameBoxes
    truths: Truths3D
    n_classes: int
    class_names: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def frame(self) -> pl.DataFrame:
        """Identity of the frames: dataset_type, n_epoch, input_id, metadata, input_hash, fingerprint."""
        return self.rows.select(_FRAME_COLUMNS)

    def part(self, chosen: npt.NDArray[np.bool_]) -> tuple[FrameBoxes, Truths3D]:
        """Return boxes and truths of some frames, in their order.

        Args:
            chosen: (F,) mask.
        """
        rows = self.rows.filter(pl.Series(chosen))
        return frame_boxes(rows), frame_truths(rows)


def load_detection_population(lake: Lake, plan: EvaluationPlan, n_epoch: int | None) -> DetectionPopulation:
    """Read the traced frames of one epoch.

    Raises:
        InvalidInputError: No frame has true boxes.
    """
    traced = (
        lake.scan(TRACES_INPUTS, version=plan.input_versions.get(TRACES_INPUTS.name), model_key=plan.model_key)
        .filter(pl.col("n_epoch").eq_missing(pl.lit(n_epoch, dtype=pl.Int64)))
        .select(*_FRAME_COLUMNS, *BOX_COLUMNS, *TRUTH_COLUMNS)
        .collect()
    )
    known = traced.filter(pl.col("truth_labels").is_not_null()).sort(_KEYS)
    if known.is_empty():
        raise InvalidInputError(f"none of the {traced.height} traced frames of {plan.model_key} has true boxes.")
    boxes, truths = frame_boxes(known), frame_truths(known)
    facts = load_model_facts(lake, plan.model_key, known["fingerprint"][-1])
    n_classes = _classes(boxes, truths, facts.class_names)
    left = traced.height - known.height
    return DetectionPopulation(
        n_epoch=n_epoch,
        rows=known,
        boxes=boxes,
        truths=truths,
        n_classes=n_classes,
        class_names=facts.class_names[:n_classes],
        warnings=(
            *((f"{left} frames without true boxes were left out.",) if left else ()),
            *_said(boxes, known, n_classes, facts.class_names),
            *duplicate_warnings(known.with_columns(label=pl.lit(None, dtype=pl.Int64))),
        ),
    )


def _classes(boxes: FrameBoxes, truths: Truths3D, class_names: tuple[str, ...]) -> int:
    """Return the number of classes: that of the class scores; without them what names and labels call for.

    Raises:
        InvalidInputError: A label is no class of the class scores.
    """
    parts = {"detections": boxes.recorded, "suppressed candidates": boxes.suppressed, "true boxes": truths}
    highest = {name: int(one.labels.max()) for name, one in parts.items() if one is not None and len(one)}
    if boxes.class_scores is None:
        return max(len(class_names), *(label + 1 for label in highest.values()), 1)
    scored = int(boxes.class_scores.shape[1]) - (boxes.class_space != "sigmoid")  # the others have a background too
    if wrong := {name: label for name, label in highest.items() if label >= scored}:
        raise InvalidInputError(
            f"labels go beyond the {scored} classes that the detector scores (0 … {scored - 1}): {wrong}. Nothing was "
            "evaluated; trace again with labels that count as the model's do."
        )
    return scored


def _said(boxes: FrameBoxes, rows: pl.DataFrame, n_classes: int, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the record lacks."""
    found = []
    if boxes.features is None:
        found.append(
            f"{_lacking(rows, 'features')}: codes of predictions are made of where and what a box is, not of features."
        )
    if boxes.class_scores is None and (rows["class_scores"].list.len().fill_null(0) > 0).any():
        found.append(f"{_lacking(rows, 'class_scores')}: the score of a box stands for them.")
    if boxes.suppressed is None:
        found.append("the detector shows no suppressed candidates: misses are estimated from low scores alone.")
    unseen = rows["suppressed_labels"].null_count()
    if 0 < unseen < rows.height:
        found.append(
            f"{unseen} of {rows.height} frames come without suppressed candidates, the others with them: what warns of "
            "errors and misses is not the same in both. Trace all datasets of one version the same way."
        )
    outside = (boxes.recorded.scores < 0.0) | (boxes.recorded.scores > 1.0)
    if outside.any():
        found.append(
            f"{int(outside.sum())} of {len(outside)} boxes have scores outside 0 … 1 (up to "
            f"{float(np.abs(boxes.recorded.scores).max()):.3g}): their units are in ops/quarantine, not here. "
            "Let the detector return probabilities."
        )
    layers = rows["feature_layer"].drop_nulls().unique().sort().to_list()
    if len(layers) > 1:
        found.append(f"features come from several layers {layers}; trace all datasets of one version the same way.")
    if len(class_names) > n_classes:
        extra = ", ".join(class_names[n_classes:])
        found.append(
            f"the detector scores {n_classes} classes, but {len(class_names)} names are known; unused: {extra}."
        )
    return tuple(found)


def _lacking(rows: pl.DataFrame, name: str) -> str:
    """Say how many frames have boxes without such vectors."""
    with_boxes = rows.filter(pl.col("labels").list.len() > 0)
    left = with_boxes.filter(pl.col(name).list.len().fill_null(0) == 0).height
    what = name.replace("_", " ")
    if left in {0, with_boxes.height}:
        return f"some boxes have no {what}" if left else f"{what} differ in width between frames"
    return f"{left} of {with_boxes.height} frames have boxes without {what}, so none are used"
