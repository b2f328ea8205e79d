"""Metrics of detections beside the evaluators they must agree with: nuscenes-devkit, MMDetection3D's KITTI, TIDE.

The peers need an old NumPy and run in an environment of their own (`benchmarks/detection_peers.py` says what it holds):
the one of `make detector-env`, or one named by `MLD_PEERS_PYTHON`. Without it their rows are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._report import Report, ratio_text, seconds_text
from benchmarks._scenes3d import KITTI_NAMES, driving_scene, image_scene, kitti_scene
from benchmarks._timing import interleaved, median, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mld_pipelines.metrics import NuScenesMetrics, NuScenesState
    from mld_pipelines.records import Detections3D, Truths3D

    Scene = dict[str, Any]

PEERS = ("numba",)
_ROOT = Path(__file__).resolve().parents[1]
_ENVIRONMENTS = (os.environ.get("MLD_PEERS_PYTHON"), "build/detectors/bin/python", "build/detection-peers/bin/python")
_FULL_FRAMES, _PEER_FRAMES, _BOXES = 6_019, 400, 300
"""Frames of nuScenes' validation split; frames for the devkit (its loops are linear in them); detections in each."""


def run(*, quick: bool, full: bool) -> Report:
    """Evaluate the same scenes with each peer and with ours."""
    del full
    frames, peer_frames, boxes = (60, 12, 30) if quick else (_FULL_FRAMES, _PEER_FRAMES, _BOXES)
    report = Report(
        f"Metrics of detections: nuScenes on {frames:,} frames of {boxes} detections, KITTI, TIDE",
        ("what", "frames", "from arrays to objects", "evaluation", "faster than the peer", "largest difference"),
    )
    _nuscenes(report, frames=frames, peer_frames=peer_frames, boxes=boxes)
    _incremental(report, frames=frames, boxes=boxes)
    _kitti(report, frames=20 if quick else 1_000)
    _tide(report, images=40 if quick else 1_000)
    report.notes += [
        "One thread. Our evaluation begins with `Detections3D` and `Truths3D`, the devkit's with its box objects; "
        "neither reads files.",
        f"The devkit's time is linear in frames: it evaluated {peer_frames}, scaled to {frames:,}.",
        "Differences: nuScenes over 40 AP, 50 errors, mAP and NDS; KITTI over AP of 3 classes, 3 difficulties, 2 "
        "overlaps, 11 and 40 recalls, in per cent; TIDE: predictions with another type and objects missed by one only.",
    ]
    if not any("devkit" in row[0] for row in report.rows):
        report.notes.append("No environment with the peers was there (`make detector-env`): their rows are left out.")
    return report


# -- nuScenes ---------------------------------------------------------------------------------------------------------


def _nuscenes(report: Report, *, frames: int, peer_frames: int, boxes: int) -> None:
    from mld_pipelines.metrics import _nuscenes_kernel as kernel

    scene = driving_scene(frames, boxes, seed=1)
    detections, truths = _batches(scene)
    compiled = kernel._COMPILED
    engines = {"ours, NumPy": None} | ({"ours, numba": compiled} if compiled else {})
    times: dict[str, list[float]] = {name: [] for name in engines}
    said = _ask("nuscenes", driving_scene(peer_frames, boxes, seed=2))
    for name, engine in engines.items():
        kernel._COMPILED = engine
        times[name] = interleaved({name: lambda: _evaluate(detections, truths, scene)}, repeats=5)[name]
    kernel._COMPILED = compiled
    build = median([seconds_of(lambda: _batches(scene)) for _ in range(5)])
    scale = frames / peer_frames
    peer = {name: value * scale for name, value in said["seconds"].items()} if said else None
    if said and peer:
        version = said["versions"]["nuscenes-devkit"]
        cells = seconds_text(peer["build"]), seconds_text(peer["evaluate"])
        report.add(f"nuscenes-devkit {version}, scaled", f"{frames:,}", *cells, "", "")
    for name, spent in times.items():
        ratio = ratio_text(peer["evaluate"] / median(spent)) if peer else ""
        difference = ""
        if said:
            kernel._COMPILED = engines[name]
            apart = _difference(driving_scene(peer_frames, boxes, seed=2), said)
            difference = f"{apart:.1e}"
            report.at_most(f"nuScenes, {name}: difference ≤ 1e-12", apart, 1e-12, difference)
        report.add(name, f"{frames:,}", seconds_text(build), seconds_text(median(spent)), ratio, difference)
    kernel._COMPILED = compiled
    if peer:
        best = min(median(spent) for spent in times.values())
        alone, whole = peer["evaluate"] / best, (peer["build"] + peer["evaluate"]) / (build + best)
        report.at_least("nuScenes: ≥ 100 × the devkit (moonshot 500 ×)", alone, 100.0, ratio_text(alone))
        report.at_least("the same with making the objects on both sides", whole, 100.0, ratio_text(whole))


