"""OpenPCDet's VoxelNeXt: a CenterHead on sparse voxels, without a bird's-eye-view map.

Source: open-mmlab/OpenPCDet 8cacccec, `dense_heads/voxelnext_head.py:415-560`,
`model_utils/centernet_utils.py:240-360`. Every row of the head's output is a voxel;
`forward_ret_dict["voxel_indices"]` holds (frame, y, x) of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._native import as_tensor, detections, each_frame, natives
from mld_pipelines.adapters.detection3d._openpcdet import (
    LABEL_OFFSET,
    OpenPCDetAdapter,
    head_names,
    openpcdet_evidence,
    plain_decoder,
)
from mld_pipelines.adapters.detection3d._openpcdet_center import joined, rectified, task_classes
from mld_pipelines.adapters.detection3d._peaks import best_pairs, sigmoid
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Frame3D, Raw, Settings3D

__all__ = ["FAMILY", "VoxelNextAdapter"]

_MAPS = ("hm", "center", "center_z", "dim", "rot", "vel", "iou")
_FEATURE = "backbone_3d"
"""`encoded_spconv_tensor`, the head's input, is the output of this module."""

_NEEDED = ("voxel_size", "feature_map_stride", "class_id_mapping_each_head")
_DEFAULT_MOST = 500


class VoxelNextAdapter(OpenPCDetAdapter):
    """Adapter of VoxelNeXt."""

    @property
    def settings(self) -> Settings3D:
        """Thresholds of the head, which suppresses by itself."""
        return self.head_settings

    def proposals(
        self,
        batch: Mapping[str, Any],
        tapped: Mapping[str, Any],  # noqa: ARG002 - nothing is tapped
        found: Mapping[str, torch.Tensor],  # noqa: ARG002 - there is no map to sample
    ) -> dict[str, torch.Tensor]:
        """Return clones of the head's rows and of the voxels' features."""
        kept = attribute(self.model, "dense_head.forward_ret_dict") or {}
        tasks, voxels = kept.get("pred_dicts") or [], kept.get("voxel_indices")
        if voxels is None or getattr(self.model.dense_head, "double_flip", False):
            return {}  # double flip averages four passes: no row of the output is a voxel
        raw = {
            f"task{place}_{name}": as_tensor(rows[name])
            for place, rows in enumerate(tasks)
            for name in _MAPS
            if name in rows
        }
        features = getattr(batch.get("encoded_spconv_tensor"), "features", None)
        if features is not None and features.shape[0] == voxels.shape[0]:
            raw["voxel_features"] = as_tensor(features)
        return {**raw, "voxels": as_tensor(voxels)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        head, pc_range = self.model.dense_head, self.pc_range.value
        if pc_range is None or not all(attribute(head, name) is not None for name in _NEEDED):
            return plain_decoder(self.convention)
        rectifier = getattr(head, "rectifier", None) if getattr(head, "iou_branch", False) else None
        stride = float(head.feature_map_stride)
        return WorkerSpec(
            f"{__name__}:VoxelNextDecoder",
            {
                "convention": self.convention,
                "origin": [float(one) for one in pc_range[:2]],
                "cell": [float(one) * stride for one in list(head.voxel_size)[:2]],
                "tasks": task_classes(head),
                "most": int(attribute(head, "model_cfg.POST_PROCESSING.MAX_OBJ_PER_SAMPLE") or _DEFAULT_MOST),
                "rectifier": None if rectifier is None else [float(one) for one in rectifier],
            },
        )


class VoxelNextDecoder:
    """Decoder of VoxelNeXt; arguments as of the CenterHead's."""

    def __init__(
        self,
        *,
        convention: str,
        origin: list[float],
        cell: list[float],
        tasks: list[list[int]],
        most: int = _DEFAULT_MOST,
        rectifier: list[float] | None = None,
    ) -> None:
        self._convention = convention
        self._origin = np.asarray(origin)
        self._cell = np.asarray(cell)
        self._tasks = tasks
        self._most = most
        self._rectifier = rectifier

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        return [
            frame_of(
                detections(raw, frame, convention=self._convention, label_offset=LABEL_OFFSET),
                self._proposals(raw, frame),
                Features(exact=_FEATURE),
            )
            for frame in each_frame(raw)
        ]

    def _proposals(self, raw: Raw, frame: int) -> Proposals | None:
        if "voxels" not in raw or "task0_hm" not in raw:
            return None
        rows = np.flatnonzero(raw["voxels"][:, 0] == frame)
        order = np.concatenate([np.asarray(labels) for labels in self._tasks])
        heat = sigmoid(np.concatenate([raw[f"task{place}_hm"][rows] for place in range(len(self._tasks))], axis=1))
        vectors = np.zeros((len(rows), int(order.max()) + 1))
        vectors[:, order] = heat
        return joined([self._task(raw, rows, vectors, task) for task in range(len(self._tasks))])

    def _task(self, raw: Raw, rows: NDArray[np.int64], vectors: NDArray[np.float64], task: int) -> Proposals:
        classes, places = best_pairs(raw[f"task{task}_hm"][rows].T, self._most)
        labels = np.asarray(self._tasks[task], np.int64)[classes]
        picked = rows[places]
        scores = vectors[places, labels]
        if self._rectifier is not None and f"task{task}_iou" in raw:
            ious = (raw[f"task{task}_iou"][picked, 0].astype(np.float64) + 1) / 2
            scores = rectified(scores, ious, self._rectifier, labels)
        features = raw.get("voxel_features")
        return Proposals(
            natives(self._boxes(raw, picked, task), scores, labels, convention=self._convention),
            index=picked,
            features=None if features is None else features[picked].astype(np.float32),
            class_scores=vectors[places].astype(np.float32),
        )

    def _boxes(self, raw: Raw, rows: NDArray[np.int64], task: int) -> NDArray[np.float64]:
        """Return boxes in OpenPCDet's order."""

        def at(name: str) -> NDArray[np.float64]:
            return raw[f"task{task}_{name}"][rows].astype(np.float64)

        cells = raw["voxels"][rows][:, [2, 1]] + at("center")
        turn = at("rot")
        velocity = [at("vel")] if f"task{task}_vel" in raw else []
        yaw = np.arctan2(turn[:, 1], turn[:, 0])[:, None]
        centre = cells * self._cell + self._origin
        return np.concatenate([centre, at("center_z"), np.exp(at("dim")), yaw, *velocity], axis=1)


def _matches(model: Any) -> tuple[str, ...] | None:
    evidence = openpcdet_evidence(model)
    if evidence is None or "VoxelNeXtHead" not in head_names(model) or getattr(model, "roi_head", None) is not None:
        return None
    return (*evidence, f"dense_head {type(model.dense_head).__name__}")


def _build(model: Any, *, convention: str | None = None) -> VoxelNextAdapter:
    return VoxelNextAdapter(model, family=FAMILY.name, convention=convention)


FAMILY = Family("openpcdet-voxelnext", frozenset({"voxelnext"}), _matches, _build)
