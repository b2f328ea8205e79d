"""From hook to sink: records, bounded buffer, spool, delivery."""

from __future__ import annotations

from mld_pipelines.capture._calls import (
    CallContext,
    Identity,
    InferenceCall,
    InferenceEncoder,
    ScoreOutputs,
    TraceCall,
    TraceEncoder,
    float_array,
    generated_request_ids,
)
from mld_pipelines.capture._columns import Columns, Lists, from_frame, to_frame
from mld_pipelines.capture._commit import Moved, commit_spool
from mld_pipelines.capture._detections3d import (
    DetectionInferenceEncoder,
    DetectionTraceCall,
    DetectionTraceEncoder,
    ScoreFrames,
    frame_columns,
    recorded,
    settings_json,
)
from mld_pipelines.capture._doubts3d import Doubts3D
from mld_pipelines.capture._forks import can_use_frames, renewed_in_children
from mld_pipelines.capture._host import host_copies
from mld_pipelines.capture._labels import class_labels
from mld_pipelines.capture._metadata import metadata_rows
from mld_pipelines.capture._model_row import detector_row, is_described, model_row
from mld_pipelines.capture._points import check_points
from mld_pipelines.capture._recorder import Overflow, Recorder, is_strict
from mld_pipelines.capture._replay import SpooledStream, replay, spooled_streams
from mld_pipelines.capture._segment import CorruptSegmentError, Segment, decode, encode
from mld_pipelines.capture._sink import Delivery, EmbeddedSink, Sink, open_sink
from mld_pipelines.capture._spool import Spool
from mld_pipelines.capture._stats import Stats
from mld_pipelines.capture._stream import Stream, microseconds
from mld_pipelines.capture._stress_calls import StressCall, StressEncoder
from mld_pipelines.capture._truths3d import check_true_labels, count_classes, true_boxes

__all__ = [
    "CallContext",
    "Columns",
    "CorruptSegmentError",
    "Delivery",
    "DetectionInferenceEncoder",
    "DetectionTraceCall",
    "DetectionTraceEncoder",
    "Doubts3D",
    "EmbeddedSink",
    "Identity",
    "InferenceCall",
    "InferenceEncoder",
    "Lists",
    "Moved",
    "Overflow",
    "Recorder",
    "ScoreFrames",
    "ScoreOutputs",
    "Segment",
    "Sink",
    "Spool",
    "SpooledStream",
    "Stats",
    "Stream",
    "StressCall",
    "StressEncoder",
    "TraceCall",
    "TraceEncoder",
    "can_use_frames",
    "check_points",
    "check_true_labels",
    "class_labels",
    "commit_spool",
    "count_classes",
    "decode",
    "detector_row",
    "encode",
    "float_array",
    "frame_columns",
    "from_frame",
    "generated_request_ids",
    "host_copies",
    "is_described",
    "is_strict",
    "metadata_rows",
    "microseconds",
    "model_row",
    "open_sink",
    "recorded",
    "renewed_in_children",
    "replay",
    "settings_json",
    "spooled_streams",
    "to_frame",
    "true_boxes",
]
