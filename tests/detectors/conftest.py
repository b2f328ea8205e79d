"""Real MMDetection3D models with random weights: run by `make test-detectors` in an environment of their own.

The main suite has no mmdet3d and collects nothing here; `make test-detectors` fails if nothing is collected.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CONFIGS = ".mim/configs"

collect_ignore_glob = [] if importlib.util.find_spec("mmdet3d") else ["test_*.py"]


def built(config: str):
    """Build a model of a shipped config, in eval mode, with weights of a fixed seed."""
    import mmdet3d
    from mmdet3d.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet3d")
    torch.manual_seed(5)
    model = MODELS.build(Config.fromfile(Path(mmdet3d.__file__).parent / CONFIGS / config).model)
    return model.eval()


@pytest.fixture(scope="session")
def kitti_points():
    """One frame of KITTI, (N, 4)."""
    return torch.from_numpy(np.fromfile(SHARED / "kitti/reduced_000008.bin", np.float32).reshape(-1, 4))


@pytest.fixture(scope="session")
def nuscenes_points():
    """One sweep of nuScenes, (N, 5)."""
    return torch.from_numpy(np.fromfile(SHARED / "nuscenes/lidar_top.pcd.bin", np.float32).reshape(-1, 5))


@pytest.fixture(scope="session")
def pointpillars():
    """PointPillars on KITTI whose classes are lively enough to be found."""
    model = built("pointpillars/pointpillars_hv_secfpn_8xb6-160e_kitti-3d-3class.py")
    with torch.no_grad():
        model.bbox_head.conv_cls.bias += 3
    return model


@pytest.fixture(scope="session")
def centerpoint():
    """CenterPoint on nuScenes by its way of suppression, `rotate` or `circle`."""
    return cache(lively_centerpoint)


def lively_centerpoint(suppression: str):
    kind = "" if suppression == "rotate" else "head-circlenms_"
    model = built(f"centerpoint/centerpoint_pillar02_second_secfpn_{kind}8xb4-cyclic-20e_nus-3d.py")
    assert model.pts_bbox_head.test_cfg["nms_type"] == suppression
    with torch.no_grad():
        for task in model.pts_bbox_head.task_heads:
            task.heatmap[-1].bias.zero_()
            task.heatmap[-1].weight.normal_(0, 0.3)
    return model
