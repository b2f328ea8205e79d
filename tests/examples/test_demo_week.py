"""The week of the demo: the same frames every time, and the truth about them."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from examples.demo.week import FIRST_DAY, PER_DAY, WEEK, Week, shots  # noqa: E402
from examples.drive.conditions import CLEAR  # noqa: E402

pytestmark = pytest.mark.torch
ALL = np.zeros(4)


@pytest.fixture(scope="module")
def two_days():
    """Four frames of the first day and one of the second."""
    chosen = [*islice(shots(WEEK[:2]), PER_DAY + 1)]
    return [*chosen[:4], chosen[PER_DAY]]


def found(target, *, score=1.0):
    """Detections that repeat the truth."""
    boxes = target["boxes_3d"].float()
    boxes = torch.cat([boxes, torch.zeros(len(boxes), 2)], dim=1)
    return {"boxes_3d": boxes, "scores_3d": torch.full((len(boxes),), score), "labels_3d": target["labels_3d"]}


def without(output, rows):
    return {name: values[rows:] for name, values in output.items()}


def moved(output, rows, metres):
    boxes = output["boxes_3d"].clone()
    boxes[:rows, 2] = 0.0
    boxes[:rows, :2] += metres
    return {**output, "boxes_3d": boxes}


def daily(seen, thresholds=ALL):
    return Week.of(seen).daily(thresholds).to_dicts()


def test_a_week_begins_clear_and_goes_on_with_one_cause_after_the_other():
    names = [day.name for day in WEEK]
    assert names[:3] == ["clear"] * 3
    assert all(day.conditions == CLEAR for day in WEEK[:3])
    assert len({day.conditions for day in WEEK[2:]}) == len(WEEK) - 2


def test_every_run_sees_the_same_frames_on_the_same_days(two_days):
    again = [*islice(shots(), 2)]
    assert [shot.request_id for shot in again] == [shot.request_id for shot in two_days[:2]] == ["0202-000", "0202-001"]
    assert torch.equal(again[1].points, two_days[1].points)
    assert [(shot.at.date() - FIRST_DAY).days for shot in two_days] == [0, 0, 0, 0, 1]
    assert two_days[1].at.hour == 0
    assert (two_days[1].at - two_days[0].at).total_seconds() == 86400 / PER_DAY


def test_a_detector_that_repeats_the_truth_is_perfect(two_days):
    days = daily([(shot, found(shot.target)) for shot in two_days])
    assert [(day["day"], day["frames"]) for day in days] == [("clear", 4), ("clear", 1)]
    assert {(day["precision_true"], day["recall_true"]) for day in days} == {(1.0, 1.0)}


def test_what_is_not_found_costs_recall_alone(two_days):
    shot = two_days[-1]
    total = len(shot.target["labels_3d"])
    (day,) = daily([(shot, without(found(shot.target), 3))])
    assert (day["precision_true"], day["recall_true"]) == (1.0, pytest.approx((total - 3) / total))


def test_boxes_where_nothing_is_cost_precision_and_leave_their_objects_missed(two_days):
    shot = two_days[-1]
    total = len(shot.target["labels_3d"])
    (day,) = daily([(shot, moved(found(shot.target), 2, 500.0))])
    expected = pytest.approx((total - 2) / total)
    assert (day["precision_true"], day["recall_true"]) == (expected, expected)


def test_boxes_below_the_operating_point_of_their_class_are_not_there(two_days):
    shot = two_days[-1]
    labels = shot.target["labels_3d"]
    cars = int((labels == 0).sum())
    (day,) = daily([(shot, found(shot.target, score=0.5))], np.array([0.6, 0.4, 0.4, 0.4]))
    assert (day["precision_true"], day["recall_true"]) == (1.0, pytest.approx(1.0 - cars / len(labels)))
