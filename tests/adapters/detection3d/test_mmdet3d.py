"""Families of MMDetection3D on stand-ins of 1.x and 0.x: what is recorded is what the model did."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch

from mld_pipelines.adapters.detection3d import observe, recognise, to_arrays
from mld_pipelines.exceptions import InvalidInputError
from tests.support import mmdet3d_stubs as stubs
from tests.support.detector_contract import check_contract, decode

pytestmark = pytest.mark.torch

MODELS = {
    "pointpillars": stubs.VoxelNet,
    "mvx pointpillars": stubs.MVXFasterRCNN,
    "centerpoint": stubs.CenterPoint,
    "petr": stubs.PETR,
    "bevfusion": stubs.BEVFusion,
}


def cloud(count=300, seed=1, columns=4):
    generator = torch.Generator().manual_seed(seed)
    low, size = torch.tensor([0.0, -12.0, -2.0]), torch.tensor([25.0, 24.0, 2.5])
    points = torch.rand(count, columns, generator=generator)
    points[:, :3] = low + points[:, :3] * size
    return points


def seen(model, inputs):
    adapter = recognise(model)
    with torch.no_grad():
        observed = observe(adapter, inputs)
    return adapter, observed, decode(adapter, to_arrays(observed.raw))


def returned(model, points):
    """What the model finds when nobody watches: (tensor, scores, labels) per frame."""
    with torch.no_grad():
        found = copy.deepcopy(model).detections([one.clone() for one in points])
    return [(boxes.tensor.numpy(), scores.numpy(), labels.numpy()) for boxes, scores, labels in found]


def corners(boxes):
    """Return corners of canonical boxes: along the heading, across it, upwards."""
    cx, cy, cz, w, l, h, yaw = boxes.T  # noqa: E741
    signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) / 2
    along, across = signs[:, 0] * l[:, None], signs[:, 1] * w[:, None]
    x = cx[:, None] + along * np.cos(yaw)[:, None] - across * np.sin(yaw)[:, None]
    y = cy[:, None] + along * np.sin(yaw)[:, None] + across * np.cos(yaw)[:, None]
    return np.stack([x, y, cz[:, None] + signs[:, 2] * h[:, None]], axis=-1)


@pytest.fixture(params=[(name, version) for name in MODELS for version in ("v1", "v0")], ids=" ".join)
def model(request):
    name, version = request.param
    return stubs.lively(MODELS[name](version))


@pytest.fixture
def points():
    return [cloud(300, 1), cloud(200, 2)]


@pytest.mark.feature("F2", "F3", "F5")
def test_detections_are_the_models_in_its_order(model, points):
    _, _, frames = seen(model, points)
    for frame, (boxes, scores, labels) in zip(frames, returned(model, points), strict=True):
        assert len(boxes) >= 5
        np.testing.assert_array_equal(frame.scores, scores)
        np.testing.assert_array_equal(frame.labels, labels)
        np.testing.assert_array_equal(frame.boxes[:, :2], boxes[:, :2])


@pytest.mark.feature("F20")
def test_boxes_of_1_x_and_0_x_span_the_corners_their_conventions_say(model, points):
    _, _, frames = seen(model, points)
    for frame, (boxes, _, _) in zip(frames, returned(model, points), strict=True):
        x, y, bottom, first, second, height, yaw = boxes[:, :7].astype(np.float64).T
        old = model.version == "v0"
        # 0.x: yaw 0 looks along −y and grows clockwise, so the heading is (−sin, −cos)
        heading = np.stack([-np.sin(yaw), -np.cos(yaw)] if old else [np.cos(yaw), np.sin(yaw)], axis=1)
        length, width = (second, first) if old else (first, second)
        front = np.stack([x, y], axis=1) + heading * length[:, None] / 2
        spanned = corners(frame.boxes)
        np.testing.assert_allclose(spanned[:, 4:].mean(axis=1)[:, :2], front, atol=1e-4)
        np.testing.assert_allclose(spanned[..., 2].min(axis=1), bottom, atol=1e-4)
        np.testing.assert_allclose(np.ptp(spanned[..., 2], axis=1), height, atol=1e-4)
        np.testing.assert_allclose(frame.boxes[:, 3], width, rtol=1e-6)


def test_every_detection_has_its_row_and_an_exact_feature(model, points):
    _, _, frames = seen(model, points)
    for frame in frames:
        assert (frame.candidate_index >= 0).all()
        assert not frame.feature_source.startswith("sampled:")
        assert frame.features.dtype == np.float32


def test_the_class_vector_is_of_the_row(model, points):
    _, _, frames = seen(model, points)
    is_product = type(model).__name__ == "BEVFusion"  # its score is the class's chance times the heatmap's
    for frame in frames:
        own = frame.class_scores[np.arange(len(frame.labels)), frame.labels]
        assert (own >= frame.scores - 1e-6).all() if is_product else np.allclose(own, frame.scores, atol=1e-6)


def test_features_reproduce_the_class_logits(model, points):
    _, _, frames = seen(model, points)
    for frame in frames:
        chances = chances_from(model, frame)
        if chances is not None:
            np.testing.assert_allclose(chances, frame.class_scores, atol=1e-5)


def chances_from(model, frame):
    """Put features through the layer they are the input of."""
    head = getattr(model, "bbox_head", None) or model.pts_bbox_head
    features = torch.from_numpy(np.ascontiguousarray(frame.features))
    with torch.no_grad():
        if hasattr(head, "conv_cls"):
            logits = head.conv_cls(features[:, :, None, None])[:, :, 0, 0].reshape(-1, 4, 3)
            logits = logits[torch.arange(len(features)), torch.from_numpy(frame.candidate_index) % 4]
        elif hasattr(head, "cls_branches"):
            logits = head.cls_branches[-1](features)
        elif hasattr(head, "prediction_heads"):
            logits = head.prediction_heads[-1](features.T[None])["heatmap"][0].T
        else:
            return None  # a heatmap's last layer sees neighbouring cells as well
    return logits.sigmoid().numpy()


def test_features_of_a_heatmap_head_are_the_shared_map_at_the_cell(points):
    model = stubs.lively(stubs.CenterPoint())
    _, _, frames = seen(model, points)
    with torch.no_grad():
        shared = model.pts_bbox_head.shared_conv(model.features(points))
    for place, frame in enumerate(frames):
        cells = frame.candidate_index % (stubs.ROWS * stubs.COLUMNS)
        np.testing.assert_array_equal(frame.features, shared[place].flatten(1)[:, cells].T.numpy())


@pytest.mark.feature("F21")
def test_velocities_are_recorded_where_the_model_has_them(points):
    _, _, frames = seen(model := stubs.lively(stubs.CenterPoint()), points)
    np.testing.assert_array_equal(frames[0].velocities, returned(model, points)[0][0][:, 7:9])
    _, _, frames = seen(stubs.lively(stubs.CenterPoint(velocity=False)), points)
    assert np.isnan(frames[0].velocities).all()
    assert (frames[0].candidate_index >= 0).all()


def test_suppression_by_distance_is_followed_as_well(points):
    _, _, frames = seen(stubs.lively(stubs.CenterPoint(nms_type="circle")), points)
    assert all((frame.candidate_index >= 0).all() for frame in frames)


def test_a_query_yaw_that_is_turned_back_is_read_as_such(points):
    _, _, frames = seen(stubs.lively(stubs.PETR(is_turned=True)), points)
    assert all((frame.candidate_index >= 0).all() for frame in frames)


def test_candidates_are_boxes_that_the_model_dropped(model, points):
    _, _, frames = seen(model, points)
    for frame in frames:
        assert (np.diff(frame.candidates.scores) <= 0).all()
        kept = {*zip(frame.candidate_index.tolist(), frame.labels.tolist(), strict=True)}
        assert not kept & {*zip(frame.candidates.index.tolist(), frame.candidates.labels.tolist(), strict=True)}


def test_a_duplicate_that_was_suppressed_is_among_the_candidates(points):
    """Boxes nearer than the radius to a kept one are what suppression removed."""
    _, _, frames = seen(stubs.lively(stubs.VoxelNet()), points)
    frame = frames[0]
    gaps = np.linalg.norm(frame.candidates.boxes[:, None, :2] - frame.boxes[None, :, :2], axis=2)
    assert (gaps.min(axis=1) < 1.5).any()


def test_nothing_found_is_an_empty_frame(points):
    model = stubs.lively(stubs.VoxelNet(threshold=1.1))
    _, _, frames = seen(model, points)
    assert [frame.boxes.shape for frame in frames] == [(0, 7), (0, 7)]
    assert frames[0].features.shape == (0, stubs.CHANNELS)


def test_inputs_weights_and_hooks_are_left_as_they_were(model, points):
    before = [one.clone() for one in points]
    meta = {"sample_idx": 3, "can_bus": [0.0]}
    weights = copy.deepcopy(model.state_dict())
    seen(model, {"points": points, "img_metas": [meta, meta]})
    assert all(torch.equal(one, old) for one, old in zip(points, before, strict=True))
    assert meta == {"sample_idx": 3, "can_bus": [0.0]}
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_hooks_are_removed_when_the_model_fails(points):
    model = stubs.lively(stubs.VoxelNet())
    model.stem.weight.data = model.stem.weight.data.double()
    with pytest.raises(RuntimeError):
        seen(model, points)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_output_is_the_object_the_model_returned(points):
    model = stubs.lively(stubs.VoxelNet("v0"))
    given = []
    model.forward = lambda *args, **kwargs: given.append(type(model).forward(model, *args, **kwargs)) or given[0]
    _, observed, _ = seen(model, points)
    assert observed.output is given[0]


@pytest.mark.feature("F16", "F17")
@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(lambda clouds: clouds, id="list"),
        pytest.param(lambda clouds: {"points": clouds}, id="dict of points"),
        pytest.param(lambda clouds: {"points": clouds, "img_metas": [{"a": 1}, {"a": 2}]}, id="the SDK's dict"),
        pytest.param(lambda clouds: {"points": [clouds], "img_metas": [[{"a": 1}, {"a": 2}]]}, id="nested as in 0.x"),
        pytest.param(lambda clouds: [one.numpy() for one in clouds], id="arrays"),
    ],
)
def test_every_documented_input_gives_the_same(model, points, inputs):
    _, _, frames = seen(model, inputs(points))
    for frame, (_, scores, _) in zip(frames, returned(model, points), strict=True):
        np.testing.assert_array_equal(frame.scores, scores)


@pytest.mark.feature("F16")
def test_one_tensor_is_one_frame_and_a_stack_is_a_batch(model, points):
    _, _, frames = seen(model, points[0])
    assert len(frames) == 1
    _, _, frames = seen(model, torch.stack([points[0], points[0]]))
    assert len(frames) == 2


def test_the_loaders_own_dict_of_1_x_is_passed_on_in_copies(points):
    model = stubs.lively(stubs.VoxelNet())
    adapter = recognise(model)
    samples = adapter.call(points).args[0]["data_samples"]
    with torch.no_grad():
        output = observe(adapter, {"inputs": {"points": points}, "data_samples": samples}).output
    assert hasattr(output[0], "pred_instances_3d")
    assert not hasattr(samples[0], "pred_instances_3d")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (torch.zeros(5, 3), r"frame 0 are a tensor of shape \(5, 3\)"),
        (torch.zeros(5), r"shape \(5,\)"),
        ("points.bin", "frame 0 are str"),
        ({"img_metas": []}, "neither points nor images"),
        ({"points": [torch.zeros(3, 4)], "img_metas": [{}, {}]}, "1 points and 2 metas"),
    ],
)
def test_inputs_that_cannot_be_points_are_refused(inputs, said):
    with pytest.raises(InvalidInputError, match=said):
        recognise(stubs.lively(stubs.VoxelNet())).call(inputs)


@pytest.mark.feature("F17")
def test_images_of_a_multi_view_dict_reach_each_version_in_its_form(points):
    images = torch.rand(2, 6, 3, 4, 5)
    given = {"points": points, "img": images, "img_metas": [{}, {}]}
    new = recognise(stubs.lively(stubs.PETR("v1"))).call(given).args[0]["inputs"]["img"]
    assert [tuple(one.shape) for one in new] == [(6, 3, 4, 5)] * 2
    old = recognise(stubs.lively(stubs.PETR("v0"))).call(given).kwargs["img"]
    assert len(old) == 1
    assert old[0].shape == images.shape
    old[0].squeeze_(0)
    assert images.shape == (2, 6, 3, 4, 5)


@pytest.mark.parametrize("version", ["v1", "v0"])
def test_boxes_of_a_camera_frame_are_refused(points, monkeypatch, version):
    model = stubs.lively(stubs.VoxelNet(version))
    monkeypatch.setattr(stubs, "boxes_of", lambda _version, tensor: stubs.CameraInstance3DBoxes(tensor))
    with pytest.raises(InvalidInputError, match="CameraInstance3DBoxes"):
        seen(model, points)


def test_losses_instead_of_detections_are_refused(points):
    model = stubs.lively(stubs.VoxelNet("v0"))
    model.forward = lambda *_args, **_kwargs: {"loss": torch.tensor(1.0)}
    with pytest.raises(InvalidInputError, match=r"model\.eval\(\)"):
        seen(model, points)


@pytest.mark.parametrize("name", MODELS)
def test_the_class_of_the_boxes_tells_a_release_candidate_from_0_x(points, monkeypatch, name):
    """1.0.0rc has no data_preprocessor but the boxes of 1.x."""
    model = stubs.lively(MODELS[name]("v0"))
    monkeypatch.setattr(stubs, "boxes_of", lambda _v, t: stubs.LiDARInstance3DBoxes(t, t.shape[-1]))
    adapter, _, frames = seen(model, points)
    assert adapter.convention == "mmdet3d_v1"
    boxes = returned(model, points)[0][0]
    np.testing.assert_allclose(frames[0].boxes[:, 4], boxes[:, 3], rtol=1e-6)
    assert (frames[0].candidate_index >= 0).all()


def test_a_convention_that_is_asked_for_is_kept(points):
    adapter = recognise(stubs.lively(stubs.VoxelNet()), convention="mmdet3d_v0")
    with torch.no_grad():
        observed = observe(adapter, points)
    assert adapter.convention == "mmdet3d_v0"
    (frame, _) = decode(adapter, to_arrays(observed.raw))
    assert (frame.candidate_index >= 0).all()
    with pytest.raises(InvalidInputError, match="box_convention 'mmdet3d' is not known"):
        recognise(stubs.lively(stubs.VoxelNet()), convention="mmdet3d")


@pytest.mark.parametrize(
    ("name", "key"), [("pointpillars", "row_deltas"), ("centerpoint", "row_reg"), ("petr", "query_values")]
)
def test_a_decoding_that_is_not_the_models_never_passes_as_exact(points, name, key):
    model = stubs.lively(MODELS[name]())
    adapter, observed, frames = seen(model, points)
    raw = to_arrays(observed.raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = decode(adapter, {**raw, key: raw[key] + np.float32(0.01)})
    for before, after in zip(frames, wrong, strict=True):
        assert after.feature_source is None or after.feature_source.startswith("sampled:")
        assert after.class_scores is None
        np.testing.assert_array_equal(after.boxes, before.boxes)


def test_sampled_features_are_near_the_exact_ones(points):
    """The map at the box's centre is close to the map at the row's cell where the box lies in that cell."""
    model = stubs.lively(stubs.VoxelNet())
    with torch.no_grad():
        model.bbox_head.conv_reg.weight.mul_(1e-3)
        model.bbox_head.conv_reg.bias.zero_()
    _, observed, frames = seen(model, points)
    raw = to_arrays(observed.raw)
    exact = np.concatenate([frame.features for frame in frames])
    np.testing.assert_allclose(raw["sampled"], exact, atol=0.02 * np.abs(exact).max())


def test_heads_whose_layers_are_not_called_give_detections_alone(points):
    model = stubs.lively(stubs.VoxelNet())
    fixed = returned(model, points)
    found = [(stubs.LiDARInstance3DBoxes(torch.tensor(b)), torch.tensor(s), torch.tensor(n)) for b, s, n in fixed]
    model.detections = lambda _points: found
    _, _, frames = seen(model, points)
    for frame, (_, scores, _) in zip(frames, fixed, strict=True):
        np.testing.assert_array_equal(frame.scores, scores)
        assert frame.features is None
        assert frame.candidates is None
        assert (frame.candidate_index == -1).all()


FAMILIES = {
    "pointpillars": "mmdet3d-anchor",
    "mvx pointpillars": "mmdet3d-anchor",
    "centerpoint": "mmdet3d-centerpoint",
    "petr": "mmdet3d-query",
    "bevfusion": "mmdet3d-transfusion",
}


@pytest.mark.feature("F2", "F3", "F5")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("version", ["v1", "v0"])
def test_the_contract_holds(name, version, points):
    check_contract(stubs.lively(MODELS[name](version)), points, family=FAMILIES[name], frames=2)


def test_that_features_are_not_exact_is_said_once(points, caplog, monkeypatch):
    monkeypatch.setattr("mld_pipelines.adapters.detection3d._rows._told", set())
    model = stubs.lively(stubs.VoxelNet())
    adapter, observed, _ = seen(model, points)
    raw = to_arrays(observed.raw)
    for _ in range(2):
        decode(adapter, {**raw, "row_deltas": raw["row_deltas"] + np.float32(0.01)})
    assert len(caplog.messages) == 1
    assert "bbox_head.conv_cls" in caplog.messages[0]


@pytest.mark.parametrize("version", ["v1", "v0"])
def test_a_second_stage_is_recorded_by_what_it_returns(version, points):
    model = stubs.lively(stubs.PartA2(version))
    adapter, frames = check_contract(model, points, family="mmdet3d", frames=2)
    for frame, (boxes, scores, _) in zip(frames, returned(model, points), strict=True):
        np.testing.assert_array_equal(frame.scores, scores)
        np.testing.assert_array_equal(frame.boxes[:, :2], boxes[:, :2])
        assert frame.features.shape == (len(scores), 5)
        assert frame.feature_source == "sampled:neck"
        assert (frame.candidate_index == -1).all()
    assert adapter.settings.score_thresh.source == "model:test_cfg.rcnn.score_thr"
    assert adapter.settings.iou_thresh.value == 0.1


@pytest.mark.parametrize(("name", "layer"), [("pointpillars", "conv_reg"), ("petr", "reg_branches")])
def test_proposals_of_infinite_size_are_no_candidates_and_no_warning(name, layer, points):
    """float32 overflows where a size's logarithm passes 88; such rows score low in trained models."""
    model = stubs.lively(MODELS[name]())
    head = getattr(model, "bbox_head", None) or model.pts_bbox_head
    regressor = getattr(head, layer)[-1] if layer == "reg_branches" else getattr(head, layer)
    with torch.no_grad():
        regressor.bias[3] += 1e4
    _, _, frames = seen(model, points)
    for frame in frames:
        assert frame.candidates is None or np.isfinite(frame.candidates.boxes).all()


