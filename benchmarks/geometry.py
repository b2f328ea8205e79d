"""Overlap of rotated boxes and their suppression on one thread, against torchvision, shapely and our own fallback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._report import Report, ratio_text, seconds_text
from benchmarks._timing import interleaved, median, seconds_of, uncollected
from benchmarks._torchvision import Torchvision
from mld_pipelines.geometry import bev_corners, bev_iou, bev_nms, engine
from tests.support.box_scenes import detections, random_boxes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PEERS = ("numba", "shapely")
_IOU_THRESH = 0.2
_OURS = "ours"
_TV = "torchvision"


def run(*, quick: bool, full: bool) -> Report:
    """Time overlap tables of two scenes, and suppression of two sizes."""
    del full
    report = Report(
        f"Overlap of rotated boxes and suppression, float64, one thread, {engine()}",
        ("what", "boxes", "time", "per second", "ours is faster"),
    )
    peer = Torchvision.start(may_install=not quick)
    try:
        _overlaps(report, peer, quick=quick)
    finally:
        if peer is not None:
            peer.close()
    _suppressions(report, quick=quick)
    report.notes.append(
        "Boxes go in as arrays; checking them, sines, cosines and the result's memory are part of the time."
    )
    report.notes.append(
        "frame: 500 detections × 60 truths in 102 m; crowd: 1,000 × 1,000 in 40 m, where 5 % of the circles meet; "
        "suppression: 90 % of the boxes lie about 3 to 5 % as many objects in 102 m, IoU 0.2."
    )
    if peer is None:
        report.notes.append("torchvision is missing: its environment in build/bench-torchvision could not be built.")
    else:
        report.notes.append(
            f"torchvision {peer.version}, float32, one thread, tensors ready, in a process of its own: what PyPI has "
            "cannot be imported beside a CPU build of torch."
        )
    return report


def _overlaps(report: Report, peer: Torchvision | None, *, quick: bool) -> None:
    rng = np.random.default_rng(1)
    truths, crowd = random_boxes(rng, 60), random_boxes(rng, 50 if quick else 1_000, extent=40.0)
    scenes = {
        "frame": (detections(rng, 60 if quick else 500, truths), truths),
        "crowd": (detections(rng, len(crowd), crowd), crowd),
    }
    for name, (a, b) in scenes.items():
        apart = float(np.abs(bev_iou(a, b) - _shapely_iou(a, b)).max())
        report.at_most(f"{name}: difference from shapely ≤ 1e-9", apart, 1e-9, f"{apart:.1e}")
        pairs = len(a) * len(b)
        spent = _overlap_times(name, a, b, peer, repeats=2 if quick else 9)
        for what, seconds in spent.items():
            faster = "" if what == _OURS else ratio_text(seconds / spent[_OURS])
            report.add(
                f"bev_iou: {what}", f"{name}, {pairs:,} pairs", seconds_text(seconds), _rate(pairs, seconds), faster
            )
        if _TV in spent:
            faster = spent[_TV] / spent[_OURS]
            promise = f"{name}: bev_iou ≥ 15 × torchvision's (moonshot 30 ×)"
            report.at_least(promise, faster, 15.0, ratio_text(faster))


def _overlap_times(
    name: str, a: NDArray[np.float64], b: NDArray[np.float64], peer: Torchvision | None, *, repeats: int
) -> dict[str, float]:
    inner = max(1, 1_000_000 // (len(a) * len(b)))
    actions: dict[str, Callable[[], object]] = {
        _OURS: lambda: [bev_iou(a, b) for _ in range(inner)],
        "ours, without numba": lambda: _without_numba(lambda: bev_iou(a, b)),
        "shapely, STRtree": lambda: _shapely_iou(a, b),
    }
    spent = {what: median(times) for what, times in interleaved(actions, repeats=repeats).items()}
    spent[_OURS] /= inner
    if peer is not None:
        peer.load(name, a, b)
        theirs, ours = [], []
        for _ in range(repeats):  # in turns: the two processes never run at once
            theirs.append(peer.seconds(name, repeats=inner))
            with uncollected():
                ours.append(seconds_of(actions[_OURS]) / inner)
        spent[_TV], spent[_OURS] = median(theirs), median(ours)
    return spent


def _suppressions(report: Report, *, quick: bool) -> None:
    rng = np.random.default_rng(3)
    for count, objects in ((200, 20),) if quick else ((1_000, 60), (4_096, 200)):
        boxes = detections(rng, count, random_boxes(rng, objects), hit=0.9)
        scores = rng.random(count)
        kept = bev_nms(boxes, scores, _IOU_THRESH)
        other = int((~np.isin(kept, _shapely_nms(boxes, scores))).sum()) + abs(
            len(kept) - len(_shapely_nms(boxes, scores))
        )
        report.at_most(f"{count:,} boxes: none kept that shapely's suppression does not keep", other, 0, str(other))
        spent = _suppression_times(boxes, scores, repeats=2 if quick else 9)
        for what, seconds in spent.items():
            faster = "" if what == _OURS else ratio_text(seconds / spent[_OURS])
            size = f"{count:,}, {len(kept):,} kept"
            report.add(f"bev_nms: {what}", size, seconds_text(seconds), _rate(count, seconds), faster)
        faster = spent["shapely, STRtree and greedy"] / spent[_OURS]
        moonshot = " (moonshot 1,000 ×)" if count == 4_096 else ""
        promise = f"{count:,} boxes: bev_nms ≥ 100 × shapely's STRtree with greedy suppression{moonshot}"
        report.at_least(promise, faster, 100.0, ratio_text(faster))


def _suppression_times(boxes: NDArray[np.float64], scores: NDArray[np.float64], *, repeats: int) -> dict[str, float]:
    inner = 20
    actions: dict[str, Callable[[], object]] = {
        _OURS: lambda: [bev_nms(boxes, scores, _IOU_THRESH) for _ in range(inner)],
        "ours, without numba": lambda: _without_numba(lambda: bev_nms(boxes, scores, _IOU_THRESH)),
        "shapely, STRtree and greedy": lambda: _shapely_nms(boxes, scores),
    }
    spent = {what: median(times) for what, times in interleaved(actions, repeats=repeats).items()}
    return {**spent, _OURS: spent[_OURS] / inner}


def _without_numba(action: Callable[[], object]) -> object:
    from mld_pipelines.geometry import _jit

    kept, _jit.AVAILABLE = _jit.AVAILABLE, False
    try:
        return action()
    finally:
        _jit.AVAILABLE = kept


def _shapely_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    import shapely

    first, second = shapely.polygons(bev_corners(a)), shapely.polygons(bev_corners(b))
    i, j = shapely.STRtree(second).query(first)
    shared = shapely.area(shapely.intersection(first[i], second[j]))
    out = np.zeros((len(a), len(b)))
    out[i, j] = shared / (shapely.area(first)[i] + shapely.area(second)[j] - shared)
    return out


def _shapely_nms(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[Any]:
    """Candidates from the tree, their exact overlaps in one call, then greedily in Python."""
    import shapely

    order = np.argsort(-scores, kind="stable")
    polygons = shapely.polygons(bev_corners(boxes[order]))
    i, j = shapely.STRtree(polygons).query(polygons)
    i, j = i[i < j], j[i < j]
    shared, area = shapely.area(shapely.intersection(polygons[i], polygons[j])), shapely.area(polygons)
    hit = shared > _IOU_THRESH * (area[i] + area[j] - shared)
    i, j = i[hit], j[hit]
    by_first = np.argsort(i, kind="stable")
    start = np.searchsorted(i[by_first], np.arange(len(boxes) + 1))
    alive = np.ones(len(boxes), bool)
    for k in range(len(boxes)):
        if alive[k]:
            alive[j[by_first][start[k] : start[k + 1]]] = False
    return order[alive]


def _rate(count: int, seconds: float) -> str:
    rate = count / seconds
    return f"{rate / 1e6:,.3g} M" if rate >= 1e6 else f"{rate / 1e3:,.3g} k"
