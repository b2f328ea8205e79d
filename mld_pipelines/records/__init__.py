"""Value objects that travel between rooms."""

from __future__ import annotations

from mld_pipelines.records._identity import model_key, normalise_input_ids, split_model_key, uuid7
from mld_pipelines.records._objects3d import (
    BOX3D_FIELDS,
    Detections3D,
    Objects3D,
    Truths3D,
    unusable_boxes,
    wrap_yaw,
)
from mld_pipelines.records._ragged import FrameColumns
from mld_pipelines.records._tensors import require_data

__all__ = [
    "BOX3D_FIELDS",
    "Detections3D",
    "FrameColumns",
    "Objects3D",
    "Truths3D",
    "model_key",
    "normalise_input_ids",
    "require_data",
    "split_model_key",
    "unusable_boxes",
    "uuid7",
    "wrap_yaw",
]
