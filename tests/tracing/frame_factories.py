"""Frames that a platform run builds by name."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from examples.drive.datasets import drive_dataset


class Frames:
    """Some frames of the example, one of them spoilt on request."""

    task = "od3d"
    classes = ("car", "truck", "pedestrian", "cyclist")

    def __init__(self, spoilt: int | None, how: str, *, delay: float = 0.0, once: str | None = None) -> None:
        self._frames = drive_dataset("val", frames=6)
        self._spoilt, self._how = spoilt, how
        self._delay, self._once = delay, once

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index):
        points, target, frame_id = self._frames[index]
        time.sleep(self._delay)
        if self._how == "order":
            return points, target | {"boxes_3d": target["boxes_3d"][:, [0, 1, 2, 4, 3, 5, 6]]}, frame_id
        if index != self._spoilt or (self._once is not None and Path(self._once).exists()):
            return points, target, frame_id
        if self._once is not None:
            Path(self._once).touch()
        if self._how == "die":
            os._exit(1)
        if self._how == "form":
            return points, target
        return *SPOILT[self._how](points, target), frame_id


def resized(target, value):
    """Give one box another width."""
    boxes = target["boxes_3d"].clone()
    boxes[0, 3] = value
    return target | {"boxes_3d": boxes}


def without(target, *, velocities):
    """Leave out the boxes, or only their velocities."""
    if velocities:
        return {name: values for name, values in target.items() if name != "velocities"}
    return {name: values[:0] for name, values in target.items()}


#: What may be odd about a frame.
SPOILT = {
    "label": lambda points, target: (points, target | {"labels_3d": torch.full_like(target["labels_3d"], 9)}),
    "nan": lambda points, target: (torch.full_like(points, float("nan")), target),
    "nan box": lambda points, target: (points, resized(target, float("nan"))),
    "size": lambda points, target: (points, resized(target, -1.0)),
    "length": lambda points, target: (points, target | {"labels_3d": target["labels_3d"][:-1]}),
    "empty": lambda points, target: (points[:0], without(target, velocities=False)),
    "no velocities": lambda points, target: (points, without(target, velocities=True)),
    "half": lambda points, target: (points.half(), target | {"boxes_3d": target["boxes_3d"].half()}),
    "many": lambda points, target: (
        points,
        {name: values[:1].repeat_interleave(10_000, 0) for name, values in target.items()},
    ),
}


def frames(spoilt: int | None = None, how: str = "label", **trouble) -> Frames:
    """Six frames of a clear day."""
    return Frames(spoilt, how, **trouble)


def labelled():
    """What a classifier takes."""
    return [(torch.zeros(4), 0)]


def odd():
    """Frames of a task that nobody traces."""
    made = Frames(None, "")
    made.task = "segmentation"
    return made
