from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines import geometry
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.geometry import bev_corners, bev_iou, iou_3d, points_in_boxes
from tests.support.box_scenes import detections, hard_pairs, random_boxes
from tests.support.exact_overlap import exact_bev_iou, exact_iou_3d

CAR = [10.0, -3.0, 0.7, 2.0, 4.0, 1.5, 0.5]


def box(**changes):
    return [changes.get(name, value) for name, value in zip(("x", "y", "z", "w", "l", "h", "yaw"), CAR, strict=True)]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


# ---- by hand


def test_half_a_length_ahead_leaves_a_third(engine):
    assert bev_iou([box(yaw=0.0)], [box(yaw=0.0, x=12.0)]) == pytest.approx(np.array([[1 / 3]]))


def test_crossed_boxes_share_a_square(engine):
    assert bev_iou([box()], [box(yaw=0.5 + math.pi / 2)])[0, 0] == pytest.approx(4 / 12)


def test_a_square_turned_by_45_degrees_leaves_an_octagon(engine):
    # two unit squares: the octagon has area 2 (√2 - 1)
    octagon = 2 * (math.sqrt(2) - 1)
    a, b = box(w=1.0, l=1.0, yaw=0.1), box(w=1.0, l=1.0, yaw=0.1 + math.pi / 4)
    assert bev_iou([a], [b])[0, 0] == pytest.approx(octagon / (2 - octagon), abs=1e-15)


def test_heights_that_overlap_by_a_third(engine):
    # 0.5 m of 1.5 m each in common: 0.5 / (1.5 + 1.5 - 0.5)
    assert iou_3d([box()], [box(z=1.7)])[0, 0] == pytest.approx(0.2)


def test_boxes_above_each_other_overlap_from_above_only(engine):
    assert (bev_iou([CAR], [box(z=5.0)])[0, 0], iou_3d([CAR], [box(z=5.0)])[0, 0]) == (1.0, 0.0)


# ---- exact rational arithmetic


def test_hard_pairs_agree_with_exact_rational_arithmetic(rng):
    """5,000 pairs; the promise is 1e-6, the measured error below 1e-10 (slivers: sides of 1 : 1e6)."""
    worst = {}
    for kind, (a, b) in hard_pairs(rng, 228).items():
        exact = np.array([exact_bev_iou(*pair) for pair in zip(a, b, strict=True)])
        worst[kind] = np.abs(bev_iou(a, b, aligned=True) - exact).max()
    assert {kind: error for kind, error in worst.items() if error > 1e-9} == {}


@pytest.mark.platform
def test_both_engines_give_the_same_bits(rng, monkeypatch):
    pairs = list(hard_pairs(rng, 50).values())
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    compiled = bev_iou(a, b, aligned=True)
    monkeypatch.setattr("mld_pipelines.geometry._iou.kernels", lambda: None)
    assert np.array_equal(bev_iou(a, b, aligned=True), compiled)


def test_volumes_agree_with_exact_rational_arithmetic(engine, rng):
    for a, b in hard_pairs(rng, 5).values():
        exact = [exact_iou_3d(*pair) for pair in zip(a, b, strict=True)]
        assert iou_3d(a, b, aligned=True) == pytest.approx(exact, abs=1e-9)


# ---- shapely, in scenes where it can be trusted


@pytest.mark.platform  # shapely comes with it for development
def test_a_scene_agrees_with_shapely(engine, rng):
    import shapely

    truths = random_boxes(rng, 40, extent=40.0)
    found = detections(rng, 120, truths)
    a, b = shapely.polygons(bev_corners(found))[:, None], shapely.polygons(bev_corners(truths))[None, :]
    shared = shapely.area(shapely.intersection(a, b))
    expected = shared / (shapely.area(a) + shapely.area(b) - shared)
    assert np.abs(bev_iou(found, truths) - expected).max() <= 1e-9


# ---- laws

coordinates = st.floats(-60, 60)
sides = st.floats(0.05, 20)
boxes = st.tuples(coordinates, coordinates, st.floats(-3, 3), sides, sides, sides, st.floats(-7, 7))
near = st.tuples(*[st.floats(-2, 2)] * 3, *[st.floats(0, 2)] * 3, st.floats(-4, 4))


@settings(deadline=None)
@given(boxes)
def test_a_box_is_itself_at_every_yaw(one):
    assert abs(bev_iou([one], [one])[0, 0] - 1) <= 1e-12
    assert abs(iou_3d([one], [one])[0, 0] - 1) <= 1e-12


