"""Suppression of duplicates: by overlap from above, and by distance of centres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry._boxes import answer, checked, host, kin, prepare
from mld_pipelines.geometry._engine import kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mld_pipelines.geometry._boxes import Boxes

__all__ = ["bev_nms", "circle_nms"]

#: Below every IoU: whoever is in reach is suppressed.
_ANY = -1.0


def bev_nms(
    boxes: Boxes,
    scores: Any,
    iou_thresh: float | Sequence[float],
    *,
    labels: Any = None,
    tasks: Sequence[Sequence[int]] | None = None,
    max_kept: int | None = None,
) -> Any:
    """Return the boxes that survive greedy suppression: each suppresses later ones with a higher BEV IoU than allowed.

    Boxes come by falling score, equal scores by index. Tensors on a GPU are computed on the CPU, which is faster for
    what one frame holds.

    Args:
        boxes: (N, 7) canonical boxes, an array or a tensor of any device.
        scores: (N,) scores of the same kind.
        iou_thresh: Highest IoU allowed, in [0, 1]; with `tasks` also one per task.
        labels: (N,) classes: boxes suppress each other within their class only. None: all suppress all.
        tasks: Groups of classes, as the heads of a CenterPoint: boxes suppress each other within their task.
        max_kept: Most boxes returned.

    Returns:
        int64 indices by falling score, of the kind and on the device of the boxes.

    Raises:
        InvalidInputError: Shapes that do not fit, unusable boxes, scores that are not finite, thresholds out of range,
            or a label that is in no task or in two.

    Example:
        >>> pair = [[0, 0, 0, 2, 4, 1.5, 0], [0.5, 0, 0, 2, 4, 1.5, 0]]
        >>> bev_nms(pair, [0.6, 0.9], 0.5).tolist()
        [1]
    """
    kin("boxes and scores", boxes, scores)
    found = host(checked("boxes", boxes))
    order = _by_score(scores, len(found))
    group, limit = _groups(labels, tasks, iou_thresh, len(found))
    if len(limit) and not (limit.min() >= 0 and limit.max() <= 1):
        raise InvalidInputError(f"iou_thresh is {iou_thresh!r}; IoU thresholds lie in [0, 1].")
    prepared = prepare(found[order], is_volume=False)
    return answer(order[_suppress(prepared, group[order], limit[order], max_kept)], boxes)


def circle_nms(
    boxes: Boxes,
    scores: Any,
    distance: float | Sequence[float],
    *,
    labels: Any = None,
    tasks: Sequence[Sequence[int]] | None = None,
    max_kept: int | None = None,
) -> Any:
    """Return the boxes that survive suppression by distance from above: each suppresses later ones that are so near.

    det3d, OpenPCDet and MMDetection3D compare the *squared* distance with their `min_radius`: pass its square root.

    Args:
        boxes: (N, 7) canonical boxes, an array or a tensor of any device.
        scores: (N,) scores of the same kind.
        distance: Metres between centres, boundary included; with `tasks` also one per task.
        labels: As for `bev_nms`.
        tasks: As for `bev_nms`.
        max_kept: Most boxes returned.

    Returns:
        int64 indices by falling score, of the kind and on the device of the boxes.

    Raises:
        InvalidInputError: As for `bev_nms`; a negative or infinite distance.
    """
    kin("boxes and scores", boxes, scores)
    found = host(checked("boxes", boxes))
    order = _by_score(scores, len(found))
    group, reach = _groups(labels, tasks, distance, len(found))
    if len(reach) and not (reach.min() >= 0 and np.isfinite(reach.max())):
        raise InvalidInputError(f"distance is {distance!r}; it must be finite and not negative, metres.")
    circles = prepare(found[order], is_volume=False)
    from mld_pipelines.geometry import _edges

    circles[_edges.RADIUS] = 0.5 * reach[order]  # boxes of one group have one reach, so two halves make it whole
    return answer(order[_suppress(circles, group[order], np.full(len(found), _ANY), max_kept)], boxes)


def _suppress(
    prepared: NDArray[np.float64], group: NDArray[np.int64], limit: NDArray[np.float64], max_kept: int | None
) -> NDArray[np.int64]:
    """Return the places, in the order given, of what is kept."""
    count = len(group)
    if max_kept is not None and max_kept < 0:
        raise InvalidInputError(f"max_kept is {max_kept}; it must not be negative.")
    kept = np.empty(count if max_kept is None else min(count, max_kept), np.int64)
    if len(kept) == 0:
        return kept
    from mld_pipelines.geometry import _arrays

    total = (kernels() or _arrays).suppress(prepared, group, limit, kept)
    return kept[: int(total)]


def _by_score(scores: Any, count: int) -> NDArray[np.intp]:
    """Return indices by falling score, equal ones by index."""
    found = host(scores)
    if found.shape != (count,) and not (found.size == 0 and count == 0):
        raise InvalidInputError(f"scores have shape {found.shape}, but there are {count} boxes.")
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found))[0])
        raise InvalidInputError(
            f"the score of row {row} is {found[row]}; scores must be finite. Nothing was suppressed."
        )
    return np.argsort(-found.astype(np.float64).reshape(-1), kind="stable")


def _groups(
    labels: Any, tasks: Sequence[Sequence[int]] | None, limits: float | Sequence[float], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the group of each box and its limit."""
    if labels is None and tasks is not None:
        raise InvalidInputError("tasks are groups of labels; pass the labels as well.")
    group = host(np.zeros(count, np.int64) if labels is None else labels)
    if count and (group.shape != (count,) or group.dtype.kind not in "iu"):
        raise InvalidInputError(f"labels are {group.dtype} of shape {group.shape}; {count} integers are needed.")
    group = group.astype(np.int64, copy=False) if tasks is None else _tasks_of(group, tasks)
    if np.ndim(limits) == 0:
        return group, np.full(count, float(limits))  # type: ignore[arg-type]
    if tasks is None or len(limits) != len(tasks):  # type: ignore[arg-type]
        raise InvalidInputError(f"{limits!r} are several limits; they need as many tasks.")
    return group, np.asarray(limits, np.float64)[group]


def _tasks_of(labels: NDArray[Any], tasks: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return the number of the task of each label."""
    task = {label: number for number, group in enumerate(tasks) for label in group}
    if len(task) != sum(len(group) for group in tasks):
        raise InvalidInputError(f"tasks {tasks!r} name a label twice.")
    present = np.unique(labels).tolist()
    strangers = [label for label in present if label not in task]
    if strangers:
        raise InvalidInputError(f"labels {strangers} are in none of the tasks {tasks!r}.")
    return np.array([task[label] for label in present], np.int64)[np.searchsorted(present, labels)]
