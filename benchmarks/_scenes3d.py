"""Random scenes for detection metrics as plain arrays, made with NumPy alone so that the peers' environment can too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["driving_scene", "image_scene", "kitti_scene"]

_SHARES = np.array([0.42, 0.08, 0.02, 0.03, 0.02, 0.19, 0.02, 0.02, 0.08, 0.12])
_SIZES = np.array(
    [
        [1.95, 4.6, 1.7],
        [2.5, 6.9, 2.8],
        [2.9, 11, 3.4],
        [2.9, 12, 3.9],
        [2.8, 6.4, 3.2],
        [0.67, 0.73, 1.77],
        [0.77, 2.1, 1.5],
        [0.6, 1.7, 1.3],
        [0.41, 0.41, 1.07],
        [2.5, 0.5, 1.0],
    ]
)
"""Width, length, height of the ten nuScenes classes, metres: what the anchor measurement of the devkit used."""

KITTI_NAMES = ("Car", "Pedestrian", "Cyclist", "Van", "Person_sitting", "DontCare")
_KITTI_SIZES = np.array([[1.6, 3.9, 1.56], [0.6, 0.8, 1.73], [0.6, 1.76, 1.73], [1.9, 5.0, 2.2], [0.6, 0.8, 1.3]])


def driving_scene(
    frames: int, detections: int, *, seed: int, awkward: bool = False
) -> dict[str, NDArray[np.floating | np.integer]]:
    """Return detections and truths of ten classes in 100 m × 100 m, three of ten detections near a truth.

    Args:
        frames: Frames.
        detections: Detections in each.
        seed: Of the generator.
        awkward: Adds what is rare: tied and zero scores, unknown velocities, empty frames, a class without truths and
            one without detections.
    """
    g = np.random.default_rng(seed)
    counts = g.poisson(31.5, frames)
    per_frame = np.full(frames, detections)
    if awkward:
        counts[:: max(1, frames // 3)] = 0
        per_frame[1 :: max(1, frames // 2)] = 0
    truth = _objects(g, int(counts.sum()))
    found = _objects(g, int(per_frame.sum()))
    frame = np.repeat(np.arange(frames), per_frame)
    start = np.concatenate(([0], np.cumsum(counts)))
    hit = np.flatnonzero((counts[frame] > 0) & (g.random(len(frame)) < 0.3))
    source = start[frame[hit]] + (g.random(len(hit)) * counts[frame[hit]]).astype(int)
    found["labels"][hit] = truth["labels"][source]
    found["attributes"][hit] = truth["attributes"][source]
    found["boxes"][hit] = truth["boxes"][source]
    found["boxes"][hit, :2] += g.normal(0, 0.6, (len(hit), 2))
    found["boxes"][hit, 3:6] *= g.uniform(0.8, 1.2, (len(hit), 3))
    found["boxes"][hit, 6] += g.normal(0, 0.2, len(hit))
    found["velocities"][hit] = truth["velocities"][source] + g.normal(0, 0.4, (len(hit), 2))
    changed = g.random(len(frame)) < 0.2
    found["attributes"] = np.where(changed, g.integers(-1, 3, len(frame)), found["attributes"])
    scores = g.random(len(frame)) * 0.6
    scores[hit] += 0.3
    if awkward:
        _make_awkward(g, found, truth, scores)
    arrays = {f"detection_{name}": values for name, values in found.items()}
    arrays |= {f"truth_{name}": values for name, values in truth.items()}
    arrays["detection_scores"] = scores.astype(np.float32)
    arrays["detection_offsets"] = np.concatenate(([0], np.cumsum(per_frame)))
    arrays["truth_offsets"] = start
    return arrays


def _objects(g: np.random.Generator, n: int) -> dict[str, NDArray[np.floating | np.integer]]:
    labels = g.choice(len(_SHARES), n, p=_SHARES / _SHARES.sum())
    boxes = np.concatenate(
        (
            g.uniform(-50, 50, (n, 2)),
            g.uniform(-2, 1, (n, 1)),
            _SIZES[labels] * g.uniform(0.8, 1.2, (n, 3)),
            g.uniform(-np.pi, np.pi, (n, 1)),
        ),
        axis=1,
    )
    return {"boxes": boxes, "labels": labels, "velocities": g.normal(0, 2, (n, 2)), "attributes": g.integers(-1, 3, n)}


def _make_awkward(g: np.random.Generator, found: dict, truth: dict, scores: NDArray[np.floating]) -> None:
    scores[:] = np.round(scores, 2)  # ties
    scores[g.random(len(scores)) < 0.05] = 0.0
    found["velocities"][g.random(len(scores)) < 0.1] = np.nan
    truth["velocities"][g.random(len(truth["labels"])) < 0.1] = np.nan
    truth["labels"][truth["labels"] == 3] = 0  # a class that is not there
    found["labels"][found["labels"] == 4] = 0  # one that is never found
    truth["attributes"][truth["labels"] == 6] = -1  # one without attributes


def kitti_scene(frames: int, *, seed: int) -> dict[str, NDArray[np.floating | np.integer]]:
    """Return KITTI-like frames: canonical boxes, image boxes, occlusion, truncation, regions nobody cares for.

    Args:
        frames: Frames.
        seed: Of the generator.
    """
    g = np.random.default_rng(seed)
    counts, noise = g.integers(1, 15, frames), g.integers(0, 12, frames)
    n = int(counts.sum())
    labels = g.choice(6, n, p=[0.4, 0.2, 0.12, 0.1, 0.06, 0.12])
    boxes, image = _kitti_boxes(g, np.minimum(labels, 4))
    repeats = g.choice([0, 1, 2], n, p=[0.15, 0.65, 0.2])
    repeats[labels == 5] = g.integers(0, 2, int((labels == 5).sum()))
    source = np.repeat(np.arange(n), repeats)
    near, near_image = boxes[source].copy(), image[source] + g.normal(0, 1.5, (len(source), 4))
    near[:, :3] += g.normal(0, 0.12, (len(source), 3))
    near[:, 3:6] *= g.uniform(0.93, 1.07, (len(source), 3))
    near[:, 6] += g.normal(0, 0.08, len(source))
    near_label = np.where(g.random(len(source)) < 0.1, g.integers(0, 3, len(source)), labels[source] % 3)
    far_label = g.integers(0, 3, int(noise.sum()))
    far, far_image = _kitti_boxes(g, far_label)
    owner = np.concatenate((np.repeat(np.arange(frames), counts)[source], np.repeat(np.arange(frames), noise)))
    order = np.argsort(owner, kind="stable")
    scores = np.concatenate((g.beta(4, 2, len(source)), g.beta(2, 4, len(far))))
    return {
        "truth_boxes": boxes,
        "truth_labels": labels,
        "truth_image": image,
        "occluded": g.choice(4, n, p=[0.55, 0.2, 0.15, 0.1]),
        "truncated": g.choice([0.0, 0.1, 0.25, 0.4, 0.6], n, p=[0.5, 0.2, 0.1, 0.1, 0.1]),
        "truth_offsets": np.concatenate(([0], np.cumsum(counts))),
        "detection_boxes": np.concatenate((near, far))[order],
        "detection_labels": np.concatenate((near_label, far_label))[order],
        "detection_image": np.concatenate((near_image, far_image))[order],
        "detection_scores": scores[order].astype(np.float32),
        "detection_offsets": np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=frames)))),
    }


def _kitti_boxes(
    g: np.random.Generator, labels: NDArray[np.integer]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    n = len(labels)
    sizes = _KITTI_SIZES[labels] * g.uniform(0.9, 1.1, (n, 3))
    boxes = np.concatenate(
        (
            g.uniform(5, 50, (n, 1)),
            g.uniform(-15, 15, (n, 1)),
            g.uniform(-1.2, -0.6, (n, 1)),
            sizes,
            g.uniform(-np.pi, np.pi, (n, 1)),
        ),
        axis=1,
    )
    height = 721.5 * sizes[:, 2] / boxes[:, 0]
    width = 721.5 * sizes[:, 1] / boxes[:, 0]
    u, v = 609.6 - 721.5 * boxes[:, 1] / boxes[:, 0], 172.9 - 721.5 * boxes[:, 2] / boxes[:, 0]
    return boxes, np.stack((u - width / 2, v - height / 2, u + width / 2, v + height / 2), axis=1)


def image_scene(images: int, *, seed: int) -> dict[str, NDArray[np.floating | np.integer]]:
    """Return boxes (x, y, width, height) of four classes in images, predictions with every kind of error.

    Args:
        images: Images.
        seed: Of the generator.
    """
    g = np.random.default_rng(seed)
    counts = g.integers(0, 8, images)
    n = int(counts.sum())
    labels = g.integers(0, 4, n)
    boxes = np.concatenate((g.uniform(0, 200, (n, 2)), g.uniform(20, 80, (n, 2))), axis=1)
    source = np.repeat(np.arange(n), g.integers(0, 4, n))
    spread = g.choice([0.02, 0.1, 0.25, 0.5], (len(source), 1))
    moved = boxes[source] + g.normal(0, 1, (len(source), 4)) * spread * boxes[source][:, [2, 3, 2, 3]]
    moved[:, 2:] = np.maximum(moved[:, 2:], 2.0)
    noise = g.integers(0, 4, images)
    background = np.concatenate((g.uniform(0, 200, (noise.sum(), 2)), g.uniform(20, 80, (noise.sum(), 2))), axis=1)
    owner = np.concatenate((np.repeat(np.arange(images), counts)[source], np.repeat(np.arange(images), noise)))
    found = np.where(g.random(len(source)) < 0.25, g.integers(0, 4, len(source)), labels[source])
    order = np.argsort(owner, kind="stable")
    return {
        "truth_boxes": boxes,
        "truth_labels": labels,
        "truth_offsets": np.concatenate(([0], np.cumsum(counts))),
        "detection_boxes": np.concatenate((moved, background))[order],
        "detection_labels": np.concatenate((found, g.integers(0, 4, len(background))))[order],
        "detection_scores": np.round(g.random(len(owner)), 2),
        "detection_offsets": np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=images)))),
    }
