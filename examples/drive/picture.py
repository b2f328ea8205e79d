"""A frame seen from above as a deterministic SVG: `python -m examples.drive.picture docs/assets/drive.svg`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from examples.drive.datasets import PARTS
from examples.drive.frames import REACH, single_frames
from examples.drive.shapes import CLASS_NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from examples.drive.frames import Frame

__all__ = ["bird_eye", "main"]

COLOURS = ("#4269d0", "#ff725c", "#a463f2", "#3ca951")
"""One per class; told apart with the common colour-vision deficiencies, and by size anyway."""
CELL = 0.25
PIXELS = 10.0
"""Per metre."""


def bird_eye(frame: Frame, found: NDArray[np.float64] | None = None, labels: NDArray[np.int64] | None = None) -> str:
    """Return the picture: +x up, +y left, truth as thin outlines, what was found filled, a tick at each front.

    Args:
        frame: Points and truth.
        found: (N, 7+) canonical boxes of a detector.
        labels: (N,) their classes.
    """
    size = 2 * REACH * PIXELS
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size:.0f} {size + 24:.0f}" role="img" '
        f'aria-label="LiDAR frame {frame.frame_id} from above">',
        f'<rect width="{size:.0f}" height="{size + 24:.0f}" fill="#fff"/>',
        *_points(frame.points),
    ]
    if found is not None and labels is not None:
        parts += [_box(box, COLOURS[label], 'fill-opacity="0.35"') for box, label in zip(found, labels, strict=True)]
    seen = frame.counts > 0
    parts += [_box(box, "#111", 'fill="none"') for box in frame.boxes[seen]]
    parts.append(f'<rect y="{size:.0f}" width="{size:.0f}" height="24" fill="#fff"/>')
    for number, (name, colour) in enumerate(zip(CLASS_NAMES, COLOURS, strict=True)):
        x = 10 + 110 * number
        parts.append(f'<rect x="{x}" y="{size + 7:.0f}" width="12" height="12" fill="{colour}" fill-opacity="0.6"/>')
        parts.append(f'<text x="{x + 18}" y="{size + 18:.0f}" font-family="sans-serif" font-size="13">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _points(points: NDArray[np.float32]) -> list[str]:
    """Two paths, low points pale and high points dark; points that share a cell of 25 cm are drawn once."""
    near = points[np.abs(points[:, :2]).max(axis=1, initial=0.0) < REACH]
    paths = []
    for chosen, colour in ((near[:, 2] < -1.4, "#ccc"), (near[:, 2] >= -1.4, "#777")):
        cells = np.unique(np.floor((REACH - near[chosen, :2]) / CELL).astype(int), axis=0)
        marks = "".join(f"M{y * CELL * PIXELS:g} {x * CELL * PIXELS:g}h2" for x, y in cells)
        paths.append(f'<path d="{marks}" stroke="{colour}" stroke-width="2"/>')
    return paths


def _box(box: NDArray[np.float64], colour: str, style: str) -> str:
    """A rectangle with a tick from its centre to its front."""
    x, y, _, width, length, _, yaw = box[:7]
    ahead = np.array([np.cos(yaw), np.sin(yaw)]) * length / 2
    left = np.array([-np.sin(yaw), np.cos(yaw)]) * width / 2
    centre = np.array([x, y])
    corners = [centre + a * ahead + b * left for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    outline = "L".join(_place(corner) for corner in corners)
    tick = f"M{_place(centre)}L{_place(centre + ahead)}"
    fill = style if "fill=" in style else f'fill="{colour}" {style}'
    return f'<path d="M{outline}Z{tick}" {fill} stroke="{colour}"/>'


def _place(point: NDArray[np.float64]) -> str:
    return f"{(REACH - point[1]) * PIXELS:.1f} {(REACH - point[0]) * PIXELS:.1f}"


def main() -> None:
    """Write the picture of one validation frame with what the shipped detector finds at a score of 0.3 or more."""
    from examples.drive.model import load

    frame = next(single_frames(1, PARTS["val"][0], first=1))
    with torch.no_grad():
        found = load()([torch.from_numpy(frame.points)])[0]
    sure = found["scores_3d"] >= 0.3
    boxes, labels = found["boxes_3d"][sure].double().numpy(), found["labels_3d"][sure].numpy()
    Path(sys.argv[1]).write_text(bird_eye(frame, boxes, labels), encoding="utf-8")


if __name__ == "__main__":
    main()
