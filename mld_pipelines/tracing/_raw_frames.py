"""Raw outputs of many frames as few arrays: what crosses from the worker with the model to those without.

A batch of 64 frames has 1,000 small arrays. Ray gives each a place of its own in shared memory, which costs reader and
writer as much as half of the decoding (measured); one array per name costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["pack_frames", "unpack_frames"]

_FLAT, _SHAPES, _SINGLE = "raw/flat/", "raw/shapes/", "raw/single/"


def pack_frames(frames: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Return the arrays of some frames laid end to end, one array and one table of shapes per name.

    An array that not every frame has in the same type and number of axes stays as it is, under the frame's number.

    Args:
        frames: Arrays by name, of any shape.
    """
    names = dict.fromkeys(name for frame in frames for name in frame)
    packed: dict[str, NDArray[Any]] = {}
    for name in names:
        parts = {index: np.asarray(frame[name]) for index, frame in enumerate(frames) if name in frame}
        kinds = {(part.dtype, part.ndim) for part in parts.values()}
        if len(kinds) == 1 and len(parts) == len(frames):
            packed[f"{_FLAT}{name}"] = np.concatenate([part.reshape(-1) for part in parts.values()])
            shapes = [part.shape for part in parts.values()]
            packed[f"{_SHAPES}{name}"] = np.array(shapes, dtype=np.int64).reshape(len(parts), -1)
        else:
            packed |= {f"{_SINGLE}{index}/{name}": part for index, part in parts.items()}
    return packed


def unpack_frames(columns: Arrays, n: int) -> list[dict[str, NDArray[Any]]]:
    """Return the arrays of each frame by name, as views of what was packed.

    Args:
        columns: What `pack_frames` returned, among other columns.
        n: Number of frames.
    """
    frames: list[dict[str, NDArray[Any]]] = [{} for _ in range(n)]
    for key, values in columns.items():
        if key.startswith(_FLAT):
            name = key[len(_FLAT) :]
            shapes = columns[f"{_SHAPES}{name}"]
            stops = np.cumsum(shapes.prod(axis=1, dtype=np.int64)).tolist()
            start = 0
            for frame, shape, stop in zip(frames, shapes.tolist(), stops, strict=True):
                frame[name] = values[start:stop].reshape(shape)
                start = stop
        elif key.startswith(_SINGLE):
            index, _, name = key[len(_SINGLE) :].partition("/")
            frames[int(index)][name] = values
    return frames
