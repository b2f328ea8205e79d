"""nuScenes metrics: against the devkit's own numbers, hand calculation, and what has to hold for any frames."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._scenes3d import driving_scene
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import NUSCENES, NuScenesPolicy, NuScenesState, nuscenes_metrics
from mld_pipelines.metrics import _nuscenes_kernel as kernel
from mld_pipelines.records import Detections3D, Truths3D
from tests.support.detections import batches, frames_of, in_order, judged

EXACT = {"rtol": 0, "atol": 1e-12}
ONE = NuScenesPolicy(n_classes=1)


@pytest.fixture(params=[pytest.param("numba", marks=pytest.mark.platform), "numpy"])
def engine(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(kernel, "_COMPILED", None)
    return request.param


def boxes(*centres, size=(2.0, 4.0, 1.5), yaw=0.0):
    return [[x, y, 1.0, *size, yaw] for x, y in centres]


def found(centres, scores, *, labels=None, **box):
    n = len(centres)
    return Detections3D(offsets=[0, n], boxes=boxes(*centres, **box), labels=labels or [0] * n, scores=scores)


def real(*centres, labels=None, **box):
    return Truths3D(offsets=[0, len(centres)], boxes=boxes(*centres, **box), labels=labels or [0] * len(centres))


def assert_same(one, other):
    for name in ("ap", "errors", "truths", "detections"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.mean_ap, one.nds, one.nds_like) == (other.mean_ap, other.nds, other.nds_like)


# -- the devkit -------------------------------------------------------------------------------------------------------


def test_every_number_equals_the_devkits(engine):
    scene, answer = judged("nuscenes")
    attributes = scene["detection_attributes"], scene["truth_attributes"]
    metrics = nuscenes_metrics(NuScenesState.of(*batches(scene), NUSCENES, attributes=attributes))
    np.testing.assert_allclose(metrics.ap, answer["ap"], **EXACT)
    np.testing.assert_allclose(metrics.errors, np.array(answer["errors"], np.float64), **EXACT)
    assert metrics.mean_ap == pytest.approx(answer["mean_ap"], abs=1e-12)
    assert metrics.mean_errors == pytest.approx(answer["mean_errors"], abs=1e-12)
    assert metrics.nds == pytest.approx(answer["nds"], abs=1e-12)
    assert metrics.nds_like is None


def test_the_judged_scene_holds_what_is_awkward():
    scene, answer = judged("nuscenes")
    scores = scene["detection_scores"]
    assert len(np.unique(scores)) < len(scores) / 5  # ties
    assert (scores == 0).any()
    assert np.isnan(scene["truth_velocities"]).any()
    assert (np.diff(scene["truth_offsets"]) == 0).any()
    assert (np.diff(scene["detection_offsets"]) == 0).any()
    assert set(range(10)) - set(scene["truth_labels"]) == {3}
    assert set(range(10)) - set(scene["detection_labels"]) == {4}
    assert np.count_nonzero(answer["ap"]) > 20


def test_without_attributes_the_score_has_another_name_and_leaves_them_out():
    scene, answer = judged("nuscenes")
    metrics = nuscenes_metrics(NuScenesState.of(*batches(scene), NUSCENES))
    four = [max(0.0, 1.0 - answer["mean_errors"][name]) for name in list(answer["mean_errors"])[:4]]
    assert metrics.nds is None
    assert metrics.nds_like == pytest.approx((5 * answer["mean_ap"] + sum(four)) / 9, abs=1e-12)
    assert math.isnan(metrics.mean_errors["attr_err"])


def test_without_any_velocity_the_score_leaves_velocities_out():
    metrics = nuscenes_metrics(NuScenesState.of(found([(0, 0)], [0.5]), real((0, 0)), ONE))
    assert math.isnan(metrics.mean_errors["vel_err"])
    assert metrics.nds_like == pytest.approx(1.0)


def test_an_error_that_no_match_has_is_one():
    centres = [(3.0 * i, 0.0) for i in range(20)]
    truths = Truths3D(offsets=[0, 20], boxes=boxes(*centres), labels=[0] * 20, velocities=np.zeros((20, 2)))
    metrics = nuscenes_metrics(NuScenesState.of(found(centres, np.linspace(0.1, 1, 20)), truths, ONE))
    assert metrics.errors[0, 3] == 1.0


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_perfect_detections_score_one(engine):
    centres = [(3.0 * i, 0.0) for i in range(20)]
    metrics = nuscenes_metrics(NuScenesState.of(found(centres, np.linspace(0.1, 1, 20)), real(*centres), ONE))
    np.testing.assert_allclose(metrics.ap, np.ones((1, 4)), **EXACT)
    np.testing.assert_array_equal(metrics.errors[0, :3], 0.0)


def test_a_detection_is_matched_at_the_distances_that_exceed_its_own(engine):
    metrics = nuscenes_metrics(NuScenesState.of(found([(1.0, 0.0)], [0.5]), real((0, 0)), ONE))
    np.testing.assert_allclose(metrics.ap, [[0.0, 0.0, 1.0, 1.0]], **EXACT)  # 1 m is not below 1 m
    assert metrics.errors[0, 0] == 1.0


def test_half_the_recall_at_full_precision_is_worth_forty_of_ninety_samples(engine):
    """Recalls 0.11 … 0.50 have precision 1, the other 50 of 90 samples 0."""
    metrics = nuscenes_metrics(NuScenesState.of(found([(0, 0)], [0.5]), real((0, 0), (30, 0)), ONE))
    np.testing.assert_allclose(metrics.ap, np.full((1, 4), 40 / 90), **EXACT)


def test_the_better_score_takes_the_truth_even_if_it_is_farther(engine):
    state = NuScenesState.of(found([(0.1, 0), (0.4, 0)], [0.3, 0.9]), real((0, 0)), ONE)
    assert nuscenes_metrics(state).errors[0, 0] == pytest.approx(0.4)


def test_of_two_truths_in_reach_the_nearest_that_is_left_is_taken(engine):
    state = NuScenesState.of(found([(1, 0), (1.2, 0)], [0.9, 0.5]), real((0.9, 0), (2.5, 0)), ONE)
    hits = [len(keys) for keys in state.classes[0].hits]
    assert hits == [1, 1, 2, 2]


def test_barriers_turn_by_half_only():
    half = NuScenesPolicy(n_classes=1, half_turn=(0,))
    turned = found([(0, 0)], [0.5], yaw=math.pi - 0.1)
    assert nuscenes_metrics(NuScenesState.of(turned, real((0, 0)), half)).errors[0, 2] == pytest.approx(0.1)
    assert nuscenes_metrics(NuScenesState.of(turned, real((0, 0)), ONE)).errors[0, 2] == pytest.approx(math.pi - 0.1)


def test_a_truth_of_an_unknown_class_counts_nowhere(engine):
    state = NuScenesState.of(found([(0, 0)], [0.5]), real((0, 0), (9, 9), labels=[0, -1]), ONE)
    metrics = nuscenes_metrics(state)
    assert metrics.truths.tolist() == [1]
    assert metrics.mean_ap == pytest.approx(1.0)


# -- nothing, and much ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_without_detections_every_ap_is_zero_and_every_error_one(engine, frames):
    nothing = Detections3D(offsets=[0] * (frames + 1), boxes=[], labels=[], scores=[])
    truths = Truths3D(offsets=[0] * frames + [0], boxes=[], labels=[])
    metrics = nuscenes_metrics(NuScenesState.of(nothing, truths, NUSCENES, attributes=([], [])))
    assert metrics.mean_ap == 0.0
    assert metrics.nds == 0.0
    assert np.nanmin(metrics.errors) == 1.0


def test_detections_without_truths_are_all_wrong(engine):
    truths = Truths3D(offsets=[0, 0], boxes=[], labels=[])
    metrics = nuscenes_metrics(NuScenesState.of(found([(0, 0)], [0.5]), truths, ONE))
    assert metrics.mean_ap == 0.0
    assert metrics.detections.tolist() == [1]


def test_ten_thousand_boxes_in_a_frame_are_no_trouble(engine):
    g = np.random.default_rng(0)
    centres = [tuple(row) for row in g.uniform(-200, 200, (10_000, 2))]
    state = NuScenesState.of(found(centres, g.random(10_000)), real(*centres[::20]), ONE)
    assert [len(hits) for hits in state.classes[0].hits][-1] == 500


def test_a_label_that_the_model_does_not_have_is_refused():
    with pytest.raises(InvalidInputError, match=r"label of detection 0 is 1.*1 classes"):
        NuScenesState.of(found([(0, 0)], [0.5], labels=[1]), real((0, 0)), ONE)


def test_frames_that_do_not_correspond_are_refused():
    with pytest.raises(InvalidInputError, match="1 frames and truths 2"):
        NuScenesState.of(found([(0, 0)], [0.5]), Truths3D(offsets=[0, 0, 0], boxes=[], labels=[]), ONE)


def test_attributes_of_another_length_are_refused():
    with pytest.raises(InvalidInputError, match="attributes of truths must be 1 integers"):
        NuScenesState.of(found([(0, 0)], [0.5]), real((0, 0)), ONE, attributes=([0], [0, 1]))


def test_states_of_different_policies_do_not_merge():
    one = NuScenesState.of(found([(0, 0)], [0.5]), real((0, 0)), ONE)
    other = NuScenesState.of(found([(0, 0)], [0.5]), real((0, 0)), NUSCENES)
    with pytest.raises(InvalidInputError, match="different policies"):
        one.merge(other)


@pytest.mark.parametrize(
    "settings", [{"n_classes": 0}, {"tp_distance": 3.0}, {"min_recall": 1.0}, {"distances": (-1.0, 2.0)}]
)
def test_settings_that_contradict_themselves_are_refused(settings):
    with pytest.raises(InvalidInputError):
        NuScenesPolicy(**{"n_classes": 2, **settings})


# -- any frames -------------------------------------------------------------------------------------------------------

SCENES = st.builds(
    lambda frames, seed, awkward: driving_scene(frames, 20, seed=seed, awkward=awkward),
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)


def state_of(detections, truths):
    return NuScenesState.of(detections, truths, NUSCENES)


@given(SCENES, st.data())
@settings(max_examples=40, deadline=None)
def test_adding_frames_is_merging_states(scene, data):
    detections, truths = batches(scene)
    cuts = sorted(data.draw(st.lists(st.integers(0, detections.frames), max_size=20)))
    edges = [0, *cuts, detections.frames]
    parts = [state_of(frames_of(detections, a, b), frames_of(truths, a, b)) for a, b in itertools.pairwise(edges)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert_same(nuscenes_metrics(merged), nuscenes_metrics(state_of(detections, truths)))
    assert (merged.frames, merged.detections) == (detections.frames, len(detections))


@given(st.integers(2, 10), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_order_of_frames_and_boxes_does_not_matter_without_ties(frames, seed):
    scene = driving_scene(frames, 20, seed=seed)
    g = np.random.default_rng(seed)
    scene["detection_scores"] = g.permutation(len(scene["detection_scores"])).astype(np.float32)
    detections, truths = batches(scene)
    shuffled = [batch.take(g.permutation(len(batch))) for batch in (detections, truths)]
    order = g.permutation(frames)
    moved = [in_order(batch, order) for batch in shuffled]
    assert_same(nuscenes_metrics(state_of(*moved)), nuscenes_metrics(state_of(detections, truths)))


@pytest.mark.platform
@given(SCENES)
@settings(max_examples=40, deadline=None)
def test_both_engines_give_the_same_bits(scene):
    detections, truths = batches(scene)
    fast = nuscenes_metrics(state_of(detections, truths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_COMPILED", None)
        assert_same(fast, nuscenes_metrics(state_of(detections, truths)))


@given(SCENES)
@settings(max_examples=20, deadline=None)
def test_matches_grow_with_the_distance(scene):
    for own in state_of(*batches(scene)).classes:
        lengths = [len(hits) for hits in own.hits]
        assert lengths[-1] <= own.truths
        assert lengths == sorted(lengths)
