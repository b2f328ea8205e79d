"""Matches of whole batches of frames: 3D by centre distance or bird's-eye IoU, anything by given overlaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._batches import check_batches
from mld_pipelines.metrics._box_errors import BOX_ERRORS, box_errors
from mld_pipelines.metrics._error_types import CENTRE_DISTANCE, IMAGE_IOU, LOC, MatchRule, Objects, Verdicts, judge
from mld_pipelines.metrics._matches import FN, MISS, Matches
from mld_pipelines.metrics._pairs import distance_pairs, measured_pairs
from mld_pipelines.metrics._statistics import check_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.metrics._pairs import Pairs
    from mld_pipelines.records import Detections3D, Truths3D

    Offsets = tuple[NDArray[np.int64], NDArray[np.int64]]

__all__ = ["match_frames", "match_overlaps"]

_TP, _FP = 0, 1
_CENTRE, _SIZE, _YAW = [0, 1], [3, 4, 5], [6]


def match_frames(
    detections: Detections3D,
    truths: Truths3D,
    *,
    n_classes: int,
    thresholds: ArrayLike | None = None,
    rule: MatchRule = CENTRE_DISTANCE,
    half_turn: tuple[int, ...] = (),
) -> Matches:
    """Return what became of every kept prediction and every truth, with error types (docs/method.md#detection-errors).

    Predictions choose by falling score within their class and frame. Of an unmatched one the first of these holds:
    `loc` (a truth of its class is near), `cls` (one of another class would match), `dupe` (its truth is taken), `bkg`
    (nothing is near), `both`. With an IoU rule `loc` has a sub-type: the one of centre, size and yaw that alone, set
    right, makes it match. A truth of label −1 can be mistaken for something (`cls`) but is never missed.

    Args:
        detections: What was found.
        truths: What is there; as many frames.
        n_classes: Classes of the model; labels are 0 … n_classes − 1.
        thresholds: Operating threshold by class, (n_classes,), or one for all; lower scores have no row.
        rule: When a prediction matches: `CENTRE_DISTANCE` or `BEV_IOU`, or limits of your own.
        half_turn: Labels whose yaw is only known up to half a turn, for AOE.

    Raises:
        InvalidInputError: Frames or labels do not fit, or a threshold is NaN.
    """
    check_batches(detections, truths, n_classes=n_classes)
    kept = _kept(detections.scores, detections.labels, thresholds, n_classes)
    found = detections.boxes[kept]
    offsets = _offsets_of(detections.offsets, kept), truths.offsets
    objects = Objects(detections.scores[kept].astype(np.float64), detections.labels[kept], truths.labels)
    if rule.measure == "distance":
        verdicts = judge(objects, distance_pairs(found, truths.boxes, offsets), rule)
    else:
        verdicts = judge(objects, _bev_pairs(found, truths.boxes, offsets), rule)
    sub_type = np.full(len(kept), -1, np.int8)
    if rule.measure == "iou":
        misplaced = np.flatnonzero(verdicts.error_type == LOC)
        target = truths.boxes[verdicts.target[misplaced]]
        sub_type[misplaced] = _oracle(found[misplaced], target, rule)
    hit = np.flatnonzero(verdicts.matched >= 0)
    errors = np.full((len(BOX_ERRORS), len(kept)), np.nan)
    errors[:, hit] = box_errors(detections, truths, (kept[hit], verdicts.matched[hit]), half_turn=half_turn)
    return _rows(objects, verdicts, offsets, kept=kept, sub_type=sub_type, errors=errors, rule=rule)


def match_overlaps(
    overlaps: Sequence[NDArray[np.floating]],
    *,
    scores: ArrayLike,
    labels: ArrayLike,
    truth_labels: ArrayLike,
    n_classes: int,
    thresholds: ArrayLike | None = None,
    rule: MatchRule = IMAGE_IOU,
) -> Matches:
    """Return the matches of objects of any kind from their overlaps: TIDE on boxes or masks of images.

    Args:
        overlaps: IoU of each frame, (predictions, truths); an empty side keeps its shape, (0, 3) or (3, 0).
        scores: Of all predictions, frame by frame, (N,).
        labels: Of all predictions, (N,).
        truth_labels: Of all truths, frame by frame, (M,); −1 for a class that the model does not know.
        n_classes: Classes of the model.
        thresholds: Operating threshold by class, (n_classes,), or one for all; lower scores have no row.
        rule: When a prediction matches; its measure must be `iou`.

    Raises:
        InvalidInputError: Shapes, labels, scores or overlaps that do not fit.
    """
    if rule.measure != "iou":
        raise InvalidInputError(f"overlaps need a rule that measures 'iou', got {rule.measure!r}.")
    matrices = [np.asarray(matrix, np.float64) for matrix in overlaps]
    shape = _total_shape(matrices)
    score, label, truth_label = _check_objects(scores, labels, truth_labels, shape=shape, n_classes=n_classes)
    kept = _kept(score, label, thresholds, n_classes)
    before = _edges([len(matrix) for matrix in matrices])
    offsets = _offsets_of(before, kept), _edges([matrix.shape[1] for matrix in matrices])
    objects = Objects(score[kept], label[kept], truth_label)

    def overlap(frame: int, rows: slice, _: slice) -> NDArray[np.float64]:
        values: NDArray[np.float64] = matrices[frame][kept[rows] - before[frame]]
        return values

    verdicts = judge(objects, measured_pairs(overlap, offsets), rule)
    nothing = np.full((len(BOX_ERRORS), len(kept)), np.nan)
    sub_type = np.full(len(kept), -1, np.int8)
    return _rows(objects, verdicts, offsets, kept=kept, sub_type=sub_type, errors=nothing, rule=rule)


def _bev_pairs(found: NDArray[np.float64], real: NDArray[np.float64], offsets: Offsets) -> Iterable[Pairs]:
    from mld_pipelines.geometry import bev_iou

    def overlap(_: int, rows: slice, columns: slice) -> NDArray[np.float64]:
        return np.asarray(bev_iou(found[rows], real[columns]))

    return measured_pairs(overlap, offsets)


def _oracle(found: NDArray[np.float64], target: NDArray[np.float64], rule: MatchRule) -> NDArray[np.int8]:
    """Return the sub-type of misplaced boxes: the first single correction after which they match."""
    from mld_pipelines.geometry import bev_iou

    result = np.full(len(found), 3, np.int8)
    for name, columns in reversed(list(enumerate((_CENTRE, _SIZE, _YAW)))):
        mended = found.copy()
        mended[:, columns] = target[:, columns]
        result[np.asarray(bev_iou(mended, target, aligned=True)) >= rule.match] = name
    return result


def _rows(
    objects: Objects,
    verdicts: Verdicts,
    offsets: Offsets,
    *,
    kept: NDArray[np.int64],
    sub_type: NDArray[np.int8],
    errors: NDArray[np.float64],
    rule: MatchRule,
) -> Matches:
    """Join predictions and unfound truths, frame by frame."""
    lost = np.flatnonzero(~verdicts.is_found & (objects.truth_labels >= 0))
    frames = [np.repeat(np.arange(len(edge) - 1), np.diff(edge)) for edge in offsets]
    frame = np.concatenate((frames[0], frames[1][lost]))
    order = np.argsort(frame, kind="stable")
    missed = np.where(verdicts.is_targeted[lost], -1, MISS)
    truth = np.concatenate((verdicts.target, lost))
    value = -verdicts.value if rule.measure == "distance" else verdicts.value
    wrong = [np.append(row, np.full(len(lost), np.nan))[order] for row in errors]
    return Matches(
        n_frames=len(offsets[0]) - 1,
        frame=frame[order],
        outcome=np.append(np.where(verdicts.matched >= 0, _TP, _FP), np.full(len(lost), FN))[order].astype(np.int8),
        error_type=np.concatenate((verdicts.error_type, missed))[order].astype(np.int8),
        sub_type=np.append(sub_type, np.full(len(lost), -1))[order].astype(np.int8),
        detection=np.append(kept, np.full(len(lost), -1))[order],
        truth=truth[order],
        label=np.concatenate((objects.labels, objects.truth_labels[lost]))[order],
        truth_label=np.where(truth >= 0, np.append(objects.truth_labels, -1)[truth], -1)[order],
        score=np.append(objects.scores, np.full(len(lost), np.nan))[order],
        value=np.append(value, np.full(len(lost), np.nan))[order],
        **dict(zip(BOX_ERRORS, wrong, strict=True)),
    )


def _kept(
    scores: NDArray[np.floating], labels: NDArray[np.int64], thresholds: ArrayLike | None, n_classes: int
) -> NDArray[np.int64]:
    """Return the rows at or above the operating threshold of their class."""
    if thresholds is None:
        return np.arange(len(scores))
    limits = np.asarray(thresholds, np.float64)
    if limits.shape not in {(), (n_classes,)} or np.isnan(limits).any():
        raise InvalidInputError(
            f"thresholds must be one number or one per class, ({n_classes},), without NaN; got {limits.tolist()}."
        )
    return np.flatnonzero(scores >= np.broadcast_to(limits, n_classes)[labels])


def _check_objects(
    scores: ArrayLike, labels: ArrayLike, truth_labels: ArrayLike, *, shape: tuple[int, int], n_classes: int
) -> Objects:
    score = np.asarray(scores, np.float64)
    if score.shape != (shape[0],):
        raise InvalidInputError(f"overlaps have {shape[0]} predictions, scores have shape {score.shape}.")
    if np.isnan(score).any():
        row = int(np.argmax(np.isnan(score)))
        raise InvalidInputError(f"the score of prediction {row} is NaN, which has no rank; nothing was matched.")
    label = check_labels(_integers(labels), n_units=shape[0], n_classes=n_classes)
    known = _integers(truth_labels)
    if known.size and known.min() < -1:
        raise InvalidInputError(f"the lowest truth label is {known.min()}; only −1 may stand for an unknown class.")
    check_labels(np.maximum(known, 0), n_units=shape[1], n_classes=n_classes)
    return Objects(score, label, known)


def _integers(values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    return array.astype(np.int64) if not array.size or array.dtype.kind in "iu" else array


def _total_shape(matrices: list[NDArray[np.float64]]) -> tuple[int, int]:
    """Return how many predictions and truths all frames have."""
    for frame, matrix in enumerate(matrices):
        if matrix.ndim != 2:
            raise InvalidInputError(f"overlaps of frame {frame} must be (predictions, truths), got {matrix.shape}.")
        if np.isnan(matrix).any():
            raise InvalidInputError(f"{int(np.isnan(matrix).sum())} overlaps of frame {frame} are NaN.")
    return sum(len(matrix) for matrix in matrices), sum(matrix.shape[1] for matrix in matrices)


def _edges(counts: list[int]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64)


def _offsets_of(offsets: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the offsets of the kept rows."""
    return np.searchsorted(kept, offsets).astype(np.int64)
