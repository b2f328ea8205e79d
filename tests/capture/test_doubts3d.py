"""Boxes that break no rule and look wrong are told once, with the evidence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mld_pipelines.capture import Doubts3D


def boxes(n, width, length, yaw=0.0):
    return np.tile([10.0, 2.0, 0.5, width, length, 1.5, yaw], (n, 1))


def found(n, width, length, scores=0.5):
    return [SimpleNamespace(boxes=boxes(n, width, length), scores=np.full(n, scores, np.float32))]


def test_ordinary_boxes_raise_no_doubt():
    doubts = Doubts3D()
    doubts.see_targets(boxes(500, 1.8, 4.4))
    doubts.see_found(found(500, 1.8, 4.4))
    assert doubts.news() == []


def test_boxes_found_in_another_order_than_the_true_ones_point_at_the_convention():
    doubts = Doubts3D(lambda: "mmdet3d_v1 (mmdet3d-anchor)")
    doubts.see_targets(boxes(30, 1.8, 4.4))
    doubts.see_found(found(40, 4.4, 1.8))
    (doubt,) = doubts.news()
    assert doubt.startswith(
        "100% of 40 boxes found are wider than long (median w 4.40 m, l 1.80 m), of the true boxes 0%; they were read "
        "as mmdet3d_v1 (mmdet3d-anchor)."
    )
    assert "box_convention=" in doubt


def test_true_boxes_in_another_order_than_those_found_point_at_the_targets():
    doubts = Doubts3D()
    doubts.see_found(found(40, 1.8, 4.4))
    doubts.see_targets(boxes(30, 4.4, 1.8))
    (doubt,) = doubts.news()
    assert "100% of 30 true boxes are wider than long" in doubt
    assert "of the boxes found 0%: is their order [cx, cy, cz, w, l, h, yaw]?" in doubt


def test_wide_things_that_are_found_wide_raise_no_doubt():
    """Barriers are 2.5 m wide and 0.5 m long."""
    doubts = Doubts3D()
    doubts.see_found(found(40, 2.5, 0.5))
    doubts.see_targets(boxes(30, 2.5, 0.5))
    assert doubts.news() == []


@pytest.mark.parametrize("n", [0, 19])
def test_a_handful_of_boxes_says_nothing(n):
    doubts = Doubts3D()
    doubts.see_targets(boxes(n, 4.4, 1.8, yaw=90.0))
    doubts.see_found(found(n, 4.4, 1.8))
    assert doubts.news() == []


def test_the_last_boxes_count_so_that_a_wrong_part_behind_a_right_one_is_noticed():
    doubts = Doubts3D()
    doubts.see_targets(boxes(5000, 1.8, 4.4))
    doubts.see_targets(boxes(200, 4.4, 1.8))
    assert len(doubts.news()) == 1
    assert doubts.news() == []


def test_yaws_that_went_round_once_are_no_degrees():
    doubts = Doubts3D()
    doubts.see_targets(boxes(100, 1.8, 4.4, yaw=2 * np.pi))
    assert doubts.news() == []


@pytest.mark.parametrize("score", [-3.25, 4.5])
def test_scores_that_are_no_probabilities_are_told(score):
    doubts = Doubts3D()
    doubts.see_found(found(1, 1.8, 4.4, scores=score))
    (doubt,) = doubts.news()
    assert f"{score:.2f}" in doubt
    assert "logits" in doubt


def test_scores_that_are_no_numbers_are_left_to_the_rules_of_the_table():
    doubts = Doubts3D()
    doubts.see_found(found(1, 1.8, 4.4, scores=np.nan))
    assert doubts.news() == []
