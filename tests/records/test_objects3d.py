from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import Detections3D, Truths3D, unusable_boxes, wrap_yaw

CAR = [10.0, -2.0, 0.5, 1.9, 4.6, 1.6, 0.3]


def detections(counts, **changes):
    """Boxes 0, 1, 2 … along x, split into frames of the given sizes."""
    n = sum(counts)
    boxes = np.tile(CAR, (n, 1))
    boxes[:, 0] = np.arange(n)
    columns = {
        "offsets": np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        "boxes": boxes,
        "labels": np.arange(n) % 3,
        "scores": np.linspace(0.9, 0.1, n).astype(np.float32),
        **changes,
    }
    return Detections3D(**columns)


@pytest.mark.parametrize("yaw", [1.1e9, -1e20, 1e300])
def test_a_yaw_so_large_that_no_direction_is_left_is_none(yaw):
    assert np.isnan(wrap_yaw(np.array([yaw]))).all()
    box = [[10.0, 2.0, 0.5, 1.8, 4.4, 1.6, yaw]]
    assert unusable_boxes(np.array(box)).tolist() == [True]
    with pytest.raises(InvalidInputError, match="yaw in radians"):
        Truths3D(offsets=[0, 1], boxes=box, labels=[0])


def test_length_counts_boxes_and_frames_counts_frames():
    batch = detections([2, 0, 3])
    assert (len(batch), batch.frames, batch.counts.tolist()) == (5, 3, [2, 0, 3])


def test_a_frame_holds_its_own_rows():
    assert detections([2, 0, 3]).frame(2).boxes[:, 0].tolist() == [2.0, 3.0, 4.0]


def test_an_empty_frame_is_a_batch_of_one_empty_frame():
    frame = detections([2, 0, 3]).frame(1)
    assert (len(frame), frame.frames, frame.boxes.shape) == (0, 1, (0, 7))


@pytest.mark.parametrize("index", [-1, 3])
def test_a_frame_that_does_not_exist_is_refused(index):
    with pytest.raises(InvalidInputError, match="3 frames"):
        detections([2, 0, 3]).frame(index)


def test_columns_have_the_documented_types():
    batch = detections([2], boxes=np.tile(CAR, (2, 1)).astype(np.float32), scores=np.array([1.0, 0.5]))
    found = {name: getattr(batch, name).dtype.name for name in ("offsets", "boxes", "labels", "velocities", "scores")}
    assert found == {
        "offsets": "int64",
        "boxes": "float64",
        "labels": "int64",
        "velocities": "float64",
        "scores": "float32",
    }


def test_absent_velocities_are_unknown():
    assert np.isnan(detections([2]).velocities).all()


def test_absent_points_and_difficulties_of_truths_are_unknown():
    truths = Truths3D(offsets=[0, 1], boxes=[CAR], labels=[-1])
    assert (truths.points.tolist(), truths.difficulty.tolist()) == ([-1], [-1])


def test_what_has_the_right_type_is_not_copied():
    boxes = np.tile(CAR, (2, 1))
    assert np.shares_memory(detections([2], boxes=boxes).boxes, boxes)


def test_batches_without_frames_and_without_boxes_exist():
    none = Detections3D(offsets=[0], boxes=[], labels=[], scores=[])
    assert (len(none), none.frames, none.boxes.shape, none.velocities.shape) == (0, 0, (0, 7), (0, 2))


def test_equality_is_by_value_and_unknown_equals_unknown():
    assert detections([1, 2]) == detections([1, 2])


@pytest.mark.parametrize(
    "changes", [{"labels": [1, 1, 1]}, {"scores": [0.5, 0.4, 0.3]}, {"velocities": np.ones((3, 2))}]
)
def test_a_changed_column_is_another_value(changes):
    assert detections([1, 2]) != detections([1, 2], **changes)


def test_another_split_of_the_same_rows_is_another_value():
    assert detections([1, 2]) != detections([2, 1])


def test_detections_are_not_truths():
    truths = Truths3D(offsets=[0, 1], boxes=[CAR], labels=[0])
    assert truths != Detections3D(offsets=[0, 1], boxes=[CAR], labels=[0], scores=[1])


def test_batches_are_not_keys():
    with pytest.raises(TypeError, match="unhashable"):
        hash(detections([1]))


def test_take_by_mask_keeps_emptied_frames():
    kept = detections([2, 1, 3]).take(np.array([True, False, False, True, False, True]))
    assert (kept.offsets.tolist(), kept.boxes[:, 0].tolist()) == ([0, 1, 1, 3], [0.0, 3.0, 5.0])


def test_take_by_index_orders_rows_within_their_frames():
    kept = detections([2, 1, 3]).take([5, 1, 3, 0])
    assert (kept.offsets.tolist(), kept.boxes[:, 0].tolist()) == ([0, 2, 2, 4], [1.0, 0.0, 5.0, 3.0])


def test_take_of_nothing_keeps_the_frames():
    assert detections([2, 1]).take([]).offsets.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("rows", "said"), [([True], "3 rows"), ([3], "0 to 3|3 to 3"), ([-1], "-1 to -1"), ([0.5], "float64")]
)
def test_take_refuses_what_does_not_fit(rows, said):
    with pytest.raises(InvalidInputError, match=said):
        detections([3]).take(rows)


