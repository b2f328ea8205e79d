"""Detectors that are known by the format of their output alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mld_pipelines.adapters.detection3d import observe, recognise, to_arrays
from mld_pipelines.compute import resolve
from mld_pipelines.exceptions import InvalidInputError
from tests.support.bev_stubs import NewBoxes, OldBoxes

pytestmark = pytest.mark.torch

ROW = [10.0, 2.0, -1.0, 4.0, 1.8, 1.6, 0.5]
"""x, y, z, 4 m, 1.8 m, 1.6 m, half a radian, in whatever convention."""


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_cls, self.conv_reg = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 7, 1)

    def forward(self, x):
        return self.conv_cls(x), self.conv_reg(x)


class PillarNet(nn.Module):
    """Returns what it is told to."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.head, self.called = answer, Head(), None
        self.pillar_encoder = nn.Module()
        self.pillar_encoder.point_cloud_range = [0.0, -16.0, -3.0, 32.0, 16.0, 1.0]
        self.register_buffer("map", torch.arange(2 * 16 * 16.0).reshape(1, 2, 16, 16))

    def forward(self, points):
        self.called = points
        self.head(self.map.expand(len(points), -1, -1, -1))
        return self.answer


def frame(box, score, label, rows=(ROW,), labels=(1,)):
    return {box: torch.tensor(rows), score: torch.tensor([0.9] * len(rows)), label: torch.tensor(labels)}


def decoded(model, inputs=None, **options):
    adapter = recognise(model, **options)
    with torch.no_grad():
        observed = observe(adapter, [torch.rand(9, 4)] if inputs is None else inputs)
    spec = adapter.decoder()
    return adapter, resolve(spec.target)(**spec.params)(to_arrays(observed.raw))


# the third and fourth numbers are length and width in OpenPCDet and mmdet3d 1.x, width and length in the others
EXPECTED = {
    "openpcdet": [10.0, 2.0, -1.0, 1.8, 4.0, 1.6, 0.5],
    "mmdet3d_v1": [10.0, 2.0, -0.2, 1.8, 4.0, 1.6, 0.5],
    "mmdet3d_v0": [10.0, 2.0, -0.2, 4.0, 1.8, 1.6, -0.5 - np.pi / 2],
    "det3d": [10.0, 2.0, -1.0, 4.0, 1.8, 1.6, -0.5 - np.pi / 2],
}


@pytest.mark.feature("F6", "F9")
@pytest.mark.parametrize(
    ("keys", "convention", "label"),
    [
        (("pred_boxes", "pred_scores", "pred_labels"), "openpcdet", 0),
        (("box3d_lidar", "scores", "label_preds"), "det3d", 1),
        (("lidar_bboxes", "scores", "labels"), "mmdet3d_v0", 1),
    ],
)
def test_keys_tell_whose_format_it_is(keys, convention, label):
    adapter, frames = decoded(PillarNet([frame(*keys)]))
    assert (adapter.family, adapter.convention) == ("structural", convention)
    np.testing.assert_allclose(frames[0].boxes[0], EXPECTED[convention], atol=1e-6)
    assert frames[0].labels.tolist() == [label]
    assert frames[0].candidate_index.tolist() == [-1]
    assert frames[0].candidates is None


@pytest.mark.parametrize(("boxes", "convention"), [(NewBoxes, "mmdet3d_v1"), (OldBoxes, "mmdet3d_v0")])
@pytest.mark.parametrize("form", ["plain", "nested", "sample"])
def test_the_class_of_the_boxes_tells_the_version(boxes, convention, form):
    found = {"scores_3d": torch.tensor([0.9]), "labels_3d": torch.tensor([1])}
    found |= {"boxes_3d": boxes(torch.tensor([ROW]))}
    answer = {
        "plain": found,
        "nested": {"pts_bbox": found},
        "sample": SimpleNamespace(pred_instances_3d=SimpleNamespace(**found)),
    }[form]
    adapter, frames = decoded(PillarNet([answer]))
    assert adapter.convention == convention
    np.testing.assert_allclose(frames[0].boxes[0], EXPECTED[convention], atol=1e-6)


