"""det3d, the code base of the original CenterPoint and of CenterFormer: what its detectors share.

Source: tianweiy/CenterPoint 3cf7d87, `det3d/models/detectors/*.py`; TuSimple/centerformer 5a949b8, the same folder. A
detector is called with `model(example, return_loss=False)` and returns per frame `box3d_lidar`, `scores` and
`label_preds`. Boxes are x, y, z of the centre, w, l, h, velocity, and the rotation last. `test_cfg.pc_range` has two
elements and is no range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._contract import Call, Setting, Settings3D
from mld_pipelines.adapters.detection3d._native import known_convention, listed_clouds, ragged
from mld_pipelines.adapters.detection3d._settings import first_found, first_range
from mld_pipelines.adapters.detection3d._signals import attribute, mro_names, mro_roots
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    import torch

__all__ = ["Det3dModel", "det3d_evidence"]

_PARTS = ("reader", "backbone", "bbox_head")
_LENGTHS = ("points", "num_voxels", "metadata", "shape")
"""Keys of an example that hold one entry per frame, in the order in which detectors count by them."""


def det3d_evidence(model: Any) -> tuple[str, ...] | None:
    """Return what speaks for det3d, or None."""
    is_two_stage = "TwoStageDetector" in mro_names(model) and hasattr(model, "single_det")
    if not is_two_stage and not all(hasattr(model, name) for name in _PARTS):
        return None
    if "det3d" in mro_roots(model):
        return ("package det3d", *([] if is_two_stage else [f"attributes {', '.join(_PARTS)}"]))
    head = attribute(model, "bbox_head")
    is_alike = attribute(head, "tasks") is not None and attribute(model, "test_cfg.post_center_limit_range") is not None
    return (f"attributes {', '.join(_PARTS)}, bbox_head.tasks, test_cfg as in det3d",) if is_alike else None


class Det3dModel:
    """A live detector and its first stage; adapters of the families hold one.

    Args:
        model: The detector.
        convention: Convention of the boxes, if it is another one.

    Attributes:
        model: The detector.
        first: Its first stage; the detector itself if it has one stage.
        head: Head of the first stage.
        head_path: Path of that head.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        self.model = model
        self.first = getattr(model, "single_det", None) or model
        self.head = self.first.bbox_head
        self.head_path = "bbox_head"
        self.convention = known_convention(convention or "det3d")

    @property
    def settings(self) -> Settings3D:
        """Thresholds of `test_cfg`; the most boxes are those of one task, times the tasks."""
        test = "test_cfg."
        most = first_found(self.first, [test + "nms.nms_post_max_size"])
        tasks = len(getattr(self.head, "tasks", ())) or 1
        return Settings3D(
            score_thresh=first_found(self.first, [test + "score_threshold"]),
            iou_thresh=first_found(self.first, [test + "nms.nms_iou_threshold"]),
            max_detections_per_frame=most if most.value is None else Setting(int(most.value) * tasks, most.source),
            pc_range=first_range(
                self.first,
                ["reader.pc_range", "reader.point_cloud_range", "backbone.point_cloud_range", test + "pc_range"],
            ),
        )

    @property
    def config(self) -> Any:
        """The test configuration of the first stage."""
        return getattr(self.first, "test_cfg", None)

    @property
    def grid(self) -> dict[str, list[float]] | None:
        """Where the head's map lies: origin and extent of a cell, metres; None where the configuration does not say."""
        stride, origin, size = (attribute(self.config, name) for name in ("out_size_factor", "pc_range", "voxel_size"))
        if stride is None or origin is None or size is None or not hasattr(self.head, "num_classes"):
            return None
        return {
            "origin": [float(one) for one in list(origin)[:2]],
            "cell": [float(one) * float(stride) for one in list(size)[:2]],
        }

    def number(self, path: str, fallback: float) -> float:
        """Return a number of the test configuration; of a list, the largest."""
        found = first_found(self.first, [f"test_cfg.{path}"]).value
        return float(fallback if found is None else found)

    def call(self, inputs: Any) -> Call:
        """Return the call; the example is copied, since two-stage detectors write into it."""
        example = _example(inputs)
        frames = next((len(example[name]) for name in _LENGTHS if example.get(name) is not None), 0)
        if frames == 0:
            raise InvalidInputError(
                f"the det3d example has the keys {sorted(map(str, example))} and none of {', '.join(_LENGTHS)}, so its "
                "frames cannot be counted; the model was not called. Pass what det3d's collate function returns."
            )
        is_flipped = bool(attribute(self.config, "double_flip"))  # four turned copies of each frame give one result
        return Call(self.model, (example,), {"return_loss": False}, frames // 4 if is_flipped else frames)

    def found(self, output: Any, frames: int) -> dict[str, torch.Tensor]:
        """Return clones of what the model returned."""
        wanted = {"box3d_lidar", "scores", "label_preds"}
        if not isinstance(output, (list, tuple)) or not all(
            isinstance(one, Mapping) and wanted <= set(one) for one in output
        ):
            raise InvalidInputError(
                f"the det3d model returned {type(output).__name__} instead of a list with box3d_lidar, scores and "
                "label_preds per frame; nothing was recorded."
            )
        return ragged(
            [{"boxes": one["box3d_lidar"], "scores": one["scores"], "labels": one["label_preds"]} for one in output],
            frames=frames,
        )


def _example(inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, Mapping):
        example = dict(inputs)
        is_one_frame = getattr(example.get("points"), "ndim", 0) == 2
        return {**example, "points": [example["points"]]} if is_one_frame else example
    points = listed_clouds(inputs)
    return {"points": points, "metadata": [{} for _ in points]}
