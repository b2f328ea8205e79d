"""Frames of a 3D detector and how they become columns."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mld_pipelines.adapters.detection3d import to_arrays
from mld_pipelines.capture._calls import event_columns, lenient_metadata, request_ids, texts
from mld_pipelines.capture._columns import Lists
from mld_pipelines.capture._doubts3d import Doubts3D
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import unusable_boxes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.adapters.detection3d import Decoder3D, Frame3D, Setting, Settings3D
    from mld_pipelines.capture._calls import Groups, Identity, InferenceCall
    from mld_pipelines.capture._columns import Columns
    from mld_pipelines.records import Truths3D

__all__ = [
    "DetectionInferenceEncoder",
    "DetectionTraceCall",
    "DetectionTraceEncoder",
    "ScoreFrames",
    "frame_columns",
    "recorded",
    "settings_json",
]

_log = logging.getLogger("mld_pipelines.capture")

ScoreFrames = Callable[["Columns", int], "Columns"]
"""`score(columns, rows)` returns score columns of so many frames; none if it cannot score."""

_MAX_SUPPRESSED = 300
"""Suppressed candidates kept per frame, the highest scores: 19 kB, as much again as a busy frame's own boxes."""

_FLOATS, _BOXES, _LABELS = np.zeros(0, np.float32), np.zeros((0, 7)), np.zeros(0, np.int64)


class DetectionTraceCall(NamedTuple):
    """One traced call of a detector.

    Attributes:
        frames: What is recorded of each frame, see `recorded`.
        truths: What is really there.
        input_ids: One string per frame.
        hashes: SHA-256 per frame over all its modalities.
        dataset_type: Dataset of the frames.
        n_epoch: Epoch, or None.
        captured_at: When the forward pass ended, µs since 1970.
        fingerprint: Weights at the first call of this dataset and epoch.
        adapter: Family and convention.
        settings: Thresholds with sources, as JSON.
        metadata: JSON objects, or None.
        input_uris: Strings, or None.
    """

    frames: Sequence[Frame3D]
    truths: Truths3D
    input_ids: list[str]
    hashes: list[str]
    dataset_type: str
    n_epoch: int | None
    captured_at: int
    fingerprint: str
    adapter: str
    settings: str
    metadata: list[str | None] | None
    input_uris: list[str] | None


class DetectionTraceEncoder:
    """Turns traced calls of a detector into rows of `landing/traces`."""

    def __init__(self, identity: Identity) -> None:
        self._constant = identity.columns

    def __call__(self, calls: Sequence[DetectionTraceCall]) -> Groups:
        """Return groups of calls with the same facts, in order."""
        return [self._group(list(group)) for _, group in groupby(calls, key=_facts)]

    def _group(self, calls: list[DetectionTraceCall]) -> tuple[list[int], Columns]:
        lengths = [len(call.frames) for call in calls]
        first = calls[0]
        columns = {
            **self._constant,
            "dataset_type": first.dataset_type,
            "n_epoch": first.n_epoch,
            "input_id": [one for call in calls for one in call.input_ids],
            "captured_at": np.repeat(np.array([call.captured_at for call in calls], np.int64), lengths),
            "fingerprint": first.fingerprint,
            "input_hash": [one for call in calls for one in call.hashes],
            "input_uri": texts([(call.input_uris, n) for call, n in zip(calls, lengths, strict=True)]),
            "metadata": texts([(call.metadata, n) for call, n in zip(calls, lengths, strict=True)]),
            "adapter": first.adapter,
            "settings": first.settings,
            **frame_columns([frame for call in calls for frame in call.frames]),
            **_truth_columns([call.truths.frame(index) for call in calls for index in range(call.truths.frames)]),
        }
        return lengths, columns


class DetectionInferenceEncoder:
    """Turns logged calls of a detector into rows of `landing/inferences`: decodes, applies the thresholds, spreads.

    Args:
        identity: Model of the logger.
        result_name: Result the logger was given.
        decode: Makes frames of the arrays of one call.
        settings: Thresholds as resolved.
        adapter: Tells family and convention, which some adapters know only after the first call.
        score: Adds score columns; called with what will be stored.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        result_name: str | None,
        decode: Decoder3D,
        settings: Settings3D,
        adapter: Callable[[], str],
        score: ScoreFrames | None = None,
    ) -> None:
        self._constant = {**identity.columns, "settings": settings_json(settings), "result_name": result_name}
        self._adapter = adapter
        self._decode = decode
        self._settings = settings
        self._model_name = identity.model_name
        self._doubts = Doubts3D(adapter)
        self._score = score

    def __call__(self, calls: Sequence[InferenceCall]) -> Groups:
        """Return one group per call: what is in a call's frames decides its columns."""
        return [self._group(call) for call in calls]

    def _group(self, call: InferenceCall) -> tuple[list[int], Columns]:
        frames = [recorded(frame, self._settings) for frame in self._decode(to_arrays(call.scores))]
        if len(frames) != call.rows:
            raise InvalidInputError(f"the model returned {len(frames)} frames for {call.rows} inputs.")
        self._doubts.see_found(frames)
        for doubt in self._doubts.news():
            _log.warning("%s: %s", self._model_name, doubt)
        columns = {
            **self._constant,
            **event_columns([call], [call.rows]),
            "request_id": request_ids(call),
            "metadata": lenient_metadata(call),
            "input_hash": call.hashes,
            "device": str(call.device),
            "adapter": self._adapter(),
            "fingerprint": call.context.fingerprint,
            **frame_columns(frames),
        }
        scores = {} if self._score is None else self._score(columns, call.rows)
        return [call.rows], columns | scores


