"""nuScenes detection: AP, true-positive errors, mAP and NDS from a state of matches, equal to the devkit's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.metrics._nuscenes_curves import Curves, mean_errors
from mld_pipelines.metrics._nuscenes_keys import scores_of
from mld_pipelines.metrics._nuscenes_state import TP_ERRORS, NuScenesPolicy, NuScenesState

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NuScenesMetrics", "nuscenes_metrics"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NuScenesMetrics:
    """AP and errors of the nuScenes detection task.

    Attributes:
        ap: (classes, distances) average precision.
        errors: (classes, 5) true-positive errors in the order of `TP_ERRORS`; NaN where undefined.
        mean_ap: Mean of `ap`; a class without truths counts as 0, as in the devkit.
        mean_errors: Mean by error over the classes where it is defined; NaN where it is nowhere.
        nds: nuScenes detection score, or None without attributes.
        nds_like: The same from the errors there are: no attributes, and no velocities where no truth has one; None
            where `nds` is not.
        truths: (classes,) number of truths.
        detections: (classes,) number of detections.
    """

    ap: NDArray[np.float64]
    errors: NDArray[np.float64]
    mean_ap: float
    mean_errors: dict[str, float]
    nds: float | None
    nds_like: float | None
    truths: NDArray[np.int64]
    detections: NDArray[np.int64]


def nuscenes_metrics(state: NuScenesState) -> NuScenesMetrics:
    """Return the metrics of a state (docs/method.md#nuscenes).

    Example:
        >>> from mld_pipelines.records import Detections3D, Truths3D
        >>> box, offsets = [[10, 0, 1, 2, 4, 1.5, 0]], [0, 1]
        >>> found = Detections3D(offsets=offsets, boxes=box, labels=[0], scores=[0.9])
        >>> real = Truths3D(offsets=offsets, boxes=box, labels=[0])
        >>> state = NuScenesState.of(found, real, NuScenesPolicy(n_classes=1))
        >>> round(nuscenes_metrics(state).mean_ap, 12)
        1.0

    Args:
        state: From `NuScenesState.of`, merged or not.
    """
    policy = state.policy
    first = round(100 * policy.min_recall) + 1
    at = policy.distances.index(policy.tp_distance)
    ap = np.zeros((policy.n_classes, len(policy.distances)))
    errors = np.ones((policy.n_classes, len(TP_ERRORS)))
    for label, own in enumerate(state.classes):
        columns = [column for column, hits in enumerate(own.hits) if len(hits)]
        if not columns:
            continue
        curves = Curves.of(own, columns)
        ap[label, columns] = _average_precision(curves.precision(), policy, first)
        if at in columns:
            confidence = curves.confidence(own, columns.index(at))
            errors[label] = mean_errors(own, confidence, scores_of(own.hits[at]), first)
    for label, name in policy.undefined:
        errors[label, TP_ERRORS.index(name)] = np.nan
    if not state.has_attributes:
        errors[:, TP_ERRORS.index("attr_err")] = np.nan
    if not (state.has_attributes or state.has_velocities):
        errors[:, TP_ERRORS.index("vel_err")] = np.nan
    means = {name: _nanmean(errors[:, column]) for column, name in enumerate(TP_ERRORS)}
    # the devkit averages over distances first; the order decides the last bit
    mean_ap = float(np.mean(ap.mean(axis=1)))
    score = _score(mean_ap, means, policy)
    return NuScenesMetrics(
        ap=ap,
        errors=errors,
        mean_ap=mean_ap,
        mean_errors=means,
        nds=score if state.has_attributes else None,
        nds_like=None if state.has_attributes else score,
        truths=np.array([own.truths for own in state.classes], np.int64),
        detections=np.array([sum(map(len, own.runs)) for own in state.classes], np.int64),
    )


def _average_precision(precision: NDArray[np.float64], policy: NuScenesPolicy, first: int) -> NDArray[np.float64]:
    """Return the mean precision beyond the least one, of the recalls beyond the least one."""
    kept = np.ascontiguousarray(precision[:, first:]) - policy.min_precision
    kept[kept < 0] = 0
    result: NDArray[np.float64] = np.mean(kept, axis=1) / (1.0 - policy.min_precision)
    return result


def _nanmean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _score(mean_ap: float, means: dict[str, float], policy: NuScenesPolicy) -> float:
    scores = [max(0.0, 1.0 - mean) for mean in means.values() if not np.isnan(mean)]
    return float(policy.map_weight * mean_ap + np.sum(scores)) / (policy.map_weight + len(scores))
