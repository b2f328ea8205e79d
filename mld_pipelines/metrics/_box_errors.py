"""How far a matched detection is from its truth: translation, scale, orientation and velocity errors of nuScenes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.records import Detections3D, Truths3D

__all__ = ["BOX_ERRORS", "box_errors"]

BOX_ERRORS = ("ate", "ase", "aoe", "ave")
"""Rows of `box_errors`."""


def box_errors(
    detections: Detections3D,
    truths: Truths3D,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    half_turn: tuple[int, ...] = (),
) -> NDArray[np.float64]:
    """Return the errors of P matches, (4, P): ATE metres, ASE 1 − IoU of sizes, AOE radians, AVE m/s.

    Formulas of the nuScenes detection task: ground-plane distance of centres; 1 − IoU of the boxes laid upon each
    other; smallest turn between the yaws; length of the difference of velocities, NaN where one is unknown.

    Args:
        detections: What was found.
        truths: What is there.
        rows: Matched rows of detections and of truths, each (P,).
        half_turn: Labels whose yaw is only known up to half a turn (nuScenes: barrier).
    """
    found, real = detections.boxes[rows[0]], truths.boxes[rows[1]]
    shared = _volume(np.minimum(found[:, 3:6], real[:, 3:6]))
    union = _volume(found[:, 3:6]) + _volume(real[:, 3:6]) - shared
    velocity = detections.velocities[rows[0]] - truths.velocities[rows[1]]
    period = np.where(np.isin(detections.labels[rows[0]], half_turn), math.pi, 2 * math.pi)
    turn = (real[:, 6] - found[:, 6] + period / 2) % period - period / 2
    return np.stack(
        (
            _length(found[:, :2] - real[:, :2]),
            1.0 - shared / union,
            np.abs(np.where(turn > math.pi, turn - 2 * math.pi, turn)),
            _length(velocity),
        )
    )


def _volume(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = sizes[:, 0] * sizes[:, 1] * sizes[:, 2]
    return result


def _length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2)
    return result
