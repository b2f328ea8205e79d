"""MMDetection3D's anchor heads: PointPillars, SECOND and what derives from them.

Sources: `models/dense_heads/anchor3d_head.py`, `base_3d_dense_head.py` and the coder `delta_xyzwhlr_bbox_coder.py` of
v1.4.0; the same arithmetic in v0.17.1. Every cell of the map proposes a box per anchor; the best `nms_pre` of them are
decoded, suppressed class by class, and turned by the direction classifier.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._mmdet3d import Mmdet3dModel, convention_of, mmdet3d_evidence
from mld_pipelines.adapters.detection3d._native import detections, each_frame, natives, segment
from mld_pipelines.adapters.detection3d._peaks import sigmoid
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._settings import first_found
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Call, Frame3D, Raw, Setting

__all__ = ["FAMILY", "AnchorAdapter", "AnchorDecoder"]

_HEADS = ("Anchor3DHead",)

_ROWS = 1_000
"""Anchors kept in a frame: ten times what the models suppress (`nms_pre` 100), so that what they dropped is seen."""

_FLOOR = 0.1
"""Share of the model's score threshold below which a candidate is not worth keeping."""


class AnchorAdapter:
    """Adapter of a detector with an anchor head.

    The rows kept are chosen by their best class on the model's device: 1,000 rows of features are 1.5 MB, the whole
    map of a KITTI frame is 82 MB.

    Args:
        model: The detector.
        convention: Convention of the boxes; None finds out.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        self._detector = Mmdet3dModel(model, _HEADS, convention=convention)
        self._anchors: dict[tuple[Any, ...], list[torch.Tensor]] = {}

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
        """Thresholds of the head's `test_cfg`."""

        def found(name: str, pick: Any = max) -> Setting:
            paths = [f"{self._detector.path}.test_cfg.{name}", f"test_cfg.{name}"]
            return first_found(self._detector.model, paths, pick=pick)

        return Settings3D(found("score_thr", min), found("nms_thr"), found("max_num"), self._detector.pc_range)

    def call(self, inputs: Any) -> Call:
        """Return how to call the model."""
        return self._detector.call(inputs)

    def taps(self) -> Sequence[Tap]:
        """Return the head, and the layer whose input is the feature."""
        head = self._detector.head
        classifier = getattr(head, "conv_cls", None)
        taps = [Tap("head", head, "output")]
        return taps if classifier is None else [*taps, Tap("features", classifier, "input")]

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return the detections, the best anchors' raw outputs, and features at the detections' centres."""
        raw = self._detector.found(output, frames)
        maps = [args[0] for args in tapped.get("features", ())]
        if tapped.get("head"):
            raw |= self._rows(tapped["head"][-1], maps, frames)
        return {**raw, **self._detector.sampled(maps[0] if maps else None, raw)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        head = self._detector.head
        threshold = self.settings.score_thresh.value
        return WorkerSpec(
            f"{__name__}:AnchorDecoder",
            {
                "path": f"{self._detector.path}.conv_cls",
                "is_sigmoid": bool(getattr(head, "use_sigmoid_cls", True)),
                "direction": [float(getattr(head, "dir_offset", 0.0)), float(getattr(head, "dir_limit_offset", 0.0))],
                "floor": _FLOOR * float(threshold or 0.0),
            },
        )

    def _rows(self, outputs: Any, maps: list[torch.Tensor], frames: int) -> dict[str, torch.Tensor]:
        import torch

        scores, deltas, directions = outputs
        if len(maps) != len(scores) or any(level.shape[0] != frames for level in scores):
            return {}
        anchors = self._anchors_of(scores)
        before_suppression = int(attribute(self._detector.head, "test_cfg.nms_pre") or 0)
        kept = max(_ROWS // len(scores), before_suppression) if before_suppression > 0 else _ROWS
        levels, before = [], 0
        for place, boxes in enumerate(anchors):
            level = _Level(scores[place], deltas[place], directions[place], boxes, maps[place])
            levels.append(level.best(kept, before, is_sigmoid=getattr(self._detector.head, "use_sigmoid_cls", True)))
            before += boxes.shape[0]
        joined = {name: torch.cat([level[name] for level in levels], dim=1) for name in levels[0]}
        count = joined["row_index"].shape[1]
        flat = {name: values.flatten(0, 1) for name, values in joined.items()}
        return {**flat, "row_offsets": torch.arange(frames + 1) * count}

    def _anchors_of(self, scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the anchors of every level, (rows, 7 or 9) each, as the head itself makes them for each call."""
        head = self._detector.head
        sizes = [tuple(level.shape[-2:]) for level in scores]
        key = (*sizes, scores[0].device)
        if key not in self._anchors:
            generator = getattr(head, "prior_generator", None) or head.anchor_generator
            made = generator.grid_anchors(sizes, device=scores[0].device)
            self._anchors = {key: [level.reshape(-1, level.shape[-1]) for level in made]}
        return self._anchors[key]


