"""The scene generator of the 3D example: the same again, and physically what it says."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from examples.drive.conditions import CLEAR, NIGHT, Conditions
from examples.drive.frames import REACH, START, count_points, drift, drive, drive_frame, single_frames
from examples.drive.lidar import MAX_RANGE, RINGS, SENSOR_HEIGHT, Ground, Parts, sweep
from examples.drive.shapes import CAR, CLASS_NAMES, PEDESTRIAN, TRUCK, parts_of
from examples.drive.sites import SITES

FLAT = Ground()


def columns(frame):
    return frame.points, frame.boxes, frame.labels, frame.velocities, frame.counts


def box_at(x, y, *, size=(1.85, 4.4, 1.55), yaw=0.0):
    """A box on flat ground."""
    return np.array([[x, y, -SENSOR_HEIGHT + size[2] / 2, *size, yaw]])


def seen(boxes, labels, conditions=CLEAR, seed=0):
    """One sweep over these objects on flat ground."""
    parts = parts_of(boxes, np.asarray(labels), np.full(len(boxes), 0.3))
    return sweep(parts, FLAT, conditions, np.random.default_rng(seed))


def inside(points, box):
    """Points in a box, by the definition: rotate into the box's axes."""
    turn = np.array([[np.cos(box[6]), np.sin(box[6])], [-np.sin(box[6]), np.cos(box[6])]])
    flat = (points[:, :2].astype(np.float64) - box[:2]) @ turn.T
    return (
        (np.abs(flat[:, 0]) <= box[4] / 2)
        & (np.abs(flat[:, 1]) <= box[3] / 2)
        & (np.abs(points[:, 2] - box[2]) <= box[5] / 2)
    )


@pytest.fixture(scope="module")
def frames():
    return list(single_frames(12, 5))


def test_a_seed_gives_the_same_frames_and_another_gives_others(frames):
    again, other = list(single_frames(2, 5, first=6)), next(single_frames(1, 6, first=6))
    for one, two in zip(frames[6:8], again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(columns(one), columns(two), strict=True))
    assert not np.array_equal(frames[6].boxes, other.boxes)


def test_a_drive_is_the_same_frame_by_frame_in_any_order():
    whole = list(drive(5, 9))
    for number in (4, 1):
        one = drive_frame(number, 5, 9)
        assert one.frame_id == whole[number].frame_id
        assert all(np.array_equal(a, b) for a, b in zip(columns(one), columns(whole[number]), strict=True))


def test_every_kind_of_street_and_every_class_occurs(frames):
    assert [frame.site for frame in frames[:4]] == list(SITES)
    labels = np.concatenate([frame.labels for frame in frames])
    assert np.bincount(labels, minlength=len(CLASS_NAMES)).min() >= 10


def test_frames_are_what_they_say(frames):
    for frame in frames:
        assert frame.points.dtype == np.float32
        assert np.isfinite(frame.points).all()
        assert np.linalg.norm(frame.points[:, :3], axis=1).max() < MAX_RANGE + 0.2
        assert 0.0 <= frame.points[:, 3].min() <= frame.points[:, 3].max() <= 1.0
        assert np.abs(frame.boxes[:, :2]).max() < REACH
        assert (frame.boxes[:, 3:6] > 0.3).all()
        assert ((frame.boxes[:, 6] >= -np.pi) & (frame.boxes[:, 6] < np.pi)).all()


def test_headings_are_the_way_vehicles_move(frames):
    for frame in frames:
        moving = (np.linalg.norm(frame.velocities, axis=1) > 1.5) & (frame.labels != PEDESTRIAN)
        direction = np.arctan2(frame.velocities[moving, 1], frame.velocities[moving, 0])
        assert np.all(np.cos(direction - frame.boxes[moving, 6]) > 0.9)


def test_no_two_road_users_share_a_place(frames):
    """Ground discs well inside each box: half a width around the centre."""
    for frame in frames:
        gap = np.linalg.norm(frame.boxes[:, None, :2] - frame.boxes[None, :, :2], axis=2)
        reach = frame.boxes[:, 3] / 2
        np.fill_diagonal(gap, np.inf)
        assert (gap > reach[:, None] + reach).all()


def test_counts_are_the_points_inside_by_the_definition(frames):
    for frame in frames[:4]:
        assert frame.counts.tolist() == [int(inside(frame.points, box).sum()) for box in frame.boxes]
    assert count_points(frames[0].points, np.zeros((0, 7))).shape == (0,)


def test_returns_from_an_object_lie_inside_its_box():
    """Points above the ground near a lone car at an angle are its own: nearly all lie in its box, noise aside."""
    box = box_at(9.0, 4.0, yaw=0.7)
    points = seen(box, [CAR])
    high = points[points[:, 2] > -SENSOR_HEIGHT + 0.2]
    grown = box[0] + [0, 0, 0, 0.3, 0.3, 0.3, 0]
    assert len(high) > 100
    assert inside(high, grown).all()
    assert inside(high, box[0]).mean() > 0.95


def test_a_box_behind_a_truck_gets_fewer_points():
    behind, truck = box_at(20.0, 0.0), box_at(10.0, 0.0, size=(2.5, 6.0, 3.2), yaw=np.pi / 2)
    alone = count_points(seen(behind, [CAR]), behind)[0]
    hidden = count_points(seen(np.concatenate([truck, behind]), [TRUCK, CAR]), behind)[0]
    assert alone > 60
    assert hidden == 0


def test_points_on_a_car_fall_off_with_range():
    distances = np.array([8.0, 16.0, 32.0, 48.0])
    counts = np.array([count_points(seen(box_at(x, 0.0), [CAR]), box_at(x, 0.0))[0] for x in distances])
    assert (np.diff(counts) < 0).all()
    # the solid angle falls with the square of the range, here by 16; the roof is seen from near only, and rings lie
    # denser at the horizon
    assert 8.0 < counts[0] / counts[2] < 32.0


