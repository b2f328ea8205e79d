"""MMDetection3D's DETR-style heads: PETR and DETR3D, and every head with the same output and coder.

Sources: `projects/PETR/petr/petr_head.py`, `nms_free_coder.py`, `utils.py` and `projects/DETR3D` of v1.4.0. Each query
regresses one box; the best `max_num` (query, class) pairs are returned, and nothing is suppressed. The head returns
`all_cls_scores` (layers, frames, queries, classes) and `all_bbox_preds`, with logarithms of sizes and gravity centres.
Whether sine and cosine are those of the yaw, or of a yaw of 0.x that is turned back, differs between versions of one
project: the decoder takes the reading that reproduces the detections, and none if none does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._mmdet3d import Mmdet3dModel, convention_of, mmdet3d_evidence
from mld_pipelines.adapters.detection3d._native import detections, each_frame, natives
from mld_pipelines.adapters.detection3d._peaks import best_pairs, sigmoid
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of, match_rows
from mld_pipelines.adapters.detection3d._settings import ABSENT, first_found
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Call, Frame3D, Raw
    from mld_pipelines.adapters.detection3d._rows import Boxes

__all__ = ["FAMILY", "Layout", "QueryAdapter", "QueryDecoder", "query_family"]

Layout = tuple[int, int, int, int, int, int]
"""Where cx, cy, cz, first size, second size and height stand among the numbers of a query."""

_PETR: Layout = (0, 1, 4, 2, 3, 5)
_MORE = 2
"""Pairs decoded per pair that the model returns."""


class QueryAdapter:
    """Adapter of a detector with a DETR-style head.

    Args:
        model: The detector.
        family: Name of the family.
        heads: Class names of its head.
        layout: Order of the regressed numbers.
        convention: Convention of the boxes; None finds out.
    """

    def __init__(
        self, model: Any, *, family: str, heads: Sequence[str], layout: Layout = _PETR, convention: str | None = None
    ) -> None:
        self._detector = Mmdet3dModel(model, heads, convention=convention)
        self._family = family
        self._layout = layout

    @property
    def family(self) -> str:
        """Name of the family."""
        return self._family

    @property
    def convention(self) -> str:
        """Convention of the boxes the model returns."""
        return self._detector.convention

    @property
    def settings(self) -> Settings3D:
        """Thresholds of the coder; a query head has no suppression."""
        model, path = self._detector.model, self._detector.path
        return Settings3D(
            first_found(model, [f"{path}.bbox_coder.score_threshold"]),
            ABSENT,
            first_found(model, [f"{path}.bbox_coder.max_num"]),
            self._detector.pc_range,
        )

    def call(self, inputs: Any) -> Call:
        """Return how to call the model."""
        return self._detector.call(inputs)

    def taps(self) -> Sequence[Tap]:
        """Return the head, and the last layer's classifier: often one module for all layers, whose last call counts."""
        head = self._detector.head
        branches = getattr(head, "cls_branches", None)
        taps = [Tap("head", head, "output")]
        return taps if not branches else [*taps, Tap("queries", branches[-1], "input")]

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return the detections and all queries of the last layer."""
        raw = self._detector.found(output, frames)
        head = tapped["head"][-1] if tapped.get("head") else None
        if not isinstance(head, dict) or not {"all_cls_scores", "all_bbox_preds"} <= set(head):
            return raw
        classes, boxes = head["all_cls_scores"][-1], head["all_bbox_preds"][-1]
        if classes.shape[0] != frames:
            return raw
        raw |= {"query_logits": classes, "query_values": boxes}
        if tapped.get("queries"):
            features = tapped["queries"][-1][0]
            features = features.transpose(0, 1) if features.shape[0] != frames else features
            if features.shape[:2] == classes.shape[:2]:
                raw["query_features"] = features
        return raw

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        coder = getattr(self._detector.head, "bbox_coder", None)
        return WorkerSpec(
            f"{__name__}:QueryDecoder",
            {
                "path": f"{self._detector.path}.cls_branches",
                "layout": list(self._layout),
                "most": int(getattr(coder, "max_num", 300)),
                "is_sigmoid": type(coder).__name__ != "NMSFreeClsCoder",
            },
        )


class QueryDecoder:
    """Decodes queries.

    Args:
        path: Path of the layer whose input is the feature.
        layout: Order of the regressed numbers.
        most: Pairs the model returns.
        is_sigmoid: Whether classes are independent; else a softmax with "no object" last, and one pair per query.
    """

    def __init__(self, *, path: str, layout: Sequence[int], most: int, is_sigmoid: bool) -> None:
        self._path = path
        self._layout = list(layout)
        self._most = most
        self._is_sigmoid = is_sigmoid

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        return [self._frame(raw, frame, convention_of(raw)) for frame in each_frame(raw)]

    def _frame(self, raw: Raw, frame: int, convention: str) -> Frame3D:
        found = detections(raw, frame, convention=convention)
        space = "sigmoid" if self._is_sigmoid else "softmax_noobj_last"
        features = Features(exact=self._path, class_space=space)
        if "query_logits" not in raw:
            return frame_of(found, None, features)
        return frame_of(found, self._proposals(raw, frame, found, convention), features)

    def _proposals(self, raw: Raw, frame: int, found: Boxes, convention: str) -> Proposals:
        classes, queries, labels = self._pairs(raw["query_logits"][frame])
        values = raw["query_values"][frame][queries].astype(np.float32)
        scores = classes[queries, labels]
        readings = [
            natives(self._decoded(values, is_turned=is_turned), scores, labels, convention=convention)
            for is_turned in (False, True)
        ]
        boxes = next((one for one in readings if (match_rows(found, one) >= 0).all()), readings[0])
        features = raw["query_features"][frame][queries] if "query_features" in raw else None
        return Proposals(boxes, queries, features, classes[queries])

    def _pairs(self, logits: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Return class scores (Q, C), and queries and labels of the best pairs."""
        if self._is_sigmoid:
            classes = sigmoid(logits).astype(np.float32)
            queries, labels = best_pairs(classes, _MORE * self._most)
            return classes, queries, labels
        shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        classes = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
        labels = classes[:, :-1].argmax(axis=1).astype(np.int64)
        return classes, np.arange(len(labels)), labels

    def _decoded(self, values: NDArray[np.float32], *, is_turned: bool) -> NDArray[np.float32]:
        """Return boxes in the model's own convention, bottom centre."""
        x, y, z, first, second, height = (values[:, place] for place in self._layout)
        with np.errstate(over="ignore"):  # logarithms of sizes that never mean a box
            sizes = np.exp(np.stack([first, second, height], axis=1))
        yaw = np.arctan2(values[:, 6], values[:, 7])
        yaw = -yaw - np.float32(np.pi / 2) if is_turned else yaw
        where = np.stack([x, y, z - sizes[:, 2] / 2], axis=1)
        return np.concatenate([where, sizes, yaw[:, None], values[:, 8:10]], axis=1)


def query_family(name: str, heads: Sequence[str], architectures: frozenset[str], layout: Layout = _PETR) -> Family:
    """Return the family of a DETR-style head.

    Args:
        name: Of the family.
        heads: Class names of the head.
        architectures: Other names of it.
        layout: Order of the regressed numbers.
    """

    def matches(model: Any) -> tuple[str, ...] | None:
        return mmdet3d_evidence(model, heads)

    def build(model: Any, *, convention: str | None = None) -> QueryAdapter:
        return QueryAdapter(model, family=name, heads=heads, layout=layout, convention=convention)

    return Family(name, architectures, matches, build)


FAMILY = query_family(
    "mmdet3d-query", ("PETRHead", "PETRv2Head", "DETR3DHead", "Detr3DHead"), frozenset({"petr", "detr3d"})
)
