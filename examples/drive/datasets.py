"""Drive frames as datasets and the detector as a model, for `mld models register`.

* `mld models register pillars examples.drive.datasets:drive_model --version-name v1`
* `mld models register drive-val examples.drive.datasets:drive_dataset --dataset --params '{"part": "val"}'`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from examples.drive.conditions import CLEAR
from examples.drive.frames import drive_frame, mild, single_frames
from examples.drive.model import drive_model
from examples.drive.shapes import CLASS_NAMES
from mld_pipelines.records import Truths3D

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from examples.drive.conditions import Conditions
    from examples.drive.frames import Frame

__all__ = ["PARTS", "DriveDataset", "drive_dataset", "drive_model", "sample_of", "truths_of"]

PARTS = {"train": (11, 400), "val": (12, 300), "drive": (13, 320), "mixed": (15, 240)}
"""Generator seed and number of frames of each part; none of the seeds is one that the detector was trained with."""


class DriveDataset:
    """Frames that are made when they are asked for, 13 ms each: sized, indexable, with class names.

    Args:
        frame: From a position to the frame there.
        length: How many there are.
    """

    task = "od3d"
    classes = CLASS_NAMES

    def __init__(self, frame: Callable[[int], Frame], length: int) -> None:
        self._frame, self._length = frame, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any], str]:
        if not 0 <= index < self._length:
            raise IndexError(f"there is no frame {index}: the dataset has {self._length}.")
        return sample_of(self._frame(index))


def sample_of(frame: Frame) -> tuple[torch.Tensor, dict[str, Any], str]:
    """Return points (N, 4), the target as a dict of `boxes_3d`, `labels_3d`, `velocities`, `points`, and the id.

    Objects that the sensor did not touch are left out, as nuScenes leaves them out of its evaluation.
    """
    seen = frame.counts > 0
    target = {
        "boxes_3d": torch.from_numpy(frame.boxes[seen]),
        "labels_3d": torch.from_numpy(frame.labels[seen]),
        "velocities": torch.from_numpy(frame.velocities[seen]),
        "points": torch.from_numpy(frame.counts[seen]),
    }
    return torch.from_numpy(frame.points), target, frame.frame_id


def truths_of(frames: Iterable[Frame]) -> Truths3D:
    """Return the truth of some frames as the columns that metrics take, objects without a point included."""
    return Truths3D.from_frames(
        [
            {"boxes": one.boxes, "labels": one.labels, "velocities": one.velocities, "points": one.counts}
            for one in frames
        ]
    )


def drive_dataset(part: str = "val", frames: int | None = None) -> DriveDataset:
    """Return one part of the example data.

    Args:
        part: `train` or `val` (single frames on a clear day), `mixed` (single frames, every fourth in light rain or fog
            or with a slightly bent sensor), or `drive` (in time, through drifting conditions).
        frames: How many; each part has its own default.
    """
    seed, usual = PARTS[part]
    count = usual if frames is None else frames
    if part == "drive":
        return DriveDataset(lambda index: drive_frame(index, count, seed), count)
    conditions = mild if part == "mixed" else _clear
    return DriveDataset(
        lambda index: next(single_frames(1, seed, first=index, conditions=conditions(index, seed))), count
    )


def _clear(_number: int, _seed: int) -> Conditions:
    return CLEAR
