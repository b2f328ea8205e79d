"""What a GPU changes: tracing beside a detector on it, overlap and suppression of boxes that lie there.

`python -m benchmarks.gpu [--device cuda|cpu] [--small]`; without a CUDA device it says so and ends well.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._report import Report, ratio_text, seconds_text
from benchmarks._timing import interleaved, median
from mld_pipelines.geometry import bev_iou, bev_nms, engine
from tests.support.box_scenes import detections, random_boxes

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

PEERS = ("torch", "numba")
NOTHING = "No CUDA device: nothing was measured. Run `python -m benchmarks.gpu` where there is one."
_IOU_THRESH = 0.2
_COLUMNS = ("what", "size", "compared with", "which takes", "takes", "faster than that")


def run(*, quick: bool, full: bool) -> Report:
    """Measure on the GPU; without one the small sizes run on the CPU in its place, others are left out."""
    del full
    import torch

    if torch.cuda.is_available():
        return measured("cuda", small=quick)
    return measured("cpu", small=True) if quick else Report("On a GPU", _COLUMNS, notes=[NOTHING])


def measured(device: str, *, small: bool) -> Report:
    """Return the ratios of a device.

    Args:
        device: `cuda`, `cuda:1` or, to try the script, `cpu`.
        small: Sizes that prove that it runs.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        report = Report(f"A 3D detector and its boxes on {_named(device)}, beside one thread of {engine()}", _COLUMNS)
        repeats = 2 if small else 20
        _overlaps(report, device, small=small, repeats=repeats)
        _suppressions(report, device, small=small, repeats=repeats)
        _tracing(report, device, frames=3 if small else 64, repeats=repeats)
    finally:
        torch.set_num_threads(threads)
    report.notes.append(
        "Every time ends with a synchronised device; boxes are on it before and results stay there. Small inputs are "
        "the CPU's: a kernel's start costs as much as a frame of boxes."
    )
    return report


def _named(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "the CPU in the place of a GPU"


def _synchronised(device: str, action: Callable[[], object]) -> Callable[[], object]:
    import torch

    def both() -> None:
        action()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    return both


def _compare(report: Report, what: str, size: str, device: str, *actions: Callable[[], object], repeats: int) -> None:
    here, there = actions
    times = interleaved({"here": here, "there": _synchronised(device, there)}, repeats=repeats)
    spent = {name: median(seconds) for name, seconds in times.items()}
    faster = ratio_text(spent["here"] / spent["there"])
    other = "one CPU thread", seconds_text(spent["here"])
    report.add(f"{what} on the device", size, *other, seconds_text(spent["there"]), faster)


def _overlaps(report: Report, device: str, *, small: bool, repeats: int) -> None:
    import torch

    rng = np.random.default_rng(1)
    for n, m in ((30, 20),) if small else ((500, 60), (2_000, 2_000), (8_000, 8_000)):
        b = random_boxes(rng, m)
        a = detections(rng, n, b)
        on = torch.from_numpy(a).to(device), torch.from_numpy(b).to(device)
        apart = float(np.abs(bev_iou(*on).cpu().numpy() - bev_iou(a, b)).max())
        report.at_most(f"bev_iou of {n:,} × {m:,}: device and CPU agree ≤ 1e-9", apart, 1e-9, f"{apart:.1e}")
        actions = (lambda: bev_iou(a, b)), (lambda: bev_iou(*on))  # noqa: B023 - used within this turn
        _compare(report, "bev_iou", f"{n:,} × {m:,}", device, *actions, repeats=repeats)


def _suppressions(report: Report, device: str, *, small: bool, repeats: int) -> None:
    import torch

    rng = np.random.default_rng(3)
    for n in (60,) if small else (1_000, 4_096):
        boxes = detections(rng, n, random_boxes(rng, max(3, n // 20)), hit=0.9)
        scores = rng.random(n)
        on = torch.from_numpy(boxes).to(device), torch.from_numpy(scores).to(device)
        kept = bev_nms(*on, _IOU_THRESH)
        other = int(not np.array_equal(np.asarray(kept.cpu()), bev_nms(boxes, scores, _IOU_THRESH)))
        report.at_most(
            f"bev_nms of {n:,}: the same boxes kept in the same order", other, 0, "yes" if not other else "no"
        )
        actions = (lambda: bev_nms(boxes, scores, _IOU_THRESH)), (lambda: bev_nms(*on, _IOU_THRESH))  # noqa: B023
        _compare(report, "bev_nms", f"{n:,}", device, *actions, repeats=repeats)


def _tracing(report: Report, device: str, *, frames: int, repeats: int) -> None:
    """Time a detector alone and traced in turns, then what decoding its raw outputs costs beside it."""
    import torch

    from examples.drive.datasets import drive_dataset, drive_model
    from mld_pipelines.training import ObjectDetection3DTracer

    made = drive_dataset("val", frames=frames)
    items = [made[index] for index in range(frames)]
    clouds = [points.to(device) for points, _, _ in items]
    bare, model = drive_model().to(device), drive_model().to(device)
    names = list(made.classes)
    turn = iter(range(10**9))
    with torch.inference_mode(), ObjectDetection3DTracer(model, "pillars", "v1", class_names=names) as tracer:

        def traced() -> None:
            turn_id = next(turn)
            for points, (_, target, name) in zip(clouds, items, strict=True):
                tracer(points, [target], input_ids=f"{name}-{turn_id}", dataset_type="val")

        alone = _synchronised(device, lambda: [bare([points]) for points in clouds])
        times = interleaved({"alone": alone, "traced": _synchronised(device, traced)}, repeats=max(2, repeats // 4))
    spent = {name: median(seconds) / frames for name, seconds in times.items()}
    alone_text, share = seconds_text(spent["alone"]), spent["alone"] / spent["traced"]
    cells = "detector alone", alone_text, seconds_text(spent["traced"]), ratio_text(share)
    report.add("detector, traced", "1 frame a call", *cells)
    _post_processing(report, clouds, model, alone=spent["alone"])


def _post_processing(report: Report, clouds: list[torch.Tensor], model: torch.nn.Module, *, alone: float) -> None:
    import torch

    from mld_pipelines.adapters.detection3d import observe, recognise, to_arrays
    from mld_pipelines.compute import resolve

    adapter = recognise(model)
    spec = adapter.decoder()
    decode: Any = resolve(spec.target)(**spec.params)
    with torch.inference_mode():
        raws = [dict(to_arrays(observe(adapter, points).raw)) for points in clouds]
    began = time.perf_counter()
    for raw in raws:
        decode(raw)
    post = (time.perf_counter() - began) / len(raws)
    cells = "detector alone", seconds_text(alone), seconds_text(post), ratio_text(alone / post)
    report.add("post-processing on the CPU", "1 frame", *cells)
    report.notes.append(f"Post-processing takes {post / (post + alone):.1%} of detector and post-processing together.")


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns 0 also where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the script")
    parser.add_argument("--small", action="store_true", help="small sizes: proves that it runs, measures nothing")
    asked = parser.parse_args(arguments)
    import torch

    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print(NOTHING)
        return 0
    with tempfile.TemporaryDirectory(prefix="mld-bench-") as home:
        os.environ["MLD_HOME"] = home
        os.environ.pop("MLD_API_ENDPOINT", None)
        print(measured(asked.device, small=asked.small).markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
