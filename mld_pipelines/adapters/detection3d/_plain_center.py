"""CenterPoint in plain PyTorch: the detector of `examples/drive`, and whoever builds theirs the same way.

The model says what its boxes are (`box_convention = "canonical"`) and where it looks (`pc_range`); its `bbox_head` has
a `shared_conv` and one module of branches (`heatmap`, `reg`, `height`, `dim`, `rot`, maybe `vel`) per task. `dim` holds
logarithms of w, l, h; `rot` sine and cosine; `height` the gravity centre. `forward` takes a list of point tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Call, Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._native import each_frame, listed_clouds, ragged, segment
from mld_pipelines.adapters.detection3d._peaks import sigmoid
from mld_pipelines.adapters.detection3d._rows import Boxes, Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._sampling import sample_found
from mld_pipelines.adapters.detection3d._settings import first_found, first_range
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.compute import WorkerSpec
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import wrap_yaw

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Frame3D, Raw

__all__ = ["FAMILY", "PlainCenterAdapter"]

_BRANCHES = ("reg", "height", "dim", "rot")
_SHARED = "bbox_head.shared_conv"
_MOST_CELLS = 1024
"""Best (class, cell) pairs of a frame and task that are kept: several times what any such model returns."""
_FLOOR = 0.1
"""Share of the model's score threshold below which a candidate is not worth keeping."""