class _Level:
    """Raw outputs of one level of the feature pyramid."""

    def __init__(self, scores: Any, deltas: Any, directions: Any, anchors: Any, bev: Any) -> None:
        frames, per_cell = scores.shape[0], anchors.shape[0] // (scores.shape[-2] * scores.shape[-1])

        def rows(values: Any) -> Any:
            return values.permute(0, 2, 3, 1).reshape(frames, anchors.shape[0], -1)

        self._values = {"row_logits": rows(scores), "row_deltas": rows(deltas)}
        if directions is not None:
            self._values["row_directions"] = rows(directions)
        self._anchors, self._bev, self._per_cell = anchors, bev, per_cell

    def best(self, limit: int, before: int, *, is_sigmoid: bool) -> dict[str, Any]:
        """Return the best rows of every frame, (frames, K, …) per column."""
        logits = self._values["row_logits"]
        # of the probabilities: the head ranks those, and logits that saturate tie there
        chances = logits.sigmoid() if is_sigmoid else logits.softmax(-1)[..., :-1]
        index = chances.amax(-1).topk(min(limit, logits.shape[1]), dim=1).indices
        found = {name: _gathered(values, index) for name, values in self._values.items()}
        cells = (index // self._per_cell)[:, None].expand(-1, self._bev.shape[1], -1)
        features = self._bev.flatten(2).gather(2, cells).transpose(1, 2)
        return {**found, "row_anchors": self._anchors[index], "row_features": features, "row_index": index + before}


def _gathered(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


class AnchorDecoder:
    """Decodes anchors in float32, as the model does.

    Args:
        path: Path of the layer whose input is the feature.
        is_sigmoid: Whether classes are independent; else a softmax with the background last.
        direction: `dir_offset` and `dir_limit_offset` of the head.
        floor: Lowest score of a candidate.
    """

    def __init__(self, *, path: str, is_sigmoid: bool, direction: Sequence[float], floor: float) -> None:
        self._path = path
        self._is_sigmoid = is_sigmoid
        self._direction = direction
        self._floor = floor

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        convention = convention_of(raw)
        return [
            frame_of(
                detections(raw, frame, convention=convention),
                self._proposals(raw, frame, convention) if "row_index" in raw else None,
                Features(
                    exact=self._path,
                    sampled=raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None,
                    sampled_from=self._path,
                    class_space="sigmoid" if self._is_sigmoid else "softmax_noobj_last",
                ),
            )
            for frame in each_frame(raw)
        ]

    def _proposals(self, raw: Raw, frame: int, convention: str) -> Proposals:
        part = segment(raw["row_offsets"], frame)
        logits = raw["row_logits"][part]
        classes = (sigmoid(logits) if self._is_sigmoid else _softmax(logits)).astype(np.float32)
        pairs = classes if self._is_sigmoid else classes[:, :-1]
        rows, labels = np.nonzero(pairs >= self._floor)
        found = natives(self._decoded(raw, part)[rows], pairs[rows, labels], labels, convention=convention)
        return Proposals(found, raw["row_index"][part][rows], raw["row_features"][part][rows], classes[rows])

    def _decoded(self, raw: Raw, part: slice) -> NDArray[np.float32]:
        """Return the boxes of rows in the model's own convention."""
        with np.errstate(over="ignore", invalid="ignore"):  # logarithms of sizes that never mean a box
            return self._regressed(raw, part)

    def _regressed(self, raw: Raw, part: slice) -> NDArray[np.float32]:
        anchors, deltas = raw["row_anchors"][part].astype(np.float32), raw["row_deltas"][part].astype(np.float32)
        sizes = np.exp(deltas[:, 3:6]) * anchors[:, 3:6]
        diagonal = np.sqrt(anchors[:, 4:5] ** 2 + anchors[:, 3:4] ** 2)
        centre = deltas[:, :2] * diagonal + anchors[:, :2]
        middle = deltas[:, 2:3] * anchors[:, 5:6] + (anchors[:, 2:3] + anchors[:, 5:6] / 2)
        yaw = self._turned(deltas[:, 6:7] + anchors[:, 6:7], raw.get("row_directions"), part)
        rest = deltas[:, 7:] + anchors[:, 7:]
        return np.concatenate([centre, middle - sizes[:, 2:3] / 2, sizes, yaw, rest], axis=1)

    def _turned(self, yaw: NDArray[np.float32], bins: NDArray[Any] | None, part: slice) -> NDArray[np.float32]:
        """Return headings after the direction classifier's correction by half a turn."""
        if bins is None:
            return yaw
        offset, limit = self._direction
        half = np.float32(math.pi)
        turned = yaw - np.float32(offset)
        turned = turned - np.floor(turned / half + np.float32(limit)) * half
        flipped: NDArray[np.float32] = half * bins[part].argmax(axis=1)[:, None].astype(np.float32)
        result: NDArray[np.float32] = turned + np.float32(offset) + flipped
        return result


def _softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    normal: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return normal


def _matches(model: Any) -> tuple[str, ...] | None:
    """Accept one-stage detectors: a RoI head behind the anchors has the last word on boxes and scores."""
    return None if getattr(model, "roi_head", None) is not None else mmdet3d_evidence(model, _HEADS)


FAMILY = Family(
    "mmdet3d-anchor", frozenset({"pointpillars", "pointpillars++", "efmf-pillars", "second"}), _matches, AnchorAdapter
)
