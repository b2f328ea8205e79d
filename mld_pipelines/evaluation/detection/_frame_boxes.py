"""List columns of frames as boxes: what was recorded of each frame, and what is really there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.records import Detections3D, Truths3D, unusable_boxes

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

__all__ = ["BOX_COLUMNS", "TRUTH_COLUMNS", "FrameBoxes", "frame_boxes", "frame_truths"]

#: Columns that `frame_boxes` reads.
BOX_COLUMNS = (
    "class_space", "feature_layer", "boxes_3d", "velocities", "scores", "labels", "class_scores", "features",
    "suppressed_boxes_3d", "suppressed_scores", "suppressed_labels",
)  # fmt: skip
#: Columns that `frame_truths` reads.
TRUTH_COLUMNS = ("truth_boxes_3d", "truth_labels", "truth_velocities", "truth_points")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameBoxes:
    """What was recorded of F frames.

    Attributes:
        recorded: Recorded boxes, in the detector's own order.
        suppressed: Candidates that the detector did not return; None where no frame shows any.
        class_scores: (N, K) float32; None where some boxes have none, or frames differ in width.
        class_space: What they are; None without them.
        features: (N, d) float32; None where some boxes have none, or frames differ in width.
        feature_layer: Where they come from; None without them.
    """

    recorded: Detections3D
    suppressed: Detections3D | None
    class_scores: npt.NDArray[np.float32] | None
    class_space: str | None
    features: npt.NDArray[np.float32] | None
    feature_layer: str | None


def frame_boxes(rows: pl.DataFrame) -> FrameBoxes:
    """Return the boxes of rows of `traces/inputs` or `landing/inferences`, one row per frame.

    Args:
        rows: The columns of `BOX_COLUMNS`.

    Raises:
        InvalidInputError: Lists of a frame do not fit each other.
    """
    counts = _lengths(rows, "labels")
    recorded = Detections3D(
        offsets=_edges(counts),
        boxes=_matrix(rows, "boxes_3d", 7),
        labels=_flat(rows, "labels"),
        velocities=_matrix(rows, "velocities", 2),
        scores=_flat(rows, "scores"),
    )
    class_scores, features = (_vectors(rows, name, counts) for name in ("class_scores", "features"))
    return FrameBoxes(
        recorded=recorded,
        suppressed=_suppressed(rows),
        class_scores=class_scores,
        class_space=None if class_scores is None else _commonest(rows, "class_space"),
        features=features,
        feature_layer=None if features is None else _commonest(rows, "feature_layer"),
    )


def frame_truths(rows: pl.DataFrame) -> Truths3D:
    """Return the true boxes of rows of `traces/inputs`, one row per frame.

    Args:
        rows: The columns of `TRUTH_COLUMNS`.
    """
    return Truths3D(
        offsets=_edges(_lengths(rows, "truth_labels")),
        boxes=_matrix(rows, "truth_boxes_3d", 7),
        labels=_flat(rows, "truth_labels"),
        velocities=_matrix(rows, "truth_velocities", 2),
        points=_flat(rows, "truth_points"),
    )


def _suppressed(rows: pl.DataFrame) -> Detections3D | None:
    if rows["suppressed_labels"].null_count() == rows.height:
        return None
    boxes, scores = _matrix(rows, "suppressed_boxes_3d", 7), _flat(rows, "suppressed_scores")
    usable = ~unusable_boxes(boxes) & np.isfinite(scores)  # older rows hold whatever a head regressed
    before = np.concatenate(([0], np.cumsum(usable)))
    return Detections3D(
        offsets=before[_edges(_lengths(rows, "suppressed_labels"))],
        boxes=boxes[usable],
        labels=_flat(rows, "suppressed_labels")[usable],
        scores=scores[usable],
    )


def _vectors(rows: pl.DataFrame, name: str, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
    """Return one vector per box; None where some box has none or widths differ."""
    lengths = _lengths(rows, name)
    has_boxes = counts > 0
    widths = np.unique(lengths[has_boxes] // counts[has_boxes])
    if len(widths) != 1 or not widths[0] or (lengths != counts * widths[0]).any():
        return None
    return _matrix(rows, name, int(widths[0]))


def _commonest(rows: pl.DataFrame, name: str) -> str | None:
    found = rows[name].drop_nulls()
    return (
        None
        if found.is_empty()
        else found.value_counts(sort=True).sort("count", name, descending=[True, False])[name][0]
    )


def _lengths(rows: pl.DataFrame, name: str) -> npt.NDArray[np.int64]:
    return rows[name].list.len().fill_null(0).to_numpy().astype(np.int64)


def _edges(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)


def _flat(rows: pl.DataFrame, name: str) -> npt.NDArray[Any]:
    lists = rows[name]
    return lists.filter(lists.list.len().fill_null(0) > 0).explode().to_numpy()


def _matrix(rows: pl.DataFrame, name: str, width: int) -> npt.NDArray[Any]:
    return np.ascontiguousarray(_flat(rows, name).reshape(-1, width))
