"""A CenterPoint in plain PyTorch is read down to the rows of its heatmaps: the detector of `examples/drive`."""

from __future__ import annotations

import numpy as np
import pytest

from mld_pipelines.adapters.detection3d import identify, observe, recognise, to_arrays
from mld_pipelines.exceptions import InvalidInputError, UnrecognisedModelError

torch = pytest.importorskip("torch")

from examples.drive.frames import single_frames  # noqa: E402
from examples.drive.model import load  # noqa: E402
from tests.support.detector_contract import check_contract, decode  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def model():
    return load()


@pytest.fixture(scope="module")
def points():
    frames = [torch.from_numpy(frame.points) for frame in single_frames(2, 99)]
    return [frames[0], torch.zeros(0, 4), frames[1]]


@pytest.fixture(scope="module")
def frames(model, points):
    return check_contract(model, points, family="plain-centerpoint", frames=3)[1]


def test_the_model_is_recognised_by_its_head(model):
    found = identify(model)
    assert found.family.name == "plain-centerpoint"
    assert identify(model, "centerpoint").family.name == "plain-centerpoint"
    assert identify(torch.nn.Sequential(model)).path == "0"


@pytest.mark.parametrize("missing", ["box_convention", "pc_range"])
def test_a_model_that_does_not_say_what_its_boxes_are_is_another_familys(missing):
    model = load()
    setattr(model, missing, None)
    assert identify(model).family.name == "structural"
    with pytest.raises(UnrecognisedModelError):
        identify(model, "centerpoint")


def test_thresholds_are_the_models_own(model):
    settings = recognise(model).settings
    assert (settings.score_thresh.value, settings.score_thresh.source) == (0.1, "model:score_thresh")
    assert (settings.iou_thresh.value, settings.iou_thresh.source) == (0.2, "model:iou_thresh")
    assert settings.max_detections_per_frame.value == 150
    assert settings.pc_range.value == (-32.0, -32.0, -3.5, 32.0, 32.0, 3.5)


def test_frames_hold_what_the_model_returned(model, points, frames):
    with torch.no_grad():
        plain = model(points)
    assert [len(frame.scores) for frame in frames] == [len(one["scores_3d"]) for one in plain]
    assert len(frames[1].scores) == 0
    for frame, one in zip(frames, plain, strict=True):
        assert np.array_equal(frame.boxes[:, :6], one["boxes_3d"][:, :6].double().numpy())
        assert np.array_equal(frame.velocities, one["boxes_3d"][:, 7:].double().numpy())
        assert np.array_equal(frame.labels, one["labels_3d"].numpy())


def test_every_detection_has_its_own_row_feature_and_class_vector(model, points, frames):
    """The heatmap branch, applied by hand to the map at the row's cell, gives the very score."""
    head = model.bbox_head
    with torch.no_grad():
        shared = head.shared_conv(model.backbone(model.voxel_encoder(points)))
        heat = head.task_heads[0].heatmap(shared).sigmoid()
    for number in (0, 2):
        frame = frames[number]
        assert frame.feature_source == "bbox_head.shared_conv"
        assert frame.class_space == "sigmoid"
        area = heat.shape[-2] * heat.shape[-1]
        label, cell = np.divmod(frame.candidate_index, area)
        assert np.array_equal(label, frame.labels)
        vectors = heat[number].flatten(1).numpy()[:, cell].T
        assert np.allclose(frame.class_scores, vectors, atol=1e-6)
        assert np.allclose(np.take_along_axis(vectors, label[:, None], 1)[:, 0], frame.scores, atol=1e-6)
        assert np.allclose(frame.features, shared[number].flatten(1).numpy()[:, cell].T, atol=1e-6)


def test_what_was_suppressed_is_kept_as_candidates(frames):
    for frame in (frames[0], frames[2]):
        left = frame.candidates
        assert left is not None
        assert len(left.scores) > 10
        assert (np.diff(left.scores) <= 0).all()
        assert left.scores.min() >= 0.01 - 1e-6
        assert not set(left.index) & set(frame.candidate_index)


def test_a_head_that_decodes_otherwise_gets_sampled_features():
    """Sizes that are no logarithms: our decoding is not the model's, so no row is claimed."""
    model = load()
    boxes = model._boxes

    def bigger(maps, cell):
        rows = boxes(maps, cell)
        rows[..., 3:6] *= 1.5
        return rows

    model._boxes = bigger
    points = [torch.from_numpy(next(single_frames(1, 99)).points)]
    with torch.no_grad():
        seen = observe(recognise(model), points)
    frame = decode(recognise(model), to_arrays(seen.raw))[0]
    assert frame.feature_source == "sampled:bbox_head.shared_conv"
    assert (frame.candidate_index == -1).all()
    assert frame.class_scores is None
    assert frame.candidates is None
    assert frame.features.shape == (len(frame.scores), 32)


def test_inputs_are_a_tensor_a_list_or_a_dict_with_points(model, points):
    adapter = recognise(model)
    assert adapter.call(points[0]).frames == 1
    assert adapter.call({"points": points}).frames == 3
    with pytest.raises(InvalidInputError, match="needs `points`"):
        adapter.call({"img": points[0]})


def test_another_convention_than_the_models_own_is_refused(model):
    assert recognise(model, convention="canonical").convention == "canonical"
    with pytest.raises(InvalidInputError, match="says canonical"):
        recognise(model, convention="det3d")
