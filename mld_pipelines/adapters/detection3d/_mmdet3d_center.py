"""MMDetection3D's heatmap heads: CenterPoint, and BEVDet and BEVDet4D, which use the same head on camera features.

Sources: `models/dense_heads/centerpoint_head.py` and the coder `centerpoint_bbox_coders.py` of v1.4.0, the same two
of v0.17.1, and BEVDet 1bacecb. Each task has a heatmap; its `max_num` best cells are decoded and suppressed within the
task, by rotated overlap or by distance. The head moves boxes from their gravity centre to the bottom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Setting, Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._mmdet3d import (
    Mmdet3dModel,
    convention_of,
    detections_alone,
    mmdet3d_evidence,
)
from mld_pipelines.adapters.detection3d._native import detections, each_frame, natives, segment
from mld_pipelines.adapters.detection3d._peaks import sigmoid
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._settings import UNKNOWN, first_found
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Call, Frame3D, Raw

__all__ = ["FAMILY", "CenterAdapter", "CenterDecoder"]

_HEADS = ("CenterHead",)
_MAPS = ("reg", "height", "dim", "rot", "vel")
_FLOOR = 0.1
"""Share of the model's score threshold below which a candidate is not worth keeping."""


class CenterAdapter:
    """Adapter of a detector with a heatmap head.

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
        """Thresholds of `test_cfg` and `bbox_coder`; suppression by distance has no IoU threshold."""
        detector = self._detector
        config = f"{detector.path}.test_cfg"
        is_circle = _says(attribute(detector.model, f"{config}.nms_type"), "circle")
        overlap = (
            Setting(None, f"model:{config}.nms_type")
            if is_circle
            else first_found(detector.model, [f"{config}.nms_thr"])
        )
        return Settings3D(self._score_thresh(is_circle=is_circle), overlap, self._most(), self._range())

    def call(self, inputs: Any) -> Call:
        """Return how to call the model."""
        return self._detector.call(inputs)

    def taps(self) -> Sequence[Tap]:
        """Return the head, and the map that its tasks share."""
        head = self._detector.head
        shared = getattr(head, "shared_conv", None)
        taps = [Tap("head", head, "output")]
        return taps if shared is None else [*taps, Tap("features", shared, "output")]

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return the detections, the heatmaps' best cells, and features at the detections' centres."""
        raw = self._detector.found(output, frames)
        bev = tapped["features"][0] if len(tapped.get("features", ())) == 1 else None
        if tapped.get("head"):
            raw |= self._rows(tapped["head"][-1], bev, frames)
        return {**raw, **self._detector.sampled(bev, raw)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        coder: Any = getattr(self._detector.head, "bbox_coder", None)
        if not all(hasattr(coder, name) for name in ("pc_range", "voxel_size", "out_size_factor")):
            return detections_alone(f"{self._detector.path}.shared_conv")
        threshold = self.settings.score_thresh.value
        return WorkerSpec(
            f"{__name__}:CenterDecoder",
            {
                "path": f"{self._detector.path}.shared_conv",
                "origin": [float(value) for value in coder.pc_range[:2]],
                "cell": [float(value) for value in coder.voxel_size[:2]],
                "factor": float(coder.out_size_factor),
                "is_log": bool(getattr(self._detector.head, "norm_bbox", True)),
                "floor": _FLOOR * float(threshold or 0.0),
            },
        )

    def _score_thresh(self, *, is_circle: bool) -> Setting:
        """Return the strictest threshold that applies: rotated suppression has one of its own beside the coder's."""
        path, model = self._detector.path, self._detector.model
        of_config = first_found(model, [f"{path}.test_cfg.score_threshold"], pick=min)
        of_coder = first_found(model, [f"{path}.bbox_coder.score_threshold"], pick=min)
        if is_circle:
            return of_config if of_coder.value in {None, of_config.value} else of_coder
        found = [one for one in (of_config, of_coder) if one.value is not None]
        return max(found, key=lambda one: one.value, default=UNKNOWN)

    def _most(self) -> Setting:
        """Return the most boxes of a frame: the limit of each task, in all tasks (`max_per_img` is never enforced)."""
        path, model = self._detector.path, self._detector.model
        tasks = len(getattr(self._detector.head, "task_heads", ())) or 1
        found = first_found(model, [f"{path}.test_cfg.post_max_size", f"{path}.bbox_coder.max_num"])
        return found if found.value is None else Setting(int(found.value) * tasks, found.source)

    def _range(self) -> Setting:
        found = self._detector.pc_range
        grid = attribute(self._detector.model, "img_view_transformer.grid_config")
        if found.value is not None or not hasattr(grid, "get"):
            return found
        bounds = [grid.get(name) for name in ("xbound", "ybound", "zbound")]
        bounds = bounds if all(bounds) else [grid.get(name) for name in ("x", "y", "z")]
        if not all(bounds):
            return found
        low, high = ([float(bound[place]) for bound in bounds] for place in (0, 1))
        return Setting((*low, *high), "model:img_view_transformer.grid_config")

    def _rows(self, outputs: Any, bev: torch.Tensor | None, frames: int) -> dict[str, torch.Tensor]:
        import torch

        tasks = [task[0] if isinstance(task, (list, tuple)) else task for task in outputs]
        heat = torch.cat([task["heatmap"] for task in tasks], dim=1)
        if heat.shape[0] != frames:
            return {}
        kept = int(attribute(self._detector.head, "bbox_coder.max_num") or 500)
        parts, first = [], 0
        for task in tasks:
            parts.append(_best_cells(task, heat, first, kept, bev))
            first += task["heatmap"].shape[1]
        names = [name for name in parts[0] if all(name in part for part in parts)]
        joined = {name: torch.cat([part[name] for part in parts], dim=1) for name in names}
        count = joined["row_cells"].shape[1]
        flat = {name: values.flatten(0, 1) for name, values in joined.items()}
        shape = torch.tensor(heat.shape[-2:])
        return {**flat, "row_offsets": torch.arange(frames + 1) * count, "map_shape": shape}


def _best_cells(
    task: Mapping[str, torch.Tensor], heat: torch.Tensor, first: int, kept: int, bev: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Return the best (class, cell) pairs of one task, (frames, K, …) per column."""
    own = task["heatmap"].flatten(2)
    cells = own.shape[-1]
    index = own.sigmoid().flatten(1).topk(min(kept, own.shape[1] * cells), dim=1).indices
    place = index % cells

    def at(values: torch.Tensor) -> torch.Tensor:
        return values.flatten(2).gather(2, place[:, None].expand(-1, values.shape[1], -1)).transpose(1, 2)

    found = {f"row_{name}": at(task[name]) for name in _MAPS if name in task}
    if bev is not None and bev.shape[-2:] == heat.shape[-2:]:
        found["row_features"] = at(bev)
    return {**found, "row_logits": at(heat), "row_cells": place, "row_labels": index // cells + first}


class CenterDecoder:
    """Decodes heatmap cells in float32, as the model does.

    Args:
        path: Path of the shared map.
        origin: x and y where the map begins, metres.
        cell: Voxel size in x and y, metres.
        factor: Voxels in a cell of the map.
        is_log: Whether the head regresses logarithms of sizes.
        floor: Lowest score of a candidate.
    """

    def __init__(
        self, *, path: str, origin: Sequence[float], cell: Sequence[float], factor: float, is_log: bool, floor: float
    ) -> None:
        self._path = path
        self._origin = np.asarray(origin, np.float32)
        self._cell = np.asarray(cell, np.float32)
        self._factor = np.float32(factor)
        self._is_log = is_log
        self._floor = floor

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        convention = convention_of(raw)
        return [
            frame_of(
                detections(raw, frame, convention=convention),
                self._proposals(raw, frame, convention) if "row_cells" in raw else None,
                Features(
                    exact=self._path,
                    sampled=raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None,
                    sampled_from=self._path,
                ),
            )
            for frame in each_frame(raw)
        ]

    def _proposals(self, raw: Raw, frame: int, convention: str) -> Proposals:
        part = segment(raw["row_offsets"], frame)
        labels = raw["row_labels"][part]
        classes = sigmoid(raw["row_logits"][part]).astype(np.float32)
        scores = np.take_along_axis(classes, labels[:, None], axis=1)[:, 0]
        kept = np.flatnonzero(scores >= self._floor)
        cells = raw["row_cells"][part]
        found = natives(self._decoded(raw, part)[kept], scores[kept], labels[kept], convention=convention)
        index = labels * int(np.prod(raw["map_shape"])) + cells
        features = raw["row_features"][part][kept] if "row_features" in raw else None
        return Proposals(found, index[kept], features, classes[kept])

    def _decoded(self, raw: Raw, part: slice) -> NDArray[np.float32]:
        """Return the boxes of rows in the model's own convention, bottom centre."""
        cells, width = raw["row_cells"][part], int(raw["map_shape"][1])
        corner = np.stack([cells % width, cells // width], axis=1).astype(np.float32)
        shift = raw["row_reg"][part].astype(np.float32) if "row_reg" in raw else np.float32(0.5)
        centre = (corner + shift) * self._factor * self._cell + self._origin
        sizes = raw["row_dim"][part].astype(np.float32)
        with np.errstate(over="ignore"):  # logarithms of sizes that never mean a box
            sizes = np.exp(sizes) if self._is_log else sizes
        rotation = raw["row_rot"][part].astype(np.float32)
        yaw = np.arctan2(rotation[:, :1], rotation[:, 1:2])
        bottom = raw["row_height"][part].astype(np.float32) - sizes[:, 2:3] * np.float32(0.5)
        velocity = [raw["row_vel"][part].astype(np.float32)] if "row_vel" in raw else []
        return np.concatenate([centre, bottom, sizes, yaw, *velocity], axis=1)


def _says(value: Any, word: str) -> bool:
    """Return whether a setting, or each one of a list of settings, is a word."""
    return value == word or (isinstance(value, (list, tuple)) and bool(value) and all(one == word for one in value))


def _matches(model: Any) -> tuple[str, ...] | None:
    return mmdet3d_evidence(model, _HEADS)


FAMILY = Family("mmdet3d-centerpoint", frozenset({"centerpoint", "bevdet", "bevdet4d"}), _matches, CenterAdapter)
