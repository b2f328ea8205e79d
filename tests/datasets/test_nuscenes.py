"""nuScenes folders."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest

from mld_pipelines.datasets import NUSCENES_CLASSES, NuScenesFolder, nuscenes
from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from tests.support.nuscenes_tables import NuScenesWriter

BOX = [5.0, 20.0, -0.5, 1.9, 4.6, 1.7, 0.7]


def two_frames(writer, poses, *, category="vehicle.car", gap=0.5, velocity=(2.0, -1.0)):
    """A car in two key frames half a second apart, seen from a car that drives and turns."""
    first = writer.add("a", ego2global=poses((400.0, 1100.0, 0.1), yaw=2.0, pitch=0.02), time_us=1_532_402_927_647_951)
    later = 1_532_402_927_647_951 + round(gap * 1e6)
    second = writer.add("b", ego2global=poses((402.0, 1103.0, 0.1), yaw=2.1), time_us=later)
    writer.annotate("x", "a", box=BOX, pose=first, category=category, after="y", points=17)
    # the same car later, placed in the LiDAR frame of the first sweep
    moved = [BOX[0] + gap * velocity[0], BOX[1] + gap * velocity[1], *BOX[2:]]
    writer.annotate("y", "b", box=moved, pose=first, category=category, before="x", points=0)
    assert second.shape == (4, 4)
    return writer.write()


def test_boxes_come_back_into_the_lidar_frame(nuscenes_writer, poses):
    folder = NuScenesFolder(two_frames(nuscenes_writer, poses), version="v1.0-mini")
    frame = folder[0]
    # a tilt of 0.02 rad between the frames is dropped: boxes stand upright
    np.testing.assert_allclose(frame.truths.boxes[0], BOX, atol=1e-6)
    assert frame.truths.labels.tolist() == [NUSCENES_CLASSES.index("car")]
    assert frame.truths.points.tolist() == [17]
    assert (folder.frame_ids, frame.frame_id) == (("a", "b"), "a")


def test_velocities_are_differences_between_key_frames_in_the_lidar_frame(nuscenes_writer, poses):
    folder = NuScenesFolder(two_frames(nuscenes_writer, poses), version="v1.0-mini")
    # horizontal speed is taken in the level global frame; the sensor's tilt hides a little of it
    np.testing.assert_allclose(folder[0].truths.velocities, [[2.0, -1.0]], atol=0.01)


def test_neighbours_too_far_apart_in_time_give_no_velocity(nuscenes_writer, poses):
    folder = NuScenesFolder(two_frames(nuscenes_writer, poses, gap=1.6), version="v1.0-mini")
    assert np.isnan(folder[0].truths.velocities).all()


def test_both_neighbours_may_be_twice_as_far_apart(nuscenes_writer, poses):
    pose = poses((0.0, 0.0, 0.0))
    lidar = [
        nuscenes_writer.add(name, ego2global=pose, time_us=int(t * 1e6))
        for name, t in zip("abc", (0, 1.2, 2.4), strict=True)
    ]
    for token, sample, x, before, after in (
        ("x", "a", 0.0, "", "y"),
        ("y", "b", 1.0, "x", "z"),
        ("z", "c", 4.8, "y", ""),
    ):
        nuscenes_writer.annotate(
            token,
            sample,
            box=[x, 9.0, 0, 2, 4, 2, 0],
            pose=lidar[0],
            category="vehicle.car",
            before=before,
            after=after,
        )
    folder = NuScenesFolder(nuscenes_writer.write(), version="v1.0-mini")
    speeds = [float(np.linalg.norm(frame.truths.velocities)) for frame in folder]
    np.testing.assert_allclose(speeds, [1 / 1.2, 4.8 / 2.4, 3.8 / 1.2], rtol=1e-3)


def test_what_a_slice_needs_is_metadata(nuscenes_writer, poses):
    nuscenes_writer.add("c", ego2global=poses((0, 0, 0)), time_us=9, scene="scene-0002")
    folder = NuScenesFolder(two_frames(nuscenes_writer, poses), version="v1.0-mini")
    assert folder.frame_ids == ("a", "b", "c")
    first, last = folder[0], folder[2]
    assert first.timestamp == datetime(2018, 7, 24, 3, 28, 47, 647951, tzinfo=UTC)
    keys = ("scene", "location", "weather", "time_of_day")
    assert [first.metadata[key] for key in keys] == ["scene-0001", "singapore-onenorth", "rain", "night"]
    assert [last.metadata[key] for key in ("scene", "weather", "time_of_day")] == ["scene-0002", "clear", "day"]
    assert json.loads(json.dumps(dict(first.metadata))) == dict(first.metadata)


def test_scenes_can_be_chosen_by_name(nuscenes_writer, poses):
    nuscenes_writer.add("c", ego2global=poses((0, 0, 0)), time_us=9, scene="scene-0002")
    root = two_frames(nuscenes_writer, poses)
    assert NuScenesFolder(root, version="v1.0-mini", scenes=["scene-0002"]).frame_ids == ("c",)
    with pytest.raises(NotFoundError, match="scene-0009"):
        NuScenesFolder(root, version="v1.0-mini", scenes=["scene-0009"])


@pytest.mark.parametrize(
    ("category", "label"),
    [
        ("vehicle.bus.rigid", "bus"), ("human.pedestrian.police_officer", "pedestrian"),
        ("vehicle.construction", "construction_vehicle"), ("movable_object.trafficcone", "traffic_cone"),
        ("human.pedestrian.stroller", None), ("vehicle.emergency.police", None),
    ],
)  # fmt: skip
def test_categories_become_the_classes_of_the_benchmark(nuscenes_writer, poses, category, label):
    folder = NuScenesFolder(two_frames(nuscenes_writer, poses, category=category), version="v1.0-mini")
    frame = folder[0]
    assert frame.truths.labels.tolist() == [-1 if label is None else NUSCENES_CLASSES.index(label)]
    assert frame.type_names == (category,)


def test_the_order_of_labels_is_the_models(nuscenes_writer, poses):
    root = two_frames(nuscenes_writer, poses)
    folder = NuScenesFolder(root, version="v1.0-mini", classes=("pedestrian", "car"))
    assert (folder.classes, folder[0].truths.labels.tolist()) == (("pedestrian", "car"), [1])


def test_sweeps_between_key_frames_and_other_sensors_are_left_out(nuscenes_writer, poses):
    nuscenes_writer.add("a2", ego2global=poses((0, 0, 0)), time_us=5, key=False)
    nuscenes_writer.tables["sample_data"][-2]["sample_token"] = "a"
    folder = NuScenesFolder(two_frames(nuscenes_writer, poses), version="v1.0-mini")
    assert folder.frame_ids == ("a", "b")


def test_points_are_the_first_four_of_five_columns(nuscenes_writer, poses):
    root = two_frames(nuscenes_writer, poses)
    np.arange(10, dtype="<f4").tofile(root / "samples/LIDAR_TOP/a.pcd.bin")
    points = NuScenesFolder(root, version="v1.0-mini")[0].points
    assert points.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]


def cut_sweep(writer):
    path = writer.root / "samples/LIDAR_TOP/b.pcd.bin"
    path.write_bytes(path.read_bytes()[:-1])


def no_sweep(writer):
    (writer.root / "samples/LIDAR_TOP/b.pcd.bin").unlink()


def unknown_category(writer):
    writer.tables["instance"][1]["category_token"] = writer.category("vehicle.spaceship")


def no_pose(writer):
    writer.tables["ego_pose"].pop()


def flat_box(writer):
    writer.tables["sample_annotation"][1]["size"][2] = 0.0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_sweep, "has 39 bytes, which is no multiple of 20"),
        (no_sweep, r"b\.pcd\.bin is missing"),
        (unknown_category, "vehicle.spaceship"),
        (no_pose, "ego_pose has no 'e-b'"),
        (flat_box, "the vehicle.car number 0 has the box"),
    ],
)
def test_a_broken_frame_is_left_out_and_reported(nuscenes_writer, poses, caplog, spoil, message):
    two_frames(nuscenes_writer, poses)
    spoil(nuscenes_writer)
    root = nuscenes_writer.write()
    folder = NuScenesFolder(root, version="v1.0-mini")
    with pytest.raises(InvalidInputError, match=message):
        folder[1]
    assert [frame.frame_id for frame in folder] == ["a"]
    assert "frame b is left out" in caplog.text
    made = nuscenes(str(root), version="v1.0-mini")
    assert made.frame_ids == ("a",)
    assert made.broken == folder.broken


def test_a_missing_version_names_those_that_exist(nuscenes_writer, poses):
    root = two_frames(nuscenes_writer, poses)
    with pytest.raises(NotFoundError, match=r"Versions in .*: v1\.0-mini"):
        NuScenesFolder(root)


def test_a_missing_table_is_named(nuscenes_writer, poses):
    root = two_frames(nuscenes_writer, poses)
    (root / "v1.0-mini" / "ego_pose.json").unlink()
    with pytest.raises(NotFoundError, match=r"ego_pose\.json is missing"):
        NuScenesFolder(root, version="v1.0-mini")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"token": "a", "channel"', "ends inside"),
        ('{"token": "a"}', "a table is a list"),
        ('[{"token": "a"}]', "channel missing"),
    ],
)
def test_a_broken_table_is_named(nuscenes_writer, poses, text, message):
    root = two_frames(nuscenes_writer, poses)
    (root / "v1.0-mini" / "sensor.json").write_text(text)
    with pytest.raises(InvalidInputError, match=rf"sensor\.json.*{message}"):
        NuScenesFolder(root, version="v1.0-mini")


def test_rows_that_cross_the_reading_window_are_whole(nuscenes_writer, poses, monkeypatch):
    root = two_frames(nuscenes_writer, poses)
    whole = NuScenesFolder(root, version="v1.0-mini")[0].truths
    monkeypatch.setattr("mld_pipelines.datasets._nuscenes_tables._CHUNK", 7)
    assert NuScenesFolder(root, version="v1.0-mini")[0].truths == whole


# -- the real sweep ---------------------------------------------------------------------------------------------------

CATEGORY = {
    "car": "vehicle.car", "truck": "vehicle.truck", "trailer": "vehicle.trailer", "bus": "vehicle.bus.rigid",
    "construction_vehicle": "vehicle.construction", "bicycle": "vehicle.bicycle", "motorcycle": "vehicle.motorcycle",
    "pedestrian": "human.pedestrian.adult", "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}  # fmt: skip


@pytest.fixture
def real(shared_data, tmp_path):
    """Tables around the real sweep, with its boxes half a second later to carry their velocities."""
    info = json.loads((shared_data / "nuscenes" / "frame.json").read_text())
    frame, names = info["data_list"][0], {number: name for name, number in info["metainfo"]["categories"].items()}
    writer = NuScenesWriter(tmp_path, lidar2ego=np.array(frame["lidar_points"]["lidar2ego"]))
    cloud = np.fromfile(shared_data / "nuscenes" / "lidar_top.pcd.bin", "<f4").reshape(-1, 5)
    ego, time = np.array(frame["ego2global"]), 1_532_402_927_647_951
    pose = writer.add("now", ego2global=ego, time_us=time, cloud=cloud)
    writer.add("next", ego2global=ego, time_us=time + 500_000)
    for index, one in enumerate(frame["instances"]):
        x, y, z, length, width, height, yaw = one["bbox_3d"]
        category = CATEGORY.get(names.get(one["bbox_label"], ""), "animal")
        vx, vy = one["velocity"]
        for token, sample, seconds, link in (("n", "now", 0.0, "after"), ("f", "next", 0.5, "before")):
            linked = {} if math.isnan(vx) else {link: f"{'f' if token == 'n' else 'n'}{index}"}
            box = (
                [x + seconds * vx, y + seconds * vy, z, width, length, height, yaw]
                if linked
                else [x, y, z, width, length, height, yaw]
            )
            writer.annotate(
                f"{token}{index}", sample, box=box, pose=pose, category=category, points=one["num_lidar_pts"], **linked
            )
    return NuScenesFolder(writer.write(), version="v1.0-mini"), frame


def test_the_real_boxes_survive_the_way_through_the_tables(real):
    folder, frame = real
    found = folder[0]
    given = np.array([one["bbox_3d"] for one in frame["instances"]])
    np.testing.assert_allclose(found.truths.boxes[:, :6], given[:, [0, 1, 2, 4, 3, 5]], atol=1e-5)
    apart = np.angle(np.exp(1j * (found.truths.boxes[:, 6] - given[:, 6])))
    assert np.abs(apart).max() < 1e-3
    assert found.truths.labels.tolist() == [one["bbox_label"] for one in frame["instances"]]
    velocity = np.array([one["velocity"] for one in frame["instances"]])
    np.testing.assert_allclose(found.truths.velocities, velocity, atol=0.02)


def test_the_real_points_lie_in_their_boxes(real):
    from mld_pipelines.geometry import points_in_boxes

    folder, _ = real
    found = folder[0]
    assert len(found.points) == 34_688
    inside = points_in_boxes(found.points, found.truths.boxes).sum(axis=1)
    # the frame's counts are nuScenes' own, over the very same sweep
    np.testing.assert_allclose(inside, found.truths.points, atol=5, rtol=0.1)
