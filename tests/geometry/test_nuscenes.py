from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry import corners_3d, from_nuscenes, pose_matrix, to_nuscenes

BOX = np.array([[10.0, -3.0, 0.7, 1.9, 4.6, 1.5, 0.5]])


def about_z(angle):
    return [math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)]


def test_a_quaternion_worked_out_by_hand():
    boxes, velocities = from_nuscenes([[10, -3, 0.7]], [[1.9, 4.6, 1.5]], [about_z(0.5)], velocity=[[1.0, 2.0]])
    assert boxes == pytest.approx(BOX)
    assert velocities.tolist() == [[1.0, 2.0]]


def test_a_pose_worked_out_by_hand():
    # the sensor stands at (100, 200, 1.8) and looks north: its x is global y
    pose = pose_matrix([100.0, 200.0, 1.8], about_z(math.pi / 2))
    found = to_nuscenes(BOX, [[3.0, 0.0]], pose=pose)
    assert found.translation[0] == pytest.approx([103.0, 210.0, 2.5])
    assert found.size.tolist() == [[1.9, 4.6, 1.5]]
    assert abs(np.dot(found.rotation[0], about_z(0.5 + math.pi / 2))) == pytest.approx(1.0)
    assert found.velocity[0] == pytest.approx([0.0, 3.0])


def test_absent_velocities_are_unknown():
    assert np.isnan(from_nuscenes([[0, 0, 0]], [[1, 1, 1]], [about_z(0)]).velocities).all()
    assert np.isnan(to_nuscenes(BOX).velocity).all()


angles = st.floats(-math.pi, math.pi, exclude_max=True)


@settings(deadline=None)
@given(yaw=angles, turn=angles, tilt=st.floats(-0.1, 0.1), x=st.floats(-1500, 1500))
def test_boxes_survive_the_way_through_a_tilted_pose_and_back(yaw, turn, tilt, x):
    w, z = math.cos(turn / 2), math.sin(turn / 2)
    pose = pose_matrix(
        [x, 1200.0, 1.8], [w * math.cos(tilt), w * math.sin(tilt), z * math.sin(tilt), z * math.cos(tilt)]
    )
    box = np.add(BOX, [0, 0, 0, 0, 0, 0, yaw - 0.5])
    found = to_nuscenes(box, pose=pose)
    back, _ = from_nuscenes(found.translation, found.size, found.rotation, pose=pose)
    assert np.abs(corners_3d(back) - corners_3d(box)).max() <= 1e-6


@settings(deadline=None)
@given(yaw=angles, turn=angles)
def test_global_corners_are_the_moved_corners(yaw, turn):
    pose = pose_matrix([500.0, -300.0, 2.0], about_z(turn))
    box = np.add(BOX, [0, 0, 0, 0, 0, 0, yaw - 0.5])
    found = to_nuscenes(box, pose=pose)
    standing, _ = from_nuscenes(found.translation, found.size, found.rotation)
    moved = corners_3d(box)[0] @ pose[:3, :3].T + pose[:3, 3]
    assert np.abs(corners_3d(standing)[0] - moved).max() <= 1e-6


def test_velocities_survive_the_way_there_and_back():
    pose = pose_matrix([500.0, -300.0, 2.0], about_z(2.0))
    found = to_nuscenes(BOX, [[3.0, -1.0]], pose=pose)
    _, velocities = from_nuscenes(found.translation, found.size, found.rotation, velocity=found.velocity, pose=pose)
    assert velocities == pytest.approx(np.array([[3.0, -1.0]]))


def test_quaternions_need_no_unit_length():
    boxes, _ = from_nuscenes([[10, -3, 0.7]], [[1.9, 4.6, 1.5]], [np.multiply(about_z(0.5), -3.0)])
    assert boxes == pytest.approx(BOX)


def test_a_quaternion_without_length_is_refused():
    with pytest.raises(InvalidInputError, match="rotation 0 is no quaternion"):
        from_nuscenes([[0, 0, 0]], [[1, 1, 1]], [[0, 0, 0, 0]])


def test_a_pose_that_stretches_is_refused():
    with pytest.raises(InvalidInputError, match="rigid"):
        to_nuscenes(BOX, pose=2 * np.eye(4))


def test_lists_of_two_lengths_are_refused():
    with pytest.raises(InvalidInputError, match="2 translations, 1 sizes and 1 rotations"):
        from_nuscenes(np.zeros((2, 3)), np.ones((1, 3)), [about_z(0)])
