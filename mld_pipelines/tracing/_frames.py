"""Datasets of frames: what a detector's dataset factory may return, and reading a range of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mld_pipelines.compute import resolve
from mld_pipelines.exceptions import ConfigurationError, InvalidInputError
from mld_pipelines.records import normalise_input_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FRAMES_TASK", "FrameReader", "Frames", "open_frames"]

FRAMES_TASK = "od3d"
"""What the attribute `task` of a dataset of frames says."""


class Frames(NamedTuple):
    """A range of frames.

    Attributes:
        inputs: What the model takes of each, usually (N, 4+) point tensors.
        targets: `boxes_3d`, `labels_3d` and optionally `velocities` and `points` of each.
        input_ids: Their names.
        metadata: Scalars by name of each.
    """

    inputs: list[Any]
    targets: list[Mapping[str, Any]]
    input_ids: list[str]
    metadata: list[Mapping[str, Any]]


def open_frames(factory: str, params: Mapping[str, Any] | None = None) -> FrameReader:
    """Call a dataset factory and return a reader of its frames.

    Args:
        factory: `module:function`.
        params: Keyword arguments of the factory.

    Raises:
        ConfigurationError: The factory cannot be imported, or made no sized and indexable dataset of frames.
    """
    made = resolve(factory)(**(params or {}))
    if getattr(made, "task", None) != FRAMES_TASK or not hasattr(made, "__getitem__") or not hasattr(made, "__len__"):
        raise ConfigurationError(
            f"dataset factory {factory!r} returned a {type(made).__name__}; a dataset of frames has `__len__`, "
            f"`__getitem__` and the attribute task = {FRAMES_TASK!r}."
        )
    return FrameReader(made, name=factory)


class FrameReader:
    """Reads ranges of a dataset of frames.

    Its items are `(inputs, target, input_id)`, or objects with `points`, `target`, `frame_id` and optionally `metadata`
    (the folders of `mld_pipelines.datasets`). A dataset that can `check` itself leaves broken frames out first.

    Args:
        frames: The dataset.
        name: How messages call it.
    """

    def __init__(self, frames: Any, *, name: str) -> None:
        if hasattr(frames, "check"):
            frames.check()  # the same for everybody who opens it: positions count the frames that are left
        names = getattr(frames, "classes", None)
        self.class_names: list[str] | None = None if names is None else [str(one) for one in names]
        self._frames = frames
        self._name = name

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def read(self, start: int, stop: int) -> Frames:
        """Return the frames of a range.

        Raises:
            InvalidInputError: A frame cannot be read, or is of neither form.
        """
        parts = [self._parts(index) for index in range(start, stop)]
        inputs, targets, ids, metadata = (list(column) for column in zip(*parts, strict=True))
        return Frames([_tensor(one) for one in inputs], targets, normalise_input_ids(ids, len(ids)), metadata)

    def _parts(self, index: int) -> tuple[Any, Mapping[str, Any], Any, Mapping[str, Any]]:
        item = self._frames[index]
        if hasattr(item, "points") and hasattr(item, "target"):
            return item.points, item.target, item.frame_id, dict(getattr(item, "metadata", {}))
        if isinstance(item, (tuple, list)) and len(item) == 3:
            return item[0], item[1], item[2], {}
        raise InvalidInputError(
            f"frame {index} of dataset {self._name!r} is a {type(item).__name__}; it must be (inputs, target, "
            "input_id), or have `points`, `target` and `frame_id`."
        )


def _tensor(inputs: Any) -> Any:
    """Return an array as a tensor; models take tensors."""
    if not isinstance(inputs, np.ndarray):
        return inputs
    import torch

    return torch.from_numpy(inputs)