def test_frames_are_joined_from_mappings_and_from_objects():
    whole = detections([2, 0, 3])
    mapping = {"boxes": whole.boxes[:2], "labels": whole.labels[:2], "scores": whole.scores[:2]}
    assert Detections3D.from_frames([mapping, whole.frame(1), whole.frame(2)]) == whole


def test_a_column_that_only_some_frames_have_is_unknown_in_the_others():
    one = {"boxes": [CAR], "labels": [0]}
    truths = Truths3D.from_frames([{**one, "points": [7]}, one])
    assert truths.points.tolist() == [7, -1]


def test_no_frames_join_to_none():
    assert Truths3D.from_frames([]).frames == 0


def test_a_frame_without_a_mandatory_column_is_named():
    one = {"boxes": [CAR], "labels": [0], "scores": [1.0]}
    with pytest.raises(InvalidInputError, match="frame 1 lacks scores"):
        Detections3D.from_frames([one, {"boxes": [CAR], "labels": [0]}])


def test_a_frame_with_columns_of_two_lengths_is_named():
    with pytest.raises(InvalidInputError, match="frame 0 differ in length"):
        Truths3D.from_frames([{"boxes": [CAR], "labels": [0, 1]}])


@pytest.mark.parametrize(
    ("offsets", "said"),
    [([1, 2], "begin with 0"), ([0, 2, 1], "frame 1 runs from 2 to 1"), ([0.0, 1.0], "float64"), ([], "pass \\[0\\]")],
)
def test_offsets_that_do_not_split_are_refused(offsets, said):
    with pytest.raises(InvalidInputError, match=said):
        Truths3D(offsets=offsets, boxes=[CAR], labels=[0])


@pytest.mark.parametrize("shape", [(2, 7), (1, 9), (7,)])
def test_boxes_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidInputError, match="boxes has shape"):
        Truths3D(offsets=[0, 1], boxes=np.ones(shape), labels=[0])


def test_labels_must_be_integers():
    with pytest.raises(InvalidInputError, match="labels must be int64"):
        Truths3D(offsets=[0, 1], boxes=[CAR], labels=[0.0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", range(7))
def test_boxes_that_are_not_finite_are_refused_with_their_row(value, at):
    boxes = np.tile(CAR, (3, 1))
    boxes[1, at] = value
    with pytest.raises(InvalidInputError, match="1 of 3 boxes are unusable; row 1"):
        detections([3], boxes=boxes)


@pytest.mark.parametrize("value", [0.0, -0.1])
@pytest.mark.parametrize("at", [3, 4, 5])
def test_boxes_without_extent_are_refused(value, at):
    boxes = np.tile(CAR, (2, 1))
    boxes[0, at] = value
    with pytest.raises(InvalidInputError, match="above 0"):
        detections([2], boxes=boxes)


def test_unusable_boxes_are_told_apart():
    boxes = np.tile(CAR, (4, 1))
    boxes[1, 3], boxes[2, 6] = 0.0, math.nan
    assert unusable_boxes(boxes).tolist() == [False, True, True, False]


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(score):
    with pytest.raises(InvalidInputError, match="score of row 1"):
        detections([2], scores=[0.5, score])


def test_an_infinite_velocity_is_refused():
    with pytest.raises(InvalidInputError, match="velocity of row 0"):
        detections([1], velocities=[[math.inf, 0.0]])


def test_a_negative_label_of_a_detection_is_refused():
    with pytest.raises(InvalidInputError, match="label of row 1 is -1"):
        detections([2], labels=[0, -1])


def test_a_yaw_outside_one_turn_is_wrapped_without_touching_the_callers_array():
    boxes = np.tile(CAR, (2, 1))
    boxes[1, 6] = 0.3 + 6 * math.pi
    batch = detections([2], boxes=boxes)
    assert batch.boxes[:, 6] == pytest.approx([0.3, 0.3], abs=1e-12)
    assert boxes[1, 6] > 18


@settings(deadline=None)
@given(hnp.arrays(np.float64, 20, elements=st.floats(-1e4, 1e4)))
def test_wrapping_keeps_the_direction_and_stays_in_one_turn(yaw):
    wrapped = wrap_yaw(yaw)
    assert ((wrapped >= -math.pi) & (wrapped < math.pi)).all()
    assert np.abs(np.exp(1j * wrapped) - np.exp(1j * yaw)).max() < 1e-11


@settings(deadline=None)
@given(st.floats(-math.pi, math.pi, exclude_max=True))
def test_wrapping_leaves_what_is_wrapped_alone(yaw):
    assert wrap_yaw(np.array([yaw]))[0] == yaw


@pytest.mark.parametrize("yaw", [math.pi, -math.pi - 1e-17, np.nextafter(-math.pi, -4), 3 * math.pi])
def test_half_a_turn_is_minus_pi_and_never_plus_pi(yaw):
    assert -math.pi <= wrap_yaw(np.array([yaw]))[0] < math.pi


@pytest.mark.torch
def test_tensors_become_arrays():
    torch = pytest.importorskip("torch")
    batch = detections([1], boxes=torch.tensor([CAR], requires_grad=True), scores=torch.tensor([0.5]).bfloat16())
    assert (type(batch.boxes), batch.boxes.dtype, batch.scores.tolist()) == (np.ndarray, np.float64, [0.5])
