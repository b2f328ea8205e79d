"""PointPillars of zhulf0804: plain PyTorch with the boxes of mmdet3d 0.x.

Source: zhulf0804/PointPillars 620e6b0, `pointpillars/model/{pointpillars,anchors}.py`. The model takes a list of
point tensors and returns per frame a dict of arrays, or three empty lists if it found nothing. Anchors count (row,
column, class, rotation); the 1×1 convolutions of the head read the neck's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Call, Settings3D, Tap
from mld_pipelines.adapters.detection3d._families import Family
from mld_pipelines.adapters.detection3d._native import (
    detections,
    each_frame,
    known_convention,
    listed_clouds,
    natives,
    ragged,
    segment,
)
from mld_pipelines.adapters.detection3d._openpcdet import plain_decoder
from mld_pipelines.adapters.detection3d._peaks import sigmoid
from mld_pipelines.adapters.detection3d._rows import Features, Proposals, frame_of
from mld_pipelines.adapters.detection3d._sampling import sample_found
from mld_pipelines.adapters.detection3d._settings import first_found, first_range
from mld_pipelines.adapters.detection3d._signals import attribute
from mld_pipelines.compute import WorkerSpec
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from mld_pipelines.adapters.detection3d._contract import Frame3D, Raw

__all__ = ["FAMILY", "ZhulfAdapter"]

_SIGNS = ("pillar_layer", "pillar_encoder", "head", "nms_thr", "score_thr", "max_num")
_FEATURE = "head.conv_cls"
_MOST_ANCHORS = 300
"""Best anchors of a frame that are looked at; the model itself looks at `nms_pre`, 100."""


class ZhulfAdapter:
    """Adapter of zhulf0804's PointPillars.

    Args:
        model: The detector.
        convention: Convention of the boxes, if it is another one.
    """

    def __init__(self, model: Any, *, convention: str | None = None) -> None:
        self._model = model
        self._convention = known_convention(convention or "mmdet3d_v0")

    @property
    def family(self) -> str:
        """Name of the family."""
        return FAMILY.name

    @property
    def convention(self) -> str:
        """Convention of the boxes the model returns."""
        return self._convention

    @property
    def settings(self) -> Settings3D:
        """Thresholds: attributes of the model."""
        return Settings3D(
            score_thresh=first_found(self._model, ["score_thr"]),
            iou_thresh=first_found(self._model, ["nms_thr"]),
            max_detections_per_frame=first_found(self._model, ["max_num"]),
            pc_range=first_range(self._model, ["pillar_layer.voxel_layer.point_cloud_range"]),
        )

    def call(self, inputs: Any) -> Call:
        """Return the call with a list of frames."""
        given = inputs.get("batched_pts", inputs.get("points")) if isinstance(inputs, Mapping) else inputs
        if given is None:
            raise InvalidInputError(
                f"the inputs have the keys {sorted(map(str, inputs))}; this PointPillars needs `points`: one tensor "
                "(N, 4), or a list of them. The model was not called."
            )
        frames = listed_clouds(given)
        return Call(self._model, (frames,), {"mode": "test"}, len(frames))

    def taps(self) -> Sequence[Tap]:
        """Return the head: the map it reads, and its three outputs."""
        return (Tap("map", self._model.head, "input"), Tap("head", self._model.head, "output"))

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> Mapping[str, torch.Tensor]:
        """Return clones of the detections and of the best anchors, picked on the device."""
        raw = ragged([_found(one) for one in _listed(output)], frames=frames)
        feature_map = tapped["map"][-1][0] if tapped.get("map") else None
        raw |= sample_found(feature_map, raw, self.settings.pc_range.value)
        if feature_map is None or not tapped.get("head"):
            return raw
        most = max(_MOST_ANCHORS, int(getattr(self._model, "nms_pre", 0)))
        return {**raw, **_best_anchors(tapped["head"][-1], feature_map, int(self._model.nclasses), most)}

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        anchors = attribute(self._model, "anchors_generator")
        if not all(attribute(anchors, name) is not None for name in ("ranges", "sizes", "rotations")):
            return plain_decoder(self.convention, label_offset=0, sampled_from="neck")
        return WorkerSpec(
            f"{__name__}:ZhulfDecoder",
            {
                "convention": self.convention,
                "ranges": _plain(attribute(anchors, "ranges")),
                "sizes": _plain(attribute(anchors, "sizes")),
                "rotations": _plain(attribute(anchors, "rotations")),
            },
        )


class ZhulfDecoder:
    """Decoder of zhulf0804's PointPillars.

    Args:
        convention: Of the boxes.
        ranges: Per class (x1, y1, z, x2, y2, z) of the anchors, metres.
        sizes: Per class w, l, h, metres.
        rotations: Radians.
    """

    def __init__(
        self, *, convention: str, ranges: list[list[float]], sizes: list[list[float]], rotations: list[float]
    ) -> None:
        self._convention = convention
        self._ranges = np.asarray(ranges, np.float64)
        self._sizes = np.asarray(sizes, np.float64)
        self._rotations = np.asarray(rotations, np.float64)

    def __call__(self, raw: Raw) -> list[Frame3D]:
        """Return one frame per frame of the call."""
        return [
            frame_of(
                detections(raw, frame, convention=self._convention),
                self._proposals(raw, frame) if "anchor_index" in raw else None,
                Features(
                    _FEATURE, raw["sampled"][segment(raw["offsets"], frame)] if "sampled" in raw else None, "neck"
                ),
            )
            for frame in each_frame(raw)
        ]

    def _proposals(self, raw: Raw, frame: int) -> Proposals:
        """Return every class of every picked anchor: the model suppresses class by class."""
        index = raw["anchor_index"][frame]
        classes = sigmoid(raw["anchor_classes"][frame])
        boxes = self._boxes(index, raw["anchor_deltas"][frame], raw["anchor_turned"][frame], raw["map_shape"])
        rows = np.repeat(np.arange(len(index)), classes.shape[1])
        labels = np.tile(np.arange(classes.shape[1]), len(index))
        return Proposals(
            natives(boxes[rows], classes[rows, labels], labels, convention=self._convention),
            index=index[rows],
            features=raw["anchor_features"][frame][rows].astype(np.float32, copy=False),
            class_scores=classes[rows].astype(np.float32),
        )

    def _boxes(
        self, index: NDArray[np.int64], deltas: NDArray[Any], turned: NDArray[Any], shape: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return boxes x, y, bottom z, w, l, h, yaw (`anchors2bboxes` and the direction bins)."""
        turns, kinds = len(self._rotations), len(self._sizes)
        cells, kind, turn = index // (turns * kinds), index // turns % kinds, index % turns
        area = self._ranges[kind]
        step = (area[:, 3:5] - area[:, 0:2]) / shape[::-1]
        corner = np.stack([cells % shape[1], cells // shape[1]], axis=1)
        centre = area[:, 0:2] + (corner + 0.5) * step
        size, d = self._sizes[kind], deltas.astype(np.float64)
        centre = centre + d[:, 0:2] * np.hypot(size[:, 0], size[:, 1])[:, None]
        sizes = size * np.exp(d[:, 3:6])
        middle = (area[:, 2] + area[:, 5]) / 2 + size[:, 2] / 2 + d[:, 2] * size[:, 2]
        angle = self._rotations[turn] + d[:, 6]
        yaw = angle - np.floor(angle / np.pi + 1) * np.pi + (1 - turned.astype(np.float64)) * np.pi
        return np.column_stack([centre, middle - sizes[:, 2] / 2, sizes, yaw])


def _best_anchors(outputs: Any, feature_map: torch.Tensor, classes: int, most: int) -> dict[str, torch.Tensor]:
    """Return logits, deltas, direction and feature of the anchors with the best class, (B, K, …)."""
    import torch

    logits, deltas, turned = (_rows(each, width) for each, width in zip(outputs, (classes, 7, 2), strict=True))
    index = logits.amax(dim=2).topk(min(most, logits.shape[1]), dim=1).indices
    flat = feature_map.flatten(2)
    cells = index // (logits.shape[1] // flat.shape[2])
    return {
        "anchor_index": index,
        "anchor_classes": _taken(logits, index),
        "anchor_deltas": _taken(deltas, index),
        "anchor_turned": _taken(turned, index).argmax(dim=2),
        "anchor_features": _taken(flat.transpose(1, 2), cells),
        "map_shape": torch.tensor(feature_map.shape[-2:]),
    }


def _rows(maps: torch.Tensor, width: int) -> torch.Tensor:
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, width)


def _taken(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return values.gather(1, index[:, :, None].expand(-1, -1, values.shape[2]))


def _listed(output: Any) -> list[Any]:
    if isinstance(output, (list, tuple)) and all(isinstance(one, (Mapping, list, tuple)) for one in output):
        return list(output)
    raise InvalidInputError(
        f"this PointPillars returned {type(output).__name__} instead of a list with one result per frame; nothing was "
        "recorded. It was called with mode='test'."
    )


def _found(one: Any) -> dict[str, Any]:
    """Return the columns of a frame; nothing found is three empty lists."""
    if isinstance(one, Mapping):
        return {"boxes": one["lidar_bboxes"], "scores": one["scores"], "labels": one["labels"]}
    if all(len(part) == 0 for part in one):
        return {"boxes": [], "scores": [], "labels": []}
    raise InvalidInputError(
        f"a frame of the output is a {type(one).__name__} of {len(one)} parts; expected a dict with lidar_bboxes, "
        "scores and labels, or three empty lists. Nothing was recorded of this call."
    )


def _plain(value: Any) -> Any:
    return np.asarray(value, np.float64).tolist()


def _matches(model: Any) -> tuple[str, ...] | None:
    if not all(hasattr(model, name) for name in _SIGNS) or attribute(model, _FEATURE) is None:
        return None
    return (f"attributes {', '.join(_SIGNS)}",)


FAMILY = Family("zhulf-pointpillars", frozenset({"pointpillars"}), _matches, ZhulfAdapter)
