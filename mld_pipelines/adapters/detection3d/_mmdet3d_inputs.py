"""What a user gives, in the form in which MMDetection3D takes it: 1.x, and 0.x with its release candidates.

Nothing of the user's is handed on where a model could write into it: points are copied, images are views (some models
squeeze them in place, none writes pixels), metas and data samples are deep copies (predictions are attached to them).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._contract import Call
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    import torch

__all__ = ["call_v0", "call_v1", "point_frames"]

_META_KEYS = ("img_metas", "metas", "data_samples")


def call_v1(model: Any, inputs: Any) -> Call:
    """Return the call of a 1.x detector: `test_step({"inputs": ..., "data_samples": [...]})`.

    Args:
        model: The detector.
        inputs: One tensor (N, 4+), a list of them, `{"points", "img", "img_metas"}`, or what the data loader of 1.x
            yields, `{"inputs", "data_samples"}`.

    Raises:
        InvalidInputError: Something else, or as many metas as there are not frames.
    """
    if isinstance(inputs, Mapping) and "inputs" in inputs:
        given, metas = dict(inputs["inputs"]), inputs.get("data_samples")
    else:
        given, metas = _given(inputs)
    given = {name: _flat(value) for name, value in given.items()}
    if "points" in given:
        given["points"] = point_frames(given["points"])
    if "imgs" in given:
        given.setdefault("img", given.pop("imgs"))  # the name behind the preprocessor, which looks for `img`
    if "img" in given:
        given["img"] = [image.view(image.shape) for image in given["img"]]
    frames = _frames(given, metas)
    data = {"inputs": given, "data_samples": _samples(metas, frames)}
    return Call(getattr(model, "test_step", None) or partial(_predict, model), (data,), {}, frames)


def call_v0(model: Any, inputs: Any) -> Call:
    """Return the call of a 0.x detector: `model(return_loss=False, points=[[...]], img_metas=[[...]])`.

    The outer list is test-time augmentation; inputs that have it already keep it. Arguments as in `call_v1`.
    """
    given, metas = _given(inputs)
    given = {name: _unpacked(value) for name, value in given.items()}
    metas = _unpacked(metas)
    kept = {name: value for name, value in given.items() if name not in {"points", "img", "return_loss"}}
    if given.get("points") is not None:
        kept["points"] = [point_frames(_flat(given["points"]))]
    views = kept.get("img_inputs")
    if views is not None and hasattr(views[0], "shape"):
        kept["img_inputs"] = [list(views)]  # BEVDet: images and their calibration
    if given.get("img") is not None:
        kept["img"] = [_stacked(given["img"])]
    frames = _frames({name: kept[name][0] for name in ("points", "img") if name in kept}, metas)
    kept["img_metas"] = [_metas(metas, frames, "mmdet3d.core")]
    return Call(model, (), {"return_loss": False, **kept}, frames)


def point_frames(points: Any) -> list[torch.Tensor]:
    """Return a copy of each frame's points as float32.

    Args:
        points: One tensor or array (N, 4+), a batch (B, N, 4+), or a sequence of frames.

    Raises:
        InvalidInputError: A frame has another shape.
    """
    import torch

    def is_array(value: Any) -> bool:
        return hasattr(value, "shape") and hasattr(value, "dtype")

    listed = list(points) if not is_array(points) or len(points.shape) == 3 else [points]
    frames = []
    for place, frame in enumerate(listed):
        tensor = torch.as_tensor(frame) if is_array(frame) else None
        if tensor is None or tensor.dim() != 2 or tensor.shape[1] < 4:
            what = type(frame).__name__ if tensor is None else f"a tensor of shape {tuple(tensor.shape)}"
            raise InvalidInputError(
                f"the points of frame {place} are {what}; pass (N, 4+) per frame: x, y, z, intensity, …. "
                "Nothing was recorded."
            )
        frames.append(tensor.detach().to(torch.float32, copy=True))
    return frames


def _predict(model: Any, data: Mapping[str, Any]) -> Any:
    """Do what `test_step` does, for a detector that was built without mmengine's base class."""
    return model(**model.data_preprocessor(data, False), mode="predict")


