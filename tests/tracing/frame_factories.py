"""Frames that a platform run builds by name."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from examples.drive.datasets import drive_dataset
from examples.drive.model import PillarDetector, drive_model
from mld_pipelines.stress import Family, Kind


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
    "flat": lambda points, target: (points[:, :2], target),
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


class NamedAlike(Frames):
    """Six frames, the last two of which have the name of the second."""

    def __getitem__(self, index):
        points, target, frame_id = super().__getitem__(index)
        return points, target, super().__getitem__(1)[2] if index > 3 else frame_id


def named_alike():
    """Frames whose names are not their own."""
    return NamedAlike(None, "")


def labelled():
    """What a classifier takes."""
    return [(torch.zeros(4), 0)]


def odd():
    """Frames of a task that nobody traces."""
    made = Frames(None, "")
    made.task = "segmentation"
    return made


class DressedFrames:
    """Frames as code bases nest them: a dict with points and an image, or points without an intensity.

    Args:
        dress: From points to what the model is given.
        first: Number of the first frame.
    """

    task = "od3d"
    classes = Frames.classes

    def __init__(self, dress, *, first=0, length=6):
        self._frames, self._dress = drive_dataset("val", frames=12), dress
        self._first, self._length = first, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index):
        if not 0 <= index < self._length:
            raise IndexError(index)
        points, target, frame_id = self._frames[self._first + index]
        return self._dress(points), target, frame_id


def photograph(points):
    """An image that a corruption of points must leave alone."""
    return torch.full((3, 2, 2), float(len(points)))


DRESSES = {
    "plain": lambda points: points,
    "array": lambda points: points.numpy(),
    "half": lambda points: points.half(),
    "dict": lambda points: {"points": points, "img": photograph(points)},
    "list": lambda points: {"points": [points]},
    "bare": lambda points: points[:, :3],
    "voxels": lambda points: {"points": points, "voxels": points[:, None]},
    "image": lambda points: {"img": photograph(points)},
}


def dressed(dress="plain", first=0, length=6):
    """Six frames in one of the forms of `DRESSES`."""
    return DressedFrames(DRESSES[dress], first=first, length=length)


class BareDetector(PillarDetector):
    """Sees clouds without an intensity."""

    def forward(self, points):
        frames = [points] if isinstance(points, torch.Tensor) else list(points)
        return super().forward([torch.nn.functional.pad(one, (0, 1)) for one in frames])


def bare_model():
    """Return the example's detector for clouds of x, y, z."""
    model = drive_model()
    model.__class__ = BareDetector
    return model


def other_model():
    """Return a detector with other weights."""
    model = drive_model()
    with torch.no_grad():
        next(model.parameters()).mul_(1.01)
    return model


class Untold(torch.nn.Module):
    """The example's detector behind an interface that tells neither its family, nor its range, nor its convention."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self._hidden = [drive_model()]

    def forward(self, points):
        found = self._hidden[0](points)
        names = {"boxes": "boxes_3d", "scores": "scores_3d", "labels": "labels_3d"}
        return [{name: one[theirs] for name, theirs in names.items()} for one in found]


def untold_model():
    """Return a detector that needs to be told about."""
    return Untold().eval()


def few_points(points, severity, rng):
    """Leave out most points."""
    return points[rng.random(len(points)) < 0.5 / severity]


def break_one(points, severity, rng):
    """Break one frame in severity 3, whose number of points is known."""
    if severity == 3 and len(points) == len(drive_dataset("val", frames=12)[3][0]):
        raise RuntimeError("the corruption broke")
    return points


def breaking_families():
    """Return two families of the user's, one of which fails on one frame."""
    return [
        Family("loss", (Kind("few_points", few_points, keeps_shape=False),), "points", version="3"),
        Family("trouble", (Kind("break_one", break_one),), "points"),
    ]
