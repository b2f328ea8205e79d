"""The nearest-neighbour search against a float64 search over all pairs, on banks that are hard for float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mld_pipelines.diagnosis._neighbours import MOST_EQUAL, NeighbourIndex, _candidates, _distinct_rows, unit_length


def index_of(vectors: np.ndarray, labels: np.ndarray) -> NeighbourIndex:
    return NeighbourIndex(
        vectors=vectors.astype(np.float32), labels=labels.astype(np.int64), hashes=np.arange(len(labels))
    )


def all_pairs(index: NeighbourIndex, queries: np.ndarray, predictions: np.ndarray, own_rows: np.ndarray) -> np.ndarray:
    """`knn`, `dis`, `trust` row by row from every difference vector; equally near rows in the order of the bank."""
    found = []
    for query, predicted, own in zip(queries, predictions, own_rows, strict=True):
        distances = np.sqrt(((query - index.vectors.astype(np.float64)) ** 2).sum(axis=1))
        order = np.argsort(distances, kind="stable")
        order = order[order != own][: min(50, len(distances) - 1)]
        distances, same = distances[order], index.labels[order] == predicted
        cap = 2 * distances[-1]
        nearest = [min(distances[kind].min(initial=np.inf), cap) + 1e-4 for kind in (same, ~same)]
        tenth = min(10, len(order))
        found.append(
            (np.log(distances[tenth - 1] + 1e-4), np.mean(~same[:tenth]), np.log(nearest[0]) - np.log(nearest[1]))
        )
    return np.array(found).T


def bank(kind: str, rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    """Unit vectors that float32 can hardly tell apart, or not at all."""
    spread = {"plain": 1.0, "one direction": 1e-3, "rounding noise": 1e-7, "tiny": 1e-25}.get(kind, 1.0)
    around = np.zeros(width) if kind == "plain" else rng.normal(size=width)
    vectors = around + spread * rng.normal(size=(rows, width))
    if kind == "few places":
        vectors = rng.normal(size=(4, width))[rng.integers(0, 4, rows)]
    if kind == "collapsed classes":
        vectors = rng.normal(size=(4, width))[rng.integers(0, 4, rows)] + 1e-5 * rng.normal(size=(rows, width))
    if kind == "dead units":
        vectors = np.maximum(vectors, 0.0) * (rng.random((rows, 1)) < 0.5)
    if kind == "constant":
        vectors = np.ones((rows, width))
    return unit_length(vectors)


KINDS = (
    "plain",
    "one direction",
    "rounding noise",
    "tiny",
    "few places",
    "collapsed classes",
    "dead units",
    "constant",
)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([*KINDS, "constant"]),
    rows=st.sampled_from([2, 3, 11, 49, 51, 52, 300, 1100]),
    width=st.sampled_from([1, 2, 7, 33]),
    seed=st.integers(0, 10_000),
)
def test_every_score_equals_that_of_a_search_over_all_pairs(kind, rows, width, seed):
    rng = np.random.default_rng(seed)
    index = index_of(bank(kind, rng, rows, width), rng.integers(0, 3, rows))
    chosen = rng.integers(0, rows, 12)
    own_rows = np.where(np.arange(12) < 6, chosen, -1)
    queries = index.vectors[chosen].astype(np.float64)
    queries[9:] = bank("plain", rng, 3, width)
    predictions = rng.integers(0, 4, 12)
    got = np.array(index.scores(queries, predictions, own_rows=own_rows))
    assert_allclose(got, all_pairs(index, queries, predictions, own_rows), rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), rows=st.sampled_from([60, 1500]), seed=st.integers(0, 1000))
def test_a_score_is_the_same_to_the_bit_in_any_batch(kind, rows, seed):
    """The float32 product takes another kernel for one row than for many; the scores must not show it."""
    rng = np.random.default_rng(seed)
    index = index_of(bank(kind, rng, rows, 24), rng.integers(0, 3, rows))
    queries = np.concatenate([bank(kind, rng, 150, 24), index.vectors[:40].astype(np.float64)])
    predictions, own_rows = rng.integers(0, 3, 190), np.r_[np.full(150, -1), np.arange(40)]
    whole = np.array(index.scores(queries, predictions, own_rows=own_rows))
    for part in (slice(0, 1), slice(127, 129), slice(3, 170), slice(189, 190)):
        alone = index.scores(queries[part], predictions[part], own_rows=own_rows[part])
        assert_array_equal(np.array(alone), whole[:, part])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    width=st.sampled_from([64, 960, 1024, 1088, 2048]),
    count=st.integers(1, 50),
    levels=st.sampled_from([2, 30, 10**9]),
    slack=st.sampled_from([0.0, 0.2]),
)
def test_candidates_hold_all_that_are_within_the_slack(seed, width, count, levels, slack):
    """Also with many ties (few levels) and infinite entries."""
    rng = np.random.default_rng(seed)
    screened = (rng.integers(0, levels, (3, width)) / np.float32(levels)).astype(np.float32)
    screened[:, width - 10 :] = np.inf
    rows, columns = _candidates(screened, count, np.full(3, slack))
    for row in range(3):
        bound = np.sort(screened[row])[count - 1].astype(np.float64) + slack
        needed = np.flatnonzero(screened[row] <= bound)
        assert set(needed) <= set(columns[rows == row])
        assert (np.diff(columns[rows == row]) > 0).all()


def test_few_rows_are_refined_where_distances_differ():
    screened = np.random.default_rng(0).random((64, 9984)).astype(np.float32)
    rows, _ = _candidates(screened, 50, np.full(64, 1e-6))
    assert len(rows) / 64 < 60


def test_equal_rows_beyond_the_number_a_search_can_need_are_left_out():
    vectors = np.repeat(np.eye(3, dtype=np.float32), [200, 3, 60], axis=0)
    kept = _distinct_rows(vectors)
    assert kept.tolist() == [*range(MOST_EQUAL), 200, 201, 202, *range(203, 203 + MOST_EQUAL)]


@pytest.mark.parametrize("own", [0, 70])
def test_among_equal_rows_the_first_of_the_bank_decide(own):
    """100 equal rows of which the first 50 other than the unit itself count: their labels are all 1."""
    labels = np.where(np.arange(100) < 51, 1, 2)
    index = index_of(np.ones((100, 4)) / 2.0, labels)
    query = np.full((1, 4), 0.5)
    _, disagreement, trust = index.scores(query, np.array([1]), own_rows=np.array([own]))
    assert disagreement.tolist() == [0.0]
    assert trust.tolist() == [0.0]
