"""What the maps of the head should have been, and how far off they are: the losses of CenterPoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from examples.drive.model import PC_RANGE, STRIDE, VOXEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from examples.drive.frames import Frame

__all__ = ["Targets", "loss_of", "targets_of"]

SIDE = VOXEL * STRIDE
CELLS = round((PC_RANGE[3] - PC_RANGE[0]) / SIDE)
RADIUS = (2, 3, 2, 2)
"""Cells around a centre that are partly forgiven: 1.6 m, 2.4 m for trucks."""
WEIGHTS = {"reg": 0.5, "height": 0.25, "dim": 0.5, "rot": 0.5, "vel": 0.02}


class Targets(NamedTuple):
    """Targets of a batch.

    Attributes:
        heat: (B, C, H, W), 1 at centres, a Gaussian around.
        frame: (K,) row in the batch of each object.
        cell: (K,) flat cell of its centre.
        values: Regression targets, (K, ·) per branch.
    """

    heat: torch.Tensor
    frame: torch.Tensor
    cell: torch.Tensor
    values: dict[str, torch.Tensor]


def targets_of(frames: Sequence[Frame], classes: int) -> Targets:
    """Return the targets of a batch; objects without a single point ask nothing of anyone."""
    heat = np.zeros((len(frames), classes, CELLS, CELLS), np.float32)
    rows = []
    for number, frame in enumerate(frames):
        seen = frame.counts > 0
        boxes, labels = frame.boxes[seen], frame.labels[seen]
        place = (boxes[:, :2] - PC_RANGE[:2]) / SIDE
        _draw(heat[number], place.astype(np.int64), labels)
        rows.append(np.column_stack([np.full(len(boxes), number), place, boxes[:, 2:], frame.velocities[seen]]))
    table = np.concatenate(rows)
    place = table[:, 1:3]
    inside = place.astype(np.int64)
    values = {
        "reg": place - inside,
        "height": table[:, 3:4],
        "dim": np.log(table[:, 4:7]),
        "rot": np.stack([np.sin(table[:, 7]), np.cos(table[:, 7])], axis=1),
        "vel": table[:, 8:10],
    }
    return Targets(
        torch.from_numpy(heat),
        torch.from_numpy(table[:, 0].astype(np.int64)),
        torch.from_numpy(inside[:, 1] * CELLS + inside[:, 0]),
        {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()},
    )


def _draw(heat: np.ndarray, cells: np.ndarray, labels: np.ndarray) -> None:
    """Write Gaussians (sigma = diameter / 6) of these classes around these cells (x, y)."""
    for label, radius in enumerate(RADIUS):
        centres = cells[labels == label]
        offset = np.arange(-radius, radius + 1)
        bump = np.exp(-(offset[:, None] ** 2 + offset**2) / (2.0 * ((2 * radius + 1) / 6.0) ** 2))
        x = centres[:, 0, None, None] + offset[None, None, :] + 0 * offset[None, :, None]
        y = centres[:, 1, None, None] + offset[None, :, None] + 0 * offset[None, None, :]
        value = np.broadcast_to(bump, x.shape)
        on = (x >= 0) & (x < CELLS) & (y >= 0) & (y < CELLS)
        np.maximum.at(heat[label], (y[on], x[on]), value[on].astype(np.float32))


def loss_of(maps: Mapping[str, torch.Tensor], targets: Targets) -> torch.Tensor:
    """Return the focal loss of the heatmap plus the weighted L1 of the branches at true centres."""
    logits, heat = maps["heatmap"], targets.heat
    chance = logits.sigmoid()
    peak = (heat == 1.0).float()
    hit = peak * (1.0 - chance) ** 2 * torch.nn.functional.logsigmoid(logits)
    quiet = (1.0 - peak) * (1.0 - heat) ** 4 * chance**2 * torch.nn.functional.logsigmoid(-logits)
    number = max(1, len(targets.cell))
    total: torch.Tensor = -(hit.sum() + quiet.sum()) / number
    for name, weight in WEIGHTS.items():
        given = maps[name].flatten(2)[targets.frame, :, targets.cell]
        total = total + weight * (given - targets.values[name]).abs().sum() / number
    return total
