"""A 3D detector of plain torch with an adapter of its own: what tracer and logger see of any family."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from mld_pipelines.adapters.detection3d import Call, Candidates3D, Frame3D, Setting, Settings3D, Tap
from mld_pipelines.compute import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Detector(nn.Module):
    """One box per four points: their mean, a size that depends on it, and a score from a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, clouds: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Return boxes, scores and labels of every cloud."""
        found = []
        for points in clouds:
            groups = points[: len(points) // 4 * 4].reshape(-1, 4, points.shape[1])[..., :4].mean(dim=1)
            scores = self.head(torch.relu(self.body(groups))).sigmoid()
            sizes = torch.tensor([1.8, 4.2, 1.5]).expand(len(groups), 3)
            boxes = torch.cat([groups[:, :3], sizes, torch.zeros(len(groups), 1)], dim=1)
            best, labels = scores.max(dim=1)
            found.append({"boxes_3d": boxes, "scores_3d": best, "labels_3d": labels})
        return found


class Adapter:
    """Reads `Detector`; its boxes are canonical already."""

    family = "plain"
    convention = "canonical"

    def __init__(self, model: Detector) -> None:
        self._model = model

    @property
    def settings(self) -> Settings3D:
        """The model says nothing but its range."""
        unknown = Setting(None, "fallback")
        return Settings3D(unknown, unknown, unknown, Setting((-50.0, -50.0, -3.0, 50.0, 50.0, 3.0), "model:pc_range"))

    def call(self, inputs: Any) -> Call:
        """Return the call for a tensor, a list or a dict of points."""
        clouds = inputs["points"] if isinstance(inputs, dict) else inputs
        clouds = clouds if isinstance(clouds, list) else [clouds]
        return Call(self._model, (clouds,), {}, len(clouds))

    def taps(self) -> Sequence[Tap]:
        """Return the head's input and output."""
        return Tap("feature", self._model.head, "input"), Tap("scores", self._model.head, "output")

    def collect(self, output: Any, tapped: Mapping[str, Any], *, frames: int) -> dict[str, torch.Tensor]:
        """Clone what the decoder needs."""
        counts = torch.tensor([0, *(len(frame["scores_3d"]) for frame in output)]).cumsum(0)
        assert frames == len(output)
        return {
            "offsets": counts,
            "boxes": torch.cat([frame["boxes_3d"] for frame in output]).detach().clone(),
            "labels": torch.cat([frame["labels_3d"] for frame in output]).detach().clone(),
            "scores": torch.cat([frame["scores_3d"] for frame in output]).detach().clone(),
            "features": torch.cat([args[0] for args in tapped["feature"]]),
            "classes": torch.cat(tapped["scores"]).sigmoid(),
        }

    def decoder(self) -> WorkerSpec:
        """Return the decoder by name."""
        return WorkerSpec("tests.support.detector3d:Decoder")


class Decoder:
    """Cuts the arrays of a call into frames; every box below 0.3 counts as suppressed too."""

    def __call__(self, raw: Mapping[str, Any]) -> list[Frame3D]:
        """Return the frames of a call."""
        offsets = raw["offsets"]
        return [self._frame(raw, slice(int(a), int(b))) for a, b in pairwise(offsets)]

    @staticmethod
    def _frame(raw: Mapping[str, Any], rows: slice) -> Frame3D:
        boxes, scores = raw["boxes"][rows].astype(np.float64), raw["scores"][rows]
        index = np.arange(len(scores))
        low = np.flatnonzero(scores < 0.3)
        low = low[np.argsort(-scores[low], kind="stable")]
        return Frame3D(
            boxes=boxes,
            velocities=np.full((len(boxes), 2), np.nan),
            scores=scores,
            labels=raw["labels"][rows].astype(np.int64),
            class_scores=raw["classes"][rows],
            class_space="sigmoid",
            features=raw["features"][rows],
            feature_source="head",
            candidate_index=index,
            candidates=Candidates3D(boxes[low], scores[low], raw["labels"][rows][low], low, None),
        )
