"""Boxes in space: conventions, overlap, suppression, points inside. Pure and float64.

A box is `[cx, cy, cz, w, l, h, yaw]`: gravity centre, metres, l along the heading, yaw counter-clockwise from +x.
"""

from __future__ import annotations

from mld_pipelines.geometry._conventions import (
    CONVENTIONS,
    CanonicalBoxes,
    Convention,
    find_convention,
    from_det3d,
    from_mmdet3d_v0,
    from_mmdet3d_v1,
    from_openpcdet,
    to_det3d,
    to_mmdet3d_v0,
    to_mmdet3d_v1,
    to_openpcdet,
)
from mld_pipelines.geometry._corners import bev_corners, corners_3d
from mld_pipelines.geometry._engine import engine
from mld_pipelines.geometry._iou import bev_iou, iou_3d
from mld_pipelines.geometry._kitti import KittiCalibration, from_kitti_camera, to_kitti_camera
from mld_pipelines.geometry._nuscenes import NuScenesBoxes, from_nuscenes, pose_matrix, to_nuscenes
from mld_pipelines.geometry._points import points_in_boxes
from mld_pipelines.geometry._suppression import bev_nms, circle_nms
from mld_pipelines.records import wrap_yaw

__all__ = [
    "CONVENTIONS",
    "CanonicalBoxes",
    "Convention",
    "KittiCalibration",
    "NuScenesBoxes",
    "bev_corners",
    "bev_iou",
    "bev_nms",
    "circle_nms",
    "corners_3d",
    "engine",
    "find_convention",
    "from_det3d",
    "from_kitti_camera",
    "from_mmdet3d_v0",
    "from_mmdet3d_v1",
    "from_nuscenes",
    "from_openpcdet",
    "iou_3d",
    "points_in_boxes",
    "pose_matrix",
    "to_det3d",
    "to_kitti_camera",
    "to_mmdet3d_v0",
    "to_mmdet3d_v1",
    "to_nuscenes",
    "to_openpcdet",
    "wrap_yaw",
]
