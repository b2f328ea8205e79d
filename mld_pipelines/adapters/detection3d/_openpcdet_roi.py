"""OpenPCDet with a second stage: Voxel R-CNN, PV-RCNN, Part-A², SECOND-IoU, PointRCNN.

Source: open-mmlab/OpenPCDet 8cacccec, `roi_heads/{roi_head_template,voxelrcnn_head,pvrcnn_head}.py` and
`post_processing` of `detector3d_template.py`. The RoI head overwrites `batch_cls_preds` with one score per RoI, so the
class comes from `roi_labels`, and the scores of all classes from the anchor that the RoI came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._native import as_tensor, detections, each_frame, natives
from mld_pipelines.adapters.detection3d._openpcdet import LABEL_OFFSET, OpenPCDetAdapter, openpcdet_evidence
from mld_pipelines.adapters.detection3d._peaks import sigmoid
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._sampling import sample_found
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Frame3D, Raw

__all__ = ["FAMILY", "RoiAdapter"]

_FEATURE = "roi_head.shared_fc_layer"
_MOST_ANCHORS = 4096
"""Best anchors among which the sources of the RoIs are looked for: `NMS_PRE_MAXSIZE` at test time is 1,024 or 2,048."""


class RoiAdapter(OpenPCDetAdapter):
    """Adapter of two-stage detectors."""

    def taps(self) -> Sequence[Tap]:
        """Return the layer whose output both branches of the second stage read, where the head has one."""
        shared = attribute(self.model, _FEATURE)
        return () if shared is None else (Tap("shared", shared, "output"),)

    def proposals(
        self, batch: Mapping[str, Any], tapped: Mapping[str, Any], found: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Return clones of what the second stage says of every RoI."""
        import torch

        boxes, classes, labels = (batch.get(name) for name in ("batch_box_preds", "batch_cls_preds", "roi_labels"))
        sampled = sample_found(batch.get("spatial_features_2d"), found, self.pc_range.value)
        if not isinstance(classes, torch.Tensor) or boxes is None or boxes.dim() != 3 or labels is None:
            return sampled
        raw = {"roi_boxes": as_tensor(boxes), "roi_classes": as_tensor(classes), "roi_labels": as_tensor(labels)}
        raw["roi_flags"] = torch.tensor(
            [bool(batch.get("cls_preds_normalized", False)), bool(batch.get("has_class_labels", False))]
        )
        features = tapped["shared"][-1] if len(tapped.get("shared") or ()) == 1 else None
        if features is not None and features.shape[0] == boxes.shape[0] * boxes.shape[1]:
            raw["roi_features"] = features.reshape(boxes.shape[0], boxes.shape[1], -1)
        return {**raw, **sampled, **self._first_stage(batch)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        post = attribute(self.model, "model_cfg.POST_PROCESSING")
        params = {"convention": self.convention, "raw_scores": bool(attribute(post, "OUTPUT_RAW_SCORE"))}
        return WorkerSpec(f"{__name__}:RoiDecoder", {**params, "classes": len(self.model.class_names)})

    def _first_stage(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the best anchors' logits of all classes, and the RoIs' own; nothing where the first stage has none."""
        import torch

        logits = attribute(self.model, "dense_head.forward_ret_dict.cls_preds")
        scores, classes = batch.get("roi_scores"), len(self.model.class_names)
        if not isinstance(logits, torch.Tensor) or scores is None or logits[0].numel() % classes or classes < 2:
            return {}
        logits = logits.detach().reshape(logits.shape[0], -1, classes).float()
        best = logits.amax(dim=2).topk(min(_MOST_ANCHORS, logits.shape[1]), dim=1).indices
        picked = logits.gather(1, best[:, :, None].expand(-1, -1, classes))
        return {"anchor_classes": picked, "roi_scores": as_tensor(scores)}


class RoiDecoder:
    """Decoder of two-stage detectors.

    Args:
        convention: Of the boxes.
        classes: Number of classes.
        raw_scores: The model returns logits (`OUTPUT_RAW_SCORE`).
    """

    def __init__(self, *, convention: str, classes: int, raw_scores: bool = False) -> None:
        self._convention = convention
        self._classes = classes
        self._raw_scores = raw_scores

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        if self._raw_scores and "roi_flags" in raw and not raw["roi_flags"][0]:
            raw = {**raw, "scores": sigmoid(raw["scores"]).astype(np.float32)}
        return [self._frame(raw, frame) for frame in each_frame(raw)]

    def _frame(self, raw: Raw, frame: int) -> Frame3D:
        found = detections(raw, frame, convention=self._convention, label_offset=LABEL_OFFSET)
        start, stop = raw["offsets"][frame : frame + 2]
        sampled = raw["sampled"][start:stop] if "sampled" in raw else None
        return frame_of(found, self._proposals(raw, frame), Features(_FEATURE, sampled, "backbone_2d"))

    def _proposals(self, raw: Raw, frame: int) -> Proposals | None:
        if "roi_boxes" not in raw:
            return None
        is_normalized, has_labels = raw["roi_flags"]
        scores = raw["roi_classes"][frame].astype(np.float64)
        scores = scores if is_normalized else sigmoid(scores)
        labels = raw["roi_labels"][frame].astype(np.int64) + LABEL_OFFSET if has_labels else scores.argmax(axis=1)
        best = scores.max(axis=1)
        features = raw.get("roi_features")
        return Proposals(
            natives(raw["roi_boxes"][frame], best, labels, convention=self._convention),
            index=np.arange(len(best)),
            features=None if features is None else features[frame].astype(np.float32),
            class_scores=scores.astype(np.float32)
            if scores.shape[1] == self._classes
            else self._class_scores(raw, frame, best, labels),
        )

    def _class_scores(
        self, raw: Raw, frame: int, scores: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the first stage's scores of all classes; where the anchor is uncertain, the RoI's in its own class."""
        vectors = np.zeros((len(scores), self._classes), np.float32)
        is_known = (labels >= 0) & (labels < self._classes)
        vectors[np.flatnonzero(is_known), labels[is_known]] = scores[is_known]
        if "anchor_classes" not in raw:
            return vectors
        anchors = raw["anchor_classes"][frame]
        source = _sources(raw["roi_scores"][frame], labels, anchors)
        vectors[source >= 0] = sigmoid(anchors[source[source >= 0]])
        return vectors


def _sources(logits: NDArray[Any], labels: NDArray[np.int64], anchors: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return the anchor each RoI came from, −1 where it is not certain.

    A RoI keeps its anchor's best logit bit by bit, so the anchor is the one with that logit in that class; if there
    are two of them, neither is taken.
    """
    best, classes = anchors.max(axis=1), anchors.argmax(axis=1)
    order = np.argsort(best, kind="stable")
    low = np.searchsorted(best[order], logits, side="left")
    high = np.searchsorted(best[order], logits, side="right")
    source = np.where(high - low == 1, order[np.minimum(low, len(order) - 1)], -1)
    return np.where((source >= 0) & (classes[source] == labels), source, -1)


def _matches(model: Any) -> tuple[str, ...] | None:
    evidence = openpcdet_evidence(model)
    head = getattr(model, "roi_head", None)
    return None if evidence is None or head is None else (*evidence, f"roi_head {type(head).__name__}")


def _build(model: Any, *, convention: str | None = None) -> RoiAdapter:
    return RoiAdapter(model, family=FAMILY.name, convention=convention)


FAMILY = Family(
    "openpcdet-roi",
    frozenset({"voxelrcnn", "pvrcnn", "pv-rcnn++", "parta2", "pointrcnn", "secondiou"}),
    _matches,
    _build,
)
