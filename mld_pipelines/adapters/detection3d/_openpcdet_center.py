"""OpenPCDet with a CenterHead: CenterPoint, PillarNet.

Source: open-mmlab/OpenPCDet 8cacccec, `dense_heads/center_head.py:297-374`, `model_utils/centernet_utils.py:121-238`.
`dense_head.forward_ret_dict["pred_dicts"]` keeps the maps of every task after the forward pass. `rot` is (cos, sin)
here, z the centre.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._native import as_tensor, detections, each_frame, natives, segment
from mld_pipelines.adapters.detection3d._openpcdet import (
    LABEL_OFFSET,
    OpenPCDetAdapter,
    head_names,
    openpcdet_evidence,
    plain_decoder,
)
from mld_pipelines.adapters.detection3d._peaks import at_cells, best_pairs, sigmoid
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._sampling import sample_found
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Frame3D, Raw

__all__ = ["FAMILY", "CenterAdapter", "joined", "rectified", "task_classes"]

_MAP = "dense_head.shared_conv"
_MAPS = ("hm", "center", "center_z", "dim", "rot", "vel", "iou")
_NEEDED = ("voxel_size", "feature_map_stride", "class_id_mapping_each_head")
_DEFAULT_MOST = 500
"""`MAX_OBJ_PER_SAMPLE` of the published configurations."""


class CenterAdapter(OpenPCDetAdapter):
    """Adapter of the CenterHead."""

    @property
    def settings(self) -> Settings3D:
        """Thresholds of the head, which suppresses by itself."""
        return self.head_settings

    def taps(self) -> Sequence[Tap]:
        """Return the convolution that all tasks share: its output is the last feature they have in common."""
        shared = attribute(self.model, _MAP)
        return () if shared is None else (Tap("shared", shared, "output"),)

    def proposals(
        self,
        batch: Mapping[str, Any],  # noqa: ARG002 - the head keeps its maps itself
        tapped: Mapping[str, Any],
        found: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Return clones of the tasks' maps and of the shared one."""
        tasks = (attribute(self.model, "dense_head.forward_ret_dict") or {}).get("pred_dicts") or []
        raw = {
            f"task{place}_{name}": as_tensor(maps[name])
            for place, maps in enumerate(tasks)
            for name in _MAPS
            if name in maps
        }
        if tapped.get("shared"):
            raw["shared"] = tapped["shared"][-1]
        return {**raw, **sample_found(raw.get("shared"), found, self.pc_range.value)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        head, pc_range = self.model.dense_head, self.pc_range.value
        if pc_range is None or not all(attribute(head, name) is not None for name in _NEEDED):
            return plain_decoder(self.convention, sampled_from=_MAP)
        return WorkerSpec(
            f"{__name__}:CenterDecoder",
            {
                "convention": self.convention,
                "origin": [float(one) for one in pc_range[:2]],
                "cell": [float(size) * float(head.feature_map_stride) for size in list(head.voxel_size)[:2]],
                "tasks": task_classes(head),
                "most": int(attribute(head, "model_cfg.POST_PROCESSING.MAX_OBJ_PER_SAMPLE") or _DEFAULT_MOST),
                "rectifier": _rectifier(head),
            },
        )


class CenterDecoder:
    """Decoder of the CenterHead.

    Args:
        convention: Of the boxes.
        origin: Where x and y of the map start, metres.
        cell: Extent of a cell along x and y, metres.
        tasks: Per task the 0-based labels of its heatmaps.
        most: Best cells per task.
        rectifier: Per label the exponent of the predicted IoU in the score, or None.
    """

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
        self._origin = origin
        self._cell = cell
        self._tasks = tasks
        self._most = most
        self._rectifier = rectifier

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        return [self._frame(raw, frame) for frame in each_frame(raw)]

    def _frame(self, raw: Raw, frame: int) -> Frame3D:
        found = detections(raw, frame, convention=self._convention, label_offset=LABEL_OFFSET)
        sampled = raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None
        return frame_of(found, self._proposals(raw, frame), Features(_MAP, sampled, _MAP))

    def _proposals(self, raw: Raw, frame: int) -> Proposals | None:
        tasks = [
            {name: raw[f"task{place}_{name}"][frame] for name in _MAPS if f"task{place}_{name}" in raw}
            for place in range(len(self._tasks))
        ]
        if not tasks or not all(tasks):
            return None
        all_classes = np.concatenate([maps["hm"] for maps in tasks])
        order = np.concatenate([np.asarray(labels) for labels in self._tasks])
        shared = None if "shared" not in raw else raw["shared"][frame]
        return joined([self._task(maps, place, all_classes, order, shared) for place, maps in enumerate(tasks)])

    def _task(
        self,
        maps: dict[str, NDArray[Any]],
        task: int,
        all_classes: NDArray[Any],
        order: NDArray[np.int64],
        shared: NDArray[Any] | None,
    ) -> Proposals:
        heat = maps["hm"]
        classes, cells = best_pairs(heat, self._most)
        labels = np.asarray(self._tasks[task], np.int64)[classes]
        scores = sigmoid(heat.reshape(len(heat), -1)[classes, cells])
        vectors = np.zeros((len(cells), int(order.max()) + 1))
        vectors[:, order] = sigmoid(at_cells(all_classes, cells))
        if self._rectifier is not None and "iou" in maps:
            scores = rectified(scores, (at_cells(maps["iou"], cells)[:, 0] + 1) / 2, self._rectifier, labels)
        return Proposals(
            natives(self._rows(maps, cells, heat.shape[2]), scores, labels, convention=self._convention),
            index=task * heat.shape[1] * heat.shape[2] + cells,
            features=None if shared is None else at_cells(shared, cells).astype(np.float32),
            class_scores=vectors.astype(np.float32),
        )

    def _rows(self, maps: dict[str, NDArray[Any]], cells: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
        """Return boxes in OpenPCDet's order."""
        offset = at_cells(maps["center"], cells)
        turn = at_cells(maps["rot"], cells)
        parts = [
            ((cells % columns + offset[:, 0]) * self._cell[0] + self._origin[0])[:, None],
            ((cells // columns + offset[:, 1]) * self._cell[1] + self._origin[1])[:, None],
            at_cells(maps["center_z"], cells),
            np.exp(at_cells(maps["dim"], cells)),
            np.arctan2(turn[:, 1], turn[:, 0])[:, None],
        ]
        if "vel" in maps:
            parts.append(at_cells(maps["vel"], cells))
        return np.concatenate(parts, axis=1)


def task_classes(head: Any) -> list[list[int]]:
    """Return the 0-based labels of every task's heatmaps."""
    return [[int(label) for label in labels] for labels in head.class_id_mapping_each_head]


def rectified(
    scores: NDArray[np.float64], ious: NDArray[np.float64], exponents: Sequence[float], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return score¹⁻ʳ · IoUʳ with the exponent r of the label (`center_head.py:331-334`)."""
    r = np.asarray(exponents, np.float64)[labels]
    mixed: NDArray[np.float64] = scores ** (1 - r) * np.clip(ious, 0.0, 1.0) ** r
    return mixed


def joined(parts: Sequence[Proposals]) -> Proposals:
    """Return the proposals of all tasks of a frame."""
    found = [part.found for part in parts]
    features = [part.features for part in parts if part.features is not None]
    classes = [part.class_scores for part in parts if part.class_scores is not None]
    boxes = type(found[0])(
        boxes=np.concatenate([one.boxes for one in found]),
        velocities=np.concatenate([one.velocities for one in found]),
        scores=np.concatenate([one.scores for one in found]),
        labels=np.concatenate([one.labels for one in found]),
    )
    return Proposals(
        boxes,
        index=np.concatenate([part.index for part in parts]),
        features=np.concatenate(features) if len(features) == len(parts) else None,
        class_scores=np.concatenate(classes) if len(classes) == len(parts) else None,
    )


def _rectifier(head: Any) -> list[float] | None:
    post = attribute(head, "model_cfg.POST_PROCESSING")
    if not attribute(post, "USE_IOU_TO_RECTIFY_SCORE"):
        return None
    value = attribute(post, "IOU_RECTIFIER")
    count = sum(len(labels) for labels in task_classes(head))
    return [float(one) for one in value] if isinstance(value, (list, tuple)) else [float(value)] * count


def _matches(model: Any) -> tuple[str, ...] | None:
    evidence = openpcdet_evidence(model)
    names = head_names(model)
    is_other = bool(names & {"VoxelNeXtHead", "TransFusionHead"}) or getattr(model, "roi_head", None) is not None
    if evidence is None or "CenterHead" not in names or is_other:
        return None
    return (*evidence, f"dense_head {type(model.dense_head).__name__}")


def _build(model: Any, *, convention: str | None = None) -> CenterAdapter:
    return CenterAdapter(model, family=FAMILY.name, convention=convention)


FAMILY = Family("openpcdet-centerpoint", frozenset({"centerpoint", "pillarnet"}), _matches, _build)
