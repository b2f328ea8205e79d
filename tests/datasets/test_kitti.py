"""KITTI folders."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mld_pipelines.capture import true_boxes
from mld_pipelines.datasets import KittiFolder, kitti, kitti_difficulty
from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from mld_pipelines.geometry import corners_3d

CAR = "Car 0.00 0 -1.40 600.00 150.00 700.00 250.00 1.50 1.80 4.00 2.00 1.60 10.00 -1.5707963267948966"
VAN = CAR.replace("Car", "Van")
REGION = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"


def test_a_box_is_where_hand_calculation_puts_it(make_kitti):
    # camera right 2, down 1.6, ahead 10; the LiDAR looks ahead along x, 0.27 m behind and 0.08 m above the camera
    frame = KittiFolder(make_kitti({"000000": [CAR]}))[0]
    np.testing.assert_allclose(frame.truths.boxes, [[10.27, -2.0, -0.08 - (1.6 - 0.75), 1.8, 4.0, 1.5, 0.0]], atol=1e-9)
    assert (frame.frame_id, frame.type_names, frame.truths.labels.tolist()) == ("000000", ("Car",), [0])
    assert frame.points.dtype == np.float32
    assert np.isnan(frame.truths.velocities).all()


def test_points_inside_are_counted(make_kitti):
    inside, outside = [10.27, -2.0, -1.0, 0.5], [10.27, -2.0, 1.0, 0.5]
    frame = KittiFolder(make_kitti({"000000": [CAR]}, points=[inside, outside, inside]))[0]
    assert frame.truths.points.tolist() == [2]


def test_regions_without_labels_are_kept_apart(make_kitti):
    frame = KittiFolder(make_kitti({"000000": [CAR, REGION]}))[0]
    assert len(frame.truths) == 1
    np.testing.assert_allclose(frame.dont_care, [[503.89, 169.71, 590.61, 190.13]])


def test_labels_follow_the_classes_asked_for_and_others_are_minus_one(make_kitti):
    root = make_kitti({"000000": [CAR, VAN]})
    frame = KittiFolder(root, classes=("Pedestrian", "Cyclist", "Car"))[0]
    assert frame.truths.labels.tolist() == [2, -1]
    assert frame.type_names == ("Car", "Van")


def test_a_target_holds_all_that_is_there_with_the_points_inside(make_kitti):
    inside = [10.27, -2.0, -1.0, 0.5]
    frame = KittiFolder(make_kitti({"000000": [CAR, VAN]}, points=[inside, inside]), classes=("Pedestrian", "Car"))[0]
    taken = true_boxes([frame.target], 1)
    assert (taken.labels.tolist(), taken.points.tolist()) == ([1, -1], [2, 2])
    assert taken.boxes.shape == (2, 7)


def test_a_frame_without_objects_has_empty_truths(make_kitti):
    frame = KittiFolder(make_kitti({"000000": [REGION]}))[0]
    assert (len(frame.truths), frame.truths.frames, frame.boxes_2d.shape) == (0, 1, (0, 4))


@pytest.mark.parametrize(
    ("height", "occlusion", "truncation", "level"),
    [
        (40.1, 0, 0.15, 0), (40.0, 0, 0.0, 1), (100.0, 1, 0.0, 1), (100.0, 0, 0.16, 1), (25.1, 2, 0.5, 2),
        (25.0, 0, 0.0, -1), (100.0, 3, 0.0, -1), (100.0, 0, 0.51, -1),
    ],
)  # fmt: skip
def test_difficulty_follows_the_benchmarks_table(height, occlusion, truncation, level):
    box = np.array([[0.0, 10.0, 50.0, 10.0 + height]])
    assert kitti_difficulty(box, np.array([truncation]), np.array([occlusion])).tolist() == [level]


def test_a_split_is_read_from_its_list(make_kitti):
    root = make_kitti({"000000": [CAR], "000001": [], "000002": []})
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "val.txt").write_text("000002\n000000\n")
    assert KittiFolder(root, split="val").frame_ids == ("000002", "000000")
    assert len(KittiFolder(root)) == 3
    with pytest.raises(NotFoundError, match=r"no split 'trian'.*Lists in ImageSets: val"):
        KittiFolder(root, split="trian")


def test_the_half_with_the_sweeps_may_be_given_itself(make_kitti):
    assert len(KittiFolder(make_kitti({"000000": [CAR]}) / "training")) == 1


def test_a_folder_without_labels_has_points_only(make_kitti):
    root = make_kitti({"000000": [CAR]})
    (root / "training" / "label_2" / "000000.txt").unlink()
    (root / "training" / "label_2").rmdir()
    frame = KittiFolder(root)[0]
    assert frame.truths is None
    with pytest.raises(InvalidInputError, match="no labels"):
        _ = frame.target


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="no folder 'velodyne'"):
        KittiFolder(tmp_path)


def test_an_unknown_class_is_refused(make_kitti):
    with pytest.raises(InvalidInputError, match="'Lorry'"):
        KittiFolder(make_kitti({"000000": []}), classes=("Car", "Lorry"))


def cut_sweep(root):
    path = root / "training" / "velodyne" / "000001.bin"
    path.write_bytes(path.read_bytes()[:-3])


def unknown_type(root):
    (root / "training" / "label_2" / "000001.txt").write_text(CAR.replace("Car", "Carr"))


def short_line(root):
    (root / "training" / "label_2" / "000001.txt").write_text(CAR[:-30])


def no_label(root):
    (root / "training" / "label_2" / "000001.txt").unlink()


def no_calibration(root):
    (root / "training" / "calib" / "000001.txt").unlink()


def short_matrix(root):
    path = root / "training" / "calib" / "000001.txt"
    path.write_text(path.read_text().replace("R0_rect: 1 0 0", "R0_rect: 1 0"))


def zero_size(root):
    (root / "training" / "label_2" / "000001.txt").write_text(CAR.replace(" 1.80 ", " 0.00 "))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_sweep, r"000001\.bin has 45 bytes, which is no multiple of 16"),
        (unknown_type, r"000001\.txt, line 1: the type is 'Carr'; KITTI has Car, Van"),
        (short_line, r"000001\.txt, line 1: .* is not a type and 14 finite numbers"),
        (no_label, r"label_2/000001\.txt is missing"),
        (no_calibration, r"calib/000001\.txt is missing"),
        (short_matrix, "R0_rect has 8 finite numbers, 9 are needed"),
        (zero_size, r"object 0 \(Car\) has the sizes \[1\.5, 0\.0, 4\.0\]"),
    ],
)
def test_a_broken_frame_is_left_out_and_reported(make_kitti, caplog, spoil, message):
    root = make_kitti({"000000": [CAR], "000001": [CAR], "000002": [CAR]})
    spoil(root)
    folder = KittiFolder(root)
    with pytest.raises(InvalidInputError, match=message):
        folder[1]
    assert [frame.frame_id for frame in folder] == ["000000", "000002"]
    (broken,) = folder.broken
    assert broken.frame_id == "000001"
    assert "000001 is left out" in caplog.text
    # the factory of trace runs finds the same before anything is traced
    made = kitti(str(root))
    assert made.frame_ids == ("000000", "000002")
    assert made.broken == [broken]


def test_points_that_are_not_finite_break_their_frame(make_kitti):
    folder = KittiFolder(make_kitti({"000000": [CAR]}, points=[[1, 2, math.nan, 0], [1, 2, 3, 0]]))
    with pytest.raises(InvalidInputError, match="1 of 2 points are not finite"):
        folder[0]


# -- real frames ------------------------------------------------------------------------------------------------------


@pytest.fixture
def real(shared_data, tmp_path):
    """The full frames as they are, and the reduced ones, in one folder."""
    source = shared_data / "kitti"
    for name in ("velodyne", "label_2", "calib"):
        (tmp_path / name).mkdir()
        for path in (source / name).iterdir():
            (tmp_path / name / path.name).symlink_to(path)
    (tmp_path / "velodyne" / "000134.bin").symlink_to(source / "reduced_000134.bin")
    (tmp_path / "label_2" / "000134.txt").symlink_to(source / "reduced_000134_gt.txt")
    (tmp_path / "calib" / "000134.txt").symlink_to(source / "reduced_000134.txt")
    (tmp_path / "velodyne" / "000008.bin").symlink_to(source / "reduced_000008.bin")
    info = json.loads((source / "reduced_000008.json").read_text())["data_list"][0]
    (tmp_path / "label_2" / "000008.txt").write_text("\n".join(label_line(one) for one in info["instances"]))
    (tmp_path / "calib" / "000008.txt").write_text(calibration_text(info))
    return KittiFolder(tmp_path), info


def label_line(instance):
    x, y, z, length, height, width, turn = instance["bbox_3d"]
    name = ("Pedestrian", "Cyclist", "Car")[instance["bbox_label"]] if instance["bbox_label"] >= 0 else "DontCare"
    numbers = [instance["truncated"], instance["occluded"], instance["alpha"], *instance["bbox"]]
    return " ".join(map(str, [name, *numbers, height, width, length, x, y, z, turn]))


def calibration_text(info):
    camera, lidar = info["images"]["CAM2"], np.array(info["lidar_points"]["Tr_velo_to_cam"])
    rectification = np.array(camera["lidar2cam"])[:3, :3] @ np.linalg.inv(lidar[:3, :3])
    rows = {"P2": np.array(camera["cam2img"])[:3], "R0_rect": rectification, "Tr_velo_to_cam": lidar[:3]}
    return "\n".join(f"{name}: {' '.join(map(repr, values.ravel().tolist()))}" for name, values in rows.items())


def projected(frame):
    """Image boxes around the corners of the truths, clipped to KITTI's picture."""
    corners = corners_3d(frame.truths.boxes).reshape(-1, 3)
    camera = np.c_[corners, np.ones(len(corners))] @ frame.calibration.matrix.T
    pixels = camera @ np.vstack((frame.projection, [0, 0, 0, 1])).T
    ahead = pixels[:, 2].reshape(-1, 8).min(axis=1) > 0.1
    flat = (pixels[:, :2] / pixels[:, 2:3]).reshape(-1, 8, 2)
    boxes = np.concatenate((flat.min(axis=1), flat.max(axis=1)), axis=1)
    return np.clip(boxes, 0, [1241, 374, 1241, 374]), ahead


