from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry import KittiCalibration, corners_3d, from_kitti_camera, to_kitti_camera

#: A camera that looks exactly along x of the LiDAR: its x is LiDAR -y, its y is -z, its z is x.
AXES = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]])
STRAIGHT = KittiCalibration(np.eye(3), AXES)


def tilted(seed: int) -> KittiCalibration:
    """A real mounting: rotations of up to 2 degrees about each axis, and an offset."""
    rng = np.random.default_rng(seed)
    x, y, z = rng.uniform(-0.035, 0.035, 3)
    turn = np.array([[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]])
    pitch = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    roll = np.array([[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]])
    mounted = AXES.copy()
    mounted[:, 3] = rng.normal(0, 0.3, 3)
    return KittiCalibration(turn @ pitch, np.hstack((roll @ mounted[:, :3], mounted[:, 3:])))


def test_a_label_worked_out_by_hand():
    # 20 m ahead, 3 m to the right, standing on a road 1.7 m below the camera, heading to the right of the camera
    boxes = from_kitti_camera([[3.0, 1.7, 20.0]], [[1.5, 1.6, 3.9]], [0.0], calibration=STRAIGHT)
    assert boxes[0] == pytest.approx([20.0, -3.0, -0.95, 1.6, 3.9, 1.5, -math.pi / 2])


def test_a_car_ahead_that_drives_away_heads_along_x():
    # rotation_y of a car that drives along the camera's z is -90 degrees
    boxes = from_kitti_camera([[0.0, 1.7, 20.0]], [[1.5, 1.6, 3.9]], [-math.pi / 2], calibration=STRAIGHT)
    assert boxes[0, 6] == pytest.approx(0.0)


def test_the_front_is_where_the_camera_sees_it():
    """The front corner computed in the camera frame, then moved to the LiDAR, is the front corner of our box."""
    ry, (h, w, l), bottom = 0.4, (1.5, 1.6, 3.9), np.array([3.0, 1.7, 20.0])  # noqa: E741
    ahead = np.array([math.cos(ry), 0.0, -math.sin(ry)])
    right = np.array([math.sin(ry), 0.0, math.cos(ry)])  # down × ahead: right of the car, seen from behind
    corner = bottom + ahead * l / 2 - right * w / 2
    box = from_kitti_camera([bottom], [[h, w, l]], [ry], calibration=STRAIGHT)
    in_lidar = np.array([corner[2], -corner[0], -corner[1]])
    assert np.abs(corners_3d(box)[0] - in_lidar).max(axis=1).min() < 1e-9
    assert np.abs(corners_3d(box)[0][[1, 2]] - in_lidar).max(axis=1).min() < 1e-9  # bottom, front right or front left


@settings(deadline=None)
@given(
    st.integers(0, 50),
    st.floats(-40, 40),
    st.floats(-3, 3),
    st.floats(3, 80),
    st.floats(-math.pi, math.pi, exclude_max=True),
)
def test_labels_survive_the_way_there_and_back(seed, x, y, z, ry):
    calibration = tilted(seed)
    boxes = from_kitti_camera([[x, y, z]], [[1.5, 1.6, 3.9]], [ry], calibration=calibration)
    location, dimensions, rotation = to_kitti_camera(boxes, calibration=calibration)
    assert location[0] == pytest.approx([x, y, z], abs=1e-9)
    assert dimensions.tolist() == [[1.5, 1.6, 3.9]]
    assert math.cos(rotation[0] - ry) == pytest.approx(1.0, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 50), st.floats(-math.pi, math.pi, exclude_max=True))
def test_boxes_survive_the_way_there_and_back(seed, yaw):
    calibration, box = tilted(seed), [[20.0, -3.0, -1.0, 1.6, 3.9, 1.5, yaw]]
    location, dimensions, rotation = to_kitti_camera(box, calibration=calibration)
    back = from_kitti_camera(location, dimensions, rotation, calibration=calibration)
    assert np.abs(corners_3d(back) - corners_3d(box)).max() <= 1e-6


def test_centres_are_moved_as_points_are():
    calibration = tilted(3)
    boxes = from_kitti_camera([[3.0, 1.7, 20.0]], [[1.5, 1.6, 3.9]], [0.3], calibration=calibration)
    centre = calibration.matrix @ [*boxes[0, :3], 1.0]
    assert centre[:3] == pytest.approx([3.0, 1.7 - 0.75, 20.0])


def test_lists_of_two_lengths_are_refused():
    with pytest.raises(InvalidInputError, match="2 locations, 1 dimensions and 1 rotations"):
        from_kitti_camera(np.zeros((2, 3)), np.ones((1, 3)), [0.0], calibration=STRAIGHT)


def test_a_calibration_of_another_shape_is_refused():
    with pytest.raises(InvalidInputError, match="velodyne_to_camera"):
        KittiCalibration(np.eye(3), np.eye(4))
