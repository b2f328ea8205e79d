"""Where the point cloud of a frame is: alone, or in the dict of a code base, among images that stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cloud_of", "with_changed_cloud"]

_NAMES = ("points", "batched_pts", "inputs")
"""Keys under which code bases keep points; `inputs` holds a dict of modalities."""

_DERIVED = frozenset(
    {"batch_size", "coordinates", "num_points", "num_voxels", "voxel_coords", "voxel_num_points", "voxels"}
)
"""Keys of collated batches: points that carry the number of their frame, and voxels made of them before."""


def cloud_of(inputs: Any) -> Any:
    """Return the point cloud of a frame.

    Raises:
        InvalidInputError: See `with_changed_cloud`.
    """
    found: list[Any] = []

    def see(cloud: Any) -> Any:
        found.append(cloud)
        return cloud

    with_changed_cloud(inputs, see)
    return found[0]


def with_changed_cloud(inputs: Any, change: Callable[[Any], Any]) -> Any:
    """Return a frame with another point cloud; everything else in it is the same object.

    Args:
        inputs: What the model takes of one frame: a tensor or an array (N, 3 or more), an object of MMDetection3D that
            holds one in `tensor`, a list of one of these, or a dict with them under `points`.
        change: From the cloud to another of its type.

    Raises:
        InvalidInputError: There is no cloud, there are several, or the frame holds what was made of its points.
    """
    if isinstance(inputs, Mapping):
        name = _name_of_points(inputs)
        return {**inputs, name: with_changed_cloud(inputs[name], change)}
    if isinstance(inputs, (list, tuple)):
        if len(inputs) != 1:
            raise InvalidInputError(
                f"a frame holds {len(inputs)} point clouds; nothing was corrupted. Give one per frame (test-time "
                "augmentation belongs into the model)."
            )
        return [with_changed_cloud(inputs[0], change)]
    if hasattr(inputs, "tensor") and not hasattr(inputs, "detach"):
        holder = copy.copy(inputs)
        holder.tensor = with_changed_cloud(inputs.tensor, change)
        return holder
    axes = getattr(inputs, "ndim", 0)
    if axes == 3 and len(inputs) == 1:
        return with_changed_cloud(inputs[0], change)[None]
    if axes != 2:
        what = f"has shape {tuple(inputs.shape)}" if hasattr(inputs, "shape") else f"is a {type(inputs).__name__}"
        raise InvalidInputError(
            f"the point cloud of a frame {what}; nothing was corrupted. Give one tensor (N, 4+) per frame, or a dict "
            "that holds it under 'points'."
        )
    return change(inputs)


def _name_of_points(inputs: Mapping[Any, Any]) -> Any:
    derived = sorted(_DERIVED & set(inputs))
    if derived:
        raise InvalidInputError(
            f"a frame holds {', '.join(derived)} beside its points, which a corruption would leave as they were; "
            "nothing was corrupted. Let the dataset give points alone: the adapter makes voxels of them."
        )
    name = next((one for one in _NAMES if inputs.get(one) is not None), None)
    if name is None:
        raise InvalidInputError(
            f"a frame has the keys {sorted(map(str, inputs))} and no points; nothing was corrupted. Stress passes of "
            "detectors corrupt point clouds."
        )
    return name
