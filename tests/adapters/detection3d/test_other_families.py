"""Families outside MMDetection3D on stand-ins of their contracts: what is recorded is what the model did."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from mld_pipelines.adapters.detection3d import GuardedDecoder, _guards, observe, recognise, to_arrays
from mld_pipelines.compute import resolve
from tests.support import bev_stubs as bev
from tests.support import det3d_stubs as det3d
from tests.support import openpcdet_stubs as pcdet

pytestmark = pytest.mark.torch


def cloud(seed, count=400):
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor([0.0, -16.0, -3.0]), torch.tensor([32.0, 16.0, 1.0])
    points = torch.rand(count, 4, generator=generator)
    points[:, :3] = low + points[:, :3] * (high - low)
    return points


def images(seed, frames=1):
    return torch.rand(frames, 6, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def clouds(frames):
    return [cloud(seed, 400 - 150 * seed) for seed in range(frames)]


def fused(frames):
    return {"points": clouds(frames), "metas": [{"box_type_3d": bev.OldBoxes} for _ in range(frames)]}


def seen_by_cameras(frames):
    return {"img": images(1, frames), "img_metas": [bev.meta(bev.OldBoxes) for _ in range(frames)]}


def streamed(frames):
    metas = [bev.meta(bev.NewBoxes) for _ in range(frames)]
    return {"img": images(2, frames), "img_metas": metas, "lidar2img": torch.eye(4).expand(frames, 6, 4, 4)}


def transformed(frames):
    size = {"rots": (3, 3), "trans": (3,), "intrins": (3, 3), "post_rots": (3, 3), "post_trans": (3,)}
    calibration = [torch.ones(frames, 6, *shape) for shape in size.values()]
    metas = [bev.meta(bev.OldBoxes) for _ in range(frames)]
    return {"img_inputs": [images(4, frames).repeat(1, 1, 1, 4, 4) * 3, *calibration], "img_metas": metas}


@dataclass(frozen=True)
class Case:
    """One stand-in: its inputs, the convention of its boxes, its feature, and frames it takes at once."""

    model: Any
    family: str
    convention: str
    source: str
    inputs: Any = clouds
    frames: int = 2
    first_label: int = 0


CASES = [
    Case(pcdet.PointPillar, "openpcdet-anchor", "openpcdet", "backbone_2d", first_label=1),
    Case(pcdet.CenterPoint, "openpcdet-centerpoint", "openpcdet", "dense_head.shared_conv", first_label=1),
    Case(pcdet.VoxelNeXt, "openpcdet-voxelnext", "openpcdet", "backbone_3d", first_label=1),
    Case(pcdet.TransFusion, "openpcdet-transfusion", "openpcdet", "dense_head.prediction_head", first_label=1),
    Case(pcdet.BevFusion, "openpcdet-transfusion", "openpcdet", "dense_head.prediction_head", first_label=1),
    Case(pcdet.VoxelRCNN, "openpcdet-roi", "openpcdet", "roi_head.shared_fc_layer", first_label=1),
    Case(det3d.VoxelNet, "det3d-centerpoint", "det3d", "bbox_head.shared_conv"),
    Case(det3d.TwoStageDetector, "det3d-centerpoint", "det3d", "roi_head.shared_fc_layer"),
    Case(det3d.VoxelNet_dynamic, "det3d-centerformer", "det3d", "neck"),
    Case(bev.BEVFusion, "mit-bevfusion", "mmdet3d_v0", "heads.object.prediction_heads.1", fused, frames=1),
    Case(bev.BEVFormer, "bevformer", "mmdet3d_v0", "pts_bbox_head.cls_branches", seen_by_cameras),
    Case(bev.Petr3D, "streampetr", "mmdet3d_v1", "pts_bbox_head.cls_branches", streamed, frames=1),
    Case(bev.BEVDet, "mmdet3d-centerpoint", "mmdet3d_v0", "pts_bbox_head.shared_conv", transformed),
    Case(bev.BEVDetSequentialES, "mmdet3d-centerpoint", "mmdet3d_v0", "pts_bbox_head.shared_conv", transformed),
    Case(bev.PointPillars, "zhulf-pointpillars", "mmdet3d_v0", "head.conv_cls"),
]


@pytest.fixture(params=CASES, ids=lambda case: case.model.__name__)
def case(request):
    return request.param


def live(case):
    """Return a model with weights large enough for unequal scores."""
    torch.manual_seed(3)
    model = case.model().eval()
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and not any(part in name for part in ("dim", "reg", "conv_box", "layers.dim")):
            parameter.data.mul_(2.0)
    return model


def seen(model, inputs):
    adapter = recognise(model)
    with torch.no_grad():
        observed = observe(adapter, inputs)
    spec = adapter.decoder()
    return adapter, observed, resolve(spec.target)(**spec.params)(to_arrays(observed.raw))


def returned(output):
    """Return (rows, scores, labels) per frame as the code bases write them."""
    if isinstance(output, tuple):
        output = output[0]
    frames = []
    for one in output:
        if isinstance(one, tuple):
            frames.append((np.zeros((0, 7)), np.zeros(0), np.zeros(0, int)))
            continue
        found = one.get("pts_bbox", one)
        names = [
            ("pred_boxes", "pred_scores", "pred_labels"),
            ("box3d_lidar", "scores", "label_preds"),
            ("boxes_3d", "scores_3d", "labels_3d"),
            ("lidar_bboxes", "scores", "labels"),
        ]
        boxes, scores, labels = (found[name] for name in next(keys for keys in names if keys[0] in found))
        frames.append(tuple(np.asarray(part) for part in (getattr(boxes, "tensor", boxes), scores, labels)))
    return frames


HEADINGS = {
    "openpcdet": lambda yaw: (np.cos(yaw), np.sin(yaw)),
    "mmdet3d_v1": lambda yaw: (np.cos(yaw), np.sin(yaw)),
    # yaw 0 looks along −y and grows clockwise seen from above
    "mmdet3d_v0": lambda yaw: (-np.sin(yaw), -np.cos(yaw)),
    "det3d": lambda yaw: (-np.sin(yaw), -np.cos(yaw)),
}


def test_the_family_is_recognised_with_its_convention(case):
    adapter, _, _ = seen(live(case), case.inputs(case.frames))
    assert (adapter.family, adapter.convention) == (case.family, case.convention)


@pytest.mark.feature("F2", "F3", "F4", "F5", "F7", "F8")
def test_detections_are_the_models_in_its_order(case):
    _, observed, frames = seen(live(case), case.inputs(case.frames))
    expected = returned(observed.output)
    assert len(frames) == case.frames
    for frame, (rows, scores, labels) in zip(frames, expected, strict=True):
        assert len(rows) >= 3
        np.testing.assert_allclose(frame.scores, scores, rtol=1e-6)
        np.testing.assert_array_equal(frame.labels, labels - case.first_label)
        np.testing.assert_allclose(frame.boxes[:, :2], rows[:, :2], rtol=1e-6)


def test_boxes_point_where_their_convention_says(case):
    _, observed, frames = seen(live(case), case.inputs(case.frames))
    for frame, (found, _, _) in zip(frames, returned(observed.output), strict=True):
        rows = found.astype(np.float64)
        yaw = rows[:, -1] if case.convention == "det3d" else rows[:, 6]
        length, width = (
            (rows[:, 3], rows[:, 4]) if case.convention in {"openpcdet", "mmdet3d_v1"} else rows[:, [4, 3]].T
        )
        x, y = HEADINGS[case.convention](yaw)
        mine = np.stack([np.cos(frame.boxes[:, 6]), np.sin(frame.boxes[:, 6])])
        np.testing.assert_allclose(mine, [x, y], atol=1e-6)
        np.testing.assert_allclose(frame.boxes[:, 3:6], np.stack([width, length, rows[:, 5]], axis=1), rtol=1e-6)
        lift = rows[:, 5] / 2 if case.convention.startswith("mmdet3d") else 0.0
        np.testing.assert_allclose(frame.boxes[:, 2], rows[:, 2] + lift, atol=1e-6)


def test_velocities_are_those_columns_that_hold_them(case):
    _, observed, frames = seen(live(case), case.inputs(case.frames))
    for frame, (rows, _, _) in zip(frames, returned(observed.output), strict=True):
        if rows.shape[1] == 7:
            assert np.isnan(frame.velocities).all()
        else:
            expected = rows[:, 6:8] if case.convention == "det3d" else rows[:, 7:9]
            np.testing.assert_allclose(frame.velocities, expected, rtol=1e-6)


def test_every_detection_has_its_row_and_an_exact_feature(case):
    _, _, frames = seen(live(case), case.inputs(case.frames))
    for frame in frames:
        assert frame.feature_source == case.source
        assert frame.features.shape[0] == len(frame.scores)
        assert frame.features.dtype == np.float32
        assert (frame.candidate_index >= 0).all()


def test_class_scores_have_a_column_per_class(case):
    _, _, frames = seen(live(case), case.inputs(case.frames))
    for frame in frames:
        assert frame.class_scores.shape == (len(frame.labels), 3)
        assert frame.class_space == "sigmoid"
        assert ((frame.class_scores >= 0) & (frame.class_scores <= 1)).all()


def test_candidates_are_what_was_dropped_by_falling_score(case):
    _, _, frames = seen(live(case), case.inputs(case.frames))
    for frame in frames:
        assert (np.diff(frame.candidates.scores) <= 0).all()
        assert np.isfinite(frame.candidates.boxes).all()
        kept = {(i, label) for i, label in zip(frame.candidate_index, frame.labels, strict=True)}
        dropped = {(i, label) for i, label in zip(frame.candidates.index, frame.candidates.labels, strict=True)}
        assert not kept & dropped


def copied(value):
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [copied(inner) for inner in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def same(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, torch.Tensor):
        return first.shape == second.shape and torch.equal(first, second)
    return first is second or first == second


def test_inputs_stay_as_they_were(case):
    inputs = case.inputs(case.frames)
    before = copied(inputs)
    seen(live(case), inputs)
    assert same(inputs, before)


def test_the_model_returns_what_it_returns_unwatched_and_keeps_no_hook(case):
    model = live(case)
    twin = copy.deepcopy(model)
    adapter, observed, _ = seen(model, case.inputs(case.frames))
    call = recognise(twin).call(case.inputs(case.frames))
    with torch.no_grad():
        alone = call.function(*call.args, **call.kwargs)
    for one, other in zip(returned(observed.output), returned(alone), strict=True):
        for part, twin_part in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, twin_part)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not getattr(adapter, "_held", None)


def test_detections_that_no_row_explains_lose_their_exact_feature(case):
    model = live(case)
    adapter = recognise(model)
    with torch.no_grad():
        raw = to_arrays(observe(adapter, case.inputs(case.frames)).raw)
    raw["boxes"][0, 0] += 0.3  # as if the model had a decoding of its own
    spec = adapter.decoder()
    frame = resolve(spec.target)(**spec.params)(raw)[0]
    assert frame.candidate_index[0] == -1
    assert frame.feature_source is None or frame.feature_source.startswith("sampled:")
    assert (frame.features is None) == (frame.feature_source is None)
    assert frame.class_scores is None
    assert frame.candidates is None


def test_equal_scores_are_told_apart_by_their_boxes(case):
    """Scores alone tie; a raw output with equal scores everywhere must still lead to the right rows."""
    adapter, observed, frames = seen(live(case), case.inputs(case.frames))
    raw = to_arrays(observed.raw)
    first = raw["offsets"][1]
    order = np.arange(first)[::-1]
    for name in ("boxes", "scores", "labels", *(["sampled"] if "sampled" in raw else [])):
        raw[name][:first] = raw[name][:first][order]
    spec = adapter.decoder()
    again = resolve(spec.target)(**spec.params)(raw)[0]
    np.testing.assert_array_equal(again.candidate_index, frames[0].candidate_index[order])
    np.testing.assert_array_equal(again.features, frames[0].features[order])


STRANGE = {
    "nothing": lambda value: [],
    "text": lambda value: ["head"],
    "other keys": lambda value: [{f"x_{name}": one for name, one in _named(value)}],
    "other shapes": lambda value: [_cut(value)],
}
"""What a fork's head may hand out instead of what its family does."""


