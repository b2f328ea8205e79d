"""Columns of detectors: lists per frame, one entry (or a fixed number of them) per box.

Lists side by side instead of a list of structs: a frame's boxes are then one contiguous array at both ends.
"""

from __future__ import annotations

import polars as pl

from mld_pipelines.tables._rules import AtLeast, Finite, OneOf, Sizes3D
from mld_pipelines.tables._spec import VECTOR, Column

__all__ = ["CLASS_SPACES", "DETECTIONS", "DETECTOR", "TRUTHS"]

CLASS_SPACES = ("sigmoid", "softmax_bg_first", "softmax_noobj_last")

_FLOATS = pl.List(pl.Float64)
_INTEGERS = pl.List(pl.Int64)
_BOX = "7 values each: cx, cy, cz, w, l, h (metres, gravity centre), yaw (radians, from +x)"

#: What tells how a detector's lists came about.
DETECTOR = (
    Column("adapter", pl.String, "Family of the detector and convention its boxes came in"),
    Column("settings", pl.String, "Thresholds and range with their sources, as a JSON object"),
    Column("class_space", pl.String, "What `class_scores` are", rules=(OneOf(CLASS_SPACES),)),
)

#: What a detector found in one input, in the order of its own output.
DETECTIONS = (
    Column("boxes_3d", _FLOATS, f"Kept boxes, {_BOX}", rules=(Finite(), Sizes3D()), vector=True),
    Column("velocities", _FLOATS, "2 values each, m/s in the sensor frame; NaN where unknown", vector=True),
    Column("scores", VECTOR, "Score of each box", rules=(Finite(),), vector=True),
    Column("labels", _INTEGERS, "Class of each box, from 0", rules=(AtLeast(0),), vector=True),
    Column("class_scores", VECTOR, "C values each", rules=(Finite(),), vector=True),
    Column("features", VECTOR, "d values each, from `feature_layer`", rules=(Finite(),), vector=True),
    Column("candidate_index", _INTEGERS, "Row of each box in the raw head output; −1 if unknown", vector=True),
    Column("suppressed_boxes_3d", _FLOATS, "Candidates that the model did not return", rules=(Finite(),), vector=True),
    Column("suppressed_scores", VECTOR, "Their scores, falling", rules=(Finite(),), vector=True),
    Column("suppressed_labels", _INTEGERS, "Their classes", rules=(AtLeast(0),), vector=True),
)

#: What is really there.
TRUTHS = (
    Column("truth_boxes_3d", _FLOATS, f"True boxes, {_BOX}", rules=(Finite(), Sizes3D()), vector=True),
    Column("truth_labels", _INTEGERS, "Their classes, from 0; −1 for a class the model does not know", vector=True),
    Column("truth_velocities", _FLOATS, "2 values each, m/s; NaN where unknown", vector=True),
    Column("truth_points", _INTEGERS, "LiDAR points inside each; −1 where unknown", vector=True),
)
