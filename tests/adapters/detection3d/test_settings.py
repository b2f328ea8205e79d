"""Thresholds: argument, else result, else model, else fallback; each with where it came from."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mld_pipelines.adapters.detection3d import Setting, Settings3D, recognise, resolve_settings
from mld_pipelines.exceptions import InvalidInputError

NAMES = ("score_thresh", "iou_thresh", "max_detections_per_frame", "pc_range")
RANGE = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
SILENT = Settings3D(*(Setting(None, "fallback") for _ in NAMES))
SPOKEN = Settings3D(
    Setting(0.05, "model:a"), Setting(0.01, "model:b"), Setting(50, "model:c"), Setting(RANGE, "model:d")
)


def resolved(of_model=SPOKEN, of_result=None, **arguments):
    return resolve_settings(of_model, family="some-family", arguments=arguments, of_result=of_result)


def test_a_model_that_speaks_is_believed():
    assert resolved() == SPOKEN


@pytest.mark.feature("F12", "F13", "F14")
def test_a_silent_model_gets_the_originals_values():
    found = resolved(SILENT, pc_range=RANGE)
    assert found.score_thresh == Setting(0.1, "fallback")
    assert found.iou_thresh == Setting(0.2, "fallback")
    assert found.max_detections_per_frame == Setting(300, "fallback")


def test_arguments_win_over_result_and_model():
    given = {"score_thresh": 0.3, "iou_thresh": 0.4, "max_detections_per_frame": 7, "pc_range": [0, 0, 0, 1, 1, 1]}
    found = resolved(of_result={"score_thresh": 0.9}, **given)
    assert [getattr(found, name).source for name in NAMES] == ["argument"] * 4
    assert [getattr(found, name).value for name in NAMES] == [0.3, 0.4, 7, (0, 0, 0, 1, 1, 1)]


def test_a_result_wins_over_the_model():
    found = resolved(of_result={"score_thresh": 0.25, "pc_range": list(RANGE)})
    assert found.score_thresh == Setting(0.25, "result")
    assert found.pc_range == Setting(RANGE, "result")
    assert found.iou_thresh.source == "model:b"


@pytest.mark.feature("F10", "F13")
@pytest.mark.parametrize("source", ["model:none", "model:bbox_head.test_cfg.nms_type"])
def test_a_family_without_overlap_suppression_ignores_the_threshold(source):
    family = Settings3D(SPOKEN.score_thresh, Setting(None, source), SPOKEN.max_detections_per_frame, SPOKEN.pc_range)
    assert resolved(family, iou_thresh=0.5).iou_thresh == Setting(None, source)
    assert resolved(family, of_result={"iou_thresh": 0.5}).iou_thresh == Setting(None, source)


@pytest.mark.feature("F15")
def test_a_range_that_is_nowhere_is_an_error_that_says_what_to_pass():
    with pytest.raises(InvalidInputError, match=r"pc_range cannot be inferred.*some-family.*pc_range=\[x_min"):
        resolved(SILENT)


def test_a_zero_threshold_of_the_model_is_a_threshold():
    family = Settings3D(Setting(0.0, "model:a"), *(getattr(SPOKEN, name) for name in NAMES[1:]))
    assert resolved(family).score_thresh == Setting(0.0, "model:a")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score_thresh", -0.1),
        ("score_thresh", 1.5),
        ("score_thresh", "high"),
        ("score_thresh", float("nan")),
        ("iou_thresh", True),
        ("max_detections_per_frame", 0),
        ("max_detections_per_frame", 2.5),
        ("max_detections_per_frame", float("inf")),
        ("pc_range", [0, 0, 1, 1]),
        ("pc_range", [0, 0, 0, 1, 1, -1]),
        ("pc_range", [0, 0, 0, 1, float("nan"), 1]),
        ("pc_range", [0, 0, 0, 1, 1, float("inf")]),
        ("pc_range", "all"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_with_their_value(name, value):
    with pytest.raises(InvalidInputError, match=name):
        resolved(**{name: value})


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_a_range_may_be_any_sequence(kind):
    assert resolved(pc_range=kind(RANGE)).pc_range.value == pytest.approx(RANGE)


pointpillars = [
    ("score_thresh", "bbox_head.test_cfg.score_thr", 0.3),
    ("iou_thresh", "bbox_head.test_cfg.nms_thr", 0.01),
    ("max_detections_per_frame", "bbox_head.test_cfg.max_num", 50),
]


@pytest.mark.feature("F12", "F13", "F14")
@pytest.mark.torch
@pytest.mark.parametrize(("name", "path", "value"), pointpillars)
def test_an_anchor_heads_settings_lie_in_its_test_cfg(name, path, value):
    from tests.support import mmdet3d_stubs as stubs

    model = stubs.VoxelNet()
    assert getattr(recognise(model).settings, name) == Setting(value, f"model:{path}")
    del model.bbox_head.test_cfg[path.rsplit(".", 1)[1]]
    assert getattr(recognise(model).settings, name) == Setting(None, "fallback")


@pytest.mark.feature("F15")
@pytest.mark.torch
@pytest.mark.parametrize(
    ("model", "version", "path"),
    [
        ("VoxelNet", "v1", "data_preprocessor.voxel_layer.point_cloud_range"),
        ("VoxelNet", "v0", "voxel_layer.point_cloud_range"),
        ("MVXFasterRCNN", "v0", "pts_voxel_layer.point_cloud_range"),
        ("BEVFusion", "v1", "pts_voxel_layer.point_cloud_range"),
        ("CenterPoint", "v1", "data_preprocessor.voxel_layer.point_cloud_range"),
    ],
)
def test_the_range_comes_from_the_voxels(model, version, path):
    from tests.support import mmdet3d_stubs as stubs

    assert recognise(getattr(stubs, model)(version)).settings.pc_range == Setting(tuple(stubs.RANGE), f"model:{path}")


@pytest.mark.torch
def test_the_coders_two_numbers_are_no_range():
    from tests.support import mmdet3d_stubs as stubs

    model = stubs.CenterPoint()
    del model.data_preprocessor.voxel_layer.point_cloud_range
    assert recognise(model).settings.pc_range == Setting(None, "fallback")


@pytest.mark.torch
def test_the_range_of_a_camera_detector_comes_from_its_grid():
    from tests.support import mmdet3d_stubs as stubs

    model = stubs.CenterPoint("v0")
    del model.voxel_layer
    grid = {"xbound": [-51.2, 51.2, 0.8], "ybound": [-40.0, 40.0, 0.8], "zbound": [-10.0, 10.0, 20.0]}
    model.img_view_transformer = SimpleNamespace(grid_config=grid)
    expected = Setting((-51.2, -40.0, -10.0, 51.2, 40.0, 10.0), "model:img_view_transformer.grid_config")
    assert recognise(model).settings.pc_range == expected


@pytest.mark.feature("F10")
@pytest.mark.torch
def test_a_query_head_has_a_range_and_no_overlap_threshold():
    from tests.support import mmdet3d_stubs as stubs

    model = stubs.PETR("v0")
    del model.voxel_layer
    found = recognise(model).settings
    assert found.pc_range == Setting(tuple(stubs.RANGE), "model:pts_bbox_head.pc_range")
    assert found.iou_thresh.value is None
    assert found.iou_thresh.source.startswith("model:")
    assert found.score_thresh == Setting(None, "fallback")
    assert found.max_detections_per_frame == Setting(12, "model:pts_bbox_head.bbox_coder.max_num")


@pytest.mark.torch
@pytest.mark.parametrize(
    ("suppression", "config", "coder", "expected"),
    [
        ("rotate", 0.3, 0.1, Setting(0.3, "model:pts_bbox_head.test_cfg.score_threshold")),
        ("rotate", 0.1, 0.3, Setting(0.3, "model:pts_bbox_head.bbox_coder.score_threshold")),
        ("rotate", 0.2, 0.2, Setting(0.2, "model:pts_bbox_head.test_cfg.score_threshold")),
        ("rotate", 0.2, None, Setting(0.2, "model:pts_bbox_head.test_cfg.score_threshold")),
        ("circle", 0.3, 0.1, Setting(0.1, "model:pts_bbox_head.bbox_coder.score_threshold")),
    ],
)
def test_of_two_score_thresholds_the_one_that_binds_is_recorded(suppression, config, coder, expected):
    """Suppression by distance never looks at test_cfg's."""
    from tests.support import mmdet3d_stubs as stubs

    model = stubs.CenterPoint(nms_type=suppression, threshold=config, coder_threshold=coder)
    assert recognise(model).settings.score_thresh == expected