def test_a_half_precision_head_is_recorded_with_sampled_features(points, caplog, monkeypatch):
    monkeypatch.setattr("mld_pipelines.adapters.detection3d._rows._told", set())
    model = stubs.lively(stubs.VoxelNet())
    exact = model.bbox_head.predict
    model.bbox_head.predict = lambda outputs: exact(tuple([one.half().float() for one in level] for level in outputs))
    _, _, frames = seen(model, points)
    assert all(frame.feature_source == "sampled:bbox_head.conv_cls" for frame in frames)
    assert all(frame.class_scores is None for frame in frames)
    assert len(caplog.messages) == 1


def test_as_many_rows_are_read_as_the_head_decodes_however_its_configuration_is_stored(points):
    model = stubs.lively(stubs.VoxelNet(nms_pre=1024, threshold=0.0))
    adapter = recognise(model)
    plain = dict(model.bbox_head.test_cfg)
    with torch.no_grad():
        observed = observe(adapter, points)
        model.bbox_head.test_cfg = type("Plain", (), {"get": staticmethod(plain.get), **plain})()
        again = observe(recognise(model), points)
    assert all((frame.candidate_index >= 0).all() for frame in decode(adapter, to_arrays(observed.raw)))
    assert len(observed.raw["row_index"]) == len(again.raw["row_index"]) == 2 * stubs.ROWS * stubs.COLUMNS * 4


@pytest.mark.parametrize("head", ["CenterHead", "PETRHead", "TransFusionHead", "Anchor3DHead"])
@pytest.mark.parametrize("version", ["v1", "v0"])
def test_a_head_without_anything_that_decoding_needs_still_gives_detections(head, version, points):
    class Bare(stubs.Base3DDetector):
        def __init__(self):
            super().__init__(version)
            self.pts_bbox_head = type(head, (torch.nn.Module,), {})()

        def detections(self, points):
            row = torch.tensor([[10.0, 2.0, -1.0, 4.0, 1.8, 1.6, 0.5]])
            return [(stubs.boxes_of(version, row), torch.tensor([0.9]), torch.tensor([1])) for _ in points]

    adapter, _, frames = seen(Bare(), points)
    assert adapter.family.startswith("mmdet3d-")
    size = [1.8, 4.0, 1.6] if version == "v1" else [4.0, 1.8, 1.6]
    for frame in frames:
        np.testing.assert_allclose(frame.boxes[0, :6], [10.0, 2.0, -0.2, *size], rtol=1e-6)
        assert (frame.labels.tolist(), frame.candidate_index.tolist()) == ([1], [-1])