def overlap(a, b):
    """IoU of upright boxes (low corner, high corner) in any number of dimensions."""
    half = a.shape[1] // 2
    low, high = np.maximum(a[:, :half], b[:, :half]), np.minimum(a[:, half:], b[:, half:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    area = [(box[:, half:] - box[:, :half]).prod(axis=1) for box in (a, b)]
    return shared / (area[0] + area[1] - shared)


def test_real_boxes_projected_by_the_calibration_cover_the_labelled_pictures_boxes(real):
    folder, _ = real
    stiff, walking = [], []
    for frame in folder:
        boxes, ahead = projected(frame)
        usable = ahead & (frame.truncation < 0.1)
        walks = np.array(frame.type_names) == "Pedestrian"
        stiff += overlap(boxes, frame.boxes_2d)[usable & ~walks].tolist()
        walking += overlap(boxes[:, 1::2], frame.boxes_2d[:, 1::2])[usable & walks].tolist()
    # annotators draw picture boxes by hand; a swapped w/l, a flipped z or a wrong yaw falls far below
    assert len(stiff) >= 14
    assert min(stiff) > 0.8
    assert np.median(stiff) > 0.9
    # the box of a walker holds a stride that the picture shows only partly, so its height is compared
    assert len(walking) >= 8
    assert min(walking) > 0.9


def test_real_headings_agree_with_the_labelled_observation_angle(real):
    """alpha is the heading seen along the line of sight: rotation_y - atan2(x, z), in the camera frame."""
    folder, _ = real
    for frame in folder:
        centre, yaw = frame.truths.boxes[:, :3], frame.truths.boxes[:, 6]
        sight = np.arctan2(centre[:, 1], centre[:, 0] - 0.27)
        expected = -(yaw - sight) - math.pi / 2
        apart = np.abs(np.angle(np.exp(1j * (expected - frame.alpha))))
        assert (apart < 0.12).all()


def test_real_points_inside_are_those_that_mmdetection3d_counted(real):
    folder, info = real
    frame = folder.read("000008")
    wanted = np.array([one["num_lidar_pts"] for one in info["instances"] if one["bbox_label"] >= 0])
    # MMDetection3D ignores the camera's tilt of 0.01 rad, so the faces of the nearest car, 3.7 m away, differ a little
    np.testing.assert_allclose(frame.truths.points, wanted, rtol=0.1, atol=8)


def test_real_difficulty_is_that_of_mmdetection3d(real):
    folder, info = real
    wanted = [one["difficulty"] for one in info["instances"] if one["bbox_label"] >= 0]
    assert folder.read("000008").truths.difficulty.tolist() == wanted


def test_real_frames_are_read_whole(real):
    folder, _ = real
    assert folder.check() == []
    assert [len(folder.read(name).points) for name in ("000000", "000001", "000002")] == [115384, 120268, 126891]
    assert all(frame.truths.points.max() > 0 for frame in folder)
    assert len(folder.read("000134").dont_care) == 2
