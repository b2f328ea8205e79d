"""The shipped pillar detector: what it can do, what it was trained with, and that it survives bad frames."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from examples.drive.conditions import CLEAR, Conditions
from examples.drive.frames import Frame, mild, single_frames
from examples.drive.shapes import CLASS_NAMES

torch = pytest.importorskip("torch")

from examples.drive.datasets import DriveDataset, drive_dataset, sample_of, truths_of  # noqa: E402
from examples.drive.model import WEIGHTS, PillarDetector, load, save  # noqa: E402
from examples.drive.picture import bird_eye  # noqa: E402
from examples.drive.score import average_precision  # noqa: E402
from examples.drive.targets import CELLS, loss_of, targets_of  # noqa: E402
from examples.drive.train import RECIPE_PATH, Recipe, train  # noqa: E402
from mld_pipelines.capture import true_boxes  # noqa: E402

pytestmark = pytest.mark.torch
UNSEEN_SEED = 4242
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small maps: a second thread mostly waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return load()


@pytest.fixture(scope="module")
def frames():
    return list(single_frames(32, UNSEEN_SEED))


@pytest.fixture(scope="module")
def clear_ap(model, frames):
    return ap_of(model, frames)


def ap_of(model, frames):
    return average_precision(model, frames, class_names=CLASS_NAMES)


def points_of(frame):
    return torch.from_numpy(frame.points)


def found_in(model, points):
    with torch.no_grad():
        return model(points)


def truth_only(*, boxes, labels, counts=None):
    """A frame without points."""
    from examples.drive.frames import START

    counts = np.ones(len(boxes), np.int64) if counts is None else np.asarray(counts)
    velocities = np.tile([3.0, -1.0], (len(boxes), 1))
    points = np.zeros((0, 4), np.float32)
    return Frame("f", START, "straight", CLEAR, points, np.asarray(boxes), np.asarray(labels), velocities, counts)


def test_the_weights_are_small_and_name_their_classes(model):
    assert WEIGHTS.stat().st_size <= 2_000_000
    assert model.class_names == list(CLASS_NAMES)
    assert not model.training


def test_the_detector_finds_every_class_in_scenes_it_has_never_seen(clear_ap):
    assert set(clear_ap) == set(CLASS_NAMES)
    assert min(clear_ap.values()) >= 0.5


def test_weather_and_a_broken_sensor_cost_precision_or_recall(model, clear_ap):
    for conditions in (Conditions(rain=1.0, fog=0.7), Conditions(dead_rings=tuple(range(1, 32, 3)), pitch=2.0)):
        bad = ap_of(model, single_frames(16, UNSEEN_SEED, conditions=conditions))
        assert np.mean(list(bad.values())) < np.mean(list(clear_ap.values())) - 0.05


def test_the_recipe_beside_the_weights_holds_what_was_asked_of_it():
    document = json.loads(RECIPE_PATH.read_text())
    runs = document["runs"]
    assert document["recipe"]["frames"] == runs["shipped"]["frames"] == runs["again"]["frames"]
    assert runs["again"]["ap_2m"] != runs["shipped"]["ap_2m"]
    for part in ("held_out", "second_seed"):
        shipped, again = runs["shipped"]["ap_2m"][part], runs["again"]["ap_2m"][part]
        assert min(shipped.values()) >= 0.5
        assert max(abs(shipped[name] - again[name]) for name in shipped) <= 0.03
        assert max(runs["shuffled"]["ap_2m"][part].values()) < 0.1


def test_the_page_shows_the_numbers_of_the_recipe():
    page = (ROOT / "docs" / "drive.md").read_text(encoding="utf-8")
    for run in json.loads(RECIPE_PATH.read_text())["runs"].values():
        for measured in run["ap_2m"].values():
            assert " | ".join(f"{measured[name]:.3f}" for name in CLASS_NAMES) in page


def test_boxes_are_canonical_and_fall_in_score(model, frames):
    found = found_in(model, [points_of(frame) for frame in frames[:2]])
    for one in found:
        boxes, scores = one["boxes_3d"], one["scores_3d"]
        assert boxes.shape[1] == 9
        assert (boxes[:, 4] > boxes[:, 3]).float().mean() > 0.8  # longer than wide, people aside
        assert (scores[:-1] >= scores[1:]).all()
        assert scores.min() >= model.score_thresh
        assert len(boxes) <= model.max_detections_per_frame


def test_a_car_is_where_it_is_and_as_it_is(model, frames):
    """Every confident car within 15 m lies on a true one: centre, size, height above ground, heading."""
    gaps = []
    for frame in frames:
        one = {name: value.numpy() for name, value in found_in(model, [points_of(frame)])[0].items()}
        sure = (one["labels_3d"] == 0) & (one["scores_3d"] > 0.6) & (np.hypot(*one["boxes_3d"][:, :2].T) < 15)
        cars = frame.boxes[frame.labels == 0]
        for box in one["boxes_3d"][sure]:
            away = np.linalg.norm(cars[:, :2] - box[:2], axis=1)
            near = cars[away.argmin()]
            turn = abs(np.angle(np.exp(1j * (box[6] - near[6]))))
            gaps.append([away.min(), abs(box[2] - near[2]), abs(box[4] - near[4]), abs(box[3] - near[3]), turn])
    assert len(gaps) > 40
    centre, height, length, width, turn = np.median(gaps, axis=0)
    assert centre < 0.4
    assert max(height, width) < 0.15
    assert length < 0.5
    assert turn < 0.1


def test_a_frame_gives_the_same_in_any_batch(model, frames):
    batch = found_in(model, [points_of(frame) for frame in frames[:3]])
    alone = found_in(model, points_of(frames[1]))
    assert len(batch) == 3
    assert len(alone) == 1
    assert torch.allclose(batch[1]["boxes_3d"], alone[0]["boxes_3d"], atol=1e-3)
    assert torch.equal(batch[1]["labels_3d"], alone[0]["labels_3d"])


def test_input_columns_beyond_the_fourth_change_nothing_and_the_input_stays(model, frames):
    points = points_of(frames[0])
    before = points.clone()
    plain, wide = found_in(model, [points]), found_in(model, [torch.cat([points, torch.ones(len(points), 1)], 1)])
    assert torch.equal(plain[0]["boxes_3d"], wide[0]["boxes_3d"])
    assert torch.equal(points, before)


@pytest.mark.parametrize("points", [torch.zeros(0, 4), torch.full((5, 4), 500.0), torch.full((3, 5), float("nan"))])
def test_frames_without_a_usable_point_hold_nothing(model, frames, points):
    alone = found_in(model, [points])
    assert len(alone) == 1
    assert alone[0]["boxes_3d"].shape == (0, 9)
    assert alone[0]["scores_3d"].shape == alone[0]["labels_3d"].shape == (0,)
    beside = found_in(model, [points, points_of(frames[0])])
    assert len(beside[0]["boxes_3d"]) == 0
    assert len(beside[1]["boxes_3d"]) > 5
    assert found_in(model, []) == []


def test_suppression_leaves_one_of_two_boxes_in_one_place():
    model = PillarDetector(CLASS_NAMES)
    car, shifted = [5.0, 5.0, -1.0, 1.8, 4.4, 1.5, 0.0, 0.0, 0.0], [5.5, 5.0, -1.0, 1.8, 4.4, 1.5, 0.0, 0.0, 0.0]
    crossing = [5.0, 9.0, -1.0, 1.8, 4.4, 1.5, np.pi / 2, 0.0, 0.0]  # 1.8 m wide: ends where the first one begins
    boxes = torch.tensor([car, shifted, crossing, car])
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.05]), torch.tensor([0, 0, 0, 0])
    assert model._kept(boxes, scores, labels).tolist() == [0, 2]
    assert model._kept(boxes, scores, torch.tensor([0, 1, 0, 0])).tolist() == [0, 1, 2]


def test_what_the_targets_say_is_what_the_decoder_reads():
    boxes = [[10.3, -4.1, -1.0, 1.9, 4.5, 1.5, 2.5], [-20.0, 31.9, -0.2, 2.5, 9.0, 3.2, -1.0]]
    targets = targets_of([truth_only(boxes=boxes, labels=[0, 1])], len(CLASS_NAMES))
    maps = {"heatmap": torch.logit(targets.heat, 1e-6)}
    for name, values in targets.values.items():
        flat = torch.zeros(1, values.shape[1], CELLS * CELLS)
        flat[0, :, targets.cell] = values.T
        maps[name] = flat.view(1, -1, CELLS, CELLS)
    found = PillarDetector(CLASS_NAMES, score_thresh=0.9).decode(maps)[0]
    order = torch.argsort(found["labels_3d"])
    expected = torch.tensor([[*box, 3.0, -1.0] for box in boxes])
    assert found["labels_3d"][order].tolist() == [0, 1]
    assert torch.allclose(found["boxes_3d"][order], expected, atol=1e-4)
    assert float(loss_of({**maps, "heatmap": torch.logit((targets.heat == 1.0).float(), 1e-6)}, targets)) < 1e-3


def test_objects_that_no_pulse_touched_are_not_asked_for():
    frame = truth_only(boxes=[[10.0, 0.0, -1.0, 1.9, 4.5, 1.5, 0.0]], labels=[0], counts=[0])
    targets = targets_of([frame], len(CLASS_NAMES))
    assert targets.heat.max() == 0.0
    assert len(targets.cell) == 0
    assert len(sample_of(frame)[1]["boxes_3d"]) == 0


def test_a_target_says_how_many_points_each_object_holds():
    boxes = [[10.0, 0.0, -1.0, 1.9, 4.5, 1.5, 0.0], [20.0, 0.0, -1.0, 1.9, 4.5, 1.5, 0.0]]
    target = sample_of(truth_only(boxes=boxes, labels=[0, 0], counts=[0, 7]))[1]
    assert true_boxes([target], 1).points.tolist() == [7]


def test_training_again_gives_the_same_weights_and_shuffled_targets_give_others():
    short = Recipe(frames=8, batch=4)
    one, two = (train(short, progress=lambda _: None).state_dict() for _ in range(2))
    other = train(short, shuffled=True, progress=lambda _: None).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_weights_survive_the_way_to_the_disk_and_back(tmp_path):
    model = PillarDetector(["bus", "tram"]).eval()
    save(model, tmp_path / "w" / "x.safetensors")
    again = load(tmp_path / "w" / "x.safetensors")
    assert again.class_names == ["bus", "tram"]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_the_datasets_hold_what_tracers_take():
    dataset = drive_dataset("val", frames=2)
    points, target, name = dataset[1]
    assert isinstance(dataset, DriveDataset)
    assert (len(dataset), dataset.classes) == (2, CLASS_NAMES)
    assert points.shape[1] == 4
    assert target["boxes_3d"].shape == (len(target["labels_3d"]), 7)
    assert target["velocities"].shape == (len(target["labels_3d"]), 2)
    assert name == dataset[1][2] != dataset[0][2]
    with pytest.raises(IndexError, match="has 2"):
        dataset[2]
    ids = [drive_dataset("drive", frames=3)[i][2] for i in range(3)]
    assert ids == sorted(set(ids))


def test_a_mixed_part_knows_bad_days():
    mixed, clear = drive_dataset("mixed", frames=9), [mild(number, 15) == CLEAR for number in range(9)]
    assert clear == [number % 4 != 0 for number in range(9)]
    assert len({mild(number, 15) for number in range(0, 80, 4)}) == 20
    assert all(one.rain <= 0.3 and one.fog <= 0.2 and one.pitch <= 1.5 for one in (mild(n, 15) for n in range(80)))
    same = next(single_frames(1, 15, first=4, conditions=mild(4, 15)))
    assert torch.equal(mixed[4][0], torch.from_numpy(same.points))


class Oracle:
    """Repeats the truth, moved along x, resting."""

    def __init__(self, frames, shift):
        self.frames, self.shift = iter(frames), shift

    def __call__(self, points):
        target = sample_of(next(self.frames))[1]
        boxes = target["boxes_3d"] + torch.tensor([self.shift, 0, 0, 0, 0, 0, 0])
        boxes = torch.cat([boxes, torch.zeros(len(boxes), 2)], dim=1)
        return [{"boxes_3d": boxes, "scores_3d": torch.ones(len(boxes)), "labels_3d": target["labels_3d"]}]


def test_average_precision_of_a_perfect_and_a_useless_detector(frames):
    assert set(ap_of(Oracle(frames, 0.25), frames).values()) == {1.0}
    assert set(ap_of(Oracle(frames, 500.0), frames).values()) == {0.0}


def test_the_picture_is_valid_and_always_the_same(model, frames):
    found = found_in(model, [points_of(frames[0])])[0]
    boxes, labels = found["boxes_3d"].numpy().astype(np.float64), found["labels_3d"].numpy()
    picture = bird_eye(frames[0], boxes, labels)
    assert picture == bird_eye(frames[0], boxes, labels)
    root = ET.fromstring(picture)
    assert len(root.findall("{*}path")) == 2 + len(boxes) + int((frames[0].counts > 0).sum())


def test_truths_are_the_frames_columns(frames):
    truths = truths_of(frames[:2])
    assert truths.frames == 2
    assert np.array_equal(truths.frame(1).boxes, frames[1].boxes)
    assert np.array_equal(truths.points, np.concatenate([frame.counts for frame in frames[:2]]))
