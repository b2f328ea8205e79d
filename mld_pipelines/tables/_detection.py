"""Columns of detectors: lists per frame, one entry (or a fixed number of them) per box.

Lists side by side instead of a list of structs: a frame's boxes are then one contiguous array at both ends.
"""

from __future__ import annotations

import polars as pl

from mld_pipelines.tables._rules import AtLeast, Between, Finite, NotInfinite, OneOf, Sizes3D
from mld_pipelines.tables._spec import VECTOR, Column

__all__ = ["CLASS_SPACES", "DETECTIONS", "DETECTION_SCORES", "DETECTION_SUMS", "DETECTOR", "SCORED_BOXES", "TRUTHS"]

CLASS_SPACES = ("sigmoid", "softmax_bg_first", "softmax_noobj_last")

_FLOATS = pl.List(pl.Float64)
_INTEGERS = pl.List(pl.Int64)
_TEXTS = pl.List(pl.String)
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
    Column(
        "velocities",
        _FLOATS,
        "2 values each, m/s in the sensor frame; NaN where unknown",
        rules=(NotInfinite(),),
        vector=True,
    ),
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
    Column("truth_velocities", _FLOATS, "2 values each, m/s; NaN where unknown", rules=(NotInfinite(),), vector=True),
    Column("truth_points", _INTEGERS, "LiDAR points inside each; −1 where unknown", vector=True),
)

#: What the estimator of a result says about a frame; all null until it has been scored. `error_proba`, `error_code` and
#: `category` then hold the frame: P(any error), and the code of its most doubtful unit.
DETECTION_SUMS = (
    Column("expected_errors", pl.Float64, "Σ `box_error_proba`", rules=(Finite(), AtLeast(0.0))),
    Column("expected_misses", pl.Float64, "Σ `missed_proba`, and misses without a candidate", rules=(Finite(),)),
)
_SHARES = (Between(0.0, 1.0),)

#: The same, by box.
DETECTION_SCORES = (
    Column(
        "box_error_proba", VECTOR, "P(wrong) of each box; null below the operating point", rules=_SHARES, vector=True
    ),
    Column("box_error_codes", _TEXTS, "Code of each, `P001` …; null below the operating point", vector=True),
    Column("box_categories", _TEXTS, "Issue category of each code", vector=True),
    Column("missed_boxes_3d", _FLOATS, "Where an object may have been missed, 7 values each", vector=True),
    Column("missed_labels", _INTEGERS, "Its class", vector=True),
    Column("missed_proba", VECTOR, "P(an object is there)", rules=_SHARES, vector=True),
    Column("missed_codes", _TEXTS, "Code of each, `M001` …", vector=True),
    Column("missed_categories", _TEXTS, "Issue category of each code", vector=True),
)

#: What windows count of the boxes behind `box_error_proba`.
SCORED_BOXES = (
    *(column for column in DETECTIONS if column.name in {"scores", "labels"}),
    Column("ranges_m", VECTOR, "Distance of each box's centre from the sensor, along the ground, metres", vector=True),
)
