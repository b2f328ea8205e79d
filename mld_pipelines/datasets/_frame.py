"""One frame of a LiDAR data set, and what every folder of frames does."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from mld_pipelines.records import Truths3D

__all__ = ["BrokenFrame", "FrameFolder", "PointFrame", "check_classes", "check_size", "read_points"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PointFrame:
    """One LiDAR sweep and what is really there.

    Attributes:
        frame_id: The data set's own name of the frame.
        points: (P, 4) float32: x, y, z in metres in the sensor frame, then the intensity as stored.
        truths: One frame of truths in the same sensor frame; None where the data set has no labels.
        class_names: What the labels of `truths` mean; a label of -1 is an object of another class.
        type_names: The data set's own name of every truth.
        timestamp: When the sweep was taken, UTC; None where unknown.
        metadata: Scalars by name for slices, e.g. `weather`.
    """

    frame_id: str
    points: NDArray[np.float32]
    truths: Truths3D | None
    class_names: tuple[str, ...]
    type_names: tuple[str, ...] = ()
    timestamp: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> dict[str, NDArray[Any]]:
        """Truths as a tracer takes them: `boxes_3d`, `labels_3d`, `velocities`, `points`.

        Objects of other classes are in it with the label -1: they are never missed, and a box that takes one for
        something is told apart from a box where nothing is.

        Raises:
            InvalidInputError: The data set has no labels.
        """
        if self.truths is None:
            raise InvalidInputError(f"frame {self.frame_id!r} has no labels; use its points alone.")
        real = self.truths
        return {
            "boxes_3d": real.boxes,
            "labels_3d": real.labels,
            "velocities": real.velocities,
            "points": real.points,
        }


@dataclass(frozen=True, slots=True)
class BrokenFrame:
    """A frame that was set aside.

    Attributes:
        frame_id: The data set's own name of the frame.
        reason: What is wrong with it.
    """

    frame_id: str
    reason: str


F = TypeVar("F", bound=PointFrame)


class FrameFolder(ABC, Generic[F]):
    """Frames of a folder by position; reads one at a time.

    Attributes:
        classes: Names of the labels.
        broken: Frames that were set aside, with the reason.
    """

    task = "od3d"

    def __init__(self, frame_ids: Sequence[str], *, classes: tuple[str, ...]) -> None:
        self._ids = list(frame_ids)
        self.classes = classes
        self.broken: list[BrokenFrame] = []

    @property
    def frame_ids(self) -> tuple[str, ...]:
        """Names of the frames, in the order of positions."""
        return tuple(self._ids)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._ids)

    def __getitem__(self, index: int) -> F:
        """Read one frame.

        Raises:
            IndexError: There is no such position.
            InvalidInputError: The frame is broken; the message names the file and what is wrong.
        """
        return self.read(self._ids[index])

    def __iter__(self) -> Iterator[F]:
        """Read the frames one after the other; broken ones are left out, logged and listed in `broken`."""
        for frame_id in tuple(self._ids):
            try:
                frame = self.read(frame_id)
            except InvalidInputError as error:
                self._set_aside(frame_id, error)
            else:
                yield frame

    def check(self) -> list[BrokenFrame]:
        """Look at every frame without reading its points; take broken ones out of the folder and return them.

        Positions count the frames that are left, so that a later pass by position meets no broken file.
        """
        left = []
        for frame_id in self._ids:
            try:
                self.inspect(frame_id)
            except InvalidInputError as error:
                self._set_aside(frame_id, error)
            else:
                left.append(frame_id)
        self._ids = left
        return list(self.broken)

    @abstractmethod
    def read(self, frame_id: str) -> F:
        """Read a frame by its name.

        Raises:
            InvalidInputError: A file is missing or broken.
        """

    @abstractmethod
    def inspect(self, frame_id: str) -> None:
        """Look at what is cheap to look at: files, their sizes, labels.

        Raises:
            InvalidInputError: A file is missing or broken.
        """

    def _set_aside(self, frame_id: str, error: InvalidInputError) -> None:
        found = BrokenFrame(frame_id, str(error))
        if found not in self.broken:
            self.broken.append(found)
            _log.warning("frame %s is left out: %s", frame_id, error)


def read_points(path: Path, *, width: int) -> NDArray[np.float32]:
    """Return the (P, 4) points of a binary sweep of little-endian float32.

    Args:
        path: The file.
        width: Numbers per point in the file, at least 4.

    Raises:
        InvalidInputError: It is missing, cut off, or holds values that are not finite.
    """
    check_size(path, width=width)
    points = np.fromfile(path, dtype="<f4").reshape(-1, width)[:, :4]
    bad = int((~np.isfinite(points)).any(axis=1).sum())
    if bad:
        raise InvalidInputError(f"{path}: {bad} of {len(points)} points are not finite. The frame was not read.")
    return np.ascontiguousarray(points, dtype=np.float32)


def check_size(path: Path, *, width: int) -> None:
    """Check that a binary sweep is there and holds whole points.

    Raises:
        InvalidInputError: It does not.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path} is missing. The frame was not read; copy the file, or list other frames.")
    size, point = path.stat().st_size, 4 * width
    if size % point:
        raise InvalidInputError(
            f"{path} has {size} bytes, which is no multiple of {point} ({width} float32 per point): it is cut off or "
            "of another format. The frame was not read; copy the file again."
        )


def check_classes(classes: Sequence[str], known: Sequence[str], *, dataset: str) -> tuple[str, ...]:
    """Return the classes a caller asks for.

    Raises:
        InvalidInputError: There are none, one is named twice, or one does not exist.
    """
    unknown = [name for name in classes if name not in known]
    if unknown or not classes or len(set(classes)) < len(classes) or isinstance(classes, str):
        raise InvalidInputError(
            f"classes are {classes!r}; name each once, in the order of the model's labels, out of the classes of "
            f"{dataset}: {', '.join(known)}."
        )
    return tuple(classes)
