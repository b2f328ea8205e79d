"""OpenPCDet with an anchor head: PointPillar, SECOND, and everything else that ends at `AnchorHead…`.

Source: open-mmlab/OpenPCDet 8cacccec, `dense_heads/anchor_head_{template,single,multi}.py` and `post_processing` of
`detector3d_template.py`. After the forward pass `batch_cls_preds` (B, anchors, classes) and `batch_box_preds`
(B, anchors, 7+) lie in `batch_dict`; every detection is a row of them, unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._native import detections, each_frame, natives, segment
from mld_pipelines.adapters.detection3d._openpcdet import (
    LABEL_OFFSET,
    OpenPCDetAdapter,
    head_names,
    openpcdet_evidence,
)
from mld_pipelines.adapters.detection3d._peaks import sigmoid
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._sampling import sample_found
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Frame3D, Raw

__all__ = ["FAMILY", "AnchorAdapter"]

_MOST_ANCHORS = 4096
"""Best anchors of a frame that are looked at: `NMS_PRE_MAXSIZE` of all published configurations."""

_MAP = "backbone_2d"
"""The head's 1×1 convolutions read the output of this module, `spatial_features_2d`."""


class AnchorAdapter(OpenPCDetAdapter):
    """Adapter of the anchor heads."""

    def proposals(
        self,
        batch: Mapping[str, Any],
        tapped: Mapping[str, Any],  # noqa: ARG002 - nothing is tapped
        found: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Return the best anchors with the features of their cells.

        They are picked on the device: all anchors and the whole map would be 95 MB a frame for KITTI.
        """
        boxes, heads = batch.get("batch_box_preds"), _heads(batch)
        feature_map = batch.get("spatial_features_2d")
        if boxes is None or boxes.ndim != 3 or not heads:
            return {}
        picked: dict[str, Any] = _best_anchors(boxes, heads, self._limit())
        picked["normalized"] = _flag(batch.get("cls_preds_normalized", False))
        cells = self._cells(picked["index"], boxes.shape[1], heads, feature_map)
        if cells is not None:
            picked["features"] = _at_cells(batch["spatial_features_2d"], cells)
        sampled = sample_found(feature_map, found, self.pc_range.value)
        return {**sampled, **{f"proposed_{name}": value for name, value in picked.items()}}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        post = attribute(self.model, "model_cfg.POST_PROCESSING")
        return WorkerSpec(
            f"{__name__}:AnchorDecoder",
            {
                "convention": self.convention,
                "per_class": bool(attribute(post, "NMS_CONFIG.MULTI_CLASSES_NMS")),
                "raw_scores": bool(attribute(post, "OUTPUT_RAW_SCORE")),
                "head_labels": self._head_labels(),
            },
        )

    def _limit(self) -> int:
        wanted = attribute(self.model, "model_cfg.POST_PROCESSING.NMS_CONFIG.NMS_PRE_MAXSIZE")
        return min(int(wanted), _MOST_ANCHORS) if isinstance(wanted, (int, float)) else _MOST_ANCHORS

    def _head_labels(self) -> list[list[int]] | None:
        """Return the labels of the classes of each head of a multi-head, counted from 1."""
        heads = attribute(self.model, "dense_head.rpn_heads")
        if heads is None or not attribute(self.model, "dense_head.separate_multihead"):
            return None
        return [[int(label) for label in head.head_label_indices] for head in heads]

    def _cells(
        self, index: torch.Tensor, anchors: int, heads: list[torch.Tensor], feature_map: Any
    ) -> torch.Tensor | None:
        """Return the cell of the map behind each anchor row; None where the rows do not tell.

        A single head counts rows (cell, anchor). Heads with `USE_MULTIHEAD` count (anchor, cell), one after another.
        """
        if feature_map is None or feature_map.dim() != 4:
            return None
        cells = int(feature_map.shape[2]) * int(feature_map.shape[3])
        if not attribute(self.model, "dense_head.use_multihead"):
            return index // (anchors // cells) if anchors % cells == 0 and len(heads) == 1 else None
        return index % cells if all(head.shape[1] % cells == 0 for head in heads) else None


class AnchorDecoder:
    """Decoder of the anchor heads.

    Args:
        convention: Of the boxes.
        per_class: Each class of an anchor is a proposal of its own (`MULTI_CLASSES_NMS`).
        raw_scores: The model returns logits (`OUTPUT_RAW_SCORE`).
        head_labels: Labels of the classes of each head, counted from 1; None where one head knows all classes.
    """

    def __init__(
        self,
        *,
        convention: str,
        per_class: bool = False,
        raw_scores: bool = False,
        head_labels: list[list[int]] | None = None,
    ) -> None:
        self._convention = convention
        self._per_class = per_class
        self._raw_scores = raw_scores
        self._head_labels = head_labels

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        return [self._frame(self._scored(raw), frame) for frame in each_frame(raw)]

    def _scored(self, raw: Raw) -> Raw:
        normalized = bool(raw.get("proposed_normalized", np.zeros(1))[0])
        if not self._raw_scores or normalized:
            return raw
        return {**raw, "scores": sigmoid(raw["scores"]).astype(np.float32)}

    def _frame(self, raw: Raw, frame: int) -> Frame3D:
        found = detections(raw, frame, convention=self._convention, label_offset=LABEL_OFFSET)
        sampled = raw.get("sampled")
        features = Features(
            exact=_MAP,
            sampled=None if sampled is None else sampled[segment(raw["offsets"], frame)],
            sampled_from=_MAP,
        )
        return frame_of(found, self._proposals(raw, frame), features)

    def _proposals(self, raw: Raw, frame: int) -> Proposals | None:
        if "proposed_boxes" not in raw:
            return None
        classes = self._class_scores(raw, frame)
        rows, labels = _pairs(classes) if self._per_class else (np.arange(len(classes)), classes.argmax(axis=1))
        exact = raw.get("proposed_features")
        return Proposals(
            natives(
                raw["proposed_boxes"][frame][rows],
                classes[rows, labels],
                labels,
                convention=self._convention,
            ),
            index=raw["proposed_index"][frame][rows],
            features=None if exact is None else exact[frame][rows].astype(np.float32, copy=False),
            class_scores=classes[rows].astype(np.float32),
        )

    def _class_scores(self, raw: Raw, frame: int) -> NDArray[np.float64]:
        """Return (K, classes) scores; a class that an anchor's head does not know has 0."""
        scores: NDArray[np.float64] = raw["proposed_classes"][frame].astype(np.float64)
        if not bool(raw["proposed_normalized"][0]):
            scores = sigmoid(scores)
        if self._head_labels is None:
            return scores
        whole = np.zeros((len(scores), max(max(labels) for labels in self._head_labels)))
        head = raw["proposed_head"][frame]
        for place, labels in enumerate(self._head_labels):
            whole[np.ix_(head == place, np.array(labels) - 1)] = scores[head == place][:, : len(labels)]
        return whole


def _heads(batch: Mapping[str, Any]) -> list[torch.Tensor]:
    classes = batch.get("batch_cls_preds")
    heads: list[Any] = list(classes) if isinstance(classes, (list, tuple)) else [classes]
    return heads if all(head is not None and head.ndim == 3 for head in heads) else []


def _best_anchors(boxes: torch.Tensor, heads: list[torch.Tensor], limit: int) -> dict[str, torch.Tensor]:
    """Return boxes, class scores, row and head of the anchors with the best class, (B, K, …)."""
    import torch

    width = max(head.shape[2] for head in heads)
    padded = [torch.nn.functional.pad(head.detach(), (0, width - head.shape[2]), value=-torch.inf) for head in heads]
    classes = torch.cat(padded, dim=1)
    index = classes.amax(dim=2).topk(min(limit, classes.shape[1]), dim=1).indices
    places = torch.cat([torch.full((head.shape[1],), i, device=index.device) for i, head in enumerate(heads)])
    return {"boxes": _taken(boxes, index), "classes": _taken(classes, index), "index": index, "head": places[index]}


def _taken(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return values.detach().gather(1, index[:, :, None].expand(-1, -1, values.shape[2]))


def _at_cells(feature_map: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Return the features (B, K, C) of a map at cells (B, K)."""
    flat = feature_map.detach().flatten(2)
    return flat.gather(2, cells[:, None, :].expand(-1, flat.shape[1], -1)).transpose(1, 2).contiguous()


def _pairs(classes: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return every (anchor, class) with a score."""
    rows, labels = np.nonzero(classes > 0)
    return rows.astype(np.int64), labels.astype(np.int64)


def _flag(value: Any) -> torch.Tensor:
    import torch

    return torch.tensor([bool(value)])


def _matches(model: Any) -> tuple[str, ...] | None:
    evidence = openpcdet_evidence(model)
    if (
        evidence is None
        or "AnchorHeadTemplate" not in head_names(model)
        or getattr(model, "roi_head", None) is not None
    ):
        return None
    return (*evidence, f"dense_head {type(model.dense_head).__name__}")


def _build(model: Any, *, convention: str | None = None) -> AnchorAdapter:
    return AnchorAdapter(model, family=FAMILY.name, convention=convention)


FAMILY = Family("openpcdet-anchor", frozenset({"pointpillars", "pointpillar", "second"}), _matches, _build)