def recorded(frame: Frame3D, settings: Settings3D) -> Frame3D:
    """Return what is recorded of a frame: boxes at or above the score threshold, at most so many, in the model's order.

    Args:
        frame: What the model said.
        settings: Thresholds as resolved; they change the record, never the model's output.
    """
    is_low = frame.scores < np.float32(_limit(settings.score_thresh) or 0.0)
    rows = np.flatnonzero(~is_low)  # a score that is no number stays, so that the frame is set aside with the reason
    limit = _limit(settings.max_detections_per_frame)
    if limit is not None and len(rows) > limit:
        best = rows[np.argsort(-frame.scores[rows], kind="stable")[:limit]]
        rows = np.sort(best)
    candidates = frame.candidates
    if candidates is not None:  # what is no box (a head may regress a size below 0) is no candidate for one
        usable = ~unusable_boxes(candidates.boxes) & np.isfinite(candidates.scores)
        first = np.flatnonzero(usable)[:_MAX_SUPPRESSED]
        candidates = replace(
            candidates,
            boxes=candidates.boxes[first],
            scores=candidates.scores[first],
            labels=candidates.labels[first],
            index=candidates.index[first],
            features=None,
        )
    return replace(
        frame,
        boxes=frame.boxes[rows],
        velocities=frame.velocities[rows],
        scores=frame.scores[rows],
        labels=frame.labels[rows],
        class_scores=None if frame.class_scores is None else frame.class_scores[rows],
        features=None if frame.features is None else frame.features[rows],
        candidate_index=frame.candidate_index[rows],
        candidates=candidates,
    )


def _limit(setting: Setting) -> float | None:
    """Return a limit that is ours to apply: what the model says it has applied itself, per class or task even."""
    return None if setting.source.startswith("model:") else setting.value


def settings_json(settings: Settings3D) -> str:
    """Return thresholds with their sources as a JSON object."""
    return json.dumps(asdict(settings), sort_keys=True)


def frame_columns(frames: Sequence[Frame3D]) -> Columns:
    """Return the columns of what was found; a frame without features or class scores has an empty list of them."""
    columns: Columns = {
        "class_space": [frame.class_space for frame in frames],
        "feature_layer": [frame.feature_source for frame in frames],
        "boxes_3d": Lists.of([frame.boxes for frame in frames]),
        "velocities": Lists.of([frame.velocities for frame in frames]),
        "scores": Lists.of([frame.scores for frame in frames]),
        "labels": Lists.of([frame.labels for frame in frames]),
        "candidate_index": Lists.of([frame.candidate_index for frame in frames]),
    }
    if any(frame.class_scores is not None for frame in frames):
        columns["class_scores"] = Lists.of(
            [_FLOATS if frame.class_scores is None else frame.class_scores for frame in frames]
        )
    if any(frame.features is not None for frame in frames):
        columns["features"] = Lists.of([_FLOATS if frame.features is None else frame.features for frame in frames])
    candidates = [frame.candidates for frame in frames]
    if any(one is not None for one in candidates):
        columns["suppressed_boxes_3d"] = Lists.of([_BOXES if one is None else one.boxes for one in candidates])
        columns["suppressed_scores"] = Lists.of([_FLOATS if one is None else one.scores for one in candidates])
        columns["suppressed_labels"] = Lists.of([_LABELS if one is None else one.labels for one in candidates])
    return columns


def _facts(call: DetectionTraceCall) -> tuple[Any, ...]:
    return call.dataset_type, call.n_epoch, call.fingerprint, call.adapter, call.settings


def _truth_columns(truths: Sequence[Truths3D]) -> Columns:
    return {
        "truth_boxes_3d": Lists.of([one.boxes for one in truths]),
        "truth_labels": Lists.of([one.labels for one in truths]),
        "truth_velocities": Lists.of([one.velocities for one in truths]),
        "truth_points": Lists.of([one.points for one in truths]),
    }