def test_a_box_is_itself_at_every_degree(engine):
    turned = np.tile(CAR, (721, 1))
    turned[:, 6] = np.radians(np.arange(-360, 361))
    assert np.abs(bev_iou(turned, turned, aligned=True) - 1).max() <= 1e-12
    half = np.add(turned, [0, 0, 0, 0, 0, 0, math.pi])
    assert np.abs(bev_iou(turned, half, aligned=True) - 1).max() <= 1e-12


@settings(deadline=None)
@given(boxes, near)
def test_order_does_not_matter(one, step):
    other = np.add(one, step)
    assert bev_iou([one], [other])[0, 0] == pytest.approx(bev_iou([other], [one])[0, 0], abs=1e-12)


@settings(deadline=None)
@given(boxes, near, st.floats(-100, 100), st.floats(-100, 100), st.floats(-4, 4))
def test_where_the_scene_lies_and_how_it_is_turned_does_not_matter(one, step, dx, dy, turn):
    pair = np.array([one, np.add(one, step)])
    moved = pair.copy()
    cos, sin = math.cos(turn), math.sin(turn)
    moved[:, 0], moved[:, 1] = cos * pair[:, 0] - sin * pair[:, 1] + dx, sin * pair[:, 0] + cos * pair[:, 1] + dy
    moved[:, 6] += turn
    assert bev_iou(moved[:1], moved[1:])[0, 0] == pytest.approx(bev_iou(pair[:1], pair[1:])[0, 0], abs=1e-9)


@settings(deadline=None)
@given(st.lists(boxes, min_size=1, max_size=6), st.lists(boxes, min_size=1, max_size=6))
def test_values_lie_between_0_and_1(first, second):
    for values in (bev_iou(first, second), iou_3d(first, second)):
        assert ((values >= 0) & (values <= 1)).all()


@settings(deadline=None)
@given(st.lists(boxes, min_size=1, max_size=5))
def test_one_by_one_is_the_diagonal(first):
    second = np.add(first, 0.3)
    assert np.array_equal(bev_iou(first, second, aligned=True), np.diag(bev_iou(first, second)))


def test_a_box_without_extent_overlaps_nothing(engine):
    flat = [box(w=0.0), box(l=0.0), box(w=0.0, l=0.0)]
    assert bev_iou(flat, [*flat, CAR]).tolist() == [[0.0] * 4] * 3
    assert iou_3d([box(h=0.0)], [box(h=0.0), CAR]).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_boxes_give_an_empty_table(engine, n, m):
    assert bev_iou(np.tile(CAR, (n, 1)), np.tile(CAR, (m, 1))).shape == (n, m)


def test_many_boxes_are_computed_in_parts(engine, rng, monkeypatch):
    monkeypatch.setattr("mld_pipelines.geometry._arrays._PAIRS", 64)
    a, b = random_boxes(rng, 37, extent=15.0), random_boxes(rng, 29, extent=15.0)
    whole = np.array([[exact_bev_iou(one, other) for other in b[:4]] for one in a])
    assert np.abs(bev_iou(a, b)[:, :4] - whole).max() < 1e-12


def test_arguments_stay_as_they_are(engine):
    given = np.array([CAR])
    given.flags.writeable = False
    assert bev_iou(given, given)[0, 0] == 1.0


# ---- bad input


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e10])
@pytest.mark.parametrize("column", range(7))
@pytest.mark.parametrize("function", [bev_iou, iou_3d])
def test_boxes_that_are_not_finite_are_refused_with_their_row(function, column, value):
    wrong = np.tile(CAR, (3, 1))
    wrong[1, column] = value
    with pytest.raises(InvalidInputError, match="1 of 3 boxes of the second batch are unusable; row 1"):
        function([CAR], wrong)


@pytest.mark.parametrize("name", ["w", "l", "h"])
def test_negative_sizes_are_refused(name):
    with pytest.raises(InvalidInputError, match="sizes not negative"):
        bev_iou([CAR], [box(**{name: -1e-9})])


