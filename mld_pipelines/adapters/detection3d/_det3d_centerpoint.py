"""det3d's CenterPoint, one and two stages, on voxels or pillars; also CenterFormer's `CenterHeadIoU`.

Source: tianweiy/CenterPoint 3cf7d87, `bbox_heads/center_head.py:244-500`, `detectors/two_stage.py`;
TuSimple/centerformer 5a949b8, `bbox_heads/center_head_iou.py`. Every cell of a task is a proposal with its best
class; `rot` is (sin, cos). The second stage refines the boxes and leaves them in the example that it was called with.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Settings3D, Tap
from mld_pipelines.adapters.detection3d._det3d import Det3dModel, det3d_evidence
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._native import as_tensor, detections, each_frame, natives, segment
from mld_pipelines.adapters.detection3d._openpcdet import plain_decoder
from mld_pipelines.adapters.detection3d._openpcdet_center import joined
from mld_pipelines.adapters.detection3d._peaks import at_cells, best_cells, sigmoid
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._sampling import sample_found
from mld_pipelines.adapters.detection3d._signals import attribute, mro_names
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Call, Frame3D, Raw

__all__ = ["FAMILY", "CenterPointAdapter"]

_MAPS = ("hm", "reg", "height", "dim", "rot", "vel", "iou")
_HEADS = frozenset({"CenterHead", "CenterHeadIoU"})
_DEFAULT_MOST = 1000
"""`nms_pre_max_size` of the nuScenes configurations."""


class CenterPointAdapter:
    """Adapter of det3d's CenterPoint.

    Args:
        model: The detector.
        convention: Convention of the boxes, if it is another one.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        self._detector = Det3dModel(model, convention=convention)
        self._held: dict[int, Any] = {}

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
        """Thresholds of `test_cfg`."""
        return self._detector.settings

    def call(self, inputs: Any) -> Call:
        """Return the call."""
        call = self._detector.call(inputs)
        self._held[get_ident()] = call.args[0]
        return call

    def taps(self) -> Sequence[Tap]:
        """Return the head, the convolution its tasks share, and the second stage's shared layer."""
        wanted = (
            ("head", self._detector.head),
            ("shared", attribute(self._detector.head, "shared_conv")),
            ("refined", attribute(self._detector.model, "roi_head.shared_fc_layer")),
        )
        return tuple(Tap(name, module, "output") for name, module in wanted if module is not None)

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return clones of the detections and of the tasks' maps, or of the second stage's rows."""
        example = self._held.pop(get_ident(), {})
        raw = self._detector.found(output, frames)
        shared = tapped["shared"][-1] if tapped.get("shared") else None
        raw |= sample_found(shared, raw, self.settings.pc_range.value)
        if self._detector.first is not self._detector.model:
            return {**raw, **_second_stage(example, tapped)}
        if shared is not None:
            raw["shared"] = shared
        tasks = tapped["head"][-1] if tapped.get("head") else []
        tasks = tasks[0] if len(tasks) == 2 and isinstance(tasks[0], list) else tasks
        for place, maps in enumerate(tasks):
            raw |= {f"task{place}_{name}": maps[name] for name in _MAPS if name in maps}
        return raw

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        detector, head, grid = self._detector, self._detector.head, self._detector.grid
        if grid is None:
            return plain_decoder(self.convention, label_offset=0, sampled_from="bbox_head.shared_conv")
        factors = [float(one) for one in head.iou_factor] if getattr(head, "use_iou_loss", False) else None
        return WorkerSpec(
            f"{__name__}:CenterPointDecoder",
            {
                "convention": self.convention,
                **grid,
                "classes": [int(count) for count in head.num_classes],
                "most": int(detector.number("nms.nms_pre_max_size", _DEFAULT_MOST)),
                "iou_factors": factors,
            },
        )


class CenterPointDecoder:
    """Decoder of det3d's CenterPoint.

    Args:
        convention: Of the boxes.
        origin: Where x and y of the map start, metres.
        cell: Extent of a cell along x and y, metres.
        classes: Number of classes of each task.
        most: Best cells per task.
        iou_factors: Per class of a task the exponent of the predicted IoU in the score, or None.
    """

    def __init__(
        self,
        *,
        convention: str,
        origin: list[float],
        cell: list[float],
        classes: list[int],
        most: int = _DEFAULT_MOST,
        iou_factors: list[float] | None = None,
    ) -> None:
        self._convention = convention
        self._origin = origin
        self._cell = cell
        self._first = np.cumsum([0, *classes])
        self._most = most
        self._iou_factors = iou_factors

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        exact = "roi_head.shared_fc_layer" if "roi_boxes" in raw else "bbox_head.shared_conv"
        return [
            frame_of(
                detections(raw, frame, convention=self._convention),
                self._refined(raw, frame) if "roi_boxes" in raw else self._proposals(raw, frame),
                Features(
                    exact,
                    raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None,
                    "bbox_head.shared_conv",
                ),
            )
            for frame in each_frame(raw)
        ]

    def _proposals(self, raw: Raw, frame: int) -> Proposals | None:
        count = len(self._first) - 1
        if not all(f"task{place}_hm" in raw for place in range(count)):
            return None
        heat = np.concatenate([raw[f"task{place}_hm"][frame] for place in range(count)])
        shared = None if "shared" not in raw else raw["shared"][frame]
        tasks = [
            {name: raw[f"task{place}_{name}"][frame] for name in _MAPS if f"task{place}_{name}" in raw}
            for place in range(count)
        ]
        return joined([self._task(maps, place, heat, shared) for place, maps in enumerate(tasks)])

    def _task(
        self, maps: dict[str, NDArray[Any]], task: int, heat: NDArray[Any], shared: NDArray[Any] | None
    ) -> Proposals:
        own = maps["hm"]
        classes, cells = best_cells(own, self._most)
        scores = sigmoid(own.reshape(len(own), -1)[classes, cells])
        if self._iou_factors is not None and "iou" in maps:
            ious = np.clip((at_cells(maps["iou"], cells)[:, 0] + 1) / 2, 0.0, 1.0)
            scores = scores * ious ** np.asarray(self._iou_factors)[classes]
        return Proposals(
            natives(
                self._boxes(maps, cells, own.shape[2]),
                scores,
                classes + self._first[task],
                convention=self._convention,
            ),
            index=task * own.shape[1] * own.shape[2] + cells,
            features=None if shared is None else at_cells(shared, cells).astype(np.float32),
            class_scores=sigmoid(at_cells(heat, cells)).astype(np.float32),
        )

    def _boxes(self, maps: dict[str, NDArray[Any]], cells: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
        """Return boxes in det3d's order: the velocity before the rotation."""
        offset, turn = at_cells(maps["reg"], cells), at_cells(maps["rot"], cells)
        velocity = [at_cells(maps["vel"], cells)] if "vel" in maps else []
        parts = [
            ((cells % columns + offset[:, 0]) * self._cell[0] + self._origin[0])[:, None],
            ((cells // columns + offset[:, 1]) * self._cell[1] + self._origin[1])[:, None],
            at_cells(maps["height"], cells),
            np.exp(at_cells(maps["dim"], cells)),
            *velocity,
            np.arctan2(turn[:, 0], turn[:, 1])[:, None],
        ]
        return np.concatenate(parts, axis=1)

    def _refined(self, raw: Raw, frame: int) -> Proposals:
        """Return the second stage's rows; its score is the geometric mean of both stages'."""
        rows = raw["roi_boxes"][frame]
        if rows.shape[1] == 9:
            rows = rows[:, [0, 1, 2, 3, 4, 5, 7, 8, 6]]
        labels = raw["roi_labels"][frame].astype(np.int64)
        index = np.flatnonzero(labels != 0)
        scores = np.sqrt(sigmoid(raw["roi_classes"][frame].reshape(-1)) * raw["roi_scores"][frame].astype(np.float64))
        features = raw.get("roi_features")
        vectors = np.zeros((len(index), int(self._first[-1])), np.float32)
        vectors[np.arange(len(index)), labels[index] - 1] = scores[index]
        return Proposals(
            natives(rows[index], scores[index], labels[index] - 1, convention=self._convention),
            index=index,
            features=None if features is None else features[frame][index].astype(np.float32),
            class_scores=vectors,
        )


def _second_stage(example: Mapping[str, Any], tapped: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    names = {
        "roi_boxes": "batch_box_preds",
        "roi_classes": "batch_cls_preds",
        "roi_labels": "roi_labels",
        "roi_scores": "roi_scores",
    }
    if not all(name in example for name in names.values()):
        return {}
    raw = {name: as_tensor(example[key]) for name, key in names.items()}
    count = raw["roi_boxes"].shape[0] * raw["roi_boxes"].shape[1]
    features = tapped["refined"][-1] if tapped.get("refined") else None
    if features is not None and features.shape[0] == count:
        raw["roi_features"] = features.reshape(*raw["roi_boxes"].shape[:2], -1)
    return raw


def _matches(model: Any) -> tuple[str, ...] | None:
    evidence = det3d_evidence(model)
    if evidence is None:
        return None
    head = (getattr(model, "single_det", None) or model).bbox_head
    return (*evidence, f"bbox_head {type(head).__name__}") if _HEADS & mro_names(head) else None


FAMILY = Family("det3d-centerpoint", frozenset({"centerpoint", "pointpillars"}), _matches, CenterPointAdapter)
