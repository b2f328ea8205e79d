"""Writes nuScenes tables around sweeps, with SciPy's rotations."""

from __future__ import annotations

import json

import numpy as np
from scipy.spatial.transform import Rotation


def rigid(translation, yaw=0.0, pitch=0.0, roll=0.0):
    """(4, 4) pose; SciPy's rotations, not ours."""
    whole = np.eye(4)
    whole[:3, :3] = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix()
    whole[:3, 3] = translation
    return whole


def pose_row(token, matrix, **more):
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()
    return {"token": token, "translation": matrix[:3, 3].tolist(), "rotation": [w, x, y, z], **more}


class NuScenesWriter:
    """Tables around sweeps; boxes are given in the LiDAR frame and written as nuScenes does: global, quaternions.

    Args:
        root: Folder of the data set.
        lidar2ego: Pose of the sensor on the vehicle.
        scenes: (name, description) of each scene.
    """

    def __init__(self, root, *, lidar2ego, scenes=(("scene-0001", "Day, quiet street"),)):
        self.root, self.lidar2ego = root, lidar2ego
        self.names = [name for name, _ in scenes]
        self.tables = {name: [] for name in ("sample", "sample_data", "sample_annotation", "ego_pose", "instance")}
        self.tables["sensor"] = [
            {"token": "s-lidar", "channel": "LIDAR_TOP"},
            {"token": "s-cam", "channel": "CAM_FRONT"},
        ]
        self.tables["calibrated_sensor"] = [
            pose_row("c-lidar", lidar2ego, sensor_token="s-lidar"),
            pose_row("c-cam", np.eye(4), sensor_token="s-cam"),
        ]
        self.tables["log"] = [{"token": "log-1", "location": "singapore-onenorth", "vehicle": "n015"}]
        self.tables["category"] = []
        self.tables["scene"] = [
            {"token": f"t-{name}", "name": name, "description": text, "log_token": "log-1"} for name, text in scenes
        ]

    def category(self, name):
        if name not in [row["name"] for row in self.tables["category"]]:
            self.tables["category"].append({"token": f"cat-{name}", "name": name})
        return f"cat-{name}"

    def add(self, token, *, ego2global, time_us, cloud=None, scene=None, key=True):
        """Add a sweep; return the pose of its LiDAR."""
        file = f"samples/LIDAR_TOP/{token}.pcd.bin"
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        np.asarray(np.zeros((2, 5)) if cloud is None else cloud, "<f4").tofile(self.root / file)
        self.tables["ego_pose"].append(pose_row(f"e-{token}", ego2global))
        shared = {"sample_token": token, "ego_pose_token": f"e-{token}", "timestamp": time_us, "is_key_frame": key}
        self.tables["sample_data"] += [
            {"token": f"d-{token}", **shared, "calibrated_sensor_token": "c-lidar", "filename": file},
            {"token": f"k-{token}", **shared, "calibrated_sensor_token": "c-cam", "filename": "samples/no.jpg"},
        ]
        if key:
            scene = f"t-{scene or self.names[0]}"
            self.tables["sample"].append({"token": token, "timestamp": time_us, "scene_token": scene})
        return ego2global @ self.lidar2ego

    def annotate(self, token, sample, *, box, pose, category, before="", after="", points=5):
        """Add one box of [cx, cy, cz, w, l, h, yaw] in the frame of `pose`."""
        *_, yaw = box
        placed = pose @ rigid(box[:3], yaw=yaw)
        self.tables["instance"].append({"token": f"i-{token}", "category_token": self.category(category)})
        row = pose_row(token, placed, sample_token=sample, instance_token=f"i-{token}", size=list(box[3:6]))
        self.tables["sample_annotation"].append({**row, "prev": before, "next": after, "num_lidar_pts": points})

    def write(self, version="v1.0-mini"):
        folder = self.root / version
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))
        return self.root
