"""OpenPCDet: what all of its detectors share, and the adapter of heads that have none of their own.

Source: open-mmlab/OpenPCDet 8cacccec, `pcdet/models/detectors/detector3d_template.py`, `pcdet/datasets/dataset.py`.
A detector is called with one dict, `batch_dict`, which its modules fill in place: points and voxels go in, head
outputs lie in it afterwards. Labels count from 1 in everything it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Call, Setting, Settings3D
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._guards import spared
from mld_pipelines.adapters.detection3d._native import (
    detections,
    each_frame,
    known_convention,
    listed_clouds,
    ragged,
    segment,
)
from mld_pipelines.adapters.detection3d._rows import Features, frame_of
from mld_pipelines.adapters.detection3d._settings import first_found, first_range
from mld_pipelines.adapters.detection3d._signals import attribute, mro_names
from mld_pipelines.compute import WorkerSpec
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from mld_pipelines.adapters.detection3d._contract import Frame3D, Raw, Tap

__all__ = ["FAMILY", "LABEL_OFFSET", "OpenPCDetAdapter", "head_names", "openpcdet_evidence", "plain_decoder"]

LABEL_OFFSET = -1
"""`pred_labels` count from 1; the SDK's truths count from 0."""

_SHARED = ("model_cfg", "dataset", "class_names", "module_topology")
_NO_TENSORS = {"frame_id", "metadata", "calib", "image_paths", "ori_shape", "img_process_infos"}
"""Keys that `load_data_to_gpu` leaves as they are."""

_OWN_HEADS = {"AnchorHeadTemplate", "CenterHead", "VoxelNeXtHead", "TransFusionHead"}


def openpcdet_evidence(model: Any) -> tuple[str, ...] | None:
    """Return what speaks for OpenPCDet, or None."""
    if "Detector3DTemplate" in mro_names(model):
        return ("base class Detector3DTemplate",)
    if all(hasattr(model, name) for name in _SHARED):
        return (f"attributes {', '.join(_SHARED)}",)
    return None


def head_names(model: Any) -> frozenset[str]:
    """Return the class names of the first-stage head; `AnchorHeadTemplate` for every anchor head."""
    head = getattr(model, "dense_head", None)
    if head is None:
        return frozenset()
    names = mro_names(head)
    is_anchor = any(name.startswith("AnchorHead") for name in names)
    return names | {"AnchorHeadTemplate"} if is_anchor else names


