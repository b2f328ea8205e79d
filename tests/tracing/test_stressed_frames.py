"""What is corrupted of a frame, and what is not."""

from __future__ import annotations

import frame_factories
import numpy as np
import pytest
import torch

from examples.drive.datasets import drive_dataset
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.stress import point_families
from mld_pipelines.tracing import FamilySource
from mld_pipelines.tracing._clouds import cloud_of, with_changed_cloud
from mld_pipelines.tracing._originals import Original, Originals, held_bytes, with_own_arrays
from mld_pipelines.tracing._stressed_frames import StressedFrames

SETS = [["noise", "jitter", 1], ["density", "drop", 5]]


def stressed(dress="plain", chosen=(1, 4), **others):
    ids = [drive_dataset("val", frames=6)[index][2] for index in chosen]
    return StressedFrames(
        dataset_factory="frame_factories:dressed",
        dataset_params={"dress": dress},
        families=FamilySource(name="points").to_params(),
        sets=SETS,
        stress_seed=7,
        indices=list(chosen),
        chosen_ids=ids,
        **others,
    )


def test_copies_are_counted_set_by_set_and_named_after_their_originals():
    copies = stressed()
    originals = [drive_dataset("val", frames=6)[index] for index in (1, 4)]
    assert len(copies) == 4
    assert copies.classes == list(frame_factories.Frames.classes)
    by_name = {family.name: family for family in point_families()}
    for number, (family, kind, severity) in enumerate(SETS):
        for place, (points, target, frame_id) in enumerate(originals):
            cloud, boxes, input_id = copies[2 * number + place]
            assert input_id == frame_id
            assert torch.equal(boxes["boxes_3d"], target["boxes_3d"])
            given = points.numpy()
            made = by_name[family].corrupt(given, kind=kind, severity=severity, seed=7, input_id=frame_id)
            np.testing.assert_array_equal(cloud.numpy(), made)
    kept = [len(copies[2 + place][0]) / len(points) for place, (points, *_) in enumerate(originals)]
    assert kept == pytest.approx([0.4, 0.4], abs=0.05)


def test_an_image_beside_the_points_is_left_alone_and_the_original_too():
    frames = frame_factories.dressed("dict")
    copies = stressed("dict")
    before = frames[1][0]
    for index in (0, 2):
        inputs, _, _ = copies[index]
        assert set(inputs) == {"points", "img"}
        assert torch.equal(inputs["img"], before["img"])
        assert not torch.equal(inputs["points"][:100], before["points"][:100])
    assert torch.equal(copies[0][0]["points"], copies[0][0]["points"])


def test_what_a_model_writes_into_a_copy_is_in_no_later_one():
    copies, before = stressed("dict"), frame_factories.dressed("dict")[1]
    for index in (0, 2, 0):
        inputs, target, _ = copies[index]
        assert torch.equal(inputs["img"], before[0]["img"])
        assert torch.equal(target["boxes_3d"], before[1]["boxes_3d"])
        inputs["img"].zero_()
        target["boxes_3d"].zero_()


def test_arrays_are_copied_wherever_they_are_and_objects_are_not():
    held = object()
    value = {"points": CLOUD, "nested": [(np.zeros(3), held)], "name": "frame"}
    own = with_own_arrays(value)
    assert torch.equal(own["points"], CLOUD)
    assert own["points"].data_ptr() != CLOUD.data_ptr()
    (array, same) = own["nested"][0]
    array += 1.0
    assert (value["nested"][0][0] == 0.0).all()
    assert same is held
    assert own["name"] == "frame"


@pytest.mark.parametrize(("dress", "dtype"), [("half", torch.float16), ("array", torch.float32)])
def test_a_copy_has_the_type_of_its_original(dress, dtype):
    cloud = stressed(dress)[0][0]
    assert isinstance(cloud, torch.Tensor)
    assert cloud.dtype == dtype


class Points:
    """As MMDetection3D holds them."""

    def __init__(self, tensor):
        self.tensor = tensor


CLOUD = torch.rand(20, 5)


@pytest.mark.parametrize(
    "nest",
    [
        lambda cloud: cloud,
        lambda cloud: [cloud],
        lambda cloud: cloud[None],
        Points,
        lambda cloud: {"points": [[cloud]], "img_metas": [{"box_type_3d": object}]},
        lambda cloud: {"inputs": {"points": [cloud], "img": torch.ones(3)}, "data_samples": [object()]},
        lambda cloud: {"batched_pts": [cloud]},
    ],
)
def test_a_cloud_is_found_in_whatever_holds_it(nest):
    inputs = nest(CLOUD)
    assert torch.equal(cloud_of(inputs), CLOUD)
    changed = with_changed_cloud(inputs, lambda cloud: cloud[:3] + 1)
    assert type(changed) is type(inputs)
    assert torch.equal(cloud_of(changed), CLOUD[:3] + 1)
    assert torch.equal(cloud_of(inputs), CLOUD), "the original is another object"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([CLOUD, CLOUD], "holds 2 point clouds"),
        ({"points": CLOUD, "batch_size": 1}, "holds batch_size beside"),
        ({"img": CLOUD}, "no points"),
        (CLOUD[0], r"has shape \(5,\)"),
        ("cloud.bin", "is a str"),
        (None, "is a NoneType"),
    ],
)
def test_what_cannot_be_corrupted_is_refused_with_what_was_found(inputs, message):
    with pytest.raises(InvalidInputError, match=message):
        cloud_of(inputs)


def test_originals_are_read_once_while_they_fit(monkeypatch):
    import mld_pipelines.tracing._originals as originals

    monkeypatch.setattr(originals, "_CACHE_BYTES", 100)
    calls = []

    def read(index):
        calls.append(index)
        return Original(f"item {index}", f"id-{index}", 60)

    found = Originals(read, indices=[4, 9], chosen_ids=["id-4", "id-9"])
    assert [found[0], found[0], found[1], found[1]] == ["item 4", "item 4", "item 9", "item 9"]
    assert calls == [4, 9, 9]


def test_the_size_of_an_object_that_hides_its_arrays_is_unknown():
    known = {"points": CLOUD, "image": [np.zeros(10)], "name": "frame", "number": 3}
    assert held_bytes(known) == 20 * 5 * 4 + 80
    assert held_bytes({"points": CLOUD, "meta": object()}) == np.inf
