"""The adapters on real MMDetection3D 1.4 models: what is recorded is what the model did."""

from __future__ import annotations

import copy
from functools import cache
from importlib import import_module

import numpy as np
import pytest
import torch

from mld_pipelines.adapters.detection3d import observe, recognise, to_arrays


def decoder(adapter):
    """Build the decoder as another process would: by its name."""
    module, name = adapter.decoder().target.split(":")
    return getattr(import_module(module), name)(**adapter.decoder().params)


def bare(model, points):
    """Call a model as its own documentation says, without the SDK."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes

    samples = []
    for _ in points:
        samples.append(Det3DDataSample())
        samples[-1].set_metainfo({"box_type_3d": LiDARInstance3DBoxes})
    with torch.no_grad():
        return model.test_step({"inputs": {"points": [one.clone() for one in points]}, "data_samples": samples})


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


class Seen:
    """One observed call, with the bare model's answer beside it."""

    def __init__(self, model, points, tap):
        self.model, self.points = model, points
        self.before = [one.clone() for one in points]
        self.weights = copy.deepcopy(model.state_dict())
        self.adapter = recognise(model)
        with torch.no_grad():
            self.observed = observe(self.adapter, points if len(points) > 1 else points[0])
        self.raw = to_arrays(self.observed.raw)
        self.frames = decoder(self.adapter)(self.raw)
        maps = []
        handle = tap.register_forward_hook(lambda _module, _args, output: maps.append(output.clone()))
        self.bare = bare(model, points)
        handle.remove()
        self.map = maps[0]


@pytest.fixture(scope="module")
def pillars(pointpillars, kitti_points):
    """PointPillars on a frame and on the half of it nearer to the sensor."""
    points = [kitti_points, kitti_points[kitti_points[:, 0] < 20]]
    return Seen(pointpillars, points, pointpillars.bbox_head.conv_cls)


@pytest.fixture(scope="module")
def centers(centerpoint, nuscenes_points):
    """CenterPoint on one sweep, by its way of suppression."""

    @cache
    def of(suppression):
        model = centerpoint(suppression)
        return Seen(model, [nuscenes_points], model.pts_bbox_head.shared_conv)

    return of


@pytest.fixture(params=["rotate", "circle"])
def center(request, centers):
    return centers(request.param)


@pytest.fixture(params=["pillars", "rotate", "circle"])
def seen(request, centers):
    return request.getfixturevalue("pillars") if request.param == "pillars" else centers(request.param)


def test_the_output_is_what_the_bare_model_returns(seen):
    for ours, theirs in zip(seen.observed.output, seen.bare, strict=True):
        assert type(ours) is type(theirs)
        for name in ("scores_3d", "labels_3d"):
            assert torch.equal(ours.pred_instances_3d[name], theirs.pred_instances_3d[name])
        assert torch.equal(ours.pred_instances_3d.bboxes_3d.tensor, theirs.pred_instances_3d.bboxes_3d.tensor)


def test_boxes_are_recorded_by_their_gravity_centre_with_the_length_along_the_heading(seen):
    for frame, theirs in zip(seen.frames, seen.bare, strict=True):
        boxes = theirs.pred_instances_3d.bboxes_3d
        np.testing.assert_allclose(frame.boxes[:, :3], boxes.gravity_center.numpy(), atol=1e-5)
        np.testing.assert_allclose(frame.boxes[:, [4, 3, 5]], boxes.dims.numpy(), rtol=1e-6)
        turned = frame.boxes[:, 6] - boxes.yaw.numpy()
        np.testing.assert_allclose(np.sin(turned / 2), 0, atol=1e-6)


def test_scores_labels_and_order_are_the_models(seen):
    for frame, theirs in zip(seen.frames, seen.bare, strict=True):
        assert len(frame.scores) > 30
        np.testing.assert_array_equal(frame.scores, theirs.pred_instances_3d.scores_3d.numpy())
        np.testing.assert_array_equal(frame.labels, theirs.pred_instances_3d.labels_3d.numpy())


def test_every_detection_is_found_among_the_decoded_rows_of_the_head(seen):
    for frame in seen.frames:
        assert (frame.candidate_index >= 0).all()
        assert not frame.feature_source.startswith("sampled")


def test_the_class_vector_holds_the_score_at_the_label(seen):
    for frame in seen.frames:
        picked = frame.class_scores[np.arange(len(frame.labels)), frame.labels]
        np.testing.assert_allclose(picked, frame.scores, atol=1e-6)


