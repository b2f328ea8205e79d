"""Tiny folders in the public formats, and the real frames beside the repository where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.nuscenes_tables import NuScenesWriter, rigid

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"

CALIBRATION = """P0: 700 0 600 0 0 700 180 0 0 0 1 0
P2: 700 0 600 40 0 700 180 0.2 0 0 1 0.003
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""


@pytest.fixture(scope="session")
def shared_data():
    if not SHARED.is_dir():
        pytest.skip("the real frames lie in ../shared, which is not here")
    return SHARED


@pytest.fixture
def make_kitti(tmp_path):
    """Write a KITTI folder: `make_kitti({"000000": [label lines]})`."""

    def make(labels, *, points=None, root=tmp_path / "kitti", calibration=CALIBRATION):
        for name in ("velodyne", "label_2", "calib"):
            (root / "training" / name).mkdir(parents=True, exist_ok=True)
        for frame_id, lines in labels.items():
            cloud = np.zeros((3, 4), "<f4") if points is None else np.asarray(points, "<f4")
            cloud.tofile(root / "training" / "velodyne" / f"{frame_id}.bin")
            (root / "training" / "label_2" / f"{frame_id}.txt").write_text("\n".join(lines))
            (root / "training" / "calib" / f"{frame_id}.txt").write_text(calibration)
        return root

    return make


@pytest.fixture
def nuscenes_writer(tmp_path):
    """A writer whose LiDAR is mounted as nuScenes mounts it: turned by -90 degrees, tilted a little."""
    return NuScenesWriter(
        tmp_path / "nuscenes",
        lidar2ego=rigid((0.94, 0.0, 1.84), yaw=-np.pi / 2, pitch=0.01, roll=0.02),
        scenes=(("scene-0001", "Rain, big street, Night"), ("scene-0002", "Parked cars")),
    )


@pytest.fixture
def poses():
    """`rigid(translation, yaw, pitch, roll)`: (4, 4) poses made by SciPy."""
    return rigid
