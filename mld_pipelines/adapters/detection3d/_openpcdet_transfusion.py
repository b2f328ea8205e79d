"""OpenPCDet's TransFusion and BevFusion: query heads, LiDAR alone or with cameras.

Source: open-mmlab/OpenPCDet 8cacccec, `dense_heads/transfusion_head.py`, `detectors/{transfusion,bevfusion}.py`. The
head leaves only its final boxes behind, so its raw values are taken from four modules inside it, before the decoding
writes into them. The top-level SCORE_THRESH is not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._native import as_tensor, detections, each_frame, segment
from mld_pipelines.adapters.detection3d._openpcdet import (
    LABEL_OFFSET,
    OpenPCDetAdapter,
    head_names,
    openpcdet_evidence,
    plain_decoder,
)
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._sampling import sample_found
from mld_pipelines.adapters.detection3d._settings import ABSENT, first_found
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.adapters.detection3d._transfusion import born_scores, query_proposals
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from mld_pipelines.adapters.detection3d._contract import Frame3D, Raw

__all__ = ["FAMILY", "TransFusionAdapter"]

_FEATURE = "dense_head.prediction_head"
_MAPS = ("heatmap", "center", "height", "dim", "rot", "vel")
_NEEDED = ("voxel_size", "feature_map_stride")


class TransFusionAdapter(OpenPCDetAdapter):
    """Adapter of TransFusion and BevFusion."""

    @property
    def settings(self) -> Settings3D:
        """Thresholds of the head; it suppresses nothing."""
        head = "dense_head."
        return Settings3D(
            score_thresh=first_found(self.model, [head + "model_cfg.POST_PROCESSING.SCORE_THRESH"]),
            iou_thresh=ABSENT,
            max_detections_per_frame=first_found(
                self.model, [head + "model_cfg.NUM_PROPOSALS", head + "num_proposals"]
            ),
            pc_range=self.pc_range,
        )

    def taps(self) -> Sequence[Tap]:
        """Return the modules that see query features, their outputs, where queries were born, and the heatmap."""
        wanted: tuple[tuple[str, str, Literal["input", "output"]], ...] = (
            ("features", "prediction_head", "input"),
            ("outputs", "prediction_head", "output"),
            ("places", "decoder.self_posembed", "input"),
            ("heatmap", "heatmap_head", "output"),
        )
        found = ((name, attribute(self.model.dense_head, path), keeps) for name, path, keeps in wanted)
        return tuple(Tap(name, module, keeps) for name, module, keeps in found if module is not None)

    def proposals(
        self, batch: Mapping[str, Any], tapped: Mapping[str, Any], found: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Return clones of the queries' raw values; `query_labels` is overwritten by the next call."""
        labels = getattr(self.model.dense_head, "query_labels", None)
        sampled = sample_found(batch.get("spatial_features_2d"), found, self.pc_range.value)
        if labels is None or not all(tapped.get(name) for name in ("outputs", "places", "heatmap")):
            return sampled
        raw = {f"query_{name}": tapped["outputs"][-1][name] for name in _MAPS if name in tapped["outputs"][-1]}
        raw["query_places"] = tapped["places"][0][0]
        raw["query_labels"] = as_tensor(labels)
        raw["born_heatmap"] = tapped["heatmap"][-1]
        if tapped.get("features"):
            raw["query_features"] = tapped["features"][-1][0]
        return {**raw, **sampled}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        head, pc_range = self.model.dense_head, self.pc_range.value
        if pc_range is None or not all(attribute(head, name) is not None for name in _NEEDED):
            return plain_decoder(self.convention, sampled_from="backbone_2d")
        stride = float(head.feature_map_stride)
        return WorkerSpec(
            f"{__name__}:TransFusionDecoder",
            {
                "convention": self.convention,
                "origin": [float(one) for one in pc_range[:2]],
                "cell": [float(one) * stride for one in list(head.voxel_size)[:2]],
                "kernel": int(getattr(head, "nms_kernel_size", 3)),
                "dataset": str(getattr(head, "dataset_name", "")),
            },
        )


class TransFusionDecoder:
    """Decoder of TransFusion and BevFusion.

    Args:
        convention: Of the boxes.
        origin: Where x and y of the map start, metres.
        cell: Extent of a cell along x and y, metres.
        kernel: Width of the window of the heatmap's peaks.
        dataset: Data set whose small classes have no window.
    """

    def __init__(
        self, *, convention: str, origin: list[float], cell: list[float], kernel: int = 3, dataset: str = ""
    ) -> None:
        self._convention = convention
        self._origin = np.asarray(origin)
        self._cell = np.asarray(cell)
        self._kernel = kernel
        self._dataset = dataset

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        return [
            frame_of(
                detections(raw, frame, convention=self._convention, label_offset=LABEL_OFFSET),
                self._proposals(raw, frame),
                Features(
                    _FEATURE,
                    raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None,
                    "backbone_2d",
                ),
            )
            for frame in each_frame(raw)
        ]

    def _proposals(self, raw: Raw, frame: int) -> Proposals | None:
        if "query_labels" not in raw:
            return None
        head = {name: raw[f"query_{name}"][frame] for name in _MAPS if f"query_{name}" in raw}
        labels, places = raw["query_labels"][frame], raw["query_places"][frame]
        head["labels"] = labels
        head["center"] = head["center"] + places.T
        head["born"] = born_scores(
            raw["born_heatmap"][frame], labels, places, kernel=self._kernel, dataset=self._dataset
        )
        features = raw.get("query_features")
        return query_proposals(
            head,
            convention=self._convention,
            origin=self._origin,
            cell=self._cell,
            features=None if features is None else features[frame].T.astype(np.float32),
        )


def _matches(model: Any) -> tuple[str, ...] | None:
    evidence = openpcdet_evidence(model)
    if evidence is None or "TransFusionHead" not in head_names(model) or getattr(model, "roi_head", None) is not None:
        return None
    return (*evidence, f"dense_head {type(model.dense_head).__name__}")


def _build(model: Any, *, convention: str | None = None) -> TransFusionAdapter:
    return TransFusionAdapter(model, family=FAMILY.name, convention=convention)


FAMILY = Family("openpcdet-transfusion", frozenset({"transfusion", "bevfusion"}), _matches, _build)
