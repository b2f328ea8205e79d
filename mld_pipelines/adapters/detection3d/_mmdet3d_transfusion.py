"""MMDetection3D's query head of TransFusion: the BEVFusion project of 1.x, and the original TransFusion (0.x).

Sources: `projects/BEVFusion/bevfusion/transfusion_head.py` and `utils.py` of v1.4.0; XuyangBai/TransFusion 73c596f. The
coder writes into the head's output in place, so the taps clone it before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Setting, Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._mmdet3d import Mmdet3dModel, convention_of, detections_alone, mmdet3d_evidence
from mld_pipelines.adapters.detection3d._native import detections, each_frame, segment
from mld_pipelines.adapters.detection3d._rows import Features, frame_of
from mld_pipelines.adapters.detection3d._settings import first_found
from mld_pipelines.adapters.detection3d._transfusion import query_proposals
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from mld_pipelines.adapters.detection3d._contract import Call, Frame3D, Raw
    from mld_pipelines.adapters.detection3d._rows import Proposals

__all__ = ["FAMILY", "TransFusionAdapter", "TransFusionDecoder"]

_HEADS = ("TransFusionHead",)
_MAPS = ("center", "height", "dim", "rot", "vel")


class TransFusionAdapter:
    """Adapter of a detector with TransFusion's query head.

    Args:
        model: The detector.
        convention: Convention of the boxes; None finds out.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        self._detector = Mmdet3dModel(model, _HEADS, convention=convention)

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
        """Thresholds of the coder; what is suppressed, if anything, is so by distance."""
        model, path = self._detector.model, self._detector.path
        return Settings3D(
            first_found(model, [f"{path}.bbox_coder.score_threshold"]),
            Setting(None, f"model:{path}.test_cfg.nms_type"),
            first_found(model, [f"{path}.num_proposals"]),
            self._detector.pc_range,
        )

    def call(self, inputs: Any) -> Call:
        """Return how to call the model."""
        return self._detector.call(inputs)

    def taps(self) -> Sequence[Tap]:
        """Return the head, the last layer's queries, and the map they were born on."""
        head = self._detector.head
        layers = getattr(head, "prediction_heads", None)
        taps = [Tap("head", head, "output"), *([Tap("queries", layers[-1], "input")] if layers else [])]
        shared = getattr(head, "shared_conv", None)
        return taps if shared is None else [*taps, Tap("map", shared, "output")]

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return the detections, all queries of the last layer, and features at the detections' centres."""
        raw = self._detector.found(output, frames)
        labels = getattr(self._detector.head, "query_labels", None)
        if tapped.get("head") and labels is not None and len(labels) == frames:
            raw |= _queries(tapped["head"][-1][0][0], labels)
            if tapped.get("queries"):
                raw["query_features"] = tapped["queries"][-1][0]
        bev = tapped["map"][-1] if tapped.get("map") else None
        # the 1.x project lays its maps out along x first, the original along y first
        return {**raw, **self._detector.sampled(bev, raw, is_transposed=self._detector.is_v1)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        head, path = self._detector.head, self._detector.path
        coder: Any = getattr(head, "bbox_coder", None)
        layers = getattr(head, "prediction_heads", None)
        if not layers or not all(hasattr(coder, name) for name in ("pc_range", "voxel_size", "out_size_factor")):
            return detections_alone(f"{path}.shared_conv")
        return WorkerSpec(
            f"{__name__}:TransFusionDecoder",
            {
                "path": f"{path}.prediction_heads.{len(layers) - 1}",
                "map_path": f"{path}.shared_conv",
                "origin": [float(value) for value in coder.pc_range[:2]],
                "cell": [float(value) * float(coder.out_size_factor) for value in coder.voxel_size[:2]],
            },
        )


def _queries(head: Mapping[str, torch.Tensor], labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the last layer's outputs: with auxiliary heads, those of all layers lie behind one another."""
    count = labels.shape[1]
    born = head["query_heatmap_score"].gather(1, labels[:, None])[:, 0]
    found = {f"query_{name}": head[name][..., -count:] for name in ("heatmap", *_MAPS) if name in head}
    return {**found, "query_born": born, "query_labels": labels.detach().clone()}


class TransFusionDecoder:
    """Decodes queries.

    Args:
        path: Path of the layer whose input is the feature.
        map_path: Path of the map that is sampled otherwise.
        origin: x and y where the map begins, metres.
        cell: Extent of a cell in x and y, metres.
    """

    def __init__(self, *, path: str, map_path: str, origin: Sequence[float], cell: Sequence[float]) -> None:
        self._path = path
        self._map_path = map_path
        self._origin = np.asarray(origin, np.float64)
        self._cell = np.asarray(cell, np.float64)

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        convention = convention_of(raw)
        return [
            frame_of(
                detections(raw, frame, convention=convention),
                self._proposals(raw, frame, convention) if "query_labels" in raw else None,
                Features(
                    exact=self._path,
                    sampled=raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None,
                    sampled_from=self._map_path,
                ),
            )
            for frame in each_frame(raw)
        ]

    def _proposals(self, raw: Raw, frame: int, convention: str) -> Proposals:
        names = [name for name in ("heatmap", *_MAPS, "born", "labels") if f"query_{name}" in raw]
        features = raw["query_features"][frame].T if "query_features" in raw else None
        return query_proposals(
            {name: raw[f"query_{name}"][frame] for name in names},
            convention=convention,
            origin=self._origin,
            cell=self._cell,
            features=features,
        )


def _matches(model: Any) -> tuple[str, ...] | None:
    return mmdet3d_evidence(model, _HEADS)


FAMILY = Family("mmdet3d-transfusion", frozenset({"bevfusion", "transfusion"}), _matches, TransFusionAdapter)
