"""What all families of MMDetection3D share: version, head, call, output, range.

Sources: open-mmlab/mmdetection3d v1.4.0 (fe25f7a) and v0.17.1 (f110797).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._mmdet3d_inputs import call_v0, call_v1
from mld_pipelines.adapters.detection3d._native import CANONICAL, known_convention, ragged
from mld_pipelines.adapters.detection3d._sampling import BevGrid, sample_map
from mld_pipelines.adapters.detection3d._settings import first_range
from mld_pipelines.adapters.detection3d._signals import find_head, mro_names
from mld_pipelines.compute import WorkerSpec
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    import torch

    from mld_pipelines.adapters.detection3d._contract import Call, Raw, Setting

__all__ = ["CONVENTION_CODES", "RANGE_PATHS", "Mmdet3dModel", "convention_of", "detections_alone", "mmdet3d_evidence"]

CONVENTION_CODES = ("mmdet3d_v1", "mmdet3d_v0", "openpcdet", "det3d", CANONICAL)
"""Raw outputs carry a convention as its place here: 0.x and 1.0 release candidates differ, and only the class of the
boxes they return tells which is running."""

RANGE_PATHS = (
    "data_preprocessor.voxel_layer.point_cloud_range",
    "pts_voxel_layer.point_cloud_range",
    "voxel_layer.point_cloud_range",
    "pts_voxel_encoder.point_cloud_range",
    "voxel_encoder.point_cloud_range",
)

_OTHER_BOXES = ("CameraInstance3DBoxes", "DepthInstance3DBoxes")


def mmdet3d_evidence(model: Any, heads: Sequence[str]) -> tuple[str, ...] | None:
    """Return what speaks for a detector of MMDetection3D with one of the heads, or None."""
    if "Base3DDetector" not in mro_names(model):
        return None
    head = find_head(model, heads)
    if head is None:
        return None
    version = "data_preprocessor: 1.x" if _is_v1(model) else "no data_preprocessor: 0.x or a release candidate"
    return ("base class Base3DDetector", version, f"head {head[0]}: {type(head[1]).__name__}")


def detections_alone(path: str) -> WorkerSpec:
    """Return the decoder for a head that lacks what the decoding of its rows needs.

    Args:
        path: Module path of the map that features are sampled from.
    """
    return WorkerSpec(f"{__package__}._mmdet3d_plain:PlainDecoder", {"path": path})


def convention_of(raw: Raw) -> str:
    """Return the convention that raw outputs carry."""
    return CONVENTION_CODES[int(raw["convention"][0])]


class Mmdet3dModel:
    """A live detector and its head; adapters of the families hold one.

    Args:
        model: The detector.
        heads: Class names of the head, as in `mmdet3d_evidence`.
        convention: Convention of the boxes; None finds out.
        usual: Convention of the code base, until boxes are seen; None goes by the version.

    Attributes:
        model: The detector.
        head: Its head; the detector itself if there is none of that name.
        path: Path of the head.
    """

    def __init__(self, model: Any, heads: Sequence[str], *, convention: str | None, usual: str | None = None) -> None:
        self.model = model
        self.path, self.head = find_head(model, heads) or ("", model)
        self._asked = None if convention is None else known_convention(convention)
        self._seen: str | None = None
        self._usual = usual

    @property
    def is_v1(self) -> bool:
        """Whether it is a detector of 1.x."""
        return _is_v1(self.model)

    @property
    def convention(self) -> str:
        """Convention of the boxes: as asked for, as seen in the last output, or what the version implies."""
        return self._asked or self._seen or self._usual or ("mmdet3d_v1" if _is_v1(self.model) else "mmdet3d_v0")

    @property
    def pc_range(self) -> Setting:
        """Range of the voxels; the coders' own ranges have two numbers and are none."""
        head = self.path + "." if self.path else ""
        return first_range(
            self.model,
            (*RANGE_PATHS, f"{head}pc_range", f"{head}bbox_coder.pc_range", f"{head}train_cfg.point_cloud_range"),
        )

    def call(self, inputs: Any) -> Call:
        """Return how to call the detector with the SDK's inputs."""
        return call_v1(self.model, inputs) if _is_v1(self.model) else call_v0(self.model, inputs)

    def found(self, output: Any, frames: int) -> dict[str, torch.Tensor]:
        """Return clones of what the model returned, with offsets and the convention of the boxes."""
        import torch

        results = [_result(one) for one in _listed(output)]
        for boxes, _, _ in results:
            self._look_at(boxes)
        raw = ragged(
            [
                {"boxes": getattr(boxes, "tensor", boxes), "scores": scores, "labels": labels}
                for boxes, scores, labels in results
            ],
            frames=frames,
        )
        return {**raw, "convention": torch.tensor([CONVENTION_CODES.index(self.convention)])}

    def sampled(
        self, bev: torch.Tensor | None, raw: Mapping[str, torch.Tensor], *, is_transposed: bool = False
    ) -> dict[str, torch.Tensor]:
        """Return the map's features at the detections' centres; nothing where map or range is missing."""
        import torch

        area = self.pc_range.value
        if bev is None or area is None or bev.dim() != 4 or bev.shape[0] != len(raw["offsets"]) - 1:
            return {}
        centres, edges = raw["boxes"][:, :2].to(bev.device), raw["offsets"].tolist()
        grid = BevGrid.over(area, bev.shape[-2:], is_transposed=is_transposed)
        frames = [
            sample_map(bev[place], centres[start:stop], grid) for place, (start, stop) in enumerate(pairwise(edges))
        ]
        return {"sampled": torch.cat(frames)}

    def _look_at(self, boxes: Any) -> None:
        names = mro_names(boxes)
        wrong = [name for name in _OTHER_BOXES if name in names]
        if wrong:
            raise InvalidInputError(
                f"the model returned {wrong[0]}, boxes in a camera's or a room's frame; only boxes in the LiDAR "
                "frame are recorded. Nothing was recorded; use a model that returns those."
            )
        if not _is_v1(self.model) and any("Instance3DBoxes" in name for name in names):
            self._seen = "mmdet3d_v1" if hasattr(type(boxes), "YAW_AXIS") else "mmdet3d_v0"


def _is_v1(model: Any) -> bool:
    return hasattr(model, "data_preprocessor")


def _listed(output: Any) -> list[Any]:
    if isinstance(output, (list, tuple)):
        return list(output)
    raise InvalidInputError(
        f"the detector returned {type(output).__name__} instead of a list with one result per frame; nothing was "
        "recorded. In training mode it returns losses: call model.eval() first."
    )


def _result(one: Any) -> tuple[Any, Any, Any]:
    """Return boxes, scores and labels of one frame, as 1.x or 0.x return them."""
    found = getattr(one, "pred_instances_3d", None)
    if found is not None:
        boxes = getattr(found, "bboxes_3d", None)
        return found.boxes_3d if boxes is None else boxes, found.scores_3d, found.labels_3d
    if isinstance(one, Mapping):
        inner = next((one[name] for name in ("pts_bbox", "img_bbox") if name in one), one)
        if {"boxes_3d", "scores_3d", "labels_3d"} <= set(inner):
            return inner["boxes_3d"], inner["scores_3d"], inner["labels_3d"]
    raise InvalidInputError(
        f"a frame of the detector's output is {type(one).__name__} without 3D boxes, scores and labels; nothing was "
        "recorded of this call."
    )
