"""From a code base's own rows to canonical boxes, and frames of unequal length to one array and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._rows import Boxes
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry import CONVENTIONS, find_convention
from mld_pipelines.records import wrap_yaw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Raw

__all__ = [
    "CANONICAL",
    "as_tensor",
    "canonical",
    "detections",
    "each_frame",
    "known_convention",
    "listed_clouds",
    "natives",
    "ragged",
    "segment",
]


CANONICAL = "canonical"
"""Boxes as the targets of a tracer: cx, cy, cz, w, l, h, yaw, maybe vx and vy behind."""


def known_convention(name: str) -> str:
    """Return a convention's name if it is one that detectors return.

    Raises:
        InvalidInputError: It is not.
    """
    known = (*CONVENTIONS, CANONICAL)
    if name not in known:
        raise InvalidInputError(
            f"box_convention {name!r} is not known; nothing was recorded. Known: {', '.join(sorted(known))}."
        )
    return name


def canonical(rows: NDArray[np.floating[Any]], convention: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return canonical boxes and velocities of a code base's rows.

    Args:
        rows: (N, 7 or more); velocities are the two columns after the seventh, in `det3d` the two before the last.
        convention: One of `det3d`, `mmdet3d_v0`, `mmdet3d_v1`, `openpcdet`, or `canonical`.

    Returns:
        (N, 7) float64 boxes and (N, 2) float64 velocities, NaN where the rows have none.

    Raises:
        InvalidInputError: Fewer than seven columns.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or rows.shape[1] < 7:
        raise InvalidInputError(
            f"boxes have shape {rows.shape}; a 3D box has 7 numbers or 9 with a velocity. Nothing was recorded."
        )
    width = 9 if rows.shape[1] >= 9 else 7
    if convention == CANONICAL:
        known = rows[:, 7:9] if width == 9 else np.full((len(rows), 2), np.nan)
        return np.column_stack([rows[:, :6], wrap_yaw(rows[:, 6])]).astype(np.float64), known.astype(np.float64)
    found = find_convention(convention).read(rows if convention == "det3d" else rows[:, :width])
    return found.boxes, found.velocities


def natives(
    rows: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], *, convention: str, label_offset: int = 0
) -> Boxes:
    """Return the boxes of one frame from a code base's own columns.

    Args:
        rows: (N, 7 or more).
        scores: (N,).
        labels: (N,) in the code base's own count.
        convention: Of the rows.
        label_offset: Added to the labels so that they count from 0: −1 for OpenPCDet.
    """
    boxes, velocities = canonical(rows, convention)
    return Boxes(
        boxes=boxes,
        velocities=velocities,
        scores=np.asarray(scores, np.float32).reshape(-1),
        labels=np.asarray(labels).astype(np.int64).reshape(-1) + label_offset,
    )


def detections(raw: Raw, frame: int, *, convention: str, label_offset: int = 0) -> Boxes:
    """Return what the model returned for one frame of `ragged`."""
    part = segment(raw["offsets"], frame)
    return natives(
        raw["boxes"][part],
        raw["scores"][part],
        raw["labels"][part],
        convention=convention,
        label_offset=label_offset,
    )


def segment(offsets: NDArray[Any], frame: int) -> slice:
    """Return the rows of a frame."""
    return slice(int(offsets[frame]), int(offsets[frame + 1]))


def each_frame(raw: Raw) -> Iterator[int]:
    """Yield the frames of `ragged`."""
    yield from range(len(raw["offsets"]) - 1)


def ragged(found: Sequence[Mapping[str, Any]], *, frames: int, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return the detections of all frames in one tensor per column, with offsets.

    Args:
        found: Per frame `boxes` (N, D), `scores` (N,) and `labels` (N,): tensors, arrays or lists.
        frames: Frames in the call.
        prefix: In front of the names.

    Raises:
        InvalidInputError: There are not as many results as frames, or the columns of a frame differ in length.
    """
    import torch

    if len(found) != frames:
        raise InvalidInputError(
            f"the model returned {len(found)} results for {frames} frames; nothing was recorded of this call."
        )
    columns = [_columns(one, place) for place, one in enumerate(found)]
    width = max((boxes.shape[1] for boxes, _, _ in columns if boxes.shape[0]), default=7)
    joined = [torch.cat([column[i].cpu() if _mixed(columns) else column[i] for column in columns]) for i in (1, 2)]
    boxes = [each if each.shape[0] else each.new_zeros((0, width)) for each, _, _ in columns]
    counts = torch.tensor([0] + [int(scores.shape[0]) for _, scores, _ in columns], dtype=torch.int64)
    return {
        f"{prefix}boxes": torch.cat([each.cpu() if _mixed(columns) else each for each in boxes]),
        f"{prefix}scores": joined[0],
        f"{prefix}labels": joined[1],
        f"{prefix}offsets": counts.cumsum(0),
    }


def listed_clouds(points: Any) -> list[Any]:
    """Return the clouds of a call, one entry per frame.

    Args:
        points: One cloud (N, 4+), a batch (B, N, 4+) as collate functions stack it, or a sequence of clouds.
    """
    return list(points) if isinstance(points, (list, tuple)) or getattr(points, "ndim", 2) == 3 else [points]


def as_tensor(value: Any) -> torch.Tensor:
    """Return a detached clone of a tensor, or a tensor of an array or list."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return torch.tensor(np.asarray(value))


def _columns(one: Mapping[str, Any], place: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    boxes, scores, labels = (as_tensor(one[name]) for name in ("boxes", "scores", "labels"))
    scores, labels = scores.reshape(-1).float(), _whole(labels.reshape(-1), place)
    if boxes.numel() == 0:
        boxes = boxes.float().reshape(0, boxes.shape[-1] if boxes.ndim == 2 and boxes.shape[-1] >= 7 else 7)
    if boxes.ndim != 2 or boxes.shape[1] < 7 or not boxes.shape[0] == scores.shape[0] == labels.shape[0]:
        raise InvalidInputError(
            f"frame {place} of the model's output has boxes of shape {tuple(boxes.shape)}, {scores.shape[0]} scores "
            f"and {labels.shape[0]} labels, not (N, 7 or 9), N and N; nothing was recorded of this call."
        )
    return boxes, scores, labels


def _whole(labels: torch.Tensor, place: int) -> torch.Tensor:
    """Return labels as integers; some code bases return whole numbers as floats."""
    if labels.is_floating_point() and bool((labels != labels.round()).any()):
        raise InvalidInputError(
            f"the labels of frame {place} of the model's output are no whole numbers ({labels[:5].tolist()} …); "
            "nothing was recorded of this call."
        )
    return labels.long()


def _mixed(columns: Sequence[tuple[torch.Tensor, ...]]) -> bool:
    """Return whether the parts lie on several devices (an empty frame often lies on the CPU)."""
    return len({part.device for column in columns for part in column}) > 1
