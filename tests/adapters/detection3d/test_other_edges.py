"""Families outside MMDetection3D at their edges: thresholds, inputs, empty frames, look-alikes, unknown models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mld_pipelines.adapters.detection3d import observe, recognise, to_arrays
from mld_pipelines.compute import resolve
from mld_pipelines.exceptions import InvalidInputError, UnrecognisedModelError
from tests.support import bev_stubs as bev
from tests.support import det3d_stubs as det3d
from tests.support import openpcdet_stubs as pcdet

pytestmark = pytest.mark.torch


def cloud(seed=1, count=300):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 4, generator=generator) * torch.tensor([32.0, 32.0, 4.0, 1.0]) - torch.tensor(
        [0.0, 16.0, 3.0, 0.0]
    )


def live(kind):
    torch.manual_seed(3)
    return kind().eval()


def decoded(adapter, inputs):
    with torch.no_grad():
        observed = observe(adapter, inputs)
    spec = adapter.decoder()
    return observed, resolve(spec.target)(**spec.params)(to_arrays(observed.raw))


POST = "model:model_cfg.POST_PROCESSING."
HEAD_POST = "model:dense_head.model_cfg.POST_PROCESSING."
FOUND = {
    pcdet.PointPillar: ((0.1, POST + "SCORE_THRESH"), (0.01, POST + "NMS_CONFIG.NMS_THRESH"), 50, "dataset"),
    pcdet.VoxelRCNN: ((0.1, POST + "SCORE_THRESH"), (0.01, POST + "NMS_CONFIG.NMS_THRESH"), 50, "dataset"),
    pcdet.CenterPoint: ((0.3, HEAD_POST + "SCORE_THRESH"), (0.2, HEAD_POST + "NMS_CONFIG.NMS_THRESH"), 60, "dataset"),
    pcdet.VoxelNeXt: ((0.3, HEAD_POST + "SCORE_THRESH"), (0.2, HEAD_POST + "NMS_CONFIG.NMS_THRESH"), 60, "dataset"),
    pcdet.TransFusion: ((0.0, HEAD_POST + "SCORE_THRESH"), (None, "model:none"), 40, "dataset"),
    # fifteen boxes in each of two tasks
    det3d.VoxelNet: (
        (0.3, "model:test_cfg.score_threshold"),
        (0.2, "model:test_cfg.nms.nms_iou_threshold"),
        30,
        "reader",
    ),
    det3d.VoxelNet_dynamic: (
        (0.3, "model:neck.score_threshold"),
        (0.2, "model:test_cfg.nms.nms_iou_threshold"),
        30,
        "reader",
    ),
    bev.BEVFusion: ((0.0, "model:heads.object.bbox_coder.score_threshold"), (None, "model:none"), 20, "encoders.lidar"),
    bev.BEVFormer: ((None, "fallback"), (None, "model:none"), 25, "pts_bbox_head"),
    bev.Petr3D: ((None, "fallback"), (None, "model:none"), 25, "pts_bbox_head"),
    bev.PointPillars: ((0.1, "model:score_thr"), (0.01, "model:nms_thr"), 50, "pillar_layer.voxel_layer"),
}


@pytest.mark.parametrize("kind", FOUND, ids=lambda kind: kind.__name__)
def test_thresholds_come_from_the_places_where_the_code_base_keeps_them(kind):
    score, overlap, most, place = FOUND[kind]
    settings = recognise(live(kind)).settings
    assert (settings.score_thresh.value, settings.score_thresh.source) == score
    assert (settings.iou_thresh.value, settings.iou_thresh.source) == overlap
    assert settings.max_detections_per_frame.value == most
    assert settings.pc_range.value == tuple(pcdet.RANGE)
    assert settings.pc_range.source.startswith(f"model:{place}.")


def test_a_missing_threshold_is_left_to_the_fallback():
    model = live(bev.PointPillars)
    adapter = recognise(model)
    model.score_thr = None
    assert (adapter.settings.score_thresh.value, adapter.settings.score_thresh.source) == (None, "fallback")


def test_a_two_element_range_is_no_range():
    model = live(det3d.VoxelNet)
    del model.reader.pc_range
    assert recognise(model).settings.pc_range.value is None  # test_cfg.pc_range has two elements


def test_bevformer_without_a_range_has_none():
    model = live(bev.BEVFormer)
    model.pts_bbox_head.pc_range = model.pts_bbox_head.bbox_coder.pc_range = None
    assert recognise(model).settings.pc_range.value is None


def test_iou_thresholds_per_class_count_by_the_loosest():
    model = live(pcdet.VoxelNeXt)
    model.dense_head.model_cfg.POST_PROCESSING.NMS_CONFIG["NMS_THRESH"] = [0.8, 0.55, 0.55]
    assert recognise(model).settings.iou_thresh.value == 0.8


def silenced(model):
    """Make a model find nothing."""
    if isinstance(model, pcdet.Detector3DTemplate):
        model.model_cfg.POST_PROCESSING["SCORE_THRESH"] = 2.0
        if hasattr(model.dense_head, "model_cfg"):
            model.dense_head.model_cfg.POST_PROCESSING["SCORE_THRESH"] = 2.0
    elif isinstance(model, bev.PointPillars):
        model.score_thr = 2.0
    else:
        model.test_cfg["score_threshold"] = 2.0
        if hasattr(model.neck, "score_threshold"):
            model.neck.score_threshold = 2.0
    return model


@pytest.mark.parametrize(
    "kind",
    [
        pcdet.PointPillar,
        pcdet.CenterPoint,
        pcdet.VoxelNeXt,
        pcdet.TransFusion,
        pcdet.VoxelRCNN,
        det3d.VoxelNet,
        det3d.VoxelNet_dynamic,
        bev.PointPillars,
    ],
    ids=lambda kind: kind.__name__,
)
def test_frames_without_detections_still_have_candidates(kind):
    _, frames = decoded(recognise(silenced(live(kind))), [cloud(1), cloud(2)])
    assert len(frames) == 2
    for frame in frames:
        assert frame.boxes.shape == (0, 7)
        assert frame.velocities.shape == (0, 2)
        assert frame.scores.dtype == np.float32
        assert frame.labels.dtype == np.int64
        assert len(frame.candidates.scores) > 0


def test_a_frame_without_detections_stands_beside_one_with_some():
    model = live(bev.PointPillars)
    model.score_thr = 2.0
    empty, _ = decoded(recognise(model), [cloud(1)])
    assert empty.output == [([], [], [])]
    model.score_thr = 0.1
    full = model([cloud(1)])[0]
    adapter = recognise(model)
    raw = adapter.collect([([], [], []), full], {}, frames=2)
    assert raw["offsets"].tolist() == [0, 0, len(full["scores"])]


def test_more_results_than_frames_are_refused():
    adapter = recognise(live(bev.PointPillars))
    with pytest.raises(InvalidInputError, match="2 results for 1 frames"):
        adapter.collect([([], [], []), ([], [], [])], {}, frames=1)


def test_an_openpcdet_batch_is_copied_and_completed():
    model = live(pcdet.PointPillar)
    points = np.concatenate([np.zeros((300, 1)), cloud().numpy()], axis=1).astype(np.float32)
    batch = {"points": points, "batch_size": 1, "frame_id": np.array(["a"]), "gt_boxes": torch.zeros(1, 2, 8)}
    call = recognise(model).call(batch)
    inside = call.args[0]
    assert inside is not batch
    assert isinstance(inside["points"], torch.Tensor)
    assert "gt_boxes" not in inside  # read by the recall statistics alone, with a GPU kernel
    assert set(batch) == {"points", "batch_size", "frame_id", "gt_boxes"}
    assert call.frames == 1


def test_points_and_their_batch_give_the_same_detections():
    model = live(pcdet.PointPillar)
    adapter = recognise(model)
    batch = model.dataset.collate_batch([{"points": cloud().numpy(), "frame_id": 0}])
    _, of_batch = decoded(adapter, batch)
    for points in (cloud(), [cloud()], {"points": cloud()}):
        _, of_points = decoded(adapter, points)
        np.testing.assert_array_equal(of_points[0].boxes, of_batch[0].boxes)


def test_a_data_set_that_would_augment_is_refused():
    model = live(pcdet.PointPillar)
    model.dataset.training = True
    with pytest.raises(InvalidInputError, match="training=False"):
        recognise(model).call(cloud())


def test_points_without_a_data_set_are_refused():
    model = live(pcdet.PointPillar)
    model.dataset = None
    with pytest.raises(InvalidInputError, match=r"carries no data set"):
        recognise(model).call(cloud())


def test_the_dict_of_mmdetection3d_gives_its_points_to_a_detector_without_cameras():
    given = {"points": [cloud()], "img": torch.rand(1, 6, 3, 4, 4), "img_metas": [{}]}
    model = live(pcdet.PointPillar)
    alone, both = (observe(recognise(model), inputs).raw for inputs in ([cloud()], given))
    assert torch.equal(alone["boxes"], both["boxes"])
    with pytest.raises(InvalidInputError, match="but no batch_size"):
        recognise(live(pcdet.BevFusion)).call(given)


def test_a_batch_without_its_size_is_refused_by_its_keys():
    with pytest.raises(InvalidInputError, match=r"\['points', 'voxels'\] but no batch_size"):
        recognise(live(pcdet.PointPillar)).call({"points": cloud(), "voxels": cloud()})


def test_a_model_in_training_mode_is_refused_with_the_remedy():
    model = live(pcdet.PointPillar).train()
    with pytest.raises(InvalidInputError, match=r"model\.eval\(\)"):
        decoded(recognise(model), [cloud()])


def test_labels_from_one_become_labels_from_zero():
    observed, frames = decoded(recognise(live(pcdet.PointPillar)), [cloud()])
    assert observed.output[0][0]["pred_labels"].min() >= 1
    np.testing.assert_array_equal(frames[0].labels, observed.output[0][0]["pred_labels"].numpy() - 1)


def test_logits_that_the_model_returns_as_scores_become_scores():
    model = live(pcdet.PointPillar)
    model.model_cfg.POST_PROCESSING["OUTPUT_RAW_SCORE"] = True
    observed, frames = decoded(recognise(model), [cloud()])
    logits = observed.output[0][0]["pred_scores"].numpy()
    np.testing.assert_allclose(frames[0].scores, 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert frames[0].feature_source == "backbone_2d"


def test_features_of_the_anchor_head_reproduce_its_logits():
    model = live(pcdet.PointPillar)
    _, frames = decoded(recognise(model), [cloud(1), cloud(2)])
    layer = model.dense_head.conv_cls
    weight, bias = layer.weight.detach().numpy()[:, :, 0, 0], layer.bias.detach().numpy()
    for frame in frames:
        logits = (frame.features @ weight.T + bias).reshape(len(frame.features), 2, 3)
        own = logits[np.arange(len(logits)), frame.candidate_index % 2]
        np.testing.assert_allclose(frame.class_scores, 1 / (1 + np.exp(-own)), rtol=1e-5)


@pytest.mark.parametrize("kind", [pcdet.CenterPoint, det3d.VoxelNet], ids=["openpcdet", "det3d"])
def test_features_of_heatmap_heads_reproduce_all_tasks_logits(kind):
    model = live(kind)
    _, frames = decoded(recognise(model), [cloud(1), cloud(2)])
    if kind is pcdet.CenterPoint:
        heads = zip(model.dense_head.heads_list, model.dense_head.TASKS, strict=True)
    else:
        heads = zip(model.bbox_head.tasks, ([0, 1], [2]), strict=True)
    layers = [(head["hm"], labels) for head, labels in heads]
    for frame in frames:
        for layer, labels in layers:
            logits = frame.features @ layer.weight.detach().numpy()[:, :, 0, 0].T + layer.bias.detach().numpy()
            np.testing.assert_allclose(frame.class_scores[:, labels], 1 / (1 + np.exp(-logits)), rtol=1e-4, atol=1e-6)


def test_class_scores_of_a_second_stage_are_those_of_the_anchor_it_refined():
    model = live(pcdet.VoxelRCNN)
    _, frames = decoded(recognise(model), [cloud(1), cloud(2)])
    logits = model.dense_head.forward_ret_dict["cls_preds"].reshape(2, -1, 3)
    for i, frame in enumerate(frames):
        best = logits[i].max(dim=-1).values.topk(12).indices.numpy()
        expected = logits[i][best].sigmoid().detach().numpy()[frame.candidate_index]
        np.testing.assert_allclose(frame.class_scores, expected, rtol=1e-5)


def test_sampled_features_are_the_maps_at_the_centres():
    model = live(pcdet.PointPillar)
    adapter = recognise(model)
    with torch.no_grad():
        raw = to_arrays(observe(adapter, [cloud()]).raw)
        feature_map = model.backbone_2d({"points": _batched(cloud()), "batch_size": 1})["spatial_features_2d"][0]
    raw["scores"] = raw["scores"] * 0.5  # nothing the head said
    spec = adapter.decoder()
    frame = resolve(spec.target)(**spec.params)(raw)[0]
    assert frame.feature_source == "sampled:backbone_2d"
    middles = np.arange(pcdet.SIDE) + 0.5
    for box, feature in zip(frame.boxes[:5], frame.features[:5], strict=True):
        u, v = box[0] - pcdet.RANGE[0], box[1] - pcdet.RANGE[1]
        if not (0.5 <= u <= pcdet.SIDE - 0.5 and 0.5 <= v <= pcdet.SIDE - 0.5):
            continue
        across = [np.interp(u, middles, row) for row in feature_map.permute(1, 0, 2).reshape(-1, pcdet.SIDE).numpy()]
        rows = np.array(across).reshape(pcdet.SIDE, -1)
        np.testing.assert_allclose(feature, [np.interp(v, middles, column) for column in rows.T], atol=1e-4)


def _batched(points):
    return torch.cat([torch.zeros(len(points), 1), points], dim=1)


def test_a_head_that_is_not_known_is_recorded_without_features():
    adapter = recognise(live(pcdet.ThreeDSSD))
    _, frames = decoded(adapter, [cloud(), cloud()])
    assert adapter.family == "openpcdet"
    assert [frame.labels.tolist() for frame in frames] == [[1], [1]]
    assert frames[0].features is None
    np.testing.assert_allclose(frames[0].boxes[0], [5.0, 1.0, -1.0, 2.0, 4.0, 1.5, 0.3], rtol=1e-6)


def test_same_named_detectors_go_to_their_own_code_base():
    families = {kind: recognise(live(kind)).family for kind in (pcdet.CenterPoint, bev.PointPillars, bev.BEVFusion)}
    assert families == {
        pcdet.CenterPoint: "openpcdet-centerpoint",
        bev.PointPillars: "zhulf-pointpillars",
        bev.BEVFusion: "mit-bevfusion",
    }


@pytest.mark.parametrize("kind", FOUND, ids=lambda kind: kind.__name__)
def test_subclasses_and_wrapped_models_are_recognised(kind):
    own = type("MyDetector", (kind,), {})
    expected = recognise(live(kind)).family
    assert recognise(live(own)).family == expected
    assert recognise(nn.DataParallel(live(kind))).family == expected

    class Lit(nn.Module):
        def __init__(self):
            super().__init__()
            self.detector = live(kind)

    assert recognise(Lit()).family == expected


def test_what_is_no_3d_detector_is_refused_with_what_was_seen():
    with pytest.raises(UnrecognisedModelError, match=r"no known 3D detector; nothing was recorded\. Seen: .*Conv2d"):
        recognise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)))


def test_a_users_convention_overrules_the_code_bases():
    model = live(bev.PointPillars)
    _, old = decoded(recognise(model), [cloud()])
    _, new = decoded(recognise(model, convention="mmdet3d_v1"), [cloud()])
    np.testing.assert_array_equal(new[0].boxes[:, 3], old[0].boxes[:, 4])
    with pytest.raises(InvalidInputError, match="kitti"):
        recognise(model, convention="kitti")


def test_the_class_of_the_boxes_overrules_the_usual_convention():
    model = live(bev.BEVFormer)
    inputs = {"img": torch.rand(1, 6, 3, 4, 4), "img_metas": [bev.meta(bev.NewBoxes)]}
    adapter = recognise(model)
    assert adapter.convention == "mmdet3d_v0"
    _, frames = decoded(adapter, inputs)
    assert adapter.convention == "mmdet3d_v1"
    assert frames[0].feature_source == "pts_bbox_head.cls_branches"


def test_points_alone_do_not_do_for_cameras():
    model = live(bev.BEVFusion)
    model.encoders["camera"] = nn.Identity()
    with pytest.raises(InvalidInputError, match="has cameras"):
        recognise(model).call([cloud()])


def test_bevdets_range_is_the_view_transformers():
    area = recognise(live(bev.BEVDet)).settings.pc_range
    assert (area.value, area.source) == (tuple(bev.RANGE), "model:img_view_transformer.grid_config")


@pytest.mark.parametrize(
    ("kind", "path", "missing"),
    [
        (pcdet.CenterPoint, "dense_head", "voxel_size"),
        (pcdet.VoxelNeXt, "dense_head", "class_id_mapping_each_head"),
        (pcdet.TransFusion, "dense_head", "feature_map_stride"),
        (bev.PointPillars, "", "anchors_generator"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_head_without_what_decoding_needs_is_recorded_by_its_detections(kind, path, missing):
    model = live(kind)
    delattr(model.get_submodule(path), missing) if kind is not bev.PointPillars else setattr(model, missing, None)
    if kind is bev.PointPillars:
        model._frame = lambda *_: {"lidar_bboxes": np.ones((1, 7)), "labels": np.zeros(1), "scores": np.ones(1)}
    elif kind is not pcdet.TransFusion and missing != "voxel_size":
        model.dense_head.frame = lambda *_: {
            "pred_boxes": torch.ones(1, 7),
            "pred_scores": torch.ones(1),
            "pred_labels": torch.ones(1),
        }
    _, frames = decoded(recognise(model), [cloud()])
    assert len(frames[0].scores) >= 1
    assert frames[0].candidates is None
    assert frames[0].feature_source is None or frames[0].feature_source.startswith("sampled:")


def test_four_turned_copies_of_a_frame_are_one_frame():
    model = live(pcdet.VoxelNeXt)
    model.dense_head.double_flip = True
    assert recognise(model).call([cloud()] * 4).frames == 1
    model = live(det3d.VoxelNet)
    model.test_cfg["double_flip"] = True
    assert recognise(model).call([cloud()] * 8).frames == 2
