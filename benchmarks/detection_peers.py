"""What other evaluators say: run by the Python of an environment of their own, which needs nothing of this project.

    PYTHON benchmarks/detection_peers.py nuscenes|kitti|tide SCENE.npz ANSWER.json
    PYTHON benchmarks/detection_peers.py write FOLDER

`write` regenerates the scenes and answers that the tests compare with (tests/metrics/peers). The environment has numpy
below 2, numba, shapely, scikit-learn, matplotlib, pyquaternion, cachetools, tqdm, descartes, parameterized, fire,
opencv-python-headless, pycocotools, appdirs and, each without its dependencies, nuscenes-devkit 1.2.0, mmdet3d 1.4.0
(of which only one file is loaded) and tidecv 1.0.1.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import json
import platform
import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Scene = dict[str, NDArray[Any]]

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._scenes3d import KITTI_NAMES, driving_scene, image_scene, kitti_scene

SEEDS = {"nuscenes": 11, "kitti": 12, "tide": 13}
_CLASSES = (
    *("car", "truck", "bus", "trailer", "construction_vehicle"),
    *("pedestrian", "motorcycle", "bicycle", "traffic_cone", "barrier"),
)
_ATTRIBUTES = ("vehicle.moving", "vehicle.parked", "vehicle.stopped", "")
_DISTANCES = (0.5, 1.0, 2.0, 4.0)


def nuscenes(scene: Scene) -> dict[str, Any]:
    """Evaluate with the devkit's accumulate, calc_ap, calc_tp and DetectionMetrics, as its DetectionEval does."""
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.common.utils import center_distance
    from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp
    from nuscenes.eval.detection.constants import TP_METRICS
    from nuscenes.eval.detection.data_classes import DetectionMetrics

    start = time.perf_counter()
    truth, found = _devkit_boxes(scene, "truth"), _devkit_boxes(scene, "detection")
    built = time.perf_counter()
    config = config_factory("detection_cvpr_2019")
    metrics = DetectionMetrics(config)
    for name in _CLASSES:
        for distance in _DISTANCES:
            curve = accumulate(truth, found, name, center_distance, distance)
            metrics.add_label_ap(name, distance, calc_ap(curve, config.min_recall, config.min_precision))
            if distance == config.dist_th_tp:
                at = curve
        for error in TP_METRICS:
            cone = name == "traffic_cone" and error in {"attr_err", "vel_err", "orient_err"}
            barrier = name == "barrier" and error in {"attr_err", "vel_err"}
            value = np.nan if cone or barrier else calc_tp(at, config.min_recall, error)
            metrics.add_label_tp(name, error, value)
    return {
        "ap": [[metrics.get_label_ap(name, d) for d in _DISTANCES] for name in _CLASSES],
        "errors": [[metrics.get_label_tp(name, e) for e in TP_METRICS] for name in _CLASSES],
        "mean_ap": metrics.mean_ap,
        "mean_errors": metrics.tp_errors,
        "nds": metrics.nd_score,
        "seconds": {"build": built - start, "evaluate": time.perf_counter() - built},
        "versions": _versions("nuscenes-devkit", "numpy"),
    }


def _devkit_boxes(scene: Scene, kind: str) -> Any:
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.detection.data_classes import DetectionBox

    boxes, offsets = scene[f"{kind}_boxes"], scene[f"{kind}_offsets"]
    labels, velocities = scene[f"{kind}_labels"], scene[f"{kind}_velocities"]
    scores = scene.get(f"{kind}_scores")
    result = EvalBoxes()
    for frame, (first, last) in enumerate(itertools.pairwise(offsets)):
        made = []
        for i in range(first, last):
            half = boxes[i, 6] / 2
            made.append(
                DetectionBox(
                    sample_token=str(frame),
                    translation=tuple(boxes[i, :3].tolist()),
                    size=tuple(boxes[i, 3:6].tolist()),
                    rotation=(float(np.cos(half)), 0.0, 0.0, float(np.sin(half))),
                    velocity=tuple(velocities[i].tolist()),
                    detection_name=_CLASSES[labels[i]],
                    detection_score=-1.0 if kind == "truth" else float(scores[i]),
                    attribute_name=_ATTRIBUTES[scene[f"{kind}_attributes"][i]],
                )
            )
        result.add_boxes(str(frame), made)
    return result


