from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry import corners_3d, points_in_boxes

#: 2 m wide, 4 m long, 1 m high, heading to the north-east.
CAR = [10.0, -3.0, 0.5, 2.0, 4.0, 1.0, math.radians(45)]


def beside(along, across, up):
    """A point given in the car's own frame."""
    cos, sin = math.cos(CAR[6]), math.sin(CAR[6])
    return [CAR[0] + cos * along - sin * across, CAR[1] + sin * along + cos * across, CAR[2] + up]


@pytest.mark.parametrize(
    ("place", "is_inside"),
    [
        ((1.9, 0.9, 0.4), True),
        ((2.1, 0, 0), False),
        ((0, 1.1, 0), False),
        ((0, 0, 0.6), False),
        ((-1.9, -0.9, -0.4), True),
    ],
)
def test_points_by_hand(place, is_inside):
    assert points_in_boxes([beside(*place)], [CAR]).tolist() == [[is_inside]]


def test_points_on_a_face_are_inside():
    straight = [0.0, 0.0, 0.0, 2.0, 4.0, 1.0, 0.0]
    assert points_in_boxes([[2.0, 0, 0], [0, -1.0, 0], [0, 0, 0.5], [2.0, 1.0, -0.5]], [straight]).all()


def test_rows_are_boxes_and_columns_are_points():
    other = [50.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    assert points_in_boxes([beside(0, 0, 0), [50, 0, 0], [0, 0, 0]], [CAR, other]).tolist() == [
        [True, False, False],
        [False, True, False],
    ]


sizes = st.floats(0.2, 10)


@settings(deadline=None)
@given(
    st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(-3, 3), sizes, sizes, sizes, st.floats(-7, 7)),
    st.lists(st.floats(0, 1), min_size=8, max_size=8).filter(lambda weights: sum(weights) > 0.1),
)
def test_every_mixture_of_the_corners_of_a_slightly_smaller_box_is_inside(box, weights):
    smaller = np.array([box]) * [1, 1, 1, 0.999999, 0.999999, 0.999999, 1]
    point = np.array(weights) / sum(weights) @ corners_3d(smaller)[0]
    assert points_in_boxes([point], [box]).all()


@settings(deadline=None)
@given(st.integers(0, 7))
def test_the_corners_of_a_slightly_larger_box_are_outside(corner):
    larger = np.array([CAR]) * [1, 1, 1, 1.000001, 1.000001, 1.000001, 1]
    assert not points_in_boxes(corners_3d(larger)[0][[corner]], [CAR]).any()


def test_a_point_that_is_not_finite_is_in_no_box():
    assert not points_in_boxes([[math.nan, 0, 0], [math.inf, 0, 0]], [[0, 0, 0, 1, 1, 1, 0]]).any()


def test_further_columns_of_points_do_not_matter():
    assert points_in_boxes([[*beside(0, 0, 0), 0.3, 7.0]], [CAR]).all()


@pytest.mark.parametrize(("points", "boxes"), [(0, 2), (5, 0), (0, 0)])
def test_nothing_gives_an_empty_table(points, boxes):
    assert points_in_boxes(np.zeros((points, 4)), np.tile(CAR, (boxes, 1))).shape == (boxes, points)


def test_points_without_height_are_refused():
    with pytest.raises(InvalidInputError, match="\\(5, 2\\)"):
        points_in_boxes(np.zeros((5, 2)), [CAR])


@pytest.mark.torch
def test_tensors_give_a_tensor():
    torch = pytest.importorskip("torch")
    found = points_in_boxes(torch.tensor([beside(0, 0, 0)]), torch.tensor([CAR]))
    assert (found.dtype, found.tolist()) == (torch.bool, [[True]])
