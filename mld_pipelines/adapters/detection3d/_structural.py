"""Any other detector, by the format of what it returns.

For models whose code is not known here: own forks, and PointPillars++, EFMF-Pillars, Att-BEVFusion and SAMFusion, whose
code is not public. The keys of a frame's dict tell whose format it is; where they do not tell the convention of the
boxes, `convention=` must. Features are sampled from the map that a head with known layer names reads, if there is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._contract import Call, Frame3D, Raw, Setting, Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._mmdet3d import CONVENTION_CODES, convention_of
from mld_pipelines.adapters.detection3d._native import (
    detections,
    each_frame,
    known_convention,
    listed_clouds,
    ragged,
    segment,
)
from mld_pipelines.adapters.detection3d._rows import Features, frame_of
from mld_pipelines.adapters.detection3d._sampling import sample_found
from mld_pipelines.adapters.detection3d._settings import UNKNOWN, first_found, first_range
from mld_pipelines.adapters.detection3d._signals import mro_names, named_modules
from mld_pipelines.compute import WorkerSpec
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILY", "StructuralAdapter"]

_BOXES = {
    "boxes_3d": None,
    "bboxes_3d": None,
    "pred_boxes": "openpcdet",
    "box3d_lidar": "det3d",
    "lidar_bboxes": "mmdet3d_v0",
    "boxes": None,
    "bboxes": None,
}
"""Keys of boxes, and the convention of the code base that uses them."""

_SCORES = ("scores_3d", "pred_scores", "scores")
_LABELS = ("labels_3d", "pred_labels", "label_preds", "labels")
_ONE_BASED = "pred_labels"
"""OpenPCDet's key: its labels count from 1."""

_WORDS = ("pillar", "voxel", "lidar", "bev", "pointcloud", "point_cloud", "3d")
_RANGE_NAMES = ("point_cloud_range", "pc_range")
_MAPS = (("conv_cls", "input"), ("shared_conv", "output"))
"""Layers of anchor and heatmap heads, and which side of them is the map; both have y along the rows."""


