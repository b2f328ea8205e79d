"""Overlap of rectangles in exact rational arithmetic: clipping without rounding, a judge for every other way."""

from __future__ import annotations

import math
from fractions import Fraction

Point = tuple[Fraction, Fraction]


def exact_bev_iou(a, b) -> float:
    """IoU from above of two canonical boxes, exact for the float64 numbers given (and their rounded sines)."""
    first, second = rectangle(a), rectangle(b)
    shared = area(intersection(first, second))
    whole = area(first) + area(second) - shared
    return float(shared / whole) if whole else 0.0


def exact_iou_3d(a, b) -> float:
    """IoU in space of two upright canonical boxes."""
    first, second = rectangle(a), rectangle(b)
    (low, high), (bottom, top) = span(a), span(b)
    shared = area(intersection(first, second)) * max(min(high, top) - max(low, bottom), Fraction(0))
    whole = area(first) * (high - low) + area(second) * (top - bottom) - shared
    return float(shared / whole) if whole else 0.0


def span(box) -> tuple[Fraction, Fraction]:
    """Bottom and top of a box."""
    z, h = Fraction(float(box[2])), Fraction(float(box[5]))
    return z - h / 2, z + h / 2


def rectangle(box) -> list[Point]:
    """Corners, counter-clockwise, with sine and cosine rounded to float64 and nothing else."""
    x, y, w, long = (Fraction(float(box[column])) for column in (0, 1, 3, 4))
    c, s = Fraction(math.cos(float(box[6]))), Fraction(math.sin(float(box[6])))
    ends = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return [(x + (c * i * long - s * j * w) / 2, y + (s * i * long + c * j * w) / 2) for i, j in ends]


def area(polygon: list[Point]) -> Fraction:
    """Area of a counter-clockwise polygon (shoelace formula)."""
    pairs = zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)
    return sum(((x * v - u * y) for (x, y), (u, v) in pairs), Fraction(0)) / 2


def intersection(polygon: list[Point], window: list[Point]) -> list[Point]:
    """Part of a convex polygon inside a counter-clockwise convex window (Sutherland and Hodgman, 1974)."""
    for begin, end in zip(window, [*window[1:], *window[:1]], strict=True):
        polygon = halved(polygon, begin, end)
    return polygon


def halved(polygon: list[Point], begin: Point, end: Point) -> list[Point]:
    """Part of a convex polygon on the left of a line."""
    along, up = end[0] - begin[0], end[1] - begin[1]
    side = [along * (y - begin[1]) - up * (x - begin[0]) for x, y in polygon]
    kept = []
    for i, (here, there) in enumerate(zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)):
        now, then = side[i], side[(i + 1) % len(polygon)]
        if now >= 0:
            kept.append(here)
        if now * then < 0:
            share = now / (now - then)
            kept.append((here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])))
    return kept
