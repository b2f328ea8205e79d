"""What a detector said about frames, cut at the operating point: kept boxes, candidates, and what they are read by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import Detections3D

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CANDIDATE_SHARE",
    "DetectedFrames",
    "check_thresholds",
    "object_context",
    "prediction_features",
    "prediction_probabilities",
    "prediction_statistics",
    "split_detections",
    "sum_by_frame",
]

#: Candidates reach down to this share of the operating threshold of their class (docs/method.md#detection).
CANDIDATE_SHARE = 0.1
#: Probabilities under a logarithm are cut here, as for classification.
PROBABILITY_FLOOR = 1e-12
#: Metres of range that weigh as much as a full turn of a direction in the context of a box.
RANGE_UNIT = 20.0

_SIGMOID, _BACKGROUND_FIRST, _BACKGROUND_LAST = "sigmoid", "softmax_bg_first", "softmax_noobj_last"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectedFrames:
    """Recorded boxes of a batch of frames, cut at the operating point.

    Attributes:
        kept: Boxes at or above the threshold of their class, in the order of the detector's output: N of them.
        rows: (N,) int64, position of each kept box among all recorded boxes of the batch.
        class_scores: (N, K) float32, or None.
        class_space: What they are: `sigmoid`, `softmax_bg_first`, `softmax_noobj_last`; None without them.
        features: (N, d) float32, or None.
        candidates: What was not kept, from a tenth of the threshold of its class on; by falling score in each frame.
        has_suppressed: Whether what the detector suppressed could be seen; without it candidates are low scores alone.
    """

    kept: Detections3D
    rows: NDArray[np.int64]
    class_scores: NDArray[np.float32] | None
    class_space: str | None
    features: NDArray[np.float32] | None
    candidates: Detections3D
    has_suppressed: bool

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.kept.frames

    def __len__(self) -> int:
        """Number of kept boxes."""
        return len(self.kept)


def split_detections(
    recorded: Detections3D,
    suppressed: Detections3D | None,
    *,
    thresholds: ArrayLike,
    class_scores: NDArray[np.floating] | None = None,
    class_space: str | None = None,
    features: NDArray[np.floating] | None = None,
) -> DetectedFrames:
    """Cut recorded boxes at the operating point.

    Args:
        recorded: R boxes as they were recorded.
        suppressed: What the detector did not return, as many frames; None where it cannot be seen.
        thresholds: (C,), operating threshold by class.
        class_scores: (R, K) of the recorded boxes.
        class_space: What the class scores are.
        features: (R, d) of the recorded boxes.

    Raises:
        InvalidInputError: Frames, rows or labels do not fit, or a threshold is NaN.
    """
    limits = check_thresholds(thresholds)
    for batch in (recorded, suppressed):
        if batch is not None and len(batch) and batch.labels.max() >= len(limits):
            raise InvalidInputError(
                f"a box has label {batch.labels.max()}, but there are {len(limits)} thresholds; nothing was split. "
                "Pass one threshold for each class of the model."
            )
    if suppressed is not None and suppressed.frames != recorded.frames:
        raise InvalidInputError(
            f"{recorded.frames} frames were recorded, but suppressed boxes are of {suppressed.frames}; nothing was "
            "split. Pass a frame without candidates as an empty one."
        )
    if class_scores is not None:
        _check_space(class_space)
    is_kept = recorded.scores >= limits[recorded.labels]  # as `metrics.match_frames` keeps
    rows = np.flatnonzero(is_kept).astype(np.int64)
    return DetectedFrames(
        kept=recorded.take(rows),
        rows=rows,
        class_scores=_rows_of("class scores", class_scores, rows, len(recorded)),
        class_space=None if class_scores is None else class_space,
        features=_rows_of("features", features, rows, len(recorded)),
        candidates=_candidates(recorded.take(~is_kept), suppressed, limits),
        has_suppressed=suppressed is not None,
    )


def prediction_probabilities(frames: DetectedFrames, *, n_classes: int) -> NDArray[np.float64]:
    """The class distribution of each kept box, (N, n_classes + 1) float64; the last column is "nothing there".

    A softmax is what it is. Independent (sigmoid) scores p become `Π(1 − p)` for nothing and the rest in proportion to
    them; a detector without class scores gives its score to its class and the remainder to nothing.

    Raises:
        InvalidInputError: The class scores have another width.
    """
    found = np.zeros((len(frames), n_classes + 1))
    if frames.class_scores is None:
        score = np.clip(frames.kept.scores.astype(np.float64), 0.0, 1.0)
        found[np.arange(len(frames)), frames.kept.labels] = score
        found[:, -1] = 1.0 - score
        return found
    classes, nothing = _class_columns(frames, n_classes)
    if nothing is None:
        nothing = np.prod(1.0 - classes, axis=1)
        classes = classes * ((1.0 - nothing) / np.maximum(classes.sum(axis=1), PROBABILITY_FLOOR))[:, None]
    found[:, :-1], found[:, -1] = classes, nothing
    total = found.sum(axis=1)
    empty = total < PROBABILITY_FLOOR
    found[empty, -1], total[empty] = 1.0, 1.0
    normalised: NDArray[np.float64] = found / total[:, None]
    return normalised


def class_distribution(frames: DetectedFrames, *, n_classes: int) -> NDArray[np.float64] | None:
    """Class scores without "nothing there", (N, n_classes) in [0, 1], not normalised; None without class scores."""
    return None if frames.class_scores is None else _class_columns(frames, n_classes)[0]


def prediction_features(frames: DetectedFrames) -> NDArray[np.float32]:
    """The feature of each kept box, (N, d) float32; its context (`object_context`) where the detector gives none."""
    if frames.features is not None:
        return frames.features
    return box_context(frames.kept.boxes)


def prediction_statistics(
    frames: DetectedFrames, *, n_classes: int, true_labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Entropy and loss of each kept box in nats, (N,) each (docs/method.md#detection).

    Independent scores: sums of Bernoulli entropies and of binary cross-entropies over the classes. Softmax: those of
    the distribution with "nothing there" as one more class. Without class scores the score of the box is the one
    Bernoulli variable, true where the class is.

    Args:
        frames: The boxes.
        n_classes: Classes of the model.
        true_labels: (N,), class of what is really there; −1 for nothing.

    Raises:
        InvalidInputError: The lengths differ, or a label is no class.
    """
    labels = np.asarray(true_labels)
    if labels.shape != (len(frames),) or (len(labels) and not -1 <= labels.min() <= labels.max() < n_classes):
        raise InvalidInputError(
            f"true labels must be {len(frames)} classes below {n_classes} or −1, got shape {labels.shape}; nothing "
            "was computed. Pass one per kept box."
        )
    if frames.class_scores is None:
        chance = np.clip(frames.kept.scores.astype(np.float64), 0.0, 1.0)[:, None]
        return _bernoulli(chance, (labels == frames.kept.labels)[:, None])
    if frames.class_space == _SIGMOID:
        is_class = labels[:, None] == np.arange(n_classes)
        return _bernoulli(_class_columns(frames, n_classes)[0], is_class)
    chances = np.maximum(prediction_probabilities(frames, n_classes=n_classes), PROBABILITY_FLOOR)
    log_p = np.log(chances)
    rows = np.arange(len(frames))
    return -(chances * log_p).sum(axis=1), -log_p[rows, np.where(labels < 0, n_classes, labels)]