def test_boxes_that_tell_nothing_need_a_convention():
    model = PillarNet([frame("boxes_3d", "scores_3d", "labels_3d")])
    with pytest.raises(InvalidInputError, match=r"'boxes_3d'\) do not tell their convention.*box_convention="):
        decoded(model)
    adapter, frames = decoded(model, convention="mmdet3d_v1")
    assert adapter.convention == "mmdet3d_v1"
    np.testing.assert_allclose(frames[0].boxes[0], EXPECTED["mmdet3d_v1"], atol=1e-6)


@pytest.mark.parametrize("said", ["argument", "attribute"])
def test_boxes_may_be_canonical_as_the_targets_are(said):
    model = PillarNet([frame("boxes_3d", "scores_3d", "labels_3d", rows=[[*ROW[:6], 0.5 + 2 * np.pi, 3.0, -1.0]])])
    if said == "attribute":
        model.box_convention = "canonical"
    adapter, frames = decoded(model, **({"convention": "canonical"} if said == "argument" else {}))
    assert adapter.convention == "canonical"
    np.testing.assert_allclose(frames[0].boxes[0], ROW, atol=1e-6)
    np.testing.assert_allclose(frames[0].velocities[0], [3.0, -1.0])


def test_a_pair_of_detections_and_statistics_is_openpcdets_form():
    _, frames = decoded(PillarNet(([frame("pred_boxes", "pred_scores", "pred_labels")], {"gt": 0})))
    assert len(frames) == 1


def test_one_dict_is_one_frame():
    _, frames = decoded(PillarNet(frame("box3d_lidar", "scores", "label_preds")))
    assert len(frames) == 1


def test_label_zero_under_a_name_that_counts_from_one_is_refused():
    model = PillarNet([frame("pred_boxes", "pred_scores", "pred_labels", labels=(0,))])
    with pytest.raises(InvalidInputError, match=r"pred_labels is 0; under that name OpenPCDet counts from 1"):
        decoded(model)


def test_other_formats_are_refused_with_what_they_hold():
    with pytest.raises(InvalidInputError, match=r"frame 0 of the model's output holds \['masks'\]"):
        decoded(PillarNet([{"masks": torch.zeros(1)}]))
    with pytest.raises(InvalidInputError, match="the model returned Tensor"):
        decoded(PillarNet(torch.zeros(2)))
    with pytest.raises(InvalidInputError, match=r"shape \(1, 4\)"):
        decoded(PillarNet([frame("pred_boxes", "pred_scores", "pred_labels", rows=[[1.0, 2.0, 3.0, 4.0]])]))


def test_boxes_in_a_cameras_frame_are_refused():
    boxes = type("CameraInstance3DBoxes", (), {"tensor": torch.tensor([ROW])})()
    found = {"boxes_3d": boxes, "scores_3d": torch.tensor([0.9]), "labels_3d": torch.tensor([1])}
    with pytest.raises(InvalidInputError, match="CameraInstance3DBoxes"):
        decoded(PillarNet([found]), convention="mmdet3d_v1")


def test_range_and_features_come_from_layers_with_known_names():
    model = PillarNet([frame("box3d_lidar", "scores", "label_preds")])
    adapter, frames = decoded(model)
    assert adapter.settings.pc_range.source == "model:pillar_encoder.point_cloud_range"
    assert frames[0].feature_source == "sampled:head.conv_cls"
    # cells are 2 m; the values grow by 1 along x and by 16 along y, the middle of cell 0 is 0
    across, down = 10.0 / 2 - 0.5, (2.0 + 16.0) / 2 - 0.5
    np.testing.assert_allclose(frames[0].features[0], [across + 16 * down, 256 + across + 16 * down], rtol=1e-5)