class StructuralAdapter:
    """Adapter of a detector that is known by its output alone.

    Args:
        model: The detector.
        convention: Convention of its boxes; None: what its attribute `box_convention` says, else what the keys of the
            output imply.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        self._model = model
        said = convention or getattr(model, "box_convention", None)
        self._asked = None if said is None else known_convention(str(said))
        self._seen: str | None = None
        self._takes_list = _wants_list(model)
        self._attempts = 1
        self._map: tuple[str, Any, Any] | None = next(
            (
                (path, module, keeps)
                for name, keeps in _MAPS
                for path, module in named_modules(model)
                if path.rpartition(".")[2] == name
            ),
            None,
        )

    @property
    def family(self) -> str:
        """Name of the family."""
        return FAMILY.name

    @property
    def convention(self) -> str:
        """Convention of the boxes: as asked for, or as the last output implied; `unknown` before."""
        return self._asked or self._seen or "unknown"

    @property
    def settings(self) -> Settings3D:
        """Thresholds in the places where known code bases keep them."""
        score = ("score_thr", "score_threshold", "score_thresh", "test_cfg.score_thr", "test_cfg.score_threshold")
        overlap = ("nms_thr", "nms_thresh", "iou_thresh", "test_cfg.nms_thr", "test_cfg.nms.nms_iou_threshold")
        most = ("max_num", "max_detections", "test_cfg.max_num", "test_cfg.max_per_img")
        return Settings3D(
            first_found(self._model, score),
            first_found(self._model, overlap),
            first_found(self._model, most),
            self._range,
        )

    def call(self, inputs: Any) -> Call:
        """Return the call: points as given, or as the list the model takes; a dict by name where it takes its keys."""
        self._attempts = 1
        if not isinstance(inputs, Mapping):
            frames = listed_clouds(inputs)
            return Call(self._as_it_likes, (inputs, frames), {}, len(frames))
        given, frames_given = dict(inputs), _frames(inputs)
        if _takes(self._model, given):
            return Call(self._model, (), given, frames_given)
        return Call(self._model, (given,), {}, frames_given)

    def taps(self) -> Sequence[Tap]:
        """Return the layer beside which the head's map is seen."""
        return () if self._map is None else (Tap("map", self._map[1], self._map[2]),)

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return clones of the detections, and features at their centres."""
        import torch

        found = [_columns(one, place) for place, one in enumerate(_listed(output))]
        for one in found:
            self._look_at(one)
        raw = ragged(found, frames=frames)
        offsets = {int(one["label_offset"]) for one in found}
        raw["label_offset"] = torch.tensor([min(offsets, default=0)])
        if raw["label_offset"][0] and len(raw["labels"]) and int(raw["labels"].min()) < 1:
            raise InvalidInputError(
                f"a label of the model's pred_labels is {int(raw['labels'].min())}; under that name OpenPCDet counts "
                "from 1. Nothing was recorded of this call; return 0-based classes as `labels`."
            )
        raw["convention"] = torch.tensor([CONVENTION_CODES.index(self.convention)])
        return {**raw, **self._sampled(tapped, raw)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        return WorkerSpec(f"{__name__}:StructuralDecoder", {"path": "" if self._map is None else self._map[0]})

    @property
    def _range(self) -> Setting:
        """Range of the model or of the nearest of its modules that names one."""
        found = first_range(self._model, [*_RANGE_NAMES, *(f"dataset.{name}" for name in _RANGE_NAMES)])
        if found != UNKNOWN:
            return found
        for path, module in named_modules(self._model):
            inner = first_range(module, _RANGE_NAMES)
            if inner != UNKNOWN:
                return Setting(inner.value, f"model:{path}.{inner.source.removeprefix('model:')}")
        return UNKNOWN

    def _as_it_likes(self, given: Any, frames: list[Any]) -> Any:
        """Call the model with what was given; a lone tensor, if that is not what the model takes, in a list.

        Nothing says what a model of unknown code takes. Once a form has worked, it is the only one that is tried.
        """
        if self._takes_list or not hasattr(given, "dim"):
            return self._model(frames if self._takes_list else given)
        try:
            output = self._model(given)
            if self._takes_list is False or len(_listed(output)) == len(frames):
                self._takes_list = False
                return output
        except Exception as error:
            if self._takes_list is False:
                raise
            output = self._once_more(frames, error)
        else:
            output = self._once_more(frames, None)
        self._takes_list = True
        return output

    def _once_more(self, frames: list[Any], error: Exception | None) -> Any:
        """Call the model with a list after a tensor was not what it takes."""
        self._attempts = 2
        try:
            return self._model(frames)
        except Exception:
            if error is not None:
                raise error from None  # the caller knows the form they gave
            raise

    def _look_at(self, one: Mapping[str, Any]) -> None:
        if one["convention"] is not None:
            self._seen = one["convention"]
        if self.convention == "unknown":
            raise InvalidInputError(
                f"the boxes of this model (key {one['key']!r}) do not tell their convention; nothing was recorded. "
                f"Pass box_convention=, one of {', '.join(sorted(CONVENTION_CODES))}; canonical are boxes as "
                "targets hold them."
            )

    def _sampled(self, tapped: Mapping[str, Any], raw: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        kept: Any = tapped.get("map") or ()
        if len(kept) not in {1, self._attempts} or self._map is None:
            return {}
        _, _, keeps = self._map
        feature_map = kept[-1][0] if keeps == "input" else kept[-1]
        return sample_found(feature_map, raw, self._range.value) if hasattr(feature_map, "dim") else {}


class StructuralDecoder:
    """Decoder of detections, with features sampled during the call.

    Args:
        path: Module path of the map.
    """

    def __init__(self, *, path: str) -> None:
        self._path = path

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        return [
            frame_of(
                detections(raw, frame, convention=convention_of(raw), label_offset=int(raw["label_offset"][0])),
                None,
                Features(
                    sampled=raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None,
                    sampled_from=self._path,
                ),
            )
            for frame in each_frame(raw)
        ]


def _listed(output: Any) -> list[Any]:
    """Return one entry per frame; OpenPCDet's form has a second part, one frame may come without a list.

    A mapping of lists, or of arrays with the frames on their first axis, holds several frames, as targets may.
    """
    if isinstance(output, Mapping):
        columns = {name: output[name] for name in (*_BOXES, *_SCORES, *_LABELS) if name in output}
        boxes: Any = next((columns[name] for name in _BOXES if name in columns), None)
        if _is_batch(boxes):
            return [{name: values[index] for name, values in columns.items()} for index in range(len(boxes))]
    if isinstance(output, Mapping) or hasattr(output, "pred_instances_3d"):
        return [output]
    if isinstance(output, (list, tuple)):
        is_pair = len(output) == 2 and isinstance(output[0], (list, tuple)) and isinstance(output[1], Mapping)
        return list(output[0] if is_pair else output)
    raise InvalidInputError(
        f"the model returned {type(output).__name__}; nothing was recorded. A 3D detector returns a list with one dict "
        f"per frame, with one of {', '.join(_BOXES)}, and scores and labels."
    )


def _columns(one: Any, place: int) -> dict[str, Any]:
    """Return boxes, scores and labels of a frame, and what its keys tell."""
    if isinstance(one, (list, tuple)) and all(hasattr(part, "__len__") and not len(part) for part in one):
        return {"boxes": [], "scores": [], "labels": [], "convention": "mmdet3d_v0", "key": "", "label_offset": 0}
    inner = getattr(one, "pred_instances_3d", one)
    if isinstance(inner, Mapping):
        inner = next((inner[name] for name in ("pts_bbox", "img_bbox") if name in inner), inner)
    keys = [next((name for name in names if _has(inner, name)), None) for names in (_BOXES, _SCORES, _LABELS)]
    if None in keys:
        names = sorted(map(str, inner)) if isinstance(inner, Mapping) else type(inner).__name__
        raise InvalidInputError(
            f"frame {place} of the model's output holds {names}; expected one of {', '.join(_BOXES)}, one of "
            f"{', '.join(_SCORES)} and one of {', '.join(_LABELS)}. Nothing was recorded of this call."
        )
    box_key, score_key, label_key = (str(key) for key in keys)
    boxes = _value(inner, box_key)
    return {
        "boxes": getattr(boxes, "tensor", boxes),
        "scores": _value(inner, score_key),
        "labels": _value(inner, label_key),
        "convention": _implied(boxes, box_key),
        "key": box_key,
        "label_offset": -1 if label_key == _ONE_BASED else 0,
    }


def _implied(boxes: Any, key: str) -> str | None:
    """Return the convention that the class of the boxes, or their key, implies."""
    names = mro_names(boxes)
    if any(name in names for name in ("CameraInstance3DBoxes", "DepthInstance3DBoxes")):
        raise InvalidInputError(
            f"the model returned {type(boxes).__name__}, boxes in a camera's or a room's frame; only boxes in the "
            "LiDAR frame are recorded. Nothing was recorded."
        )
    if "LiDARInstance3DBoxes" in names:
        return "mmdet3d_v1" if hasattr(type(boxes), "YAW_AXIS") else "mmdet3d_v0"
    return _BOXES[key]


def _is_batch(boxes: Any) -> bool:
    """Return whether boxes are those of several frames."""
    if isinstance(boxes, (list, tuple)):
        return bool(boxes) and getattr(boxes[0], "ndim", 0) == 2
    return bool(getattr(boxes, "ndim", 0) == 3)


def _wants_list(model: Any) -> bool | None:
    """Return whether the first parameter of `forward` is annotated as a list, or as a tensor; None if not at all."""
    first = next(iter(inspect.signature(getattr(model, "forward", model)).parameters.values()), None)
    said = "" if first is None or first.annotation is first.empty else str(first.annotation).lower()
    is_list = any(word in said for word in ("list", "sequence", "tuple", "iterable"))
    return True if is_list else False if "tensor" in said else None


def _has(holder: Any, name: str) -> bool:
    return name in holder if isinstance(holder, Mapping) else hasattr(holder, name)


def _value(holder: Any, name: str) -> Any:
    return holder[name] if isinstance(holder, Mapping) else getattr(holder, name)


def _frames(inputs: Mapping[str, Any]) -> int:
    if isinstance(inputs.get("batch_size"), int):
        return int(inputs["batch_size"])
    for name in ("points", "img_metas", "metas", "img", "images"):
        value = inputs.get(name)
        if value is not None and (isinstance(value, (list, tuple)) or getattr(value, "ndim", 2) > 2):
            return len(value)
    return 1


def _takes(model: Any, given: Mapping[str, Any]) -> bool:
    """Return whether `forward` has a parameter for every key."""
    parameters = inspect.signature(getattr(model, "forward", model)).parameters.values()
    named = {one.name for one in parameters if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}}
    return set(given) <= named or any(one.kind is one.VAR_KEYWORD for one in parameters)


def _matches(model: Any) -> tuple[str, ...] | None:
    """Accept a module that names what only a 3D detector has; what it returns is checked at the first call."""
    kinds = [kind.__name__ for kind in type(model).__mro__ if not kind.__module__.startswith(("torch.", "builtins"))]
    inside = [(path, type(module)) for path, module in named_modules(model)]
    names = [*kinds, *(path.rpartition(".")[2] for path, _ in inside)]
    names += [kind.__name__ for _, kind in inside if not kind.__module__.startswith("torch.")]
    found = sorted({name for name in names if any(word in name.lower() for word in _WORDS)})
    return (f"names {', '.join(found[:4])}; recorded by the format of the output",) if found else None


FAMILY = Family(
    "structural",
    frozenset({"pointpillars++", "efmf-pillars", "att-bevfusion", "samfusion", "custom"}),
    _matches,
    StructuralAdapter,
    is_fallback=True,
)
