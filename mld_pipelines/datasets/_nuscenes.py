"""nuScenes folders: LIDAR_TOP key frames and their boxes, straight from the JSON tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.datasets._frame import FrameFolder, PointFrame, check_classes, check_size, read_points
from mld_pipelines.datasets._nuscenes_objects import read_objects
from mld_pipelines.datasets._nuscenes_tables import NuScenesTables
from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from mld_pipelines.geometry import from_nuscenes, pose_matrix
from mld_pipelines.records import Truths3D, unusable_boxes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["NUSCENES_CLASSES", "NuScenesFolder", "nuscenes"]

#: The classes of the detection benchmark, in MMDetection3D's order.
NUSCENES_CLASSES = (
    "car", "truck", "trailer", "bus", "construction_vehicle", "bicycle", "motorcycle", "pedestrian", "traffic_cone",
    "barrier",
)  # fmt: skip

_CLASS_OF = {
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}
"""Category to class, as the detection benchmark defines it."""

_OTHER = {
    "animal", "human.pedestrian.personal_mobility", "human.pedestrian.stroller", "human.pedestrian.wheelchair",
    "movable_object.debris", "movable_object.pushable_pullable", "static_object.bicycle_rack",
    "vehicle.emergency.ambulance", "vehicle.emergency.police",
}  # fmt: skip
"""Categories that the benchmark does not detect."""

_CHANNEL = "LIDAR_TOP"
_WIDTH = 5
"""float32 per point: x, y, z, intensity, ring."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Sweep:
    """One key frame: file, poses and where it was taken."""

    token: str
    filename: str
    time_us: int
    calibrated_sensor: str
    ego_pose: str
    scene: str


class NuScenesFolder(FrameFolder[PointFrame]):
    """Key frames of a nuScenes folder with their boxes in the LiDAR frame (x right, y forward).

    The tables are read once, row by row; of the annotations their numbers stay in memory (about 130 bytes each). Points
    are read frame by frame. Velocities are the central differences that nuScenes defines.

    Example:
        >>> from mld_pipelines.datasets import NuScenesFolder
        >>> folder = NuScenesFolder("/data/nuscenes", version="v1.0-mini")  # doctest: +SKIP
        >>> folder[0].metadata["weather"]  # doctest: +SKIP
        'clear'

    Args:
        path: The folder with `samples` and the folder of the tables.
        version: Folder of the tables, e.g. `v1.0-trainval`.
        scenes: Names of scenes to keep, e.g. those of a split; None keeps all.
        classes: Names of the labels 0, 1, …, in the order of the model; other objects get the label -1.

    Raises:
        NotFoundError: The folder, the version, a table or a scene does not exist.
        InvalidInputError: A table is broken, or `classes` has a name that the benchmark has not.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        version: str = "v1.0-trainval",
        scenes: Sequence[str] | None = None,
        classes: Sequence[str] = NUSCENES_CLASSES,
    ) -> None:
        names = check_classes(classes, NUSCENES_CLASSES, dataset="the nuScenes detection benchmark")
        self._root = Path(path).expanduser()
        tables = NuScenesTables(self._root, version)
        self._scenes = _scenes(tables, scenes)
        sample_scene, times = _samples(tables, self._scenes)
        self._sensors = _lidars(tables)
        sweeps = _sweeps(tables, sample_scene, self._sensors)
        order = {name: index for index, name in enumerate(self._scenes)}
        sweeps.sort(key=lambda sweep: (order[sweep.scene], sweep.time_us))
        self._sweeps = {sweep.token: sweep for sweep in sweeps}
        self._poses = _poses(tables, {sweep.ego_pose for sweep in sweeps})
        self._position = {token: index for index, token in enumerate(sample_scene)}
        self._objects = read_objects(tables, self._position, np.array(list(times.values()), np.float64))
        self._labels = {
            category: names.index(_CLASS_OF[category]) if _CLASS_OF.get(category) in names else -1
            for category in self._objects.names
        }
        super().__init__(list(self._sweeps), classes=names)

    def inspect(self, frame_id: str) -> None:
        """Look at the size of the sweep and the boxes.

        Raises:
            InvalidInputError: A file is missing or broken.
        """
        check_size(self._root / self._sweep(frame_id).filename, width=_WIDTH)
        self._truths(frame_id)

    def read(self, frame_id: str) -> PointFrame:
        """Read a key frame by its sample token.

        Raises:
            InvalidInputError: A file is missing or broken.
        """
        sweep = self._sweep(frame_id)
        truths, categories = self._truths(frame_id)
        return PointFrame(
            frame_id=frame_id,
            points=read_points(self._root / sweep.filename, width=_WIDTH),
            truths=truths,
            class_names=self.classes,
            type_names=categories,
            timestamp=_EPOCH + timedelta(microseconds=sweep.time_us),
            metadata=self._scenes[sweep.scene],
        )

    def pose(self, frame_id: str) -> NDArray[np.float64]:
        """Return (4, 4) from the LiDAR to the global frame at a key frame.

        Raises:
            InvalidInputError: A pose is missing.
        """
        sweep = self._sweep(frame_id)
        if sweep.ego_pose not in self._poses:
            raise InvalidInputError(
                f"table ego_pose has no {sweep.ego_pose!r}, which frame {frame_id!r} needs. The frame was not read."
            )
        return self._poses[sweep.ego_pose] @ self._sensors[sweep.calibrated_sensor]

    def _sweep(self, frame_id: str) -> _Sweep:
        if frame_id not in self._sweeps:
            raise InvalidInputError(f"there is no key frame {frame_id!r} with a {_CHANNEL} sweep in {self._root}.")
        return self._sweeps[frame_id]

    def _truths(self, frame_id: str) -> tuple[Truths3D, tuple[str, ...]]:
        found, position = self._objects, self._position[frame_id]
        rows = slice(int(found.offsets[position]), int(found.offsets[position + 1]))
        categories = tuple(found.names[index] for index in found.categories[rows])
        unknown = {name for name in categories if name not in _CLASS_OF and name not in _OTHER}
        if unknown:
            raise InvalidInputError(
                f"frame {frame_id!r} has objects of {sorted(unknown)}, which are no categories of nuScenes. The frame "
                "was not read; correct category.json."
            )
        boxes, velocities = from_nuscenes(
            found.translation[rows],
            found.size[rows],
            found.rotation[rows],
            velocity=found.velocity[rows],
            pose=self.pose(frame_id),
        )
        bad = np.flatnonzero(unusable_boxes(boxes))
        if len(bad):
            raise InvalidInputError(
                f"frame {frame_id!r}: the {categories[bad[0]]} number {bad[0]} has the box {boxes[bad[0]].tolist()}; "
                "values must be finite and sizes above 0. The frame was not read."
            )
        labels = np.array([self._labels[name] for name in categories], dtype=np.int64)
        columns = {"boxes": boxes, "labels": labels, "velocities": velocities, "points": found.points[rows]}
        return Truths3D.from_frames([columns]), categories


def nuscenes(path: str, version: str = "v1.0-trainval", **options: Any) -> NuScenesFolder:
    """Return a nuScenes folder whose broken frames are set aside: the factory of `nuscenes:/path?version=v1.0-mini`.

    Args:
        path: See `NuScenesFolder`.
        version: See `NuScenesFolder`.
        options: `scenes`, `classes`.
    """
    folder = NuScenesFolder(path, version=version, **options)
    folder.check()
    return folder


def _scenes(tables: NuScenesTables, wanted: Sequence[str] | None) -> dict[str, Mapping[str, Any]]:
    """Return what is known of every scene by its name, in the order of the table."""
    logs = {row["token"]: row for row in tables.rows("log", "token", "location")}
    found: dict[str, Mapping[str, Any]] = {}
    for row in tables.rows("scene", "token", "name", "description", "log_token"):
        if wanted is None or row["name"] in wanted:
            log, text = logs.get(row["log_token"], {}), row["description"]
            found[row["name"]] = {
                "scene": row["name"],
                "scene_token": row["token"],
                "description": text,
                "location": log.get("location"),
                "vehicle": log.get("vehicle"),
                # the description is all nuScenes says about either
                "weather": "rain" if "rain" in text.lower() else "clear",
                "time_of_day": "night" if "night" in text.lower() else "day",
            }
    missing = sorted(set(wanted or ()) - set(found))
    if missing or not found:
        raise NotFoundError(
            f"scenes {missing} are not in {tables.path('scene')}; nothing was read."
            if missing
            else f"{tables.path('scene')} has no scenes; nothing was read."
        )
    return found


def _samples(
    tables: NuScenesTables, scenes: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, str], dict[str, float]]:
    """Return the scene's name and the time in seconds of every sample of the scenes."""
    name_of = {scene["scene_token"]: name for name, scene in scenes.items()}
    rows = [
        (row["token"], name_of[row["scene_token"]], row["timestamp"] * 1e-6)
        for row in tables.rows("sample", "token", "scene_token", "timestamp")
        if row["scene_token"] in name_of
    ]
    return {token: name for token, name, _ in rows}, {token: time for token, _, time in rows}