@pytest.mark.parametrize("shape", [(7,), (2, 5), (2, 9), (1, 2, 7)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InvalidInputError, match="\\(N, 7\\) is needed"):
        bev_iou(np.ones(shape), [CAR])


def test_batches_of_two_lengths_have_no_diagonal():
    with pytest.raises(InvalidInputError, match="1 and 2 boxes"):
        bev_iou([CAR], [CAR, CAR], aligned=True)


def test_words_are_no_boxes():
    with pytest.raises(InvalidInputError, match="must be numbers"):
        bev_iou([["a"] * 7], [CAR])


# ---- tensors


@pytest.mark.torch
def test_tensors_give_tensors_of_double_precision(rng):
    torch = pytest.importorskip("torch")
    a, b = random_boxes(rng, 20, extent=20.0), random_boxes(rng, 10, extent=20.0)
    found = bev_iou(torch.from_numpy(a), torch.from_numpy(b))
    assert found.dtype == torch.float64
    assert np.array_equal(found.numpy(), bev_iou(a, b))


@pytest.mark.torch
def test_the_formula_of_tensors_agrees_with_the_kernels(rng):
    """What runs on a GPU, run on the CPU."""
    torch = pytest.importorskip("torch")
    from mld_pipelines.geometry import _arrays
    from mld_pipelines.geometry._boxes import prepare

    for a, b in hard_pairs(rng, 20).values():
        prepared = [prepare(torch.from_numpy(side), is_volume=True) for side in (a, b)]
        assert np.abs(_arrays.pairwise(*prepared).numpy() - iou_3d(a, b)).max() < 1e-9
        assert np.abs(_arrays.aligned(*prepared).numpy() - iou_3d(a, b, aligned=True)).max() < 1e-9


@pytest.mark.torch
def test_half_precision_is_widened_before_anything_is_computed():
    torch = pytest.importorskip("torch")
    half = torch.tensor([CAR]).half()
    assert bev_iou(half, half)[0, 0] == 1.0


@pytest.mark.torch
def test_an_array_and_a_tensor_are_not_mixed():
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidInputError, match="two arrays or two tensors"):
        bev_iou(np.array([CAR]), torch.tensor([CAR]))


@pytest.mark.torch
def test_two_devices_are_not_mixed():
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidInputError, match="on cpu and on meta"):
        bev_iou(torch.tensor([CAR]), torch.tensor([CAR], device="meta"))


@pytest.mark.torch
@pytest.mark.parametrize("name", ["bev_iou", "iou_3d", "bev_nms", "circle_nms", "points_in_boxes", "from_openpcdet"])
def test_tensors_without_numbers_are_refused(name):
    torch = pytest.importorskip("torch")
    box = torch.tensor([CAR], device="meta")
    arguments = {
        "bev_iou": (box, box), "iou_3d": (box, box), "bev_nms": (box, box[:, 0], 0.5),
        "circle_nms": (box, box[:, 0], 1.0), "points_in_boxes": (box[:, :3], box), "from_openpcdet": (box,),
    }  # fmt: skip
    with pytest.raises(InvalidInputError, match="device 'meta', which holds shapes and no numbers"):
        getattr(geometry, name)(*arguments[name])


@pytest.mark.torch
@pytest.mark.parametrize("name", ["bev_nms", "circle_nms"])
def test_boxes_and_scores_of_two_devices_are_not_mixed(name):
    torch = pytest.importorskip("torch")
    suppress, boxes, scores = getattr(geometry, name), torch.tensor([CAR, CAR]), torch.tensor([0.9, 0.8])
    for pair in ((boxes, scores.to("meta")), (boxes.to("meta"), scores)):
        with pytest.raises(InvalidInputError, match=r"boxes and scores are on (cpu|meta) and on (cpu|meta); move one"):
            suppress(*pair, 0.5)
    for pair in ((boxes, scores.numpy()), (boxes.numpy(), scores)):
        with pytest.raises(InvalidInputError, match="pass two arrays or two tensors"):
            suppress(*pair, 0.5)
    with pytest.raises(InvalidInputError, match="no numbers"):
        suppress(boxes, scores, 0.5, labels=torch.zeros(2, dtype=torch.int64, device="meta"))
    labels = np.zeros(2, np.int64)  # labels only group: an array serves beside tensors
    assert suppress(boxes, scores, 0.5, labels=labels).tolist() == [0]


@pytest.mark.torch
def test_points_and_boxes_of_two_devices_are_not_mixed():
    torch = pytest.importorskip("torch")
    points, boxes = torch.zeros(3, 4), torch.tensor([CAR])
    for pair in ((points, boxes.to("meta")), (points.to("meta"), boxes)):
        with pytest.raises(InvalidInputError, match=r"points and boxes are on (cpu|meta) and on (cpu|meta)"):
            points_in_boxes(*pair)
    with pytest.raises(InvalidInputError, match="two arrays or two tensors"):
        points_in_boxes(points.numpy(), boxes)


@pytest.mark.torch
def test_a_gpu_gives_the_same_values_on_the_gpu(rng):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for a, b in hard_pairs(rng, 50).values():
        found = iou_3d(torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda())
        assert found.is_cuda
        assert np.abs(found.cpu().numpy() - iou_3d(a, b)).max() < 1e-9