def test_candidates_are_suppressed_boxes_by_falling_score(seen):
    for frame in seen.frames:
        assert len(frame.candidates.scores) > 100
        assert (np.diff(frame.candidates.scores) <= 0).all()
        kept = {*zip(frame.candidate_index.tolist(), frame.labels.tolist(), strict=True)}
        left = {*zip(frame.candidates.index.tolist(), frame.candidates.labels.tolist(), strict=True)}
        assert not kept & left


def test_inputs_and_hooks_are_left_as_they_were(seen):
    assert all(torch.equal(one, before) for one, before in zip(seen.points, seen.before, strict=True))
    assert hooks(seen.model) == 0


def test_weights_are_left_as_they_were(seen):
    assert all(torch.equal(seen.weights[name], value) for name, value in seen.model.state_dict().items())


def test_pointpillars_features_reproduce_the_logits(pillars):
    head = pillars.model.bbox_head.conv_cls
    weight = head.weight.detach()[:, :, 0, 0].numpy().reshape(-1, 3, head.in_channels)
    bias = head.bias.detach().numpy().reshape(-1, 3)
    for frame in pillars.frames:
        anchor = frame.candidate_index % len(weight)
        logits = np.einsum("ncd,nd->nc", weight[anchor], frame.features) + bias[anchor]
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), frame.class_scores, atol=1e-5)


def test_centerpoint_features_are_the_shared_maps_at_the_cell(center):
    (frame,) = center.frames
    cells = frame.candidate_index % (128 * 128)
    np.testing.assert_array_equal(frame.features, center.map[0].flatten(1)[:, cells].T.numpy())


def test_centerpoint_cells_lie_where_the_boxes_are(center):
    """Random weights regress up to a few cells; a map read with its axes swapped would be off by tens."""
    (frame,) = center.frames
    cells = frame.candidate_index % (128 * 128)
    middle = (np.stack([cells % 128, cells // 128], axis=1) + 0.5) * 0.8 - 51.2
    assert np.abs(middle - frame.boxes[:, :2]).max() < 5 * 0.8


def test_centerpoint_velocities_are_recorded(center):
    (frame,) = center.frames
    boxes = center.bare[0].pred_instances_3d.bboxes_3d.tensor
    np.testing.assert_array_equal(frame.velocities, boxes[:, 7:9].double().numpy())


@pytest.mark.parametrize(
    ("name", "value", "source"),
    [
        ("score_thresh", 0.1, "model:bbox_head.test_cfg.score_thr"),
        ("iou_thresh", 0.01, "model:bbox_head.test_cfg.nms_thr"),
        ("max_detections_per_frame", 50, "model:bbox_head.test_cfg.max_num"),
        ("pc_range", (0, -39.68, -3, 69.12, 39.68, 1), "model:data_preprocessor.voxel_layer.point_cloud_range"),
    ],
)
def test_pointpillars_settings_come_from_the_model(pillars, name, value, source):
    setting = getattr(pillars.adapter.settings, name)
    assert setting.value == pytest.approx(value)
    assert setting.source == source


def test_centerpoint_says_how_it_suppresses(center):
    setting = center.adapter.settings.iou_thresh
    is_circle = center.model.pts_bbox_head.test_cfg["nms_type"] == "circle"
    assert setting.value == (None if is_circle else 0.2)
    assert center.adapter.settings.max_detections_per_frame.value == 498


def test_the_native_dict_gives_the_same_as_points(pointpillars, kitti_points, pillars):
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes

    sample = Det3DDataSample()
    sample.set_metainfo({"box_type_3d": LiDARInstance3DBoxes})
    with torch.no_grad():
        given = {"inputs": {"points": [kitti_points]}, "data_samples": [sample]}
        output = observe(pillars.adapter, given).output
    assert torch.equal(output[0].pred_instances_3d.scores_3d, pillars.bare[0].pred_instances_3d.scores_3d)
    assert "pred_instances_3d" not in sample


def test_the_sdks_dict_gives_the_same_as_points(kitti_points, pillars):
    meta = {"sample_idx": 8}
    with torch.no_grad():
        output = observe(pillars.adapter, {"points": [kitti_points], "img_metas": [meta]}).output
    assert torch.equal(output[0].pred_instances_3d.scores_3d, pillars.bare[0].pred_instances_3d.scores_3d)
    assert output[0].metainfo["sample_idx"] == 8
    assert meta == {"sample_idx": 8}


def test_a_rotated_head_output_is_noticed_and_features_are_sampled(pillars):
    """Decoding that is not the model's must never pass on a feature as exact."""
    raw = {**pillars.raw, "row_deltas": pillars.raw["row_deltas"] + np.float32(0.01)}
    frame = decoder(pillars.adapter)(raw)[0]
    assert frame.feature_source == "sampled:bbox_head.conv_cls"
    assert frame.class_scores is None
    assert frame.features.shape == pillars.frames[0].features.shape
