"""AP at 2 m between centres seen from above: the middle one of nuScenes' four thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from examples.drive.frames import Frame
    from examples.drive.model import PillarDetector

__all__ = ["average_precision"]


def average_precision(model: PillarDetector, frames: Iterable[Frame]) -> dict[str, float]:
    """Return the AP of every class; objects without a point do not count, as in nuScenes."""
    scores, hits, labels, total = [], [], [], np.zeros(len(model.class_names))
    for frame in frames:
        with torch.no_grad():
            found = {name: value.numpy() for name, value in model([torch.from_numpy(frame.points)])[0].items()}
        seen = frame.counts > 0
        total += np.bincount(frame.labels[seen], minlength=len(total))
        distance = np.linalg.norm(found["boxes_3d"][:, None, :2] - frame.boxes[seen][None, :, :2], axis=2)
        distance[found["labels_3d"][:, None] != frame.labels[seen]] = np.inf
        for row in range(len(distance)):
            best = int(distance[row].argmin()) if distance.shape[1] else 0
            hit = distance.shape[1] > 0 and distance[row, best] < 2.0
            if hit:
                distance[:, best] = np.inf
            hits.append(hit)
        scores.append(found["scores_3d"])
        labels.append(found["labels_3d"])
    score, hit, label = np.concatenate(scores), np.array(hits), np.concatenate(labels)
    return {
        name: _area(score[label == row], hit[label == row], total[row]) for row, name in enumerate(model.class_names)
    }


def _area(scores: np.ndarray, hits: np.ndarray, total: float) -> float:
    """Mean of max(precision − 0.1, 0) / 0.9 at recalls 0.11 … 1.00, interpolated."""
    hits = hits[np.argsort(-scores, kind="stable")]
    if not hits.any():
        return 0.0
    found = np.cumsum(hits)
    precision = np.interp(np.linspace(0, 1, 101), found / total, found / np.arange(1, len(hits) + 1), right=0)
    return round(float(np.maximum(precision[11:] - 0.1, 0.0).mean() / 0.9), 4)
