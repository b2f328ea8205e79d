"""BEVFusion of mit-han-lab: encoders per sensor, a fuser, and heads for objects and maps.

Source: mit-han-lab/bevfusion 326653d, `mmdet3d/models/fusion_models/bevfusion.py`,
`models/heads/bbox/transfusion.py`. Its own mmdet3d is a 0.x: boxes are w, l, h on their bottom. Its maps have x along
the rows. The TransFusion head decodes one frame per call. With another object head only the detections are recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._contract import Call, Settings3D
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._mmdet3d_inputs import call_v0, point_frames
from mld_pipelines.adapters.detection3d._mmdet3d_transfusion import TransFusionAdapter
from mld_pipelines.adapters.detection3d._native import known_convention
from mld_pipelines.adapters.detection3d._openpcdet import plain_decoder
from mld_pipelines.adapters.detection3d._sampling import sample_found
from mld_pipelines.adapters.detection3d._settings import ABSENT, UNKNOWN, first_found, first_range
from mld_pipelines.adapters.detection3d._signals import attribute, mro_names
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from mld_pipelines.adapters.detection3d._contract import Tap
    from mld_pipelines.compute import WorkerSpec

__all__ = ["FAMILY", "MitBevFusionAdapter"]

_QUERY_HEAD = "TransFusionHead"
_RANGES = (
    "encoders.lidar.voxelize.point_cloud_range",
    "encoders.radar.voxelize.point_cloud_range",
    "heads.object.train_cfg.point_cloud_range",
    "heads.object.test_cfg.point_cloud_range",
)
_CALIBRATION = (
    "camera2ego",
    "lidar2ego",
    "lidar2camera",
    "lidar2image",
    "camera_intrinsics",
    "camera2lidar",
    "img_aug_matrix",
    "lidar_aug_matrix",
)


class MitBevFusionAdapter(TransFusionAdapter):
    """Adapter of mit-han-lab's BEVFusion.

    Args:
        model: The detector.
        convention: Convention of the boxes; None: mmdet3d 0.x, unless the class of the boxes says otherwise.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        super().__init__(model, convention=None if convention is None else known_convention(convention))
        self._model = model
        self._has_queries = _QUERY_HEAD in mro_names(attribute(model, "heads.object"))

    @property
    def family(self) -> str:
        """Name of the family."""
        return FAMILY.name

    @property
    def settings(self) -> Settings3D:
        """Thresholds of the object head."""
        head, area = "heads.object.", first_range(self._model, _RANGES)
        score = first_found(self._model, [head + "bbox_coder.score_threshold"])
        if not self._has_queries:
            overlap = first_found(self._model, [head + "test_cfg.nms_thr"])
            return Settings3D(score, overlap, first_found(self._model, [head + "bbox_coder.max_num"]), area)
        most = first_found(self._model, [head + "num_proposals"])
        return Settings3D(score, ABSENT, UNKNOWN if most.value is None else most, area)

    def call(self, inputs: Any) -> Call:
        """Return the call: everything by name, or points alone for a model without cameras."""
        given = dict(inputs) if isinstance(inputs, Mapping) else {"points": inputs}
        if "metas" not in given and "img_metas" in given:  # the name elsewhere in MMDetection3D
            given["metas"] = given.pop("img_metas")
        if set(given) <= {"points", "metas"}:
            return self._points_only(given)
        if hasattr(given.get("img"), "view"):
            given["img"] = given["img"].view(given["img"].shape)
        counted = given.get("metas") if given.get("metas") is not None else given.get("points")
        if counted is None:
            raise InvalidInputError(
                f"the inputs have the keys {sorted(map(str, given))} but neither metas nor points; the model was not "
                "called. Pass the dict that the data loader of BEVFusion yields."
            )
        return Call(self._model, (), given, len(counted))

    def taps(self) -> Sequence[Tap]:
        """Return what the query head is read from."""
        return super().taps() if self._has_queries else ()

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return the detections, all queries of the last layer, and features at the detections' centres."""
        raw = dict(super().collect(output, tapped, frames=frames))
        raw.pop("sampled", None)  # the range, and with it the grid, is this code base's own
        feature_map = tapped["map"][-1] if tapped.get("map") else None
        return {**raw, **sample_found(feature_map, raw, self.settings.pc_range.value, is_transposed=True)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        if self._has_queries:
            return super().decoder()
        return plain_decoder(self.convention, label_offset=0)

    def _points_only(self, given: Mapping[str, Any]) -> Call:
        if attribute(self._model, "encoders.camera") is not None:
            raise InvalidInputError(
                "this BEVFusion has cameras, so points alone do not do; the model was not called. Pass the dict that "
                "its data loader yields: img, points, camera2ego, …, metas."
            )
        points = point_frames(given["points"])
        metas = call_v0(self._model, {"points": points, "img_metas": given.get("metas")}).kwargs["img_metas"][0]
        missing = dict.fromkeys((*_CALIBRATION, "img", "depths"))
        return Call(self._model, (), {**missing, "points": points, "metas": metas}, len(points))


def _matches(model: Any) -> tuple[str, ...] | None:
    head = attribute(model, "heads.object")
    if "Base3DFusionModel" not in mro_names(model) or head is None or not hasattr(model, "encoders"):
        return None
    return ("base class Base3DFusionModel", f"heads.object {type(head).__name__}")


FAMILY = Family("mit-bevfusion", frozenset({"bevfusion"}), _matches, MitBevFusionAdapter)
