"""The example detector's frames and raw outputs, stored, so that making them is not measured; named by pools."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from examples.drive.datasets import DriveDataset, drive_dataset
from mld_pipelines.tracing._detection_worker import DetectionForwardWorker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Columns = dict[str, NDArray[Any]]

__all__ = ["DATASET", "EMITTER", "MODEL", "Emitter", "StoredFrames", "forward_worker", "store_frames", "stored_frames"]

DATASET, EMITTER = "benchmarks._drive:stored_frames", "benchmarks._drive:Emitter"
MODEL = "examples.drive.datasets:drive_model"


def store_frames(path: Path, frames: int) -> None:
    """Write frames of the example's validation part to a file."""
    made = drive_dataset("val", frames=frames)
    items = [made[index] for index in range(frames)]
    path.write_bytes(pickle.dumps([(points.numpy(), _arrays(target)) for points, target, _ in items]))


def _arrays(target: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in target.items()}


class StoredFrames:
    """Frames from a file, over and over: what reading a frame from a warm disk costs, and no more.

    Args:
        path: From `store_frames`.
        length: Frames in all.
    """

    task = DriveDataset.task
    classes = DriveDataset.classes

    def __init__(self, path: str, length: int) -> None:
        self._items = pickle.loads(Path(path).read_bytes())
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any], str]:
        points, target = self._items[index % len(self._items)]
        return torch.from_numpy(points), {k: torch.from_numpy(v) for k, v in target.items()}, f"frame-{index:06d}"


def stored_frames(path: str, length: int) -> StoredFrames:
    """Return the frames of a file: a factory for `register_dataset`."""
    return StoredFrames(path, length)


def forward_worker(path: Path, frames: int, *, device: str | None = None) -> DetectionForwardWorker:
    """Return the worker that runs the example detector over stored frames."""
    return DetectionForwardWorker(
        model_factory=MODEL,
        model_params={},
        dataset_factory=DATASET,
        dataset_params={"path": str(path), "length": frames},
        seed=0,
        device=device,
    )


class Emitter:
    """In the place of the model: hands on raw outputs made before, by copying them into shared memory.

    Args:
        path: Pickled columns of `DetectionForwardWorker`.
    """

    def __init__(self, path: str) -> None:
        self._columns: Columns = pickle.loads(Path(path).read_bytes())

    def __call__(self, batch: Mapping[str, Any]) -> Columns:
        """Return the same columns, with the number of the call."""
        return self._columns | {"call": np.array([int(batch["call"])])}