class PlainCenterAdapter:
    """Adapter of a plain CenterPoint.

    Args:
        model: The detector.
        convention: `canonical` or None.

    Raises:
        InvalidInputError: Another convention is asked for: the model itself says that its boxes are canonical.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        if convention not in {None, "canonical"}:
            raise InvalidInputError(
                f"box_convention is {convention!r}, but {type(model).__name__}.box_convention says canonical; "
                "nothing was recorded. Leave the argument out or change the attribute."
            )
        self._model = model

    @property
    def family(self) -> str:
        """Name of the family."""
        return FAMILY.name

    @property
    def convention(self) -> str:
        """Convention of the boxes the model returns."""
        return "canonical"

    @property
    def settings(self) -> Settings3D:
        """Thresholds: attributes of the model under the names of the arguments."""
        return Settings3D(
            score_thresh=first_found(self._model, ["score_thresh"]),
            iou_thresh=first_found(self._model, ["iou_thresh"]),
            max_detections_per_frame=first_found(self._model, ["max_detections_per_frame"]),
            pc_range=first_range(self._model, ["pc_range"]),
        )

    def call(self, inputs: Any) -> Call:
        """Return the call with a list of frames."""
        given = inputs.get("points") if isinstance(inputs, Mapping) else inputs
        if given is None:
            raise InvalidInputError(
                f"the inputs have the keys {sorted(map(str, inputs))}; this detector needs `points`: one tensor "
                "(N, 4+), or a list of them. The model was not called."
            )
        frames = listed_clouds(given)
        return Call(self._model, (frames,), {}, len(frames))

    def taps(self) -> Sequence[Tap]:
        """Return the head, and the map that its branches share."""
        head = self._model.bbox_head
        return (Tap("head", head, "output"), Tap("features", head.shared_conv, "output"))

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return clones of the detections, and the best cells of the heatmaps, picked on the device."""
        names = ("boxes", "scores", "labels")
        raw = ragged([{name: one[f"{name}_3d"] for name in names} for one in output], frames=frames)
        features = tapped["features"][-1] if tapped.get("features") else None
        if features is None or not tapped.get("head"):
            return raw
        return {**raw, **sample_found(features, raw, self._model.pc_range), **_cells(tapped["head"][-1], features)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        area = [float(value) for value in self._model.pc_range]
        floor = _FLOOR * float(self.settings.score_thresh.value or 0.0)
        return WorkerSpec(f"{__name__}:PlainCenterDecoder", {"pc_range": area, "floor": floor})


class PlainCenterDecoder:
    """Decodes heatmap cells in float32, as the model does.

    Args:
        pc_range: Six numbers, metres.
        floor: Lowest score of a candidate.
    """

    def __init__(self, *, pc_range: list[float], floor: float) -> None:
        self._range = np.asarray(pc_range, np.float32)
        self._floor = floor

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        frames = []
        for frame in each_frame(raw):
            part = segment(raw["offsets"], frame)
            found = _boxes(raw["boxes"][part], raw["scores"][part], raw["labels"][part])
            sampled = raw["sampled"][part] if "sampled" in raw else None
            proposals = self._proposals(raw, frame) if "row_cells" in raw else None
            frames.append(frame_of(found, proposals, Features(_SHARED, sampled, _SHARED)))
        return frames

    def _proposals(self, raw: Raw, frame: int) -> Proposals:
        labels, cells = raw["row_labels"][frame], raw["row_cells"][frame]
        classes = sigmoid(raw["row_logits"][frame]).astype(np.float32)
        scores = np.take_along_axis(classes, labels[:, None], axis=1)[:, 0]
        kept = np.flatnonzero(scores >= self._floor)
        rows = self._decoded({name: raw[f"row_{name}"][frame] for name in _BRANCHES}, cells, raw["map_shape"])
        velocity = [raw["row_vel"][frame]] if "row_vel" in raw else []
        boxes = _boxes(np.concatenate([rows, *velocity], axis=1)[kept], scores[kept], labels[kept])
        index = labels * int(np.prod(raw["map_shape"])) + cells
        features = raw["row_features"][frame][kept].astype(np.float32, copy=False)
        return Proposals(boxes, index[kept], features, classes[kept])

    def _decoded(
        self, at: Mapping[str, NDArray[Any]], cells: NDArray[np.int64], shape: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return canonical rows (K, 7) from what the branches say at cells."""
        here = {name: value.astype(np.float32) for name, value in at.items()}
        low, high = self._range[:2], self._range[3:5]
        corner = np.stack([cells % shape[1], cells // shape[1]], axis=1).astype(np.float32)
        centre = (corner + here["reg"]) * ((high - low) / shape[::-1].astype(np.float32)) + low
        yaw = np.arctan2(here["rot"][:, :1], here["rot"][:, 1:2])
        return np.concatenate([centre, here["height"], np.exp(here["dim"]), yaw], axis=1)


def _boxes(rows: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any]) -> Boxes:
    """Return boxes of canonical rows (N, 7), or (N, 9) with velocities."""
    boxes = rows[:, :7].astype(np.float64)
    boxes[:, 6] = wrap_yaw(boxes[:, 6])
    velocities = rows[:, 7:9].astype(np.float64) if rows.shape[1] >= 9 else np.full((len(rows), 2), np.nan)
    return Boxes(boxes, velocities, scores.astype(np.float32), labels.astype(np.int64))


def _cells(tasks: Sequence[Mapping[str, torch.Tensor]], features: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the best (class, cell) pairs of every task with what all branches say there, (B, K, …) per column."""
    import torch

    heat = torch.cat([task["heatmap"] for task in tasks], dim=1)
    names = [name for name in (*_BRANCHES, "vel") if all(name in task for task in tasks)]
    parts, first = [], 0
    for task in tasks:
        own = task["heatmap"].flatten(2)
        area = own.shape[2]
        index = own.flatten(1).topk(min(_MOST_CELLS, own[0].numel()), dim=1).indices
        place = index % area
        part = {f"row_{name}": _at(task[name], place) for name in names}
        part |= {"row_logits": _at(heat, place), "row_features": _at(features, place)}
        parts.append({**part, "row_cells": place, "row_labels": index // area + first})
        first += own.shape[1]
    joined = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
    return {**joined, "map_shape": torch.tensor(heat.shape[-2:])}


def _at(maps: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Return what maps (B, C, H, W) hold at cells (B, K): (B, K, C)."""
    return maps.flatten(2).gather(2, cells[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)


def _matches(model: Any) -> tuple[str, ...] | None:
    if getattr(model, "box_convention", None) != "canonical" or first_range(model, ["pc_range"]).value is None:
        return None
    tasks = attribute(model, "bbox_head.task_heads")
    if attribute(model, _SHARED) is None or tasks is None or not len(tasks):
        return None
    branches = {"heatmap", *_BRANCHES}
    if not all(branches <= set(getattr(task, "_modules", {})) for task in tasks):
        return None
    return ("box_convention is canonical", "pc_range", f"bbox_head has {len(tasks)} task(s) with heatmaps")


FAMILY = Family("plain-centerpoint", frozenset({"centerpoint"}), _matches, PlainCenterAdapter)
