"""Two detectors on the same frames: fractions of sums, and intervals that draw whole frames."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import FRAME_METRICS, FrameSums, compare_frames, mcnemar, mcnemar_frames


def sums(*, predictions, hits, objects, missed=None, ate=None, proba=None) -> FrameSums:
    predictions, hits, objects = (np.array(one, float) for one in (predictions, hits, objects))
    nothing = np.zeros(len(hits))
    return FrameSums(
        predictions=predictions,
        hits=hits,
        missed=objects - hits if missed is None else np.array(missed, float),
        objects=objects,
        ate=nothing if ate is None else np.array(ate, float),
        scored=nothing if proba is None else predictions,
        error_proba=nothing if proba is None else np.array(proba, float),
    )


def by_name(found):
    return {item.metric: item for item in found}


def random_sums(seed: int, frames: int, chance: float) -> FrameSums:
    rng = np.random.default_rng(seed)
    objects = np.random.default_rng(1).poisson(8, frames)
    hits = rng.binomial(objects, chance)
    return sums(
        predictions=hits + rng.poisson(1, frames), hits=hits, objects=objects, ate=hits * 0.3, proba=rng.random(frames)
    )


def test_metrics_are_fractions_of_sums_over_all_frames():
    # 7 predictions, 4 of them right, on 8 objects of which 3 are missed and one is misplaced
    before = sums(predictions=[4, 3], hits=[2, 2], objects=[5, 3], missed=[2, 1], ate=[0.5, 1.5], proba=[1.0, 0.4])
    found = by_name(compare_frames(before, before))
    assert {name: item.before for name, item in found.items()} == pytest.approx(
        {
            "accuracy": 4 / 10, "precision": 4 / 7, "recall": 4 / 8, "f1": 8 / 15, "ate": 2.0 / 4,
            "mean_error_proba": 1.4 / 7,
        }
    )  # fmt: skip
    assert list(found) == list(FRAME_METRICS)


def test_the_difference_is_after_minus_before():
    before = sums(predictions=[4, 4], hits=[2, 2], objects=[4, 4])
    after = sums(predictions=[4, 4], hits=[3, 4], objects=[4, 4])
    recall = by_name(compare_frames(before, after))["recall"]
    assert (recall.before, recall.after, recall.delta) == (0.5, 0.875, 0.375)


def test_few_frames_have_no_interval():
    found = compare_frames(random_sums(2, 29, 0.5), random_sums(3, 29, 0.8))
    assert all(item.low is item.high is item.p_value is None for item in found)


def test_the_interval_is_that_of_a_plain_bootstrap_over_frames():
    before, after = random_sums(2, 60, 0.6), random_sums(3, 60, 0.7)
    recall = by_name(compare_frames(before, after, n_boot=4000, seed=5))["recall"]
    rng, deltas = np.random.default_rng(17), []
    for _ in range(4000):
        rows = rng.integers(0, 60, 60)
        total = before.objects[rows].sum()
        deltas.append((after.hits[rows].sum() - before.hits[rows].sum()) / total)
    low, high = np.quantile(deltas, [0.025, 0.975])
    # both are Monte Carlo: the standard error of such a quantile is about 0.0012 here
    assert (recall.low, recall.high) == pytest.approx((low, high), abs=0.006)
    assert recall.p_value == pytest.approx(2 / 4001)


def test_boxes_that_err_together_widen_the_interval():
    """The same hits and objects, once spread evenly over the frames, once lost frame by frame."""
    objects = np.full(100, 10)
    rng = np.random.default_rng(0)
    even, lumped = rng.binomial(10, 0.5, 100), 10 * rng.binomial(1, 0.5, 100)
    perfect = sums(predictions=objects, hits=objects, objects=objects)
    widths = []
    for hits in (even, lumped):
        before = sums(predictions=objects, hits=hits, objects=objects)
        recall = by_name(compare_frames(before, perfect))["recall"]
        widths.append(recall.high - recall.low)
    assert widths[1] > 2.5 * widths[0]  # in theory √10 = 3.2 times


def test_a_metric_without_anything_to_divide_by_is_undefined():
    empty = sums(predictions=[0, 0], hits=[0, 0], objects=[0, 3])
    found = by_name(compare_frames(empty, empty))
    assert found["precision"].before is None
    assert found["precision"].delta is None
    assert found["recall"].before == 0.0


def test_equal_seeds_give_equal_intervals():
    pair = random_sums(2, 40, 0.6), random_sums(3, 40, 0.7)
    assert compare_frames(*pair, seed=3) == compare_frames(*pair, seed=3)


@pytest.mark.parametrize(
    ("options", "said"), [({"n_boot": 10}, "n_boot"), ({"seed": -1}, "seed"), ({"level": 0.2}, "level")]
)
def test_numbers_out_of_range_are_refused(options, said):
    with pytest.raises(InvalidInputError, match=said):
        compare_frames(random_sums(2, 40, 0.6), random_sums(3, 40, 0.7), **options)


def test_other_frames_are_refused():
    with pytest.raises(InvalidInputError, match="40 and 41 frames"):
        compare_frames(random_sums(2, 40, 0.6), random_sums(3, 41, 0.7))


def test_no_frame_is_refused():
    nothing = FrameSums(**{one.name: np.zeros(0) for one in fields(FrameSums)})
    with pytest.raises(InvalidInputError, match="no unit"):
        compare_frames(nothing, nothing)


@given(st.lists(st.integers(-4, 4), max_size=10))
def test_the_test_of_frames_counts_all_signs(differences):
    """Every way to swap the two detectors in some frames, by brute force."""
    d = np.array(differences, dtype=np.int64)
    found = mcnemar_frames(np.maximum(d, 0), np.maximum(-d, 0))
    swaps = [abs(int(np.dot(signs, d))) for signs in itertools.product((-1, 1), repeat=len(d))]
    assert found.p_value == pytest.approx(np.mean([one >= abs(int(d.sum())) for one in swaps]))


@pytest.mark.parametrize(("fixed", "broken"), [(8, 1), (3, 3), (0, 0), (1, 9), (12, 12)])
def test_one_object_per_frame_is_the_exact_test_of_mcnemar(fixed, broken):
    gained = np.array([1] * fixed + [0] * broken + [0, 2])
    lost = np.array([0] * fixed + [1] * broken + [0, 2])  # what a frame gains and loses alike says nothing
    found, expected = mcnemar_frames(gained, lost), mcnemar(fixed, broken)
    assert found.p_value == pytest.approx(expected.p_value)
    assert (found.fixed, found.broken) == (fixed + 2, broken + 2)


def test_objects_that_are_found_frame_by_frame_count_as_one():
    """30 objects in 3 frames: no evidence, where the plain test sees 30 independent ones."""
    gained = np.array([10, 10, 10])
    assert mcnemar_frames(gained, np.zeros(3, int)).p_value == pytest.approx(2 / 8)
    assert mcnemar(30, 0).p_value < 1e-6


def test_very_many_frames_take_the_limit():
    rng = np.random.default_rng(0)
    gained, lost = rng.poisson(1.0, 20_000), rng.poisson(0.98, 20_000)
    found = mcnemar_frames(gained, lost)
    d = gained - lost
    assert found.method == "mcnemar by frames chi2"
    assert found.p_value == pytest.approx(chi2.sf(d.sum() ** 2 / (d**2).sum(), 1))


@pytest.mark.parametrize("wrong", [([1, 2], [1]), ([-1], [0])])
def test_counts_that_are_none_are_refused(wrong):
    with pytest.raises(InvalidInputError, match="none negative"):
        mcnemar_frames(*map(np.array, wrong))
