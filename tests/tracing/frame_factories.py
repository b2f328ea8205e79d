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
        if self._how == "label":
            return points, target | {"labels_3d": torch.full_like(target["labels_3d"], 9)}, frame_id
        if self._how == "nan":
            return torch.full_like(points, float("nan")), target, frame_id
        return points, target


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