@pytest.mark.torch
def test_a_limit_per_task_counts_for_all_tasks():
    """`max_per_img` is in the configs and enforced nowhere: the record would lose what the model returns."""
    from tests.support import mmdet3d_stubs as stubs

    found = recognise(stubs.CenterPoint()).settings.max_detections_per_frame
    assert found == Setting(18, "model:pts_bbox_head.test_cfg.post_max_size")


@pytest.mark.torch
@pytest.mark.parametrize(("suppression", "value"), [("rotate", 0.2), ("circle", None), (["circle", "circle"], None)])
def test_suppression_by_distance_has_no_overlap_threshold(suppression, value):
    from tests.support import mmdet3d_stubs as stubs

    assert recognise(stubs.CenterPoint(nms_type=suppression)).settings.iou_thresh.value == value


@pytest.mark.torch
def test_of_a_value_per_class_the_loosest_counts():
    """A stricter one would drop from the record what the model returns."""
    from tests.support import mmdet3d_stubs as stubs

    model = stubs.VoxelNet()
    model.bbox_head.test_cfg.update(score_thr=[0.3, 0.05, 0.2], nms_thr=[0.1, 0.4])
    assert recognise(model).settings.score_thresh.value == 0.05
    assert recognise(model).settings.iou_thresh.value == 0.4
