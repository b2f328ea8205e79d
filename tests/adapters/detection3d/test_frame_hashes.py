"""A frame is known by what its sensors saw: the same hash alone and in any batch, another for any other byte."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mld_pipelines.adapters.detection3d import frame_hashes

pytestmark = pytest.mark.torch

GENERATOR = torch.Generator().manual_seed(0)
CLOUDS = [torch.rand(n, 4, generator=GENERATOR) for n in (5, 7)]
IMAGES = torch.rand(2, 3, 4, 4, generator=GENERATOR)
COORDS = [torch.randint(0, 9, (n, 3), generator=GENERATOR) for n in (3, 2)]
VOXELS = [torch.rand(n, 4, 5, generator=GENERATOR) for n in (3, 2)]


def indexed(parts):
    """Rows of all frames with the frame in the first column."""
    return torch.cat([torch.nn.functional.pad(part, (1, 0), value=i) for i, part in enumerate(parts)])


def mmdetection3d(frames):
    metas = [{"lidar2img": np.eye(4) * (frame + 1), "scene_token": str(frame)} for frame in frames]
    return {"points": [CLOUDS[i] for i in frames], "img": IMAGES[list(frames)], "img_metas": metas}


def nested(frames):
    given = mmdetection3d(frames)
    return {"points": [given["points"]], "img": [given["img"]], "img_metas": [given["img_metas"]]}


class DataContainer:
    """What the loaders of MMDetection3D 0.x wrap batches in: one entry per device."""

    def __init__(self, value):
        self.data = [value]


def contained(frames):
    given = mmdetection3d(frames)
    return {"points": [DataContainer(given["points"])], "img": [DataContainer(given["img"])]} | {
        "img_metas": [DataContainer(given["img_metas"])]
    }


class Points:
    """Points of MMDetection3D."""

    def __init__(self, tensor):
        self.tensor = tensor


def objects(frames):
    metas = [SimpleNamespace(metainfo={"lidar2img": np.eye(4) * (i + 1)}) for i in frames]
    return {"inputs": {"points": [Points(CLOUDS[i]) for i in frames]}, "data_samples": metas}


def loader(frames):
    return {"inputs": {"points": [CLOUDS[i] for i in frames], "imgs": [IMAGES[i] for i in frames]}}


def openpcdet(frames):
    voxels = {"voxels": torch.cat([VOXELS[i] for i in frames]), "voxel_coords": indexed([COORDS[i] for i in frames])}
    names = {"batch_size": len(frames), "frame_id": np.array([f"id-{i}-{len(frames)}" for i in frames])}
    return {"points": indexed([CLOUDS[i] for i in frames]), "camera_imgs": IMAGES[list(frames)], **voxels, **names}


def det3d(frames):
    voxels = torch.cat([VOXELS[i] for i in frames])
    counts = torch.cat([torch.ones(len(VOXELS[i])) for i in frames])
    coordinates = indexed([COORDS[i] for i in frames])
    return {"voxels": voxels, "num_points": counts, "coordinates": coordinates, "shape": np.ones((len(frames), 3))}


def bevdet(frames):
    views = [IMAGES[list(frames)], torch.ones(len(frames), 3, 3), torch.zeros(len(frames), 3)]
    return {"img_inputs": [views], "img_metas": [[{"token": str(i)} for i in frames]]}


def clouds(frames):
    return [CLOUDS[i] for i in frames]


FORMS = [clouds, mmdetection3d, nested, contained, objects, loader, openpcdet, det3d, bevdet]


@pytest.mark.feature("F23", "B6")
@pytest.mark.parametrize("form", FORMS)
def test_a_frame_has_one_hash_alone_and_in_a_batch(form):
    both = frame_hashes(form((0, 1)), 2)
    assert both == frame_hashes(form((0,)), 1) + frame_hashes(form((1,)), 1)
    assert both[::-1] == frame_hashes(form((1, 0)), 2)
    assert both[0] != both[1]


@pytest.mark.feature("F23", "B6")
@pytest.mark.parametrize(
    ("form", "keys"),
    [
        (mmdetection3d, ("points", "img")),
        (nested, ("points", "img")),
        (openpcdet, ("points", "camera_imgs", "voxels")),
        (det3d, ("voxels", "num_points")),
        (bevdet, ("img_inputs",)),
    ],
)
def test_any_changed_modality_changes_the_hash_of_its_frame_alone(form, keys):
    before = frame_hashes(form((0, 1)), 2)
    for key in keys:
        changed = copy.deepcopy(form((0, 1)))
        value = changed[key]
        while isinstance(value, list):
            value = value[0]
        value.view(-1)[1] += 1.0
        after = frame_hashes(changed, 2)
        assert [a == b for a, b in zip(before, after, strict=True)] == [False, True], key


def test_calibration_counts_as_a_modality():
    moved = mmdetection3d((0, 1))
    moved["img_metas"][1]["lidar2img"] = np.eye(4) * 9
    assert [a == b for a, b in zip(frame_hashes(moved, 2), frame_hashes(mmdetection3d((0, 1)), 2), strict=True)] == [
        True,
        False,
    ]


def test_one_cloud_is_the_same_as_a_tensor_a_list_a_stack_and_an_array():
    cloud = CLOUDS[0]
    (expected,) = frame_hashes(cloud, 1)
    assert [frame_hashes(one, 1) for one in ([cloud], (cloud,), cloud[None], cloud.numpy())] == [[expected]] * 4


def test_one_point_is_a_frame():
    assert frame_hashes(CLOUDS[0][:1], 1) == frame_hashes([CLOUDS[0][:1]], 1)


def test_turned_copies_of_frames_are_hashed_as_they_come():
    given = openpcdet((0, 1))
    (first,) = frame_hashes(given, 1)
    given["points"][-1, -1] += 1.0
    assert frame_hashes(given, 1) != [first]


@pytest.mark.parametrize("key", ["points", "img"])
def test_what_a_loader_contains_is_hashed_and_not_its_class(key):
    before = frame_hashes(contained((0, 1)), 2)
    changed = copy.deepcopy(contained((0, 1)))
    changed[key][0].data[0][1][0, 0] += 1.0
    assert [a == b for a, b in zip(before, frame_hashes(changed, 2), strict=True)] == [True, False]


def test_points_and_calibration_inside_objects_are_hashed():
    before = frame_hashes(objects((0, 1)), 2)
    moved, turned = objects((0, 1)), objects((0, 1))
    moved["inputs"]["points"][0] = Points(CLOUDS[0] + 1.0)
    turned["data_samples"][0].metainfo["lidar2img"] = np.eye(4) * 7
    assert frame_hashes(moved, 2)[0] != before[0] != frame_hashes(turned, 2)[0]
