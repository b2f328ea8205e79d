"""Risk scores against direct implementations with SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist, mahalanobis
from scipy.special import logit, logsumexp, softmax
from scipy.stats import entropy
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from mld_pipelines.diagnosis import (
    SCORE_NAMES,
    CodeRates,
    Head,
    ReferenceUnits,
    RiskScorer,
    fit_projection,
    hash_keys,
    select_bank,
)
from mld_pipelines.diagnosis._products import FixedProduct
from mld_pipelines.diagnosis._scores import softmax_scores
from mld_pipelines.exceptions import InvalidInputError
from tests.support.estimation import World, subset

WORLD = World()
TRAIN = WORLD.units(400, "train", seed=1)
TEST = WORLD.units(300, "test", seed=2)


def fitted(units: ReferenceUnits = TRAIN, head: Head | None = WORLD.head) -> RiskScorer:
    return RiskScorer.fit(select_bank(units), head=head, projection=fit_projection(units.features))


def score(scorer: RiskScorer, units: ReferenceUnits, rows: slice = slice(None), *, own: bool = False) -> np.ndarray:
    hashes = hash_keys(units.keys)[rows] if own else None
    return scorer.score(logits=units.logits[rows], features=units.features[rows], hashes=hashes)


def column(scores: np.ndarray, name: str) -> np.ndarray:
    return scores[:, SCORE_NAMES.index(name)]


def unit_rows(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def naive_neighbour_scores(bank: ReferenceUnits, queries: ReferenceUnits, row: int, own: str | None = None):
    keep = [position for position, key in enumerate(bank.keys) if key != own]
    distances = cdist(unit_rows(queries.features[row : row + 1]), unit_rows(bank.features)[keep])[0]
    labels = np.asarray(bank.labels)[keep]
    order = np.argsort(distances)[: min(50, len(bank) - 1)]
    distances, labels = distances[order], labels[order]
    same = labels == queries.logits[row].argmax()
    cap = 2 * distances[-1]
    nearest_same = min(distances[same].min(initial=np.inf), cap)
    nearest_other = min(distances[~same].min(initial=np.inf), cap)
    k = min(10, len(distances))
    return (
        np.log(distances[k - 1] + 1e-4),
        np.mean(~same[:k]),
        np.log(nearest_same + 1e-4) - np.log(nearest_other + 1e-4),
    )


def test_ten_scores_in_the_documented_order():
    assert SCORE_NAMES == ("lmsp", "entropy", "dbmin", "knn", "dis", "trust", "mahamargin", "rmd", "res", "code")


def test_lmsp_is_the_log_odds_of_not_the_top_class():
    z = TEST.logits.astype(np.float64)
    top = softmax(z, axis=1).max(axis=1)
    moderate = top < 1 - 1e-6  # the direct formula rounds beyond
    assert_allclose(column(score(fitted(), TEST), "lmsp")[moderate], -logit(top[moderate]), rtol=1e-6)


def test_lmsp_keeps_its_digits_where_the_softmax_rounds_to_one():
    z = np.array([[900.0, 0.0, -5.0], [60.0, 0.0, 0.0]])
    expected = [logsumexp([0.0, -5.0]) - 900.0, np.log(2.0) - 60.0]
    assert_allclose(softmax_scores(z)[0], expected, rtol=1e-14)


def test_entropy_equals_scipy():
    z = TEST.logits.astype(np.float64)
    assert_allclose(column(score(fitted(), TEST), "entropy"), entropy(softmax(z, axis=1), axis=1), atol=1e-12)


def test_entropy_of_a_uniform_output_is_ln_k():
    assert_allclose(softmax_scores(np.zeros((1, 10)))[1], [np.log(10.0)], rtol=1e-15)


def test_dbmin_is_the_distance_to_the_nearest_boundary():
    """Moving the feature that far, straight to the boundary, makes the two logits equal."""
    weight, bias = WORLD.head.weight, WORLD.head.bias
    distances = -column(score(fitted(), TEST), "dbmin")
    h = TEST.features.astype(np.float64)
    for row in range(40):
        top = TEST.logits[row].argmax()
        gaps = []
        for other in range(len(weight)):
            if other != top:
                normal = (weight[other] - weight[top]) / np.linalg.norm(weight[other] - weight[top])
                reached = h[row] + distances[row] * normal
                gaps.append(reached @ (weight[top] - weight[other]) + bias[top] - bias[other])
        assert_allclose(min(gaps), 0.0, atol=1e-4)  # float32 logits


def test_neighbour_scores_equal_a_full_distance_matrix():
    scores = score(fitted(), TEST)
    for row in range(0, 300, 7):
        expected = naive_neighbour_scores(TRAIN, TEST, row)
        got = [column(scores, name)[row] for name in ("knn", "dis", "trust")]
        assert_allclose(got, expected, rtol=1e-5, atol=1e-6)  # the bank is stored in float32


def test_a_unit_of_the_bank_is_not_its_own_neighbour():
    scores = score(fitted(), TRAIN, own=True)
    for row in range(0, 400, 11):
        expected = naive_neighbour_scores(TRAIN, TRAIN, row, own=TRAIN.keys[row])
        got = [column(scores, name)[row] for name in ("knn", "dis", "trust")]
        assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_without_its_key_a_unit_of_the_bank_finds_itself():
    trust = column(score(fitted(), TRAIN), "trust")
    right = ~TRAIN.errors
    assert trust[right].max() < np.log(1e-4 + 1e-6) - np.log(1e-3)


def test_a_large_bank_is_searched_exactly():
    """From about a thousand rows on, the search bounds the 50th distance by group minima first."""
    bank = WORLD.units(1500, "train", seed=11)
    scores = score(fitted(bank), TEST)
    for row in range(0, 300, 29):
        got = [column(scores, name)[row] for name in ("knn", "dis", "trust")]
        assert_allclose(got, naive_neighbour_scores(bank, TEST, row), rtol=1e-5, atol=1e-6)
    own = score(fitted(bank), bank, own=True)
    for row in (0, 700, 1499):
        got = [column(own, name)[row] for name in ("knn", "dis", "trust")]
        assert_allclose(got, naive_neighbour_scores(bank, bank, row, own=bank.keys[row]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 8, 30])
def test_a_small_bank_uses_all_but_one_neighbour(size):
    bank = subset(TRAIN, slice(size))
    scores = score(fitted(bank, head=None), TEST)
    expected = naive_neighbour_scores(bank, TEST, 0)
    got = [column(scores, name)[0] for name in ("knn", "dis", "trust")]
    assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def shrunk_inverse(centred: np.ndarray) -> np.ndarray:
    s = np.cov(centred.T)
    d = len(s)
    return np.linalg.inv(0.9 * s + 0.1 * np.trace(s) / d * np.eye(d))


def test_mahalanobis_scores_equal_scipy():
    h, y = TRAIN.features.astype(np.float64), np.asarray(TRAIN.labels)
    means = np.stack([h[y == label].mean(axis=0) for label in range(5)])
    shared, overall = shrunk_inverse(h - means[y]), shrunk_inverse(h - h.mean(axis=0))
    scores = score(fitted(), TEST)
    for row in range(0, 300, 13):
        x = TEST.features[row].astype(np.float64)
        squared = np.array([mahalanobis(x, mean, shared) ** 2 for mean in means])
        top = TEST.logits[row].argmax()
        margin = squared[top] - np.delete(squared, top).min()
        relative = squared.min() - mahalanobis(x, h.mean(axis=0), overall) ** 2
        assert_allclose(column(scores, "mahamargin")[row], margin, rtol=1e-6)
        assert_allclose(column(scores, "rmd")[row], relative, rtol=1e-6, atol=1e-6)


def test_a_class_absent_from_the_bank_is_as_far_as_the_farthest():
    bank = subset(TRAIN, np.asarray(TRAIN.labels) != 4)
    scores = score(fitted(bank), TEST)
    h, y = bank.features.astype(np.float64), np.asarray(bank.labels)
    means = np.stack([h[y == label].mean(axis=0) for label in range(4)])
    inverse = shrunk_inverse(h - means[y])
    row = int(np.flatnonzero(TEST.logits.argmax(axis=1) == 4)[0])
    squared = [mahalanobis(TEST.features[row].astype(np.float64), mean, inverse) ** 2 for mean in means]
    assert_allclose(column(scores, "mahamargin")[row], max(squared) - min(squared), rtol=1e-6)
    assert_allclose(column(scores, "trust")[row], np.log(2.0) + _log_ratio_of_far_to_near(bank, row), rtol=1e-4)


def _log_ratio_of_far_to_near(bank: ReferenceUnits, row: int) -> float:
    """`ln d₅₀ − ln d₁`: the absent class is capped at 2·d₅₀, every neighbour is of another class."""
    distances = np.sort(cdist(unit_rows(TEST.features[row : row + 1]), unit_rows(bank.features))[0])
    return float(np.log(distances[49] + 0.5e-4) - np.log(distances[0] + 1e-4))


def test_residual_equals_the_reconstruction_error_of_a_pca():
    """d = 16, K = 5: min(8, max(5, 12)) = 8 directions."""
    h = TRAIN.features.astype(np.float64)
    axes = PCA(8, svd_solver="full").fit(h).components_
    offset = np.linalg.lstsq(WORLD.head.weight, WORLD.head.bias, rcond=None)[0]
    shifted = TEST.features.astype(np.float64) + offset
    expected = np.linalg.norm(shifted - shifted @ axes.T @ axes, axis=1)
    assert_allclose(column(score(fitted(), TEST), "res"), expected, rtol=1e-7)


def test_the_least_squares_head_recovers_the_last_layer():
    head = Head.from_units(TRAIN)
    assert head is not None
    assert_allclose(head.weight, WORLD.head.weight, atol=1e-5)
    assert_allclose(head.bias, WORLD.head.bias, atol=1e-4)


def test_code_score_is_the_smoothed_rate_without_the_unit_itself():
    codes = np.array([0, 0, 0, 1, 1, -1])
    errors = np.array([True, False, False, False, False, True])
    rates = CodeRates.fit(codes, errors, n_codes=2)
    r0 = 2 / 6
    in_use = [(1 + 4 * r0) / (3 + 4), (0 + 4 * r0) / (2 + 4), r0]
    assert_allclose(rates.scores(np.array([0, 1, -1])), logit(in_use), rtol=1e-12)
    left_out = [(0 + 4 * r0) / (2 + 4), (1 + 4 * r0) / (2 + 4), (0 + 4 * r0) / (1 + 4), r0]
    assert_allclose(rates.scores(codes, own_errors=errors)[[0, 1, 3, 5]], logit(left_out), rtol=1e-12)


def test_code_score_is_finite_without_any_error():
    rates = CodeRates.fit(np.zeros(5, dtype=np.int64), np.zeros(5, dtype=bool), n_codes=1)
    assert np.isfinite(rates.scores(np.array([0, -1]))).all()


def test_a_row_of_a_product_does_not_depend_on_its_position():
    """A plain product of these shapes does (OpenBLAS, SkylakeX kernels)."""
    rng = np.random.default_rng(0)
    product = FixedProduct.of(rng.normal(size=(16, 500)))
    block, row = rng.normal(size=(256, 16)), rng.normal(size=16)
    results = []
    positions = [*range(0, 256, 9), *range(246, 256)]
    for position in positions:
        moved = block.copy()
        moved[position] = row
        results.append(product.after(moved)[position].copy())
    np.testing.assert_array_equal(np.array(results), np.tile(results[0], (len(positions), 1)))


def test_scores_have_the_precision_of_their_column():
    scores = score(SCORER, TEST)
    np.testing.assert_array_equal(scores, scores.astype(np.float32).astype(np.float64))


SCORER = fitted()
WIDE = World(n_classes=4, width=300, spread=4.0, seed=3)


@pytest.mark.parametrize("world", [WORLD, WIDE], ids=["narrow", "projected"])
def test_scores_do_not_depend_on_the_batch(world):
    """Bitwise, for any split, on one thread and on two."""
    units = world.units(700, "batch", seed=5)
    scorer = fitted(world.units(500, "train", seed=6), head=world.head)
    whole = score(scorer, units)
    for start, stop in [(0, 1), (255, 257), (699, 700), (13, 600), (256, 512)]:
        np.testing.assert_array_equal(score(scorer, units, slice(start, stop)), whole[start:stop])
    with threadpool_limits(limits=1):
        np.testing.assert_array_equal(score(scorer, units, slice(100, 200)), whole[100:200])


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 299), max_size=5, unique=True))
def test_any_partition_into_batches_gives_the_same_scores(cuts):
    scorer = SCORER
    parts = np.split(np.arange(300), sorted(cuts))
    joined = np.concatenate([score(scorer, TEST, slice(part[0], part[-1] + 1)) for part in parts])
    np.testing.assert_array_equal(joined, score(scorer, TEST))


def test_wide_features_are_projected_for_distances_but_not_for_the_residual():
    bank, queries = WIDE.units(500, "train", seed=6), WIDE.units(20, "test", seed=7)
    scores = score(fitted(bank, head=WIDE.head), queries)
    pca = PCA(256, svd_solver="full").fit(bank.features.astype(np.float64))
    near = cdist(
        unit_rows(pca.transform(queries.features.astype(np.float64))),
        unit_rows(pca.transform(bank.features.astype(np.float64))),
    )
    assert_allclose(column(scores, "knn"), np.log(np.sort(near, axis=1)[:, 9] + 1e-4), rtol=1e-4)
    axes = PCA(12, svd_solver="full").fit(bank.features.astype(np.float64)).components_
    offset = np.linalg.lstsq(WIDE.head.weight, WIDE.head.bias, rcond=None)[0]
    shifted = queries.features.astype(np.float64) + offset
    assert_allclose(column(scores, "res"), np.linalg.norm(shifted - shifted @ axes.T @ axes, axis=1), rtol=1e-6)


def test_probabilities_alone_give_the_logarithm_as_logits():
    p = np.array([[0.7, 0.3, 0.0]], dtype=np.float32)
    units = ReferenceUnits(labels=np.zeros(1, dtype=np.int64), keys=["a"], probabilities=p)
    assert_allclose(units.scores, np.log([[0.7, 0.3, 1e-12]]), rtol=1e-6)


def test_without_features_only_the_output_scores_exist():
    units = WORLD.units(50, "train", seed=1, features=False)
    scorer = RiskScorer.fit(select_bank(units), head=None, projection=None)
    available = np.isfinite(scorer.score(logits=units.logits)).all(axis=0)
    assert [name for name, there in zip(SCORE_NAMES, available, strict=True) if there] == ["lmsp", "entropy"]


def test_one_labelled_class_leaves_the_gaussian_scores_out():
    scores = score(fitted(subset(TRAIN, np.asarray(TRAIN.labels) == 0)), TEST)
    assert np.isnan(column(scores, "mahamargin")).all()
    assert np.isfinite(column(scores, "knn")).all()


def test_more_features_than_units_stay_finite():
    bank = WIDE.units(60, "train", seed=8)
    scores = score(fitted(bank, head=WIDE.head), WIDE.units(10, "test", seed=9))
    assert np.isfinite(np.delete(scores, SCORE_NAMES.index("code"), axis=1)).all()


def test_constant_features_stay_finite():
    features = np.ones((80, 6), dtype=np.float32)
    labels = np.arange(80) % 2
    logits = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    units = ReferenceUnits(labels=labels, keys=[str(row) for row in range(80)], logits=logits, features=features)
    scores = score(fitted(units, head=None), units, own=True)
    assert np.isfinite(np.delete(scores, [SCORE_NAMES.index("dbmin"), SCORE_NAMES.index("code"), 8], axis=1)).all()


def test_values_at_the_edge_of_float32_give_finite_scores():
    extreme = np.float32(3e38) * np.array([[1, -1, 0, 0.5, 0]], dtype=np.float32)
    features = np.full((1, 16), 3e38, dtype=np.float32)
    scores = SCORER.score(logits=extreme, features=features)
    assert np.isfinite(np.delete(scores, SCORE_NAMES.index("code"))).all()


def test_the_bank_does_not_depend_on_the_order_of_the_rows():
    shuffled = TRAIN.take(np.random.default_rng(0).permutation(len(TRAIN)))
    first, second = select_bank(TRAIN, limit=100), select_bank(shuffled, limit=100)
    assert list(first.units.keys) == list(second.units.keys)
    np.testing.assert_array_equal(first.units.features, second.units.features)


def test_another_seed_draws_another_bank():
    assert set(select_bank(TRAIN, limit=100).units.keys) != set(select_bank(TRAIN, limit=100, seed=1).units.keys)


def test_key_hashes_are_blake2b():
    import hashlib

    digest = hashlib.blake2b(b"val/7", digest_size=8, salt=bytes(8)).digest()
    assert hash_keys(["val/7"]).tolist() == [int.from_bytes(digest, "little", signed=True)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": TEST.logits[:, :3]}, "5 classes"),
        ({"features": TEST.features[:, :3]}, r"features of shape \(300, 16\)"),
        ({"features": None}, "none were given"),
        ({"features": TEST.features[:10]}, r"features of shape \(300, 16\)"),
        ({"logits": None}, "neither logits"),
    ],
)
def test_a_wrong_shape_is_a_clear_error(changes, message):
    given = {"logits": TEST.logits, "features": TEST.features, **changes}
    with pytest.raises(InvalidInputError, match=message):
        fitted().score(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 5])}, "labels run from 0 to 5"),
        ({"labels": np.array([0])}, "labels have shape"),
        ({"keys": ["a"]}, "keys have shape"),
        ({"logits": np.full((2, 3), np.nan, dtype=np.float32)}, "NaN"),
        ({"features": np.full((2, 3), np.inf, dtype=np.float32)}, "NaN or infinity"),
        ({"features": np.zeros((3, 3), dtype=np.float32)}, "features have shape"),
        ({"logits": None}, "need logits or probabilities"),
        ({"logits": np.zeros((2, 1), dtype=np.float32)}, "at least 2 classes"),
    ],
)
def test_bad_reference_units_are_refused(changes, message):
    good = {"labels": np.array([0, 1]), "keys": ["a", "b"], "logits": np.zeros((2, 3), dtype=np.float32)}
    with pytest.raises(InvalidInputError, match=message):
        ReferenceUnits(**{**good, **changes})


def test_a_head_of_other_classes_is_refused_without_features_too():
    bare = select_bank(WORLD.units(50, "train", seed=1, features=False))
    with pytest.raises(InvalidInputError, match="last layer"):
        RiskScorer.fit(bare, head=Head(weight=np.zeros((4, 16)), bias=np.zeros(4)), projection=None)


def test_a_head_of_another_width_is_refused():
    with pytest.raises(InvalidInputError, match="last layer"):
        fitted(head=Head(weight=np.zeros((5, 3)), bias=np.zeros(5)))
