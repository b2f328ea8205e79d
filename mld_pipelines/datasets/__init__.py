"""Public data sets on disk as frames of points with canonical boxes: KITTI and nuScenes folders, read as they are.

A folder is a sequence: `folder[i]` reads one frame, nothing else is kept in memory. `check()` sets aside what is broken
and says why; nothing is skipped silently.
"""

from __future__ import annotations

from mld_pipelines.datasets._frame import BrokenFrame, FrameFolder, PointFrame
from mld_pipelines.datasets._kitti import KITTI_TYPES, KittiFolder, KittiFrame, kitti, kitti_difficulty
from mld_pipelines.datasets._nuscenes import NUSCENES_CLASSES, NuScenesFolder, nuscenes

__all__ = [
    "KITTI_TYPES",
    "NUSCENES_CLASSES",
    "BrokenFrame",
    "FrameFolder",
    "KittiFolder",
    "KittiFrame",
    "NuScenesFolder",
    "PointFrame",
    "kitti",
    "kitti_difficulty",
    "nuscenes",
]