def test_the_ground_is_where_the_ground_is():
    points = seen(np.zeros((0, 7)), np.zeros(0, int))
    assert np.abs(points[:, 2] + SENSOR_HEIGHT).max() < 0.1
    slope = Ground(slope=(0.02, -0.01), amplitude=0.1, wave=(0.1, 0.05), phase=1.0)
    empty = Parts(*(np.zeros((0, 2)) if name == "centre" else np.zeros(0, bool if name == "round" else float)
                    for name in Parts.__dataclass_fields__))  # fmt: skip
    empty = replace(empty, owner=np.zeros(0, np.int64))
    points = sweep(empty, slope, CLEAR, np.random.default_rng(0)).astype(np.float64)
    assert np.abs(points[:, 2] - slope.height(points[:, 0], points[:, 1])).max() < 0.1


def test_intensity_follows_paint_and_angle():
    bright, dark, box = np.array([0.6]), np.array([0.1]), box_at(10.0, 0.0, size=(2.5, 8.0, 3.2), yaw=np.pi / 2)
    values = []
    for paint, yaw in ((bright, np.pi / 2), (dark, np.pi / 2), (bright, np.pi / 2 + 1.0)):
        turned = box.copy()
        turned[:, 6] = yaw
        points = sweep(parts_of(turned, np.array([TRUCK]), paint), FLAT, CLEAR, np.random.default_rng(0))
        values.append(points[inside(points, turned[0]), 3].mean())
    assert values[0] > 1.5 * values[1]
    assert values[0] > 1.1 * values[2]


@pytest.mark.parametrize(("rain", "fog"), [(1.0, 0.0), (0.0, 1.0)])
def test_bad_weather_takes_far_points_and_adds_near_ones(rain, fog):
    """Of the same scene: the same rays, so what changes is the air."""
    clear, wet = (next(single_frames(1, 5, conditions=c)) for c in (CLEAR, Conditions(rain=rain, fog=fog)))
    assert np.array_equal(clear.boxes, wet.boxes)

    def shells(frame):
        return np.histogram(np.linalg.norm(frame.points[:, :3], axis=1), [0.0, 3.5, 20.0, 80.0])[0]

    near, _, far = zip(shells(clear), shells(wet), strict=True)
    assert near[1] > near[0] + 100
    assert far[1] < 0.8 * far[0]
    assert wet.counts.sum() < clear.counts.sum()


def test_dead_rings_return_nothing():
    dead = tuple(range(0, RINGS, 2))
    boxes, labels = np.zeros((0, 7)), np.zeros(0, int)
    sound, broken = (len(seen(boxes, labels, c)) for c in (CLEAR, Conditions(dead_rings=dead)))
    assert 0.4 < broken / sound < 0.6
    assert len(seen(boxes, labels, Conditions(dead_rings=tuple(range(RINGS))))) == 0


def test_a_blind_sector_is_empty():
    points = seen(np.zeros((0, 7)), np.zeros(0, int), Conditions(blind=(-30.0, 60.0)))
    azimuth = np.rad2deg(np.arctan2(points[:, 1], points[:, 0]))
    assert len(points) > 1000
    assert np.abs(azimuth).min() > 29.5


def test_a_pitched_sensor_sees_the_road_ahead_sink():
    points = seen(np.zeros((0, 7)), np.zeros(0, int), Conditions(pitch=2.0)).astype(np.float64)
    ahead = points[(points[:, 0] > 15.0) & (np.abs(points[:, 1]) < 3.0)]
    assert np.allclose(ahead[:, 2], -SENSOR_HEIGHT - ahead[:, 0] * np.tan(np.deg2rad(2.0)), atol=0.1)


def test_night_changes_who_is_on_the_road():
    def shares(conditions):
        labels = np.concatenate([f.labels for f in single_frames(24, 8, conditions=conditions, sites=("straight",))])
        return np.bincount(labels, minlength=4) / 24

    day, night = shares(CLEAR), shares(NIGHT)
    assert night.sum() < 0.75 * day.sum()
    assert night[TRUCK] / night.sum() > 1.5 * day[TRUCK] / day.sum()


def test_time_runs_and_objects_keep_their_velocity():
    """In a straight street seen twice: what moves with the ego vehicle's speed stays, what parks falls behind."""
    one, two = list(drive(2, 21, conditions=lambda _: CLEAR, every=timedelta(seconds=0.5)))
    assert (one.at, two.at - one.at) == (START, timedelta(seconds=0.5))
    parked = np.flatnonzero((one.labels == CAR) & (np.linalg.norm(one.velocities, axis=1) == 0.0))
    sizes = {tuple(size): box for size, box in zip(one.boxes[parked, 3:6], one.boxes[parked], strict=True)}
    moved = [np.linalg.norm(box[:2] - sizes[tuple(box[3:6])][:2]) for box in two.boxes if tuple(box[3:6]) in sizes]
    assert len(moved) > 2
    assert np.ptp(moved) < 0.6  # all by the ego vehicle's way, apart from its turn on a curve


def test_the_drift_starts_clear_and_ends_otherwise():
    assert drift(0.0) == drift(0.49) == CLEAR
    assert drift(0.7).rain > drift(0.6).rain > 0
    assert drift(0.8).dead_rings
    assert drift(1.0).mix == NIGHT.mix


def test_twenty_frames_a_second_on_one_core():
    started = time.process_time()
    list(single_frames(12, 30))
    assert 12 / (time.process_time() - started) > 20
