"""How good the detector is: nuScenes' detection metrics of `mld_pipelines`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from examples.drive.datasets import sample_of
from mld_pipelines.metrics import NuScenesPolicy, NuScenesState, nuscenes_metrics
from mld_pipelines.records import Detections3D, Truths3D

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from examples.drive.frames import Frame
    from mld_pipelines.metrics import NuScenesMetrics

__all__ = ["average_precision", "evaluated"]


def evaluated(
    model: Callable[[Sequence[torch.Tensor]], Sequence[Mapping[str, torch.Tensor]]],
    frames: Iterable[Frame],
    *,
    classes: int,
) -> NuScenesMetrics:
    """Return the metrics of a detector over frames; objects without a point do not count, as in nuScenes.

    Args:
        model: Returns `boxes_3d` (N, 9), `scores_3d`, `labels_3d` per frame.
        frames: With their truth.
        classes: Number of classes.
    """
    found, truth = [], []
    for frame in frames:
        points, target, _ = sample_of(frame)
        with torch.no_grad():
            one = {name: value.numpy() for name, value in model([points])[0].items()}
        boxes = one["boxes_3d"].astype(np.float64)
        columns = {"boxes": boxes[:, :7], "velocities": boxes[:, 7:9]}
        found.append({**columns, "scores": one["scores_3d"], "labels": one["labels_3d"]})
        truth.append({name.removesuffix("_3d"): value.numpy() for name, value in target.items()})
    policy = NuScenesPolicy(n_classes=classes)
    state = NuScenesState.of(Detections3D.from_frames(found), Truths3D.from_frames(truth), policy)
    return nuscenes_metrics(state)


def average_precision(
    model: Callable[[Sequence[torch.Tensor]], Sequence[Mapping[str, torch.Tensor]]],
    frames: Iterable[Frame],
    *,
    class_names: Sequence[str],
) -> dict[str, float]:
    """Return the AP at 2 m of every class; arguments as in `evaluated`."""
    metrics = evaluated(model, frames, classes=len(class_names))
    at = NuScenesPolicy(n_classes=1).distances.index(2.0)
    return {name: round(float(value), 4) for name, value in zip(class_names, metrics.ap[:, at], strict=True)}