def test_dicts_are_handed_over_as_forward_takes_them():
    model = PillarNet([frame("box3d_lidar", "scores", "label_preds")])
    one = torch.rand(9, 4)
    adapter = recognise(model)
    assert adapter.call({"points": [one]}).kwargs == {"points": [one]}
    assert adapter.call({"voxels": one, "batch_size": 1}).args == ({"voxels": one, "batch_size": 1},)


def of_a_tensor(points: torch.Tensor):
    """Takes one cloud."""
    return points.dim() == 2


def of_a_stack(points):
    """Takes a batch of clouds in one tensor."""
    return points.dim() == 3


def of_a_list(points):
    """Takes clouds one by one, as MMDetection3D and OpenPCDet do behind their voxels."""
    return all(cloud.dim() == 2 for cloud in points)


def of_an_annotated_list(points: list[torch.Tensor]):
    """Takes clouds one by one and says so."""
    return isinstance(points, list)


@pytest.mark.parametrize(
    ("likes", "given", "calls"),
    [
        (of_a_tensor, torch.rand(9, 4), 2),
        (of_a_stack, torch.rand(1, 9, 4), 2),
        (of_a_list, torch.rand(9, 4), 3),
        (of_an_annotated_list, torch.rand(9, 4), 2),
        (of_a_list, [torch.rand(9, 4)], 2),
    ],
)
def test_points_are_handed_over_as_given_or_as_the_list_that_the_model_takes(likes, given, calls):
    class Net(PillarNet):
        def forward(self, points):
            self.called = (self.called or 0) + 1
            assert likes(points)
            self.head(self.map.expand(1, -1, -1, -1))
            return self.answer

    Net.forward.__annotations__ = likes.__annotations__
    model = Net([frame("box3d_lidar", "scores", "label_preds")])
    adapter = recognise(model)
    for _ in range(2):  # what worked is not tried again
        observed = observe(adapter, given)
        assert observed.output is model.answer
        assert "sampled" in observed.raw
    assert model.called == calls


def test_a_model_that_takes_neither_form_fails_as_it_would_alone():
    class Net(PillarNet):
        def forward(self, points):
            raise RuntimeError(f"no {type(points).__name__}")

    with pytest.raises(RuntimeError, match=r"^no Tensor$"):
        observe(recognise(Net(None)), torch.rand(9, 4))


@pytest.mark.parametrize("form", [list, torch.stack])
def test_frames_may_come_as_a_dict_of_lists_or_of_stacks(form):
    one = frame("boxes_3d", "scores_3d", "labels_3d")
    other = frame("boxes_3d", "scores_3d", "labels_3d", labels=(2,))
    answer = {name: form([one[name], other[name]]) for name in one}
    _, frames = decoded(PillarNet(answer), [torch.rand(9, 4)] * 2, convention="openpcdet")
    assert [found.labels.tolist() for found in frames] == [[1], [2]]


@pytest.mark.parametrize("name", ["custom", "SAMFusion", "structural"])
def test_a_name_that_only_this_family_goes_by_is_taken_without_looking(name):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(1, 1)

    assert recognise(Net(), name).family == "structural"


def test_frames_of_unequal_length_keep_apart():
    empty = frame("box3d_lidar", "scores", "label_preds", rows=np.zeros((0, 7)).tolist(), labels=[])
    full = frame("box3d_lidar", "scores", "label_preds", rows=[ROW, ROW], labels=[0, 2])
    _, frames = decoded(PillarNet([empty, full]), [torch.rand(9, 4)] * 2)
    assert [one.labels.tolist() for one in frames] == [[], [0, 2]]


def test_a_model_without_any_sign_can_be_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, points):
            return [frame("box3d_lidar", "scores", "label_preds")]

    _, frames = decoded(Net(), architecture="structural")
    assert len(frames) == 1
