"""What each frame of a call was: one hash over all its modalities, whichever batch it came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mld_pipelines.adapters._hashing import input_hashes
from mld_pipelines.adapters.detection3d._native import listed_clouds

__all__ = ["frame_hashes"]

_NO_CONTENT = frozenset({"batch_size", "frame_id", "gt_boxes", "gt_names", "return_loss"})
"""Keys of batches that say nothing about what a sensor saw: names, counts, and the truth."""

_INDEXED = {
    "points": "points",
    "voxel_coords": "voxel_coords",
    "voxels": "voxel_coords",
    "voxel_num_points": "voxel_coords",
    "coordinates": "coordinates",
}
"""Rows of all frames in one array, and the array whose first column tells the frame (OpenPCDet, det3d)."""
_INDEXED_DET3D = {"voxels": "coordinates", "num_points": "coordinates"}


def frame_hashes(inputs: Any, frames: int) -> list[str]:
    """Return one SHA-256 per frame, taken before the forward since many models write into their inputs.

    A frame has the same hash alone and in a batch, in a list and inside the extra list of test-time augmentation.

    Args:
        inputs: What a tracer takes: clouds, or the dict of a code base.
        frames: Frames in the call.
    """
    if isinstance(inputs, Mapping):
        return input_hashes(_parts(inputs, frames), frames)
    clouds = listed_clouds(inputs)
    return input_hashes(clouds if len(clouds) == frames else [inputs] * frames, frames)


def _parts(inputs: Mapping[str, Any], frames: int) -> list[dict[str, Any]]:
    """Return what each frame has of every key."""
    columns = {
        str(name): _indexed(inputs, name, frames) or _column(str(name), value, frames)
        for name, value in inputs.items()
        if name not in _NO_CONTENT
    }
    return [{name: values[index] for name, values in columns.items()} for index in range(frames)]


def _indexed(inputs: Mapping[str, Any], name: str, frames: int) -> list[Any] | None:
    """Return the rows of each frame where another array, or its own first column, tells which they are."""
    owner = (_INDEXED_DET3D if "coordinates" in inputs else _INDEXED).get(name, _INDEXED.get(name))
    value: Any = inputs[name]
    index: Any = inputs.get(owner) if owner else None
    is_batch = "batch_size" in inputs or "coordinates" in inputs
    if not is_batch or getattr(index, "ndim", 0) != 2 or getattr(value, "ndim", 0) < 1 or len(value) != len(index):
        return None
    if len(index) and int(index[:, 0].max()) >= frames:
        return [value] * frames  # turned copies of frames (double flip) are rows of their own
    rows = [value[index[:, 0] == frame] for frame in range(frames)]
    return [part[:, 1:] for part in rows] if owner == name else rows


def _column(name: str, value: Any, frames: int) -> list[Any]:
    """Return one entry per frame; what belongs to none of them belongs to all."""
    value = _plain(value)
    if isinstance(value, Mapping):
        return list(_parts(value, frames))
    if _is_array(value):
        return list(value) if value.ndim > (2 if name == "points" else 0) and len(value) == frames else [value] * frames
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return [value] * frames
    is_batch = len(value) == 1 and getattr(value[0], "ndim", 0) >= 4 and len(value[0]) == frames
    is_nested = len(value) == 1 and (isinstance(value[0], (list, tuple)) or type(value[0]).__name__ == "DataContainer")
    if is_batch or is_nested:
        return _column(name, value[0], frames)  # the outer list of test-time augmentation
    if name == "img_inputs" and all(_is_array(one) for one in value):  # BEVDet: images, then their calibration
        return [[one[index] if len(one) == frames else one for one in value] for index in range(frames)]
    return [_plain(one) for one in value] if len(value) == frames else [value] * frames


def _plain(value: Any) -> Any:
    """Return what an object of a code base holds: collated data, points or boxes, the meta of a data sample."""
    if type(value).__name__ == "DataContainer":
        return value.data[0] if isinstance(value.data, (list, tuple)) and value.data else value.data
    if not hasattr(value, "detach") and hasattr(value, "tensor"):
        return value.tensor
    return value.metainfo if isinstance(getattr(value, "metainfo", None), Mapping) else value


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and hasattr(value, "dtype")