class OpenPCDetAdapter:
    """What the adapters of OpenPCDet share; by itself it records detections without features.

    Args:
        model: The detector.
        family: Name of the family.
        convention: Convention of the boxes, if the weights were trained in another one.

    Attributes:
        model: The detector.
    """

    def __init__(self, model: Any, *, family: str = "openpcdet", convention: str | None = None) -> None:
        self.model = model
        self._family = family
        self._convention = known_convention(convention or "openpcdet")
        self._held: dict[int, dict[str, Any]] = {}

    @property
    def family(self) -> str:
        """Name of the family."""
        return self._family

    @property
    def convention(self) -> str:
        """Convention of the boxes the model returns."""
        return self._convention

    @property
    def settings(self) -> Settings3D:
        """Thresholds of `post_processing`, which serves anchor, point and RoI heads."""
        post = "model_cfg.POST_PROCESSING."
        return Settings3D(
            score_thresh=first_found(self.model, [post + "SCORE_THRESH"]),
            iou_thresh=first_found(self.model, [post + "NMS_CONFIG.NMS_THRESH"]),
            max_detections_per_frame=first_found(self.model, [post + "NMS_CONFIG.NMS_POST_MAXSIZE"]),
            pc_range=self.pc_range,
        )

    @property
    def head_settings(self) -> Settings3D:
        """Thresholds of heads that suppress by themselves; a list (one value per class) counts by its largest."""
        post = "dense_head.model_cfg.POST_PROCESSING."
        return Settings3D(
            score_thresh=first_found(self.model, [post + "SCORE_THRESH"]),
            iou_thresh=first_found(self.model, [post + "NMS_CONFIG.NMS_THRESH"]),
            max_detections_per_frame=self._most_of_tasks(),
            pc_range=self.pc_range,
        )

    def _most_of_tasks(self) -> Setting:
        """Return the most boxes of a frame: a limit before suppression, or what all tasks may keep, if that is more."""
        post = "dense_head.model_cfg.POST_PROCESSING."
        before = first_found(self.model, [post + "MAX_OBJ_PER_SAMPLE"])
        kept = attribute(self.model, post + "NMS_CONFIG.NMS_POST_MAXSIZE")
        tasks = len(attribute(self.model, "dense_head.heads_list") or ()) or 1
        most = sum(kept) if isinstance(kept, (list, tuple)) else (kept or 0) * tasks
        if before.value is not None and before.value >= most:
            return before
        return Setting(int(most), f"model:{post}NMS_CONFIG.NMS_POST_MAXSIZE") if most else before

    @property
    def pc_range(self) -> Setting:
        """Range of the data set that travels with the model, else of its head."""
        return first_range(self.model, ["dataset.point_cloud_range", "dense_head.point_cloud_range"])

    def call(self, inputs: Any) -> Call:
        """Return the call; a `batch_dict` is copied, since the model fills it in place."""
        batch = _batch_of(self.model, inputs)
        self._held[get_ident()] = batch
        frames = int(batch["batch_size"])
        is_flipped = bool(
            attribute(self.model, "dense_head.double_flip")
        )  # four turned copies of each frame, one result
        return Call(self.model, (batch,), {}, frames // 4 if is_flipped else frames)

    def taps(self) -> Sequence[Tap]:
        """Return the modules whose values `batch_dict` does not hold."""
        return ()

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return clones of the detections and of what the head left in `batch_dict`."""
        batch = self._held.pop(get_ident(), {})
        found = _final(output)
        raw = ragged(found, frames=frames)
        return {**raw, **spared(self.family, lambda: self.proposals(batch, tapped, raw))}

    def proposals(
        self,
        batch: Mapping[str, Any],  # noqa: ARG002 - for the families
        tapped: Mapping[str, Any],  # noqa: ARG002
        found: Mapping[str, torch.Tensor],  # noqa: ARG002
    ) -> dict[str, torch.Tensor]:
        """Return clones of the head's raw output.

        Args:
            batch: The `batch_dict` after the forward pass.
            tapped: As in `collect`.
            found: What the model returned.
        """
        return {}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        return plain_decoder(self.convention)


def plain_decoder(convention: str, *, label_offset: int = LABEL_OFFSET, sampled_from: str | None = None) -> WorkerSpec:
    """Return the decoder of detections alone, for heads that lack what the decoding of their rows needs."""
    params = {"convention": convention, "label_offset": label_offset, "sampled_from": sampled_from}
    return WorkerSpec(f"{__name__}:DetectionsDecoder", params)


class DetectionsDecoder:
    """Decoder of detections alone: no row of a head, features only if they were sampled.

    Args:
        convention: Of the boxes.
        label_offset: Added to labels.
        sampled_from: Module path of the map that was sampled.
    """

    def __init__(self, *, convention: str, label_offset: int = LABEL_OFFSET, sampled_from: str | None = None) -> None:
        self._convention = convention
        self._label_offset = label_offset
        self._sampled_from = sampled_from

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        return [
            frame_of(
                detections(raw, frame, convention=self._convention, label_offset=self._label_offset),
                None,
                Features(
                    sampled=raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None,
                    sampled_from=self._sampled_from,
                ),
            )
            for frame in each_frame(raw)
        ]


def _final(output: Any) -> list[dict[str, Any]]:
    """Return the detections of every frame from `(pred_dicts, recall_dicts)`."""
    found = output[0] if isinstance(output, (tuple, list)) and len(output) == 2 else output
    if not isinstance(found, (list, tuple)) or not all(
        isinstance(one, Mapping) and {"pred_boxes", "pred_scores", "pred_labels"} <= set(one) for one in found
    ):
        raise InvalidInputError(
            f"the OpenPCDet model returned {type(found).__name__} instead of a list with pred_boxes, pred_scores and "
            "pred_labels per frame; nothing was recorded. In training mode it returns losses: call model.eval() first."
        )
    return [{"boxes": one["pred_boxes"], "scores": one["pred_scores"], "labels": one["pred_labels"]} for one in found]


def _batch_of(model: Any, inputs: Any) -> dict[str, Any]:
    """Return a `batch_dict` of our own from what the user gave."""
    if isinstance(inputs, Mapping) and "batch_size" in inputs:
        batch = dict(inputs)
    elif isinstance(inputs, Mapping) and "points" in inputs and set(inputs) <= _usable(model):
        batch = _voxelised(model, inputs["points"])
    elif isinstance(inputs, Mapping):
        raise InvalidInputError(
            f"the batch_dict has the keys {sorted(map(str, inputs))} but no batch_size; the model was not called. Pass "
            "what dataset.collate_batch returns, or points alone: one tensor (N, 4+), or a list of them."
        )
    else:
        batch = _voxelised(model, inputs)
    if not getattr(model, "training", False):
        batch.pop("gt_boxes", None)  # only the recall statistics read them, with a GPU kernel
    device = _device_of(model)
    return {key: _loaded(key, value, device) for key, value in batch.items()}


def _usable(model: Any) -> frozenset[str]:
    """Return the keys of a dict whose points are all that the model needs; without cameras it needs no images."""
    has_cameras = "image_backbone" in (attribute(model, "module_topology") or ()) or hasattr(model, "image_backbone")
    return frozenset({"points"} if has_cameras else {"points", "img", "img_metas"})


def _voxelised(model: Any, points: Any) -> dict[str, Any]:
    """Return raw points as the data set that travels with the model prepares them (`tools/demo.py`)."""
    dataset = attribute(model, "dataset")
    if dataset is None or not hasattr(dataset, "prepare_data") or not hasattr(dataset, "collate_batch"):
        raise InvalidInputError(
            "the OpenPCDet model carries no data set that could turn points into voxels; the model was not called. "
            "Pass the batch_dict that dataset.collate_batch returns."
        )
    if getattr(dataset, "training", False):
        raise InvalidInputError(
            "the data set of the OpenPCDet model is in training mode and would augment the points; the model was not "
            "called. Build it with training=False, or pass a batch_dict."
        )
    frames = listed_clouds(points)
    samples = [dataset.prepare_data({"points": _array(one), "frame_id": place}) for place, one in enumerate(frames)]
    return dict(dataset.collate_batch(samples))


def _array(points: Any) -> np.ndarray[Any, Any]:
    if hasattr(points, "detach"):
        points = points.detach().cpu().numpy()
    return np.array(points, dtype=np.float32)


def _loaded(key: str, value: Any, device: Any) -> Any:
    """Return a value on the model's device, as `load_data_to_gpu` does on CUDA."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(device) if key == "camera_imgs" else value
    if not isinstance(value, np.ndarray) or key in _NO_TENSORS or value.dtype.kind not in "fiub":
        return value
    tensor = torch.from_numpy(np.ascontiguousarray(value)).to(device)
    if key == "images":
        return tensor.permute(0, 3, 1, 2).float().contiguous()
    return tensor.int() if key == "image_shape" else tensor.float()


def _device_of(model: Any) -> Any:
    parameter = next(iter(model.parameters()), None) if hasattr(model, "parameters") else None
    return "cpu" if parameter is None else parameter.device


def _matches(model: Any) -> tuple[str, ...] | None:
    """Accept what no other OpenPCDet family does: point heads and heads of the user's own."""
    evidence = openpcdet_evidence(model)
    if evidence is None or getattr(model, "roi_head", None) is not None or head_names(model) & _OWN_HEADS:
        return None
    return (*evidence, "no dense head that is known: detections only")


def _build(model: Any, *, convention: str | None = None) -> OpenPCDetAdapter:
    return OpenPCDetAdapter(model, convention=convention)


FAMILY = Family("openpcdet", frozenset({"pcdet", "pointrcnn"}), _matches, _build)
