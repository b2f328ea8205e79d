"""What the labels of a live detector mean, where it says so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters._wrappers import unwrap
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["agreed_class_names"]

_PATHS = (
    "dataset_meta.classes",
    "dataset_meta.CLASSES",
    "CLASSES",
    "class_names",
    "bbox_head.class_names",
    "pts_bbox_head.class_names",
    "dense_head.class_names",
)
"""MMDetection3D 1.x and 0.x; OpenPCDet and own models; heads, whose names are grouped by task."""


def agreed_class_names(model: Any, given: Sequence[str] | None, *, remedy: str) -> tuple[str, ...] | None:
    """Return the names of the classes by 0-based label: those given, else those the detector knows, else None.

    Args:
        model: The detector, also inside DataParallel or `torch.compile`.
        given: Names that belong to the true labels.
        remedy: What to do if they do not fit, for the message.

    Raises:
        InvalidInputError: A name is in both lists at different places: labels and detections mean different things.
    """
    own = _known(model)
    if given is None or own is None:
        return own if given is None else tuple(given)
    places = {_plain(name): place for place, name in enumerate(own)}
    moved = [name for place, name in enumerate(given) if places.get(_plain(name), place) != place]
    if moved:
        raise InvalidInputError(
            f"class {moved[0]!r} is number {list(given).index(moved[0])} of the labels ({', '.join(given)}) and number "
            f"{places[_plain(moved[0])]} of the model ({', '.join(own)}); nothing was recorded. {remedy}"
        )
    return tuple(given)


def _known(model: Any) -> tuple[str, ...] | None:
    """Return the names a detector knows; heads count labels through their tasks, so groups follow one another."""
    core = unwrap(model)
    for path in _PATHS:
        names = _flat(attribute(core, path))
        if names:
            return names
    return None


def _plain(name: str) -> str:
    """Return a name without case and separators: `Traffic Cone` is `traffic_cone`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _flat(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    parts = [one for entry in value for one in (entry if isinstance(entry, (list, tuple)) else [entry])]
    is_list = all(isinstance(one, str) and one for one in parts) and len(set(parts)) == len(parts)
    return tuple(parts) if is_list else ()