def _lidars(tables: NuScenesTables) -> dict[str, NDArray[np.float64]]:
    """Return the pose on the vehicle of every calibration of the LiDAR."""
    lidars = {row["token"] for row in tables.rows("sensor", "token", "channel") if row["channel"] == _CHANNEL}
    return {
        row["token"]: pose_matrix(row["translation"], row["rotation"])
        for row in tables.rows("calibrated_sensor", "token", "sensor_token", "translation", "rotation")
        if row["sensor_token"] in lidars
    }


def _sweeps(
    tables: NuScenesTables, scene_of: Mapping[str, str], lidars: Mapping[str, NDArray[np.float64]]
) -> list[_Sweep]:
    fields = ("sample_token", "ego_pose_token", "calibrated_sensor_token", "timestamp", "is_key_frame", "filename")
    found = [
        _Sweep(
            token=row["sample_token"],
            filename=row["filename"],
            time_us=int(row["timestamp"]),
            calibrated_sensor=row["calibrated_sensor_token"],
            ego_pose=row["ego_pose_token"],
            scene=scene_of[row["sample_token"]],
        )
        for row in tables.rows("sample_data", *fields)
        if row["is_key_frame"] and row["calibrated_sensor_token"] in lidars and row["sample_token"] in scene_of
    ]
    if not found:
        raise InvalidInputError(f"{tables.path('sample_data')} has no key frame of {_CHANNEL}; nothing was read.")
    return found


def _poses(tables: NuScenesTables, wanted: set[str]) -> dict[str, NDArray[np.float64]]:
    return {
        row["token"]: pose_matrix(row["translation"], row["rotation"])
        for row in tables.rows("ego_pose", "token", "translation", "rotation")
        if row["token"] in wanted
    }
