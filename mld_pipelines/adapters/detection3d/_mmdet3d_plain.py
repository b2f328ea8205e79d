"""Every other detector of MMDetection3D: two-stage ones, the CenterFormer project, heads of the user's own.

It is called as its version wants and recorded by what it returns; rows of an unknown head cannot be recovered. If the
detector has a neck, features are sampled from the neck's map at the box centres.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d._contract import Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family, families
from mld_pipelines.adapters.detection3d._mmdet3d import Mmdet3dModel, convention_of
from mld_pipelines.adapters.detection3d._native import detections, each_frame, segment
from mld_pipelines.adapters.detection3d._rows import Features, frame_of
from mld_pipelines.adapters.detection3d._settings import first_found
from mld_pipelines.adapters.detection3d._signals import attribute, mro_names
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from mld_pipelines.adapters.detection3d._contract import Call, Frame3D, Raw

__all__ = ["FAMILY", "PlainAdapter", "PlainDecoder"]

_CONFIGS = ("roi_head.test_cfg", "test_cfg.rcnn", "bbox_head.test_cfg", "pts_bbox_head.test_cfg", "test_cfg")
"""Where detectors keep thresholds; the second stage, if there is one, has the last word."""

_NECKS = ("pts_neck", "neck")


class PlainAdapter:
    """Adapter of a detector whose head is not known.

    Args:
        model: The detector.
        convention: Convention of the boxes; None finds out.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        self._detector = Mmdet3dModel(model, (), convention=convention)
        self._neck = next((name for name in _NECKS if attribute(model, name) is not None), None)

    @property
    def family(self) -> str:
        """Name of the family."""
        return FAMILY.name

    @property
    def convention(self) -> str:
        """Convention of the boxes the model returns."""
        return self._detector.convention

    @property
    def settings(self) -> Settings3D:
        """Thresholds of the last stage's configuration."""

        def found(*names: str, pick: Any = max) -> Any:
            paths = [f"{config}.{name}" for config in _CONFIGS for name in names]
            return first_found(self._detector.model, paths, pick=pick)

        return Settings3D(
            found("score_thr", "score_threshold", pick=min),
            found("nms_thr"),
            found("max_num", "max_output_num", "max_per_img"),
            self._detector.pc_range,
        )

    def call(self, inputs: Any) -> Call:
        """Return how to call the model."""
        return self._detector.call(inputs)

    def taps(self) -> Sequence[Tap]:
        """Return the neck."""
        return () if self._neck is None else (Tap("neck", attribute(self._detector.model, self._neck), "output"),)

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return the detections, and features at their centres."""
        raw = self._detector.found(output, frames)
        maps: Any = tapped["neck"][-1] if tapped.get("neck") else None
        bev: Any = maps[0] if isinstance(maps, list) and maps else maps
        return {**raw, **self._detector.sampled(bev if hasattr(bev, "dim") else None, raw)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        return WorkerSpec(f"{__name__}:PlainDecoder", {"path": self._neck or ""})


class PlainDecoder:
    """Decoder of detections with sampled features.

    Args:
        path: Path of the map.
    """

    def __init__(self, *, path: str) -> None:
        self._path = path

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        convention = convention_of(raw)
        return [
            frame_of(
                detections(raw, frame, convention=convention),
                None,
                Features(
                    sampled=raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None,
                    sampled_from=self._path,
                ),
            )
            for frame in each_frame(raw)
        ]


def _matches(model: Any) -> tuple[str, ...] | None:
    """Accept what no other family of the same base class does."""
    if "Base3DDetector" not in mro_names(model):
        return None
    others = (family for family in families() if family.name != FAMILY.name and not family.is_fallback)
    if any(family.matches(model) is not None for family in others):
        return None
    return ("base class Base3DDetector", "no head that is known: detections without rows")


FAMILY = Family("mmdet3d", frozenset({"centerformer"}), _matches, PlainAdapter)
