"""Conventions against corner formulas written down from each code base's own box class, not from ours."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry import (
    CONVENTIONS,
    corners_3d,
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

#: One car that heads to the north-east and drives ahead: every confusion of axes, signs and origins moves a corner.
CAR = np.array([[10.0, -3.0, 0.7, 1.9, 4.6, 1.5, math.radians(30)]])
SPEED = np.array([[4.0 * math.cos(math.radians(30)), 4.0 * math.sin(math.radians(30))]])


def front_and_back(x, y, bottom, top, heading, *, length, width):
    """Eight corners from compass and ruler: rear right, front right, front left, rear left; bottom, then top."""
    ahead = np.array([math.cos(heading), math.sin(heading)]) * length / 2
    left = np.array([-math.sin(heading), math.cos(heading)]) * width / 2
    flat = [np.array([x, y]) + i * ahead + j * left for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return np.array([[*point, z] for z in (bottom, top) for point in flat])


def mmdet3d_v1_corners(row):
    """`LiDARInstance3DBoxes` since 1.0: origin (0.5, 0.5, 0), dims along x, y, z at yaw 0, counter-clockwise."""
    x, y, z, dx, dy, dz, yaw = row
    return front_and_back(x, y, z, z + dz, yaw, length=dx, width=dy)


def mmdet3d_v0_corners(row):
    """0.x: dims w, l, h along x, y, z at yaw 0; rotation_3d_in_axis turns clockwise; the front is at local -y.

    points @ [[cos, -sin], [sin, cos]]: x' = x cos + y sin, y' = -x sin + y cos.
    """
    x, y, z, w, l, h, yaw = row  # noqa: E741
    local = [(i * w / 2, -k * l / 2) for k, i in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    cos, sin = math.cos(yaw), math.sin(yaw)
    flat = [(x + a * cos + b * sin, y - a * sin + b * cos) for a, b in local]
    return np.array([[*point, height] for height in (z, z + h) for point in flat])


def openpcdet_corners(row):
    """`boxes_to_corners_3d`: centre, dims along x, y, z, counter-clockwise."""
    x, y, z, dx, dy, dz, heading = row
    return front_and_back(x, y, z - dz / 2, z + dz / 2, heading, length=dx, width=dy)


def det3d_corners(row):
    """`center_to_corner_box3d` with origin (0.5, 0.5, 0.5) and axis 2: as 0.x around the centre."""
    x, y, z, w, l, h, rot = row  # noqa: E741
    return mmdet3d_v0_corners((x, y, z - h / 2, w, l, h, rot))


THEIRS = {
    "mmdet3d_v1": mmdet3d_v1_corners,
    "mmdet3d_v0": mmdet3d_v0_corners,
    "openpcdet": openpcdet_corners,
    "det3d": det3d_corners,
}

numbers = st.floats(-100, 100)
sizes = st.floats(0.1, 30)
canonical = st.tuples(
    numbers, numbers, st.floats(-5, 5), sizes, sizes, sizes, st.floats(-math.pi, math.pi, exclude_max=True)
)


@settings(deadline=None)
@given(box=canonical, name=st.sampled_from(sorted(THEIRS)))
def test_written_boxes_have_the_same_corners_in_the_other_code_base(box, name):
    row = find_convention(name).write([box])[0]
    assert np.abs(THEIRS[name](row) - corners_3d([box])[0]).max() <= 1e-6


@settings(deadline=None)
@given(row=canonical, name=st.sampled_from(sorted(THEIRS)))
def test_read_boxes_have_the_same_corners_as_in_the_other_code_base(row, name):
    boxes, _ = find_convention(name).read([row])
    assert np.abs(corners_3d(boxes)[0] - THEIRS[name](row)).max() <= 1e-6


@pytest.mark.feature("F20")
@settings(deadline=None)
@given(box=canonical, name=st.sampled_from(sorted(THEIRS)))
def test_boxes_survive_the_way_there_and_back(box, name):
    convention = find_convention(name)
    boxes, velocities = convention.read(convention.write([box], [[1.0, -2.0]]))
    assert np.abs(corners_3d(boxes) - corners_3d([box])).max() <= 1e-6
    assert velocities.tolist() == [[1.0, -2.0]]


def test_our_corners_are_those_of_compass_and_ruler():
    x, y, z, w, l, h, yaw = CAR[0]  # noqa: E741
    assert corners_3d(CAR)[0] == pytest.approx(front_and_back(x, y, z - h / 2, z + h / 2, yaw, length=l, width=w))


# The rows that each code base holds for CAR, by hand.
HELD = {
    "mmdet3d_v1": [10.0, -3.0, -0.05, 4.6, 1.9, 1.5, math.radians(30)],
    "mmdet3d_v0": [10.0, -3.0, -0.05, 1.9, 4.6, 1.5, math.radians(-120)],
    "openpcdet": [10.0, -3.0, 0.7, 4.6, 1.9, 1.5, math.radians(30)],
    "det3d": [10.0, -3.0, 0.7, 1.9, 4.6, 1.5, math.radians(-120)],
}
FUNCTIONS = {
    "mmdet3d_v1": (from_mmdet3d_v1, to_mmdet3d_v1),
    "mmdet3d_v0": (from_mmdet3d_v0, to_mmdet3d_v0),
    "openpcdet": (from_openpcdet, to_openpcdet),
    "det3d": (from_det3d, to_det3d),
}


@pytest.mark.parametrize("name", sorted(HELD))
def test_a_row_worked_out_by_hand_is_read(name):
    boxes, velocities = FUNCTIONS[name][0]([HELD[name]])
    assert boxes == pytest.approx(CAR)
    assert np.isnan(velocities).all()


@pytest.mark.parametrize("name", sorted(HELD))
def test_a_row_worked_out_by_hand_is_written(name):
    assert FUNCTIONS[name][1](CAR)[0] == pytest.approx(HELD[name])


@pytest.mark.parametrize("name", sorted(HELD))
def test_velocities_stand_where_the_code_base_has_them(name):
    row = FUNCTIONS[name][1](CAR, SPEED)[0]
    columns = slice(6, 8) if name == "det3d" else slice(7, 9)
    assert row[columns].tolist() == SPEED[0].tolist()


WRONG = {
    "swapped sizes": lambda row: row[[0, 1, 2, 4, 3, 5, 6]],
    "flipped yaw": lambda row: row * [1, 1, 1, 1, 1, 1, -1],
    "turned by half": lambda row: np.add(row, [0, 0, 0, 0, 0, 0, math.pi]),
    "turned by a quarter": lambda row: np.add(row, [0, 0, 0, 0, 0, 0, math.pi / 2]),
    "bottom for centre": lambda row: row - [0, 0, 0.75, 0, 0, 0, 0],
}


@pytest.mark.parametrize("name", sorted(HELD))
@pytest.mark.parametrize("mistake", sorted(WRONG))
def test_the_corner_check_sees_each_classical_mistake(name, mistake):
    row = WRONG[mistake](np.array(HELD[name]))
    assert np.abs(THEIRS[name](row) - corners_3d(CAR)[0]).max() > 0.5


@pytest.mark.parametrize("name", sorted(HELD))
def test_yaws_come_back_wrapped(name):
    turned = np.add(HELD[name], [0, 0, 0, 0, 0, 0, 8 * math.pi])
    boxes, _ = find_convention(name).read([turned])
    assert boxes == pytest.approx(CAR)


def test_only_openpcdet_counts_classes_from_one():
    assert {name: one.first_label for name, one in CONVENTIONS.items()} == {
        "mmdet3d_v1": 0,
        "mmdet3d_v0": 0,
        "openpcdet": 1,
        "det3d": 0,
    }


@pytest.mark.parametrize("name", sorted(HELD))
def test_no_boxes_are_no_boxes(name):
    boxes, velocities = find_convention(name).read([])
    assert (boxes.shape, velocities.shape) == ((0, 7), (0, 2))
    assert find_convention(name).write([]).shape == (0, 7)


@pytest.mark.parametrize("width", [6, 8, 10])
def test_rows_of_another_width_are_refused(width):
    with pytest.raises(InvalidInputError, match=f"\\(1, {width}\\).*without velocities"):
        from_det3d(np.ones((1, width)))


def test_boxes_and_velocities_of_two_lengths_are_refused():
    with pytest.raises(InvalidInputError, match="1 boxes and 2 velocities"):
        to_openpcdet(CAR, np.zeros((2, 2)))


def test_an_unknown_convention_lists_the_known():
    with pytest.raises(InvalidInputError, match="mmdet3d_v1, mmdet3d_v0, openpcdet, det3d"):
        find_convention("waymo")


@settings(max_examples=20, deadline=None)
@given(box=canonical)
def test_what_is_read_is_not_the_callers_memory(box):
    row = np.array([box])
    boxes, _ = from_openpcdet(row)
    assert not np.shares_memory(boxes, row)


@pytest.mark.torch
def test_half_precision_tensors_are_read():
    torch = pytest.importorskip("torch")
    boxes, _ = from_mmdet3d_v1(torch.tensor([[1.0, 2.0, 3.0, 4.0, 2.0, 1.0, 0.5]]).half())
    assert (boxes.dtype, boxes.tolist()) == (np.float64, [[1.0, 2.0, 3.5, 2.0, 4.0, 1.0, 0.5]])