def kitti(scene: Scene) -> dict[str, Any]:
    """Evaluate with MMDetection3D's eval_class; only its CUDA overlap is replaced, by shapely's polygons."""
    module = _kitti_module()
    truths, found = _kitti_annotations(scene, "truth"), _kitti_annotations(scene, "detection")
    strict = np.array([[0.7, 0.5, 0.5], [0.7, 0.5, 0.5], [0.7, 0.5, 0.5]])
    loose = np.array([[0.7, 0.5, 0.5], [0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    overlaps = np.stack((strict, loose))
    answer: dict[str, Any] = {}
    seconds = {}
    for metric, name in enumerate(("image", "bev", "3d")):
        start = time.perf_counter()
        curves = module.eval_class(truths, found, [0, 1, 2], [0, 1, 2], metric, overlaps)["precision"]
        seconds[name] = time.perf_counter() - start
        # (class, difficulty, overlap)
        answer[name] = {"r11": module.get_mAP11(curves).tolist(), "r40": module.get_mAP40(curves).tolist()}
    return answer | {"seconds": seconds, "versions": _versions("mmdet3d", "shapely", "numba", "numpy")}


def _kitti_module() -> Any:
    """Load the one file of MMDetection3D that is needed; the package itself would need torch and mmcv."""
    spec = importlib.util.find_spec("mmdet3d")
    folder = Path(spec.submodule_search_locations[0]) / "evaluation" / "functional" / "kitti_utils"
    package = types.ModuleType("kitti_utils")
    package.__path__ = [str(folder)]
    overlap = types.ModuleType("kitti_utils.rotate_iou")
    overlap.rotate_iou_gpu_eval = _polygon_overlap
    sys.modules.update({"kitti_utils": package, "kitti_utils.rotate_iou": overlap})
    return importlib.import_module("kitti_utils.eval")


def _polygon_overlap(boxes: NDArray[Any], others: NDArray[Any], criterion: int = -1) -> NDArray[Any]:
    import shapely

    a, b = _polygons(boxes), _polygons(others)
    left, right = shapely.STRtree(b).query(a, predicate="intersects")
    shared = np.zeros((len(a), len(b)))
    shared[left, right] = shapely.area(shapely.intersection(a[left], b[right]))
    if criterion == -1:
        return shared / (shapely.area(a)[:, None] + shapely.area(b)[None] - shared)
    return shared


def _polygons(boxes: NDArray[Any]) -> NDArray[Any]:
    """Return polygons of (x, z, length, width, rotation_y) on the ground of the camera; it turns clockwise."""
    import shapely

    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    corners = []
    for along, across in ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)):
        x, z = along * boxes[:, 2], across * boxes[:, 3]
        corners.append(np.stack((boxes[:, 0] + cos * x + sin * z, boxes[:, 1] - sin * x + cos * z), axis=1))
    return shapely.polygons(np.stack(corners, axis=1))


def _kitti_annotations(scene: Scene, kind: str) -> list[dict[str, Any]]:
    """Return one dictionary per frame in the camera frame: bottom centre; length, height, width; rotation_y."""
    boxes, offsets = scene[f"{kind}_boxes"], scene[f"{kind}_offsets"]
    location = np.stack((-boxes[:, 1], -(boxes[:, 2] - boxes[:, 5] / 2), boxes[:, 0]), axis=1)
    columns = {
        "name": np.array(KITTI_NAMES)[scene[f"{kind}_labels"]],
        "bbox": scene[f"{kind}_image"],
        "location": location,
        "dimensions": boxes[:, [4, 5, 3]],
        "rotation_y": -boxes[:, 6] - np.pi / 2,
        "alpha": np.full(len(boxes), -10.0),
    }
    if kind == "truth":
        columns |= {"occluded": scene["occluded"], "truncated": scene["truncated"]}
    else:
        columns["score"] = scene["detection_scores"].astype(np.float64)
    return [{name: values[a:b] for name, values in columns.items()} for a, b in itertools.pairwise(offsets)]


def tide(scene: Scene) -> dict[str, Any]:
    """Name the errors with TIDE at 0.5 and 0.1; `miss` and `found` are rows of truths."""
    sys.modules.update(pandas=MagicMock(), seaborn=MagicMock())  # only its plots need them
    from tidecv import TIDE, Data

    truth, found = Data("truth", max_dets=10_000), Data("found", max_dets=10_000)
    for image, (first, last) in enumerate(_edges(scene, "truth")):
        truth.add_image(image, str(image))
        for i in range(first, last):
            truth.add_ground_truth(image, int(scene["truth_labels"][i]), scene["truth_boxes"][i].tolist())
    for image, (first, last) in enumerate(_edges(scene, "detection")):
        for i in range(first, last):
            score = float(scene["detection_scores"][i])
            found.add_detection(image, int(scene["detection_labels"][i]), score, scene["detection_boxes"][i].tolist())
    start = time.perf_counter()
    run = TIDE(pos_threshold=0.5, background_threshold=0.1, mode=TIDE.BOX).evaluate(truth, found, name="run")
    seconds = time.perf_counter() - start
    types_by_row: list[str | None] = [None] * len(found.annotations)
    missed = []
    for error in run.errors:
        if error.short_name == "Miss":
            missed.append(error.gt["_id"])
        else:
            types_by_row[error.pred["_id"]] = error.short_name.lower()
    hits = [row["_id"] for row in found.annotations if row["used"]]
    return {
        "types": types_by_row,
        "matched": {row: found.annotations[row]["matched_with"] for row in hits},
        "miss": sorted(missed),
        "seconds": {"evaluate": seconds},
        "versions": _versions("tidecv", "pycocotools", "numpy"),
    }


def _edges(scene: Scene, kind: str) -> list[tuple[int, int]]:
    return list(itertools.pairwise(scene[f"{kind}_offsets"].tolist()))


def _versions(*names: str) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


PEERS: dict[str, Callable[[Any], dict[str, Any]]] = {"nuscenes": nuscenes, "kitti": kitti, "tide": tide}


def write(folder: Path) -> None:
    """Write a scene and the answer of each peer."""
    scenes = {
        "nuscenes": driving_scene(24, 40, seed=SEEDS["nuscenes"], awkward=True),
        "kitti": kitti_scene(60, seed=SEEDS["kitti"]),
        "tide": image_scene(60, seed=SEEDS["tide"]),
    }
    for name, scene in scenes.items():
        np.savez_compressed(folder / f"{name}.npz", **scene)
        answer = {"seed": SEEDS[name], **PEERS[name](scene)}
        answer.pop("seconds", None)
        (folder / f"{name}.json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        with np.load(sys.argv[2]) as stored:
            if sys.argv[1] == "kitti":  # compiles for seconds in its first call
                kitti(kitti_scene(3, seed=0))
            said = PEERS[sys.argv[1]](dict(stored))
        Path(sys.argv[3]).write_text(json.dumps(said), encoding="utf-8")
