"""CenterFormer: the best cells of a heatmap become queries of a transformer.

Source: TuSimple/centerformer 5a949b8, `necks/rpn_transformer*.py`, `bbox_heads/center_head_iou_1d.py:161-540`. The
neck hands one dict per task to the head, which adds a regression per query: `order` is the query's cell, `ct_feat`
its feature, `scores` and `labels` are the heatmap's, probabilities already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Settings3D, Tap
from mld_pipelines.adapters.detection3d._det3d import Det3dModel, det3d_evidence
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._native import detections, each_frame, natives
from mld_pipelines.adapters.detection3d._openpcdet import plain_decoder
from mld_pipelines.adapters.detection3d._openpcdet_center import joined
from mld_pipelines.adapters.detection3d._peaks import at_cells
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._settings import first_found
from mld_pipelines.adapters.detection3d._signals import mro_names
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Call, Frame3D, Raw

__all__ = ["FAMILY", "CenterFormerAdapter"]

_FEATURE = "neck"
_NAMES = ("hm", "scores", "labels", "order", "mask", "ct_feat", "reg", "height", "dim", "rot", "vel", "iou")


class CenterFormerAdapter:
    """Adapter of CenterFormer.

    Args:
        model: The detector.
        convention: Convention of the boxes, if it is another one.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        self._detector = Det3dModel(model, convention=convention)

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
        """Thresholds of `test_cfg`; the score is cut where queries are made, in the neck."""
        found = self._detector.settings
        score = first_found(self._detector.first, ["neck.score_threshold", "test_cfg.score_threshold"])
        return Settings3D(score, found.iou_thresh, found.max_detections_per_frame, found.pc_range)

    def call(self, inputs: Any) -> Call:
        """Return the call."""
        return self._detector.call(inputs)

    def taps(self) -> Sequence[Tap]:
        """Return the head, whose output holds everything."""
        return (Tap("head", self._detector.head, "output"),)

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return clones of the detections and of the queries."""
        raw = self._detector.found(output, frames)
        for place, task in enumerate(tapped["head"][-1] if tapped.get("head") else []):
            raw |= {f"task{place}_{name}": task[name] for name in _NAMES if name in task}
        return raw

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        head, grid = self._detector.head, self._detector.grid
        if grid is None:
            return plain_decoder(self.convention, label_offset=0, sampled_from=None)
        factors = [float(one) for one in head.iou_factor] if getattr(head, "use_iou_loss", False) else None
        return WorkerSpec(
            f"{__name__}:CenterFormerDecoder",
            {
                "convention": self.convention,
                **grid,
                "classes": [int(count) for count in head.num_classes],
                "iou_factors": factors,
            },
        )


class CenterFormerDecoder:
    """Decoder of CenterFormer.

    Args:
        convention: Of the boxes.
        origin: Where x and y of the map start, metres.
        cell: Extent of a cell along x and y, metres.
        classes: Number of classes of each task.
        iou_factors: Per class of a task the exponent of the predicted IoU in the score, or None.
    """

    def __init__(
        self,
        *,
        convention: str,
        origin: list[float],
        cell: list[float],
        classes: list[int],
        iou_factors: list[float] | None = None,
    ) -> None:
        self._convention = convention
        self._origin = np.asarray(origin)
        self._cell = np.asarray(cell)
        self._first = np.cumsum([0, *classes])
        self._iou_factors = iou_factors

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        return [
            frame_of(
                detections(raw, frame, convention=self._convention), self._proposals(raw, frame), Features(_FEATURE)
            )
            for frame in each_frame(raw)
        ]

    def _proposals(self, raw: Raw, frame: int) -> Proposals | None:
        count = len(self._first) - 1
        if not all(f"task{place}_order" in raw for place in range(count)):
            return None
        tasks = [
            {name: raw[f"task{place}_{name}"][frame] for name in _NAMES if f"task{place}_{name}" in raw}
            for place in range(count)
        ]
        heat = np.concatenate([task["hm"] for task in tasks])
        return joined([self._task(task, place, heat) for place, task in enumerate(tasks)])

    def _task(self, task: dict[str, NDArray[Any]], place: int, heat: NDArray[Any]) -> Proposals:
        cells, classes = task["order"].astype(np.int64), task["labels"].astype(np.int64)
        scores = task["scores"].astype(np.float64)
        if self._iou_factors is not None and "iou" in task:
            ious = np.clip((task["iou"].reshape(-1).astype(np.float64) + 1) / 2, 0.0, 1.0)
            scores = scores * ious ** np.asarray(self._iou_factors)[classes]
        queries = np.arange(len(cells))
        return Proposals(
            natives(
                self._boxes(task, cells, task["hm"].shape[2]),
                scores,
                classes + self._first[place],
                convention=self._convention,
            ),
            index=place * len(cells) + queries,
            features=task["ct_feat"].T.astype(np.float32),
            class_scores=at_cells(heat, cells).astype(np.float32),
        )

    def _boxes(self, task: dict[str, NDArray[Any]], cells: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
        """Return boxes in det3d's order: the velocity before the rotation."""

        def rows(name: str) -> NDArray[np.float64]:
            return task[name].T.astype(np.float64)

        corner = np.stack([cells % columns, cells // columns], axis=1)
        centre = (corner + rows("reg")) * self._cell + self._origin
        turn = rows("rot")
        velocity = [rows("vel")] if "vel" in task else []
        yaw = np.arctan2(turn[:, 0], turn[:, 1])[:, None]
        return np.concatenate([centre, rows("height"), np.exp(rows("dim")), *velocity, yaw], axis=1)


def _matches(model: Any) -> tuple[str, ...] | None:
    evidence = det3d_evidence(model)
    if evidence is None:
        return None
    head = (getattr(model, "single_det", None) or model).bbox_head
    return (*evidence, f"bbox_head {type(head).__name__}") if "CenterHeadIoU_1d" in mro_names(head) else None


FAMILY = Family("det3d-centerformer", frozenset({"centerformer"}), _matches, CenterFormerAdapter)