def _named(value):
    return value.items() if isinstance(value, dict) else [("0", value)]


def _cut(value):
    if isinstance(value, dict):
        return {name: _cut(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cut(one) for one in value]
    return value[..., :1] if hasattr(value, "dim") and value.dim() else value


@pytest.mark.parametrize("how", STRANGE)
def test_a_fork_whose_head_speaks_differently_loses_rows_and_no_detection(case, how, monkeypatch, caplog):
    model, inputs = live(case), case.inputs(case.frames)
    _, _, plain = seen(model, inputs)

    def keep(self, module, args, output=None):
        self.kept += STRANGE[how](args if self.of_input else output)

    monkeypatch.setattr("mld_pipelines.adapters.detection3d._observe._Keeper.__call__", keep)
    monkeypatch.setattr(_guards, "_told", set())
    model = live(case)  # detectors with a memory begin anew
    adapter = recognise(model)
    with torch.no_grad():
        observed = observe(adapter, inputs)
    frames = GuardedDecoder(adapter.decoder())(to_arrays(observed.raw))
    assert caplog.text.count("differs from what") <= 2
    for frame, before in zip(frames, plain, strict=True):
        np.testing.assert_array_equal(frame.boxes, before.boxes)
        np.testing.assert_array_equal(frame.scores, before.scores)
        np.testing.assert_array_equal(frame.labels, before.labels)
