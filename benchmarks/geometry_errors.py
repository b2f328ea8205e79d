"""How wrong overlaps are where they are hard, judged by exact rational arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._report import Report, ratio_text
from benchmarks._torchvision import Torchvision
from mld_pipelines.geometry import bev_corners, bev_iou
from tests.support.box_scenes import hard_pairs, random_boxes
from tests.support.exact_overlap import exact_bev_iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

PEERS = ("numba", "shapely")
_PAIRS = 100_000
_PROMISED = 1e-6
_WRONG = 1e-3
"""An error that changes what counts as a match."""


def run(*, quick: bool, full: bool) -> Report:
    """Compare 100,000 hard pairs with exact rational arithmetic, and equal boxes with 1."""
    del full
    report = Report(
        "Largest error of the IoU from above, judged by exact rational arithmetic",
        ("pairs", "count", "ours", "of the promised 1e-6", "shapely", "torchvision", "torchvision off by > 1e-3"),
    )
    rng = np.random.default_rng(7)
    kinds = len(hard_pairs(rng, 1))
    peer = Torchvision.start(may_install=not quick)
    try:
        worst = _compare(report, hard_pairs(rng, 3 if quick else -(-_PAIRS // kinds)), peer)
    finally:
        if peer is not None:
            peer.close()
    report.at_most("every hard pair: error ≤ 1e-6", worst, _PROMISED, f"{worst:.1e}")
    same = _error_of_equal_boxes(rng, 100 if quick else _PAIRS)
    report.at_most("equal boxes at any yaw: IoU within 1e-12 of 1", same, 1e-12, f"{same:.1e}")
    report.notes.append(
        "Errors are absolute; the judge clips polygons without rounding. Slivers are 0.1 m to 10 µm wide. shapely and "
        "torchvision are good for generic scenes; replayed scenes and duplicates are made of nearly equal boxes."
    )
    return report


def _compare(
    report: Report, kinds: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], peer: Torchvision | None
) -> float:
    worst = 0.0
    for kind, (a, b) in kinds.items():
        exact = np.array([exact_bev_iou(*pair) for pair in zip(a, b, strict=True)])
        ours = float(np.abs(bev_iou(a, b, aligned=True) - exact).max())
        worst = max(worst, ours)
        theirs = None if peer is None else np.nan_to_num(np.abs(peer.aligned(a, b) - exact), nan=np.inf)
        report.add(
            kind,
            f"{len(a):,}",
            f"{ours:.1e}",
            ratio_text(ours / _PROMISED),
            f"{np.nan_to_num(np.abs(_shapely(a, b) - exact), nan=np.inf).max():.1e}",
            "not installed" if theirs is None else f"{theirs.max():.1e}",
            "not installed" if theirs is None else f"{np.mean(theirs > _WRONG):.1%}",
        )
    return worst


def _error_of_equal_boxes(rng: np.random.Generator, count: int) -> float:
    boxes = random_boxes(rng, count)
    return float(np.abs(bev_iou(boxes, boxes, aligned=True) - 1.0).max())


def _shapely(a: NDArray[np.float64], b: NDArray[np.float64]) -> Any:
    """Overlap of each pair; two boxes without extent overlap by nothing."""
    import shapely

    first, second = shapely.polygons(bev_corners(a)), shapely.polygons(bev_corners(b))
    shared = shapely.area(shapely.intersection(first, second))
    whole = shapely.area(first) + shapely.area(second) - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
