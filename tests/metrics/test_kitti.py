"""KITTI average precision: against MMDetection3D's own numbers, by hand, and what has to hold for any frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._scenes3d import KITTI_NAMES, kitti_scene
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import KittiClass, KittiImages, kitti_ap, kitti_classes, kitti_difficulty
from mld_pipelines.records import Detections3D, Truths3D
from tests.support.detections import in_order, judged

LABELS = {name: label for label, name in enumerate(KITTI_NAMES) if name != "DontCare"}
METRICS = ("image", "bev", "3d")
CAR = (KittiClass(0, (0.7,)),)


def batches(scene):
    """Detections, truths and image boxes; regions nobody cares for are no truths."""
    image = scene["truth_image"]
    truths = Truths3D(
        offsets=scene["truth_offsets"],
        boxes=scene["truth_boxes"],
        labels=scene["truth_labels"],
        difficulty=kitti_difficulty(image[:, 3] - image[:, 1], scene["occluded"], scene["truncated"]),
    )
    detections = Detections3D(**{c: scene[f"detection_{c}"] for c in ("offsets", "boxes", "labels", "scores")})
    nobodys = scene["truth_labels"] == KITTI_NAMES.index("DontCare")
    images = KittiImages(
        detections=scene["detection_image"],
        truths=image[~nobodys],
        dont_care=image[nobodys],
        dont_care_offsets=truths.take(nobodys).offsets,
    )
    return detections, truths.take(~nobodys), images


def evaluate(scene, metric, **options):
    detections, truths, images = batches(scene)
    options = {"images": images, **options}
    return kitti_ap(detections, truths, classes=kitti_classes(LABELS, metric=metric), metric=metric, **options)


def car(scores=(0.9,), *, shift=0.0, truths=1, difficulty=0):
    """One frame with cars in a row and detections of the first ones."""
    boxes = [[10.0 * i, 0, 0, 2, 4, 1.5, 0] for i in range(max(truths, len(scores)))]
    moved = [[x + shift, *rest] for x, *rest in boxes[: len(scores)]]
    found = Detections3D(offsets=[0, len(scores)], boxes=moved, labels=[0] * len(scores), scores=list(scores))
    real = Truths3D(
        offsets=[0, truths], boxes=boxes[:truths], labels=[0] * truths, difficulty=np.full(truths, difficulty)
    )
    return found, real


# -- MMDetection3D ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_every_number_equals_mmdetection3ds(metric):
    scene, answer = judged("kitti")
    metrics = evaluate(scene, metric)
    np.testing.assert_allclose(metrics.r11 * 100, answer[metric]["r11"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(metrics.r40 * 100, answer[metric]["r40"], rtol=0, atol=1e-10)


def test_the_judged_scene_tells_the_rules_apart():
    """Each rule, left out, changes the judged numbers; so they do test it."""
    scene, _ = judged("kitti")
    detections, truths, images = batches(scene)
    right = evaluate(scene, "image").r40
    assert not np.array_equal(evaluate(scene, "image", images=KittiImages(detections=images.detections, truths=images.truths)).r40, right)  # fmt: skip # noqa: E501
    assert not np.array_equal(evaluate(scene, "bev", images=None).r40, evaluate(scene, "bev").r40)
    alone = tuple(KittiClass(one.label, one.overlaps) for one in kitti_classes(LABELS))
    assert not np.array_equal(kitti_ap(detections, truths, classes=alone, images=images).r40, evaluate(scene, "3d").r40)


def test_difficulty_is_the_easiest_level_that_admits():
    heights = np.array([41, 40, 26, 26, 26, 25, 60, 60])
    occluded = np.array([0, 0, 0, 1, 2, 0, 3, 0])
    truncated = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.45])
    assert kitti_difficulty(heights, occluded, truncated).tolist() == [0, 1, 1, 1, 2, 3, 3, 2]


# -- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["bev", "3d"])
def test_many_perfect_detections_have_precision_one_everywhere(metric):
    metrics = kitti_ap(*car(np.linspace(0.2, 0.9, 80), truths=80), classes=CAR, metric=metric)
    np.testing.assert_allclose(metrics.r40, 1.0)
    np.testing.assert_allclose(metrics.r11, 1.0)


def test_one_detection_of_one_truth_gives_one_threshold():
    """A single threshold fills the first of 41 samples, which only the 11 recalls use."""
    metrics = kitti_ap(*car(), classes=CAR)
    np.testing.assert_allclose(metrics.r11, np.full((1, 3, 1), 1 / 11))
    np.testing.assert_array_equal(metrics.r40, 0.0)


def test_an_overlap_of_the_limit_itself_is_no_match():
    """Shifted by a third of the length two boxes have IoU 0.5."""
    near = car(shift=4 / 3)
    assert kitti_ap(*near, classes=(KittiClass(0, (0.5000001,)),), metric="bev").r11.max() == 0.0
    assert kitti_ap(*near, classes=(KittiClass(0, (0.4999999,)),), metric="bev").r11.max() > 0.0


def test_an_overlap_in_the_image_of_half_is_no_match_at_half():
    found, real = car()
    images = KittiImages(detections=np.array([[0.0, 0, 200, 200]]), truths=np.array([[0.0, 0, 400, 200]]))
    for limit, recall in ((0.5, 0.0), (0.4999, 1 / 11)):
        metrics = kitti_ap(found, real, classes=(KittiClass(0, (limit,)),), metric="image", images=images)
        assert metrics.r11[0, 0, 0] == pytest.approx(recall)


def test_a_harder_truth_counts_at_its_own_level_only():
    assert kitti_ap(*car(difficulty=1), classes=CAR).truths.tolist() == [[0, 1, 1]]


# -- nothing, much, and wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["bev", "3d"])
@pytest.mark.parametrize("frames", [0, 2])
def test_nothing_at_all_scores_zero(metric, frames):
    nothing = {"offsets": [0] * (frames + 1), "boxes": [], "labels": []}
    metrics = kitti_ap(Detections3D(**nothing, scores=[]), Truths3D(**nothing), classes=CAR, metric=metric)
    assert metrics.r40.max() == 0.0
    assert metrics.truths.sum() == 0


def test_truths_without_detections_score_zero():
    assert kitti_ap(*car(scores=()), classes=CAR).r11.max() == 0.0


def test_detections_without_truths_score_zero():
    assert kitti_ap(*car(truths=0), classes=CAR).r11.max() == 0.0


def test_ten_thousand_boxes_in_a_frame_are_no_trouble():
    found, real = car(np.linspace(1, 0.01, 10_000), truths=300)
    assert kitti_ap(found, real, classes=CAR, metric="bev").r40[0, 0, 0] > 0.9


def test_truths_without_any_difficulty_are_refused():
    with pytest.raises(InvalidInputError, match="none of 1 truths has a difficulty"):
        kitti_ap(*car(difficulty=-1), classes=CAR)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": ()}, "at least one class"),
        ({"classes": (KittiClass(0, (0.5,)), KittiClass(1, (0.5, 0.7)))}, "equally many overlaps"),
        ({"metric": "volume"}, "'volume' is unknown"),
        ({"metric": "image"}, "needs images"),
        ({"metric": "image", "images": KittiImages(detections=np.zeros((1, 4)))}, "image boxes of truths"),
        ({"images": KittiImages(detections=np.zeros((2, 4)))}, r"\(1, 4\), got \(2, 4\)"),
        ({"images": KittiImages(detections=np.full((1, 4), np.nan))}, "finite"),
        ({"images": KittiImages(detections=np.zeros((1, 4)), dont_care=np.zeros((1, 4)))}, "need offsets"),
    ],
)
def test_what_does_not_fit_is_refused(options, said):
    with pytest.raises(InvalidInputError, match=said):
        kitti_ap(*car(), **{"classes": CAR, **options})


def test_an_overlap_outside_its_range_is_refused():
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        KittiClass(0, (0.7, 1.0))


def test_names_that_kitti_does_not_evaluate_are_refused():
    with pytest.raises(InvalidInputError, match="Truck"):
        kitti_classes({"Truck": 0})


# -- any frames -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.sampled_from(["bev", "3d"]))
@settings(max_examples=15, deadline=None)
def test_the_order_of_frames_does_not_matter(seed, metric):
    g = np.random.default_rng(seed)
    detections, truths, _ = batches(kitti_scene(8, seed=seed))
    order = g.permutation(8)
    one = kitti_ap(detections, truths, classes=kitti_classes(LABELS), metric=metric)
    other = kitti_ap(in_order(detections, order), in_order(truths, order), classes=kitti_classes(LABELS), metric=metric)
    np.testing.assert_array_equal(one.r11, other.r11)
    np.testing.assert_array_equal(one.r40, other.r40)
