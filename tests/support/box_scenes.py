"""Boxes as they stand in traffic, and pairs that are hard to overlap rightly."""

from __future__ import annotations

import math

import numpy as np

#: Rough means of nuScenes' ten classes: width, length, height, metres.
SIZES = np.array(
    [
        [1.95, 4.6, 1.7],
        [0.7, 0.7, 1.8],
        [2.5, 6.9, 2.8],
        [2.9, 11.0, 3.5],
        [0.8, 2.1, 1.5],
        [2.5, 0.5, 1.0],
        [0.4, 0.4, 1.1],
        [0.6, 1.7, 1.3],
        [2.9, 12.0, 3.9],
        [2.85, 6.4, 3.2],
    ]
)


def random_boxes(rng, count, *, extent=102.4):
    """Canonical boxes of all classes, anywhere in a square around the sensor."""
    boxes = np.empty((count, 7))
    boxes[:, :2] = rng.uniform(-extent / 2, extent / 2, (count, 2))
    boxes[:, 2] = rng.normal(0.0, 0.5, count)
    boxes[:, 3:6] = SIZES[rng.integers(0, len(SIZES), count)] * rng.uniform(0.8, 1.2, (count, 3))
    boxes[:, 6] = rng.uniform(-math.pi, math.pi, count)
    return boxes


def detections(rng, count, truths, *, hit=0.5):
    """Boxes of which a share lies about those that are there."""
    boxes = random_boxes(rng, count, extent=float(np.ptp(truths[:, 0])))
    near = int(count * hit)
    boxes[:near] = truths[rng.integers(0, len(truths), near)]
    boxes[:near, :2] += rng.normal(0.0, 0.5, (near, 2))
    boxes[:near, 3:6] *= rng.uniform(0.85, 1.15, (near, 3))
    boxes[:near, 6] += rng.normal(0.0, 0.15, near)
    return boxes


def hard_pairs(rng, count):
    """Pairs by name, `count` of each kind: nearly equal, turned by quarters, contained, touching, thin, empty, far."""
    base = random_boxes(rng, count)
    kinds = {}
    for exponent in (2, 3, 4, 5, 6, 7, 8, 9, 10):
        kinds[f"jitter 1e-{exponent}"] = (base, _jittered(rng, base, 10.0**-exponent))
    for quarters in (1, 2, 3):
        kinds[f"turned by {quarters * 90}°"] = (base, _turned(base, quarters))
        size = 10.0 ** -rng.uniform(2, 10, (count, 1))
        kinds[f"turned by {quarters * 90}°, jitter"] = (base, _turned(_jittered(rng, base, size), quarters))
    kinds["contained"] = (base, _contained(rng, base))
    kinds["touching edges"] = _touching(rng, base)
    thin = _thin(rng, base)
    kinds["slivers"] = (thin, _jittered(rng, thin, 10.0 ** -rng.uniform(2, 10, (count, 1))))
    kinds["crossing slivers"] = (thin, _turned(_thin(rng, base), 1))
    kinds["zero size"] = (_empty(rng, base), _jittered(rng, base, 1e-3))
    far = base + np.array([1000.0, -1000.0, 0, 0, 0, 0, 0])
    kinds["1 km away"] = (far, _jittered(rng, far, 10.0 ** -rng.uniform(2, 10, (count, 1))))
    return kinds


def _jittered(rng, boxes, size):
    moved = boxes + size * rng.normal(0.0, 1.0, boxes.shape)
    moved[:, 3:6] = np.abs(moved[:, 3:6])
    return moved


def _turned(boxes, quarters):
    turned = boxes.copy()
    turned[:, 6] += quarters * math.pi / 2
    return turned


def _contained(rng, boxes):
    inner = boxes.copy()
    inner[:, 3:5] *= rng.uniform(0.1, 0.9, (len(boxes), 2))
    inner[::2, 6] += rng.normal(0.0, 0.05, len(boxes[::2]))
    return inner


def _touching(rng, boxes):
    """Straight boxes that share an edge exactly, with sizes and places that binary fractions hold."""
    first = boxes.copy()
    first[:, :6] = np.round(boxes[:, :6] * 8) / 8 + [0, 0, 0, 0.125, 0.125, 0.125]
    first[:, 6] = 0.0
    second = first.copy()
    second[:, 0] += first[:, 4]
    inside = len(boxes) // 3
    second[:inside, 0] = first[:inside, 0] + first[:inside, 4] / 4  # within, one edge in common
    second[:inside, 4] /= 2
    second[inside:, 1] += np.round(rng.uniform(-1, 1, len(boxes) - inside) * 8) / 8
    return first, second


def _thin(rng, boxes):
    thin = boxes.copy()
    thin[:, 3] = 10.0 ** -rng.uniform(1, 5, len(boxes))
    return thin


def _empty(rng, boxes):
    empty = boxes.copy()
    empty[::2, 3] = 0.0
    empty[1::3, 4] = 0.0
    return empty