def object_context(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], *, n_classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Where an object is and what it is, without looking at the model: the place of its M code.

    Args:
        boxes: (T, 7) canonical boxes.
        labels: (T,) classes, 0 … n_classes − 1.
        n_classes: Classes of the model.

    Returns:
        Features (T, 8) float32: range / 20 m, cosine and sine of the bearing, ln l, ln w, ln h (metres), cosine and
        sine of the heading relative to the ray; and the class as probabilities, (T, n_classes) float64.

    Raises:
        InvalidInputError: A label is no class of the model.
    """
    given = np.asarray(labels, dtype=np.int64)
    if len(given) and not 0 <= given.min() <= given.max() < n_classes:
        raise InvalidInputError(
            f"labels of objects run from {given.min()} to {given.max()}, but there are {n_classes} classes; nothing "
            "was computed. Leave out objects of classes that the model does not know."
        )
    return box_context(np.asarray(boxes, dtype=np.float64)), np.eye(n_classes)[given]


def box_context(boxes: NDArray[np.float64]) -> NDArray[np.float32]:
    """The features of `object_context`, (T, 8) float32."""
    bearing = np.arctan2(boxes[:, 1], boxes[:, 0])
    relative = boxes[:, 6] - bearing
    columns = (
        np.hypot(boxes[:, 0], boxes[:, 1]) / RANGE_UNIT,
        np.cos(bearing),
        np.sin(bearing),
        np.log(boxes[:, 4]),
        np.log(boxes[:, 3]),
        np.log(boxes[:, 5]),
        np.cos(relative),
        np.sin(relative),
    )
    largest = float(np.finfo(np.float32).max)
    bounded: NDArray[np.float64] = np.clip(np.column_stack(columns), -largest, largest)
    return bounded.astype(np.float32)


def sum_by_frame(frame: NDArray[np.int64], values: NDArray[np.float64], *, frames: int) -> NDArray[np.float64]:
    """Sums of values by frame, (F,), each in the order of its rows: a frame's sum is the same in every batch."""
    total: NDArray[np.float64] = np.bincount(frame, weights=values, minlength=frames).astype(np.float64)
    return total


