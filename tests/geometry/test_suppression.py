from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry import bev_corners, bev_nms, circle_nms
from tests.support.box_scenes import detections, random_boxes
from tests.support.exact_overlap import exact_bev_iou

CAR = [10.0, -3.0, 0.7, 2.0, 4.0, 1.5, 0.0]


def row(*xs):
    """Cars one behind the other at these x."""
    boxes = np.tile(CAR, (len(xs), 1))
    boxes[:, 0] = xs
    return boxes


def greedy(hits, scores):
    """The reference: go through boxes by falling score, drop what a kept one hits."""
    kept = []
    for i in sorted(range(len(scores)), key=lambda index: (-scores[index], index)):
        if not any(hits(j, i) for j in kept):
            kept.append(i)
    return kept


def shapely_ious(boxes):
    import shapely

    polygons = shapely.polygons(bev_corners(boxes))
    shared = shapely.area(shapely.intersection(polygons[:, None], polygons[None, :]))
    area = shapely.area(polygons)
    return shared / (area[:, None] + area[None, :] - shared)


def crowd(seed, count):
    rng = np.random.default_rng(seed)
    boxes = detections(rng, count, random_boxes(rng, max(2, count // 20), extent=60.0), hit=0.9)
    return boxes, rng.random(count), rng.integers(0, 4, count)


@pytest.mark.platform
@pytest.mark.parametrize("iou_thresh", [0.01, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", [1, 2])
def test_index_by_index_what_a_float64_reference_keeps(engine, seed, iou_thresh):
    boxes, scores, _ = crowd(seed, 300)
    ious = shapely_ious(boxes)
    expected = greedy(lambda j, i: ious[j, i] > iou_thresh, scores)
    assert bev_nms(boxes, scores, iou_thresh).tolist() == expected


@pytest.mark.platform
def test_classes_do_not_suppress_each_other(engine):
    boxes, scores, labels = crowd(3, 250)
    ious = shapely_ious(boxes)
    expected = greedy(lambda j, i: labels[j] == labels[i] and ious[j, i] > 0.2, scores)
    assert bev_nms(boxes, scores, 0.2, labels=labels).tolist() == expected


@pytest.mark.platform
def test_classes_of_one_task_suppress_each_other_at_the_threshold_of_the_task(engine):
    boxes, scores, labels = crowd(4, 250)
    ious, task, limit = shapely_ious(boxes), np.array([0, 1, 1, 2]), [0.1, 0.4, 0.7]
    expected = greedy(lambda j, i: task[labels[j]] == task[labels[i]] and ious[j, i] > limit[task[labels[i]]], scores)
    found = bev_nms(boxes, scores, limit, labels=labels, tasks=[[0], [1, 2], [3]])
    assert found.tolist() == expected


@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0]))
@settings(max_examples=30, deadline=None)
def test_small_scenes_agree_with_exact_rational_arithmetic(seed, count, iou_thresh):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, min(count, 12), extent=8.0)
    scores = rng.integers(0, 4, len(boxes)) / 4  # ties
    expected = greedy(lambda j, i: exact_bev_iou(boxes[j], boxes[i]) > iou_thresh, scores)
    assert bev_nms(boxes, scores, iou_thresh).tolist() == expected


@pytest.mark.platform
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_a_giant_among_small_boxes_and_a_box_far_away_change_nothing(engine, scale):
    boxes, scores, _ = crowd(5, 150)
    boxes[7, 3:5] = 40.0 * scale
    boxes[11, :2] = 1e4 * scale
    ious = shapely_ious(boxes)
    assert bev_nms(boxes, scores, 0.2).tolist() == greedy(lambda j, i: ious[j, i] > 0.2, scores)


def test_many_boxes_at_one_place_leave_the_best(engine):
    scores = np.arange(50) / 50
    assert bev_nms(row(*[3.0] * 50), scores, 0.9).tolist() == [49]


def test_equal_scores_come_by_index(engine):
    assert bev_nms(row(0, 10, 20, 10.1), [0.5] * 4, 0.5).tolist() == [0, 1, 2]


def test_an_iou_at_the_threshold_is_kept(engine):
    # 2 m of 4 m in common: IoU is exactly 1/3 of the union, 4 / 12
    assert bev_nms(row(0, 2), [0.9, 0.8], 4 / 12).tolist() == [0, 1]
    assert bev_nms(row(0, 2), [0.9, 0.8], np.nextafter(4 / 12, 0)).tolist() == [0]


def test_what_a_suppressed_box_overlaps_is_kept(engine):
    assert bev_nms(row(0, 2, 4), [0.9, 0.8, 0.7], 0.3).tolist() == [0, 2]


@pytest.mark.parametrize("max_kept", [0, 1, 2, 9])
def test_no_more_boxes_are_kept_than_asked_for(engine, max_kept):
    assert bev_nms(row(0, 10, 20, 30), [0.1, 0.4, 0.3, 0.2], 0.5, max_kept=max_kept).tolist() == [1, 2, 3, 0][:max_kept]


def test_no_boxes_leave_none(engine):
    found = bev_nms(np.empty((0, 7)), [], 0.5)
    assert (found.shape, found.dtype) == ((0,), np.int64)
    assert circle_nms([], [], 1.0, labels=[]).tolist() == []


def test_boxes_without_extent_survive(engine):
    boxes = row(0, 0)
    boxes[:, 3] = 0.0
    assert bev_nms(boxes, [0.2, 0.3], 0.0).tolist() == [1, 0]


# ---- by distance


@pytest.mark.parametrize("distance", [0.0, 0.5, 2.0, 12.0])
def test_circles_keep_what_the_reference_keeps(engine, distance):
    boxes, scores, labels = crowd(6, 250)
    apart = np.hypot(*(boxes[:, None, :2] - boxes[None, :, :2]).transpose(2, 0, 1))
    expected = greedy(lambda j, i: labels[j] == labels[i] and apart[j, i] <= distance, scores)
    assert circle_nms(boxes, scores, distance, labels=labels).tolist() == expected


def test_the_distance_itself_still_suppresses(engine):
    assert circle_nms(row(0, 3), [0.9, 0.8], 3.0).tolist() == [0]
    assert circle_nms(row(0, 3), [0.9, 0.8], np.nextafter(3.0, 0)).tolist() == [0, 1]


def test_each_task_has_its_distance(engine):
    found = circle_nms(row(0, 3, 0, 3), [0.9, 0.8, 0.7, 0.6], [4.0, 1.0], labels=[0, 0, 1, 1], tasks=[[0], [1]])
    assert found.tolist() == [0, 2, 3]


# ---- bad input


@pytest.mark.parametrize("score", [math.nan, math.inf])
@pytest.mark.parametrize("function", [bev_nms, circle_nms])
def test_scores_that_are_not_finite_are_refused(function, score):
    with pytest.raises(InvalidInputError, match="score of row 1"):
        function(row(0, 9), [0.5, score], 0.5)


@pytest.mark.parametrize("column", [0, 4, 6])
@pytest.mark.parametrize("function", [bev_nms, circle_nms])
def test_boxes_that_are_not_finite_are_refused(function, column):
    boxes = row(0, 9)
    boxes[1, column] = math.nan
    with pytest.raises(InvalidInputError, match="row 1"):
        function(boxes, [0.5, 0.4], 0.5)


@pytest.mark.parametrize("iou_thresh", [-0.1, 1.1, math.nan])
def test_thresholds_out_of_range_are_refused(iou_thresh):
    with pytest.raises(InvalidInputError, match="lie in \\[0, 1\\]"):
        bev_nms(row(0), [0.5], iou_thresh)


@pytest.mark.parametrize("distance", [-0.1, math.inf, math.nan])
def test_distances_out_of_range_are_refused(distance):
    with pytest.raises(InvalidInputError, match="not negative"):
        circle_nms(row(0), [0.5], distance)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scores": [0.5]}, "scores have shape \\(1,\\), but there are 2 boxes"),
        ({"labels": [0]}, "2 integers are needed"),
        ({"labels": [0.0, 1.0]}, "2 integers are needed"),
        ({"tasks": [[0], [1]]}, "pass the labels as well"),
        ({"labels": [0, 5], "tasks": [[0], [1]]}, "labels \\[5\\] are in none"),
        ({"labels": [0, 1], "tasks": [[0, 1], [1]]}, "name a label twice"),
        ({"labels": [0, 1], "tasks": [[0], [1]], "iou_thresh": [0.1, 0.2, 0.3]}, "need as many tasks"),
        ({"labels": [0, 1], "iou_thresh": [0.1, 0.2]}, "need as many tasks"),
        ({"max_kept": -1}, "max_kept is -1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, said):
    given = {"boxes": row(0, 9), "scores": [0.5, 0.4], "iou_thresh": 0.5, **arguments}
    with pytest.raises(InvalidInputError, match=said):
        bev_nms(**given)


@pytest.mark.torch
def test_tensors_give_indices_as_a_tensor():
    torch = pytest.importorskip("torch")
    boxes, scores, labels = crowd(7, 60)
    found = bev_nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.2, labels=torch.from_numpy(labels))
    assert found.dtype == torch.int64
    assert found.tolist() == bev_nms(boxes, scores, 0.2, labels=labels).tolist()