def _evaluate(detections: Detections3D, truths: Truths3D, scene: Scene) -> NuScenesMetrics:
    from mld_pipelines.metrics import nuscenes_metrics

    return nuscenes_metrics(_state(detections, truths, scene))


def _state(detections: Detections3D, truths: Truths3D, scene: Scene) -> NuScenesState:
    from mld_pipelines.metrics import NUSCENES, NuScenesState

    attributes = scene["detection_attributes"], scene["truth_attributes"]
    return NuScenesState.of(detections, truths, NUSCENES, attributes=attributes)


def _difference(scene: Scene, said: dict[str, Any]) -> float:
    ours = _evaluate(*_batches(scene), scene)
    apart = [
        np.abs(ours.ap - said["ap"]).max(),
        abs(ours.mean_ap - said["mean_ap"]),
        abs((ours.nds or 0) - said["nds"]),
    ]
    return float(max(*apart, np.nanmax(np.abs(ours.errors - np.array(said["errors"], np.float64)))))


def _incremental(report: Report, *, frames: int, boxes: int) -> None:
    """Add 5 % of frames to a state of the rest."""
    from mld_pipelines.metrics import nuscenes_metrics

    scene = driving_scene(frames, boxes, seed=1)
    cut = frames - max(1, frames // 20)
    old, new = _part(scene, 0, cut), _part(scene, cut, frames)
    before, batches, whole = _state(*_batches(old), old), _batches(new), _batches(scene)
    seconds = interleaved(
        {
            "full": lambda: _evaluate(*whole, scene),
            "new": lambda: nuscenes_metrics(before.merge(_state(*batches, new))),
        },
        repeats=7,
    )
    share = median(seconds["new"]) / median(seconds["full"])
    report.add(
        "ours: 5 % new frames merged (peer: all frames)", f"{frames - cut:,}", "", seconds_text(median(seconds["new"])),
        ratio_text(1 / share), "",
    )  # fmt: skip
    report.at_most("5 % new frames cost ≤ 10 % of a full evaluation", share, 0.10, f"{100 * share:.3g} %")


def _part(scene: Scene, first: int, last: int) -> Scene:
    part = {}
    for kind in ("detection", "truth"):
        offsets = scene[f"{kind}_offsets"]
        rows = slice(offsets[first], offsets[last])
        names = [name for name in scene if name.startswith(kind) and not name.endswith("offsets")]
        part |= {name: scene[name][rows] for name in names}
        part[f"{kind}_offsets"] = offsets[first : last + 1] - offsets[first]
    return part


def _batches(scene: Scene) -> tuple[Detections3D, Truths3D]:
    from mld_pipelines.records import Detections3D, Truths3D

    def columns(kind: str) -> dict[str, Any]:
        return {name: scene[f"{kind}_{name}"] for name in ("offsets", "boxes", "labels", "velocities")}

    return Detections3D(**columns("detection"), scores=scene["detection_scores"]), Truths3D(**columns("truth"))


# -- KITTI and TIDE ---------------------------------------------------------------------------------------------------


def _kitti(report: Report, *, frames: int) -> None:
    from mld_pipelines.metrics import kitti_ap, kitti_classes

    scene = kitti_scene(frames, seed=3)
    detections, truths, images = kitti_batches(scene)
    said = _ask("kitti", scene)
    labels = {name: label for label, name in enumerate(KITTI_NAMES) if name != "DontCare"}
    for metric in ("image", "bev", "3d"):
        classes = kitti_classes(labels, metric=metric)
        action = _kept(lambda: kitti_ap(detections, truths, classes=classes, metric=metric, images=images))  # noqa: B023
        spent = median(interleaved({"ours": action}, repeats=3)["ours"])
        name, ratio, shown = f"KITTI, {metric}", "", ""
        if said:
            answer = said[metric]
            apart = max(np.abs(getattr(action.value, r) * 100 - answer[r]).max() for r in ("r11", "r40"))
            ratio, shown = ratio_text(said["seconds"][metric] / spent), f"{apart:.1e}"
            version = f"MMDetection3D {said['versions']['mmdet3d']}, overlaps by shapely"
            report.add(f"{version}: {metric}", f"{frames:,}", "", seconds_text(said["seconds"][metric]), "", "")
            report.at_most(f"{name}: difference ≤ 1e-10 per cent", float(apart), 1e-10, shown)
        report.add(f"ours: {name}", f"{frames:,}", "", seconds_text(spent), ratio, shown)


def kitti_batches(scene: Scene) -> tuple[Detections3D, Truths3D, Any]:
    """Return detections, truths and image boxes; regions nobody cares for are no truths."""
    from mld_pipelines.metrics import KittiImages, kitti_difficulty
    from mld_pipelines.records import Detections3D, Truths3D

    image = scene["truth_image"]
    truths = Truths3D(
        offsets=scene["truth_offsets"],
        boxes=scene["truth_boxes"],
        labels=scene["truth_labels"],
        difficulty=kitti_difficulty(image[:, 3] - image[:, 1], scene["occluded"], scene["truncated"]),
    )
    detections = Detections3D(**{name: scene[f"detection_{name}"] for name in ("offsets", "boxes", "labels", "scores")})
    nobodys = scene["truth_labels"] == KITTI_NAMES.index("DontCare")
    images = KittiImages(
        detections=scene["detection_image"],
        truths=image[~nobodys],
        dont_care=image[nobodys],
        dont_care_offsets=truths.take(nobodys).offsets,
    )
    return detections, truths.take(~nobodys), images


def _tide(report: Report, *, images: int) -> None:
    from mld_pipelines.metrics import ERROR_TYPES, match_overlaps

    scene = image_scene(images, seed=4)
    options = {"labels": scene["detection_labels"], "truth_labels": scene["truth_labels"], "n_classes": 4}
    overlaps = image_overlaps(scene)
    action = _kept(lambda: match_overlaps(overlaps, scores=scene["detection_scores"], **options))
    spent = median(interleaved({"ours": action}, repeats=3)["ours"])
    said = _ask("tide", scene)
    ratio = shown = ""
    if said:
        found = action.value
        types = [None if code < 0 else ERROR_TYPES[code] for code in found.error_type[found.detection >= 0]]
        missed = set(found.truth[found.error_type == ERROR_TYPES.index("miss")].tolist())
        apart = sum(one != other for one, other in zip(types, said["types"], strict=True))
        apart += len(missed ^ set(said["miss"]))
        ratio, shown = ratio_text(said["seconds"]["evaluate"] / spent), str(apart)
        name = f"tidecv {said['versions']['tidecv']}, overlaps included"
        report.add(name, f"{images:,}", "", seconds_text(said["seconds"]["evaluate"]), "", "")
        report.at_most("TIDE: no other type, no other miss", apart, 0, shown)
    report.add("ours: TIDE's types from overlaps", f"{images:,}", "", seconds_text(spent), ratio, shown)


def image_overlaps(scene: Scene) -> list[np.ndarray]:
    """Return the IoU of (x, y, width, height) in each image, as pycocotools defines it."""
    result = []
    for image in range(len(scene["truth_offsets"]) - 1):
        a, b = scene["detection_offsets"][image : image + 2]
        c, d = scene["truth_offsets"][image : image + 2]
        p, q = scene["detection_boxes"][a:b, None], scene["truth_boxes"][None, c:d]
        corner = np.minimum(p[..., :2] + p[..., 2:], q[..., :2] + q[..., 2:]) - np.maximum(p[..., :2], q[..., :2])
        shared = np.clip(corner, 0, None).prod(axis=-1)
        result.append(shared / (p[..., 2:].prod(axis=-1) + q[..., 2:].prod(axis=-1) - shared))
    return result


class _kept:  # noqa: N801 - a function that keeps what it returned
    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self.value: Any = None

    def __call__(self) -> None:
        self.value = self._action()


def _ask(peer: str, scene: Scene) -> dict[str, Any] | None:
    """Return what a peer says about a scene, or None where no environment has it."""
    with tempfile.TemporaryDirectory(prefix="mld-bench-") as folder:
        question, answer = Path(folder) / "scene.npz", Path(folder) / "answer.json"
        np.savez(question, **scene)
        for python in _ENVIRONMENTS:
            if not python or not (_ROOT / python).exists():
                continue
            command = [str(_ROOT / python), "benchmarks/detection_peers.py", peer, str(question), str(answer)]
            done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
            if not done.returncode:
                said: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
                return said
            if "ModuleNotFoundError" not in done.stderr:
                raise RuntimeError(f"{peer} broke in {python}:\n{done.stderr[-2000:]}")
    return None
