"""True boxes as callers give them: a list of dicts, or a dict of lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import Truths3D, require_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d import Frame3D

__all__ = ["check_true_labels", "count_classes", "true_boxes"]

_KEYS = {"boxes_3d": "boxes", "labels_3d": "labels", "velocities": "velocities", "points": "points"}
_OPTIONAL = ("velocities", "points")
_FORM = (
    "give a list with one dict per frame, or a dict of lists, with `boxes_3d` (N, 7) as [cx, cy, cz, w, l, h, yaw], "
    "`labels_3d` (N,) and optionally `velocities` (N, 2) and `points` (N,)"
)


def true_boxes(targets: Any, n: int, *, see: Callable[[NDArray[Any]], None] | None = None) -> Truths3D:
    """Return the true boxes of a batch of frames.

    Args:
        targets: Sequence of `n` mappings with `boxes_3d`, `labels_3d` and optionally `velocities` and `points`, or one
            mapping from these names to sequences of `n`; tensors of any device, arrays or lists. One mapping of plain
            arrays is taken for a single frame.
        n: Frames of the batch.
        see: Called with the (N, 7) boxes of each frame as they were given, before yaws are wrapped.

    Raises:
        InvalidInputError: Form, lengths or values do not fit; nothing of the batch was recorded.
    """
    frames = _frames(targets, n)
    if len(frames) != n:
        raise InvalidInputError(
            f"there are targets for {len(frames)} frames but the batch has {n}. Nothing was recorded: {_FORM}."
        )
    try:
        columns = [_columns(frame, index) for index, frame in enumerate(frames)]
        truths = Truths3D.from_frames(columns)
    except InvalidInputError as error:
        raise InvalidInputError(f"targets cannot be used: {error} Nothing was recorded.") from error
    if see is not None:
        for column in columns:
            see(column["boxes"])
    return truths


def count_classes(frames: Sequence[Frame3D]) -> int | None:
    """Return the number of classes of a detector, from the first frame whose class scores tell it."""
    for frame in frames:
        if frame.class_scores is not None and len(frame.class_scores):
            columns = int(frame.class_scores.shape[1])
            return columns if frame.class_space == "sigmoid" else columns - 1  # the others have a background too
    return None


def check_true_labels(truths: Truths3D, frames: Sequence[Frame3D], *, class_names: Sequence[str] | None = None) -> None:
    """Refuse targets that name a class the detector does not have, and detections of a class that has no name.

    Raises:
        InvalidInputError: A label is too high.
    """
    known = len(class_names) if class_names else count_classes(frames)
    if known is not None and len(truths) and int(truths.labels.max()) >= known:
        raise InvalidInputError(
            f"label {int(truths.labels.max())} is out of range: the model has {known} classes (0 … {known - 1}). "
            "This batch was not recorded."
        )
    most = max((int(frame.labels.max()) for frame in frames if len(frame.labels)), default=-1)
    if class_names and most >= len(class_names):
        raise InvalidInputError(
            f"the model found an object of class {most}, but there are {len(class_names)} class names "
            f"({', '.join(class_names)}): they are not those that the model was trained with. This batch was not "
            "recorded."
        )


def _frames(targets: Any, n: int) -> list[Mapping[str, Any]]:
    if isinstance(targets, Mapping):
        _check_keys(targets, "targets lack", "they hold")
        if n == 1 and _is_single(targets["boxes_3d"]):
            return [targets]
        given = {name: values for name, values in targets.items() if name in _KEYS and values is not None}
        counts = {name: len(values) for name, values in given.items()}
        if len(set(counts.values())) > 1:
            raise InvalidInputError(f"targets hold {counts} frames. Nothing was recorded: {_FORM}.")
        return [
            {name: values[index] for name, values in given.items()} for index in range(next(iter(counts.values()), 0))
        ]
    if not isinstance(targets, Sequence) or isinstance(targets, (str, bytes)):
        raise InvalidInputError(f"targets are a {type(targets).__name__}. Nothing was recorded: {_FORM}.")
    for index, frame in enumerate(targets):
        if not isinstance(frame, Mapping):
            raise InvalidInputError(
                f"the target of frame {index} is a {type(frame).__name__}. Nothing was recorded: {_FORM}."
            )
        _check_keys(frame, f"the target of frame {index} lacks", "it holds")
    return list(targets)


def _check_keys(target: Mapping[str, Any], lacks: str, holds: str) -> None:
    missing = [name for name in _KEYS if name not in _OPTIONAL and name not in target]
    if missing:
        has = ", ".join(map(str, target)) or "nothing"
        raise InvalidInputError(f"{lacks} {' and '.join(missing)} ({holds} {has}). Nothing was recorded: {_FORM}.")


def _is_single(boxes: Any) -> bool:
    """Return whether boxes are those of one frame: one array of two dimensions."""
    return getattr(boxes, "ndim", 0) == 2


def _columns(frame: Mapping[str, Any], index: int) -> dict[str, Any]:
    if hasattr(frame["boxes_3d"], "tensor"):
        raise InvalidInputError(
            f"boxes_3d of frame {index} are {type(frame['boxes_3d']).__name__}, whose order, origin and yaw differ; "
            "give an array (N, 7), e.g. mld_pipelines.geometry.from_mmdet3d_v1(boxes.tensor).boxes."
        )
    boxes = _array(frame["boxes_3d"])
    boxes = boxes.reshape(0, 7) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 7:
        raise InvalidInputError(
            f"boxes_3d of frame {index} have shape {boxes.shape}, not (N, 7); velocities go into `velocities`."
        )
    columns: dict[str, Any] = {"boxes": boxes, "labels": _integers(frame["labels_3d"], index)}
    for name in _OPTIONAL:
        values = frame.get(name)
        if values is not None:
            array = _array(values)
            columns[_KEYS[name]] = array.reshape(0, 2) if name == "velocities" and array.size == 0 else array
    return columns


def _integers(values: Any, index: int) -> Any:
    labels = _array(values)
    if labels.size == 0:
        return np.zeros(0, np.int64)
    if labels.dtype.kind not in "iu":
        raise InvalidInputError(f"labels_3d of frame {index} have dtype {labels.dtype}; give integer class indices.")
    return labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _array(values: Any) -> Any:
    """Return a tensor of any device and dtype, or a sequence of numbers, as an array."""
    if hasattr(values, "detach"):
        require_data("targets", values)
        host = values.detach().cpu()
        return (host.double() if host.is_floating_point() else host).numpy()
    return np.asarray(values)