def _given(inputs: Any) -> tuple[dict[str, Any], Any]:
    """Return inputs by name, and metas or data samples."""
    if isinstance(inputs, Mapping):
        given = dict(inputs)
        metas = next((given.pop(name) for name in _META_KEYS if name in given), None)
        if not given:
            raise InvalidInputError("the input dict holds neither points nor images; nothing was recorded.")
        return given, metas
    return {"points": inputs}, None


def _unpacked(value: Any) -> Any:
    """Return what a `DataContainer` of 0.x holds for the first device."""
    if type(value).__name__ == "DataContainer":
        return value.data[0]
    if isinstance(value, list) and value and type(value[0]).__name__ == "DataContainer":
        return [one.data[0] for one in value]
    return value


def _flat(value: Any) -> Any:
    """Return a batch without the outer list of test-time augmentation."""
    is_nested = isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], (list, tuple))
    return value[0] if is_nested else value


def _stacked(images: Any) -> Any:
    """Return the images of a batch as one view: a tensor, or the frames of a list stacked."""
    import torch

    images = _flat(images)
    if isinstance(images, torch.Tensor):
        return images.view(images.shape)
    if len(images) == 1 and images[0].dim() >= 5:
        return images[0].view(images[0].shape)
    return torch.stack(list(images))


def _frames(given: Mapping[str, Any], metas: Any) -> int:
    sizes = {name: len(given[name]) for name in ("points", "img") if name in given}
    if metas is not None:
        sizes["metas"] = len(_flat(metas))
    if len(set(sizes.values())) != 1:
        raise InvalidInputError(
            f"the input holds {' and '.join(f'{size} {name}' for name, size in sizes.items()) or 'no frames'}; "
            "one entry per frame is needed. Nothing was recorded."
        )
    return next(iter(sizes.values()))


def _metas(metas: Any, frames: int, home: str) -> list[dict[str, Any]]:
    """Return a copy of each frame's meta, with the box class that every detector asks for."""
    listed = [{}] * frames if metas is None else list(_flat(metas))
    return [{**_box_types(home), **copy.deepcopy(dict(meta))} for meta in listed]


def _samples(metas: Any, frames: int) -> list[Any]:
    """Return data samples of 1.x: copies of those given, or new ones with the metas given."""
    listed = [] if metas is None else list(_flat(metas))
    if listed and not isinstance(listed[0], Mapping):
        return [_completed(copy.deepcopy(sample)) for sample in listed]
    kind = getattr(_module("mmdet3d.structures"), "Det3DDataSample", None) or _Sample
    samples = []
    for meta in _metas(listed or None, frames, "mmdet3d.structures"):
        sample = kind()
        sample.set_metainfo(meta)
        samples.append(sample)
    return samples


def _completed(sample: Any) -> Any:
    meta = getattr(sample, "metainfo", None)
    if isinstance(meta, Mapping) and "box_type_3d" not in meta and hasattr(sample, "set_metainfo"):
        sample.set_metainfo({**meta, **_box_types("mmdet3d.structures")})
    return sample


def _box_types(home: str) -> dict[str, Any]:
    module = _module(home)
    boxes, mode = getattr(module, "LiDARInstance3DBoxes", None), getattr(module, "Box3DMode", None)
    found = {} if boxes is None else {"box_type_3d": boxes}
    return found if mode is None else {**found, "box_mode_3d": mode.LIDAR}


def _module(name: str) -> Any:
    """Return a module of the library that the model itself comes from; None if it was never installed here."""
    try:
        return import_module(name)
    except ImportError:
        return None


class _Sample:
    """Stands in for `Det3DDataSample` where a model of that contract runs without the library."""

    def __init__(self) -> None:
        self.metainfo: dict[str, Any] = {}

    def set_metainfo(self, metainfo: Mapping[str, Any]) -> None:
        """Add to the meta."""
        self.metainfo.update(metainfo)