def check_thresholds(thresholds: ArrayLike) -> NDArray[np.float64]:
    """Return operating thresholds as (C,) float64.

    Raises:
        InvalidInputError: Another shape, or NaN.
    """
    limits = np.asarray(thresholds, dtype=np.float64)
    if limits.ndim != 1 or not len(limits) or np.isnan(limits).any():
        raise InvalidInputError(
            f"thresholds must be one number per class without NaN, got {limits.tolist()}; nothing was split."
        )
    return limits


def _candidates(below: Detections3D, suppressed: Detections3D | None, limits: NDArray[np.float64]) -> Detections3D:
    """Join what was recorded below the threshold and what was suppressed, by falling score in each frame."""
    parts: Sequence[Detections3D] = [below] if suppressed is None else [below, suppressed]
    frame = np.concatenate([part.frame_index for part in parts])
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("boxes", "labels", "velocities", "scores")
    }
    wanted = columns["scores"] >= CANDIDATE_SHARE * limits[columns["labels"]]
    order = np.lexsort((-columns["scores"], frame))
    order = order[wanted[order]]
    counts = np.bincount(frame[order], minlength=below.frames)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return Detections3D(offsets=offsets, **{name: values[order] for name, values in columns.items()})


def _class_columns(frames: DetectedFrames, n_classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Chances of the classes (N, C), and of nothing (N,) where the space has it."""
    scores = np.clip(np.asarray(frames.class_scores).astype(np.float64), 0.0, 1.0)
    width = n_classes if frames.class_space == _SIGMOID else n_classes + 1
    if scores.shape[1] != width:
        raise InvalidInputError(
            f"class scores have {scores.shape[1]} columns, {frames.class_space!r} of {n_classes} classes has {width}; "
            "nothing was computed. Use the result of this model."
        )
    if frames.class_space == _SIGMOID:
        return scores, None
    if frames.class_space == _BACKGROUND_FIRST:
        return scores[:, 1:], scores[:, 0]
    return scores[:, :-1], scores[:, -1]


def _bernoulli(
    chances: NDArray[np.float64], is_true: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over columns of Bernoulli entropies and of binary cross-entropies."""
    yes = np.log(np.maximum(chances, PROBABILITY_FLOOR))
    no = np.log(np.maximum(1.0 - chances, PROBABILITY_FLOOR))
    entropy: NDArray[np.float64] = -(chances * yes + (1.0 - chances) * no).sum(axis=1)
    loss: NDArray[np.float64] = -np.where(is_true, yes, no).sum(axis=1)
    return entropy, loss


def _rows_of(
    name: str, values: NDArray[np.floating] | None, rows: NDArray[np.int64], total: int
) -> NDArray[np.float32] | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.ndim != 2 or len(array) != total:
        raise InvalidInputError(
            f"{name} have shape {array.shape}, but {total} boxes were recorded; nothing was split. Pass one row each."
        )
    with np.errstate(over="ignore"):  # beyond float32 is infinite, as it would be stored
        return array[rows].astype(np.float32)


def _check_space(space: str | None) -> None:
    known = (_SIGMOID, _BACKGROUND_FIRST, _BACKGROUND_LAST)
    if space not in known:
        raise InvalidInputError(
            f"the class space is {space!r}; class scores need one of {', '.join(known)}. Nothing was split."
        )
