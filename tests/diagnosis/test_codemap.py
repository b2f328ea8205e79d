"""The map of codes: PCA of the centroids, the same for the life of a lineage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from mld_pipelines.diagnosis import Codebook, CodebookIdentity, Policy, fit_code_map, fit_codebook, grow, refit_warm


def units(n: int, *, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(4, 8)) * 3
    label = rng.integers(0, 4, n)
    p = np.full((n, 4), 0.05) + 0.8 * np.eye(4)[label]
    return (centres[label] + rng.normal(size=(n, 8)) + shift).astype(np.float32), p


@pytest.fixture(scope="module")
def book() -> Codebook:
    identity = CodebookIdentity(
        model_name="net", fingerprint="f", feature_layer="fc", feature_dim=8, output_kind="logits", n_classes=4
    )
    fit = fit_codebook(*units(600, seed=0), identity=identity, policy=Policy())
    assert fit is not None
    return fit.codebook


def test_places_are_those_of_scikit_learn_up_to_the_sign_of_an_axis() -> None:
    centroids = np.random.default_rng(3).normal(size=(40, 9)) * np.arange(1, 10)
    mine, theirs = fit_code_map(centroids), PCA(2).fit(centroids)
    places, expected = mine.positions(centroids), theirs.transform(centroids)
    signs = np.sign((places * expected).sum(axis=0))
    np.testing.assert_allclose(places * signs, expected, atol=1e-9)
    np.testing.assert_allclose(mine.shares, theirs.explained_variance_ratio_, atol=1e-12)


def test_the_sign_of_an_axis_is_fixed_by_its_largest_entry() -> None:
    centroids = np.random.default_rng(3).normal(size=(40, 9)) * np.arange(1, 10)
    one, mirrored = fit_code_map(centroids), fit_code_map(-centroids)
    for axes in (one.axes, mirrored.axes):
        assert (axes[np.abs(axes).argmax(axis=0), [0, 1]] > 0).all()
    np.testing.assert_allclose(one.axes, mirrored.axes, atol=1e-9)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_dimensions_than_two_leave_an_axis_empty(count: int) -> None:
    centroids = np.arange(count * 3, dtype=float).reshape(count, 3)
    places = fit_code_map(centroids).positions(centroids)
    assert places.shape == (count, 2)
    np.testing.assert_allclose(places[:, count - 1 :], 0.0, atol=1e-9)


def test_the_map_is_stored_with_the_codebook(book: Codebook) -> None:
    again = Codebook.from_bytes(book.to_bytes())
    assert again.code_map is not None
    np.testing.assert_array_equal(again.code_map.axes, book.code_map.axes)
    assert again.codebook_id == book.codebook_id


def test_an_artifact_older_than_maps_keeps_its_id_and_gets_the_map_of_its_centroids(book: Codebook) -> None:
    old = replace(book, code_map=None)
    again = Codebook.from_bytes(old.to_bytes())
    assert again.code_map is None
    assert again.codebook_id == old.codebook_id
    np.testing.assert_array_equal(again.map_of_codes().axes, book.code_map.axes)


def test_growth_keeps_the_axes(book: Codebook) -> None:
    larger = grow(book, *units(3000, seed=1), policy=Policy()).codebook
    assert larger.n_codes > book.n_codes
    np.testing.assert_array_equal(larger.code_map.axes, book.code_map.axes)
    np.testing.assert_array_equal(larger.code_map.centre, book.code_map.centre)


def test_a_refit_keeps_the_axes_so_that_codes_do_not_jump(book: Codebook) -> None:
    again = refit_warm(book, *units(600, seed=1, shift=0.3), policy=Policy()).codebook
    np.testing.assert_array_equal(again.code_map.axes, book.code_map.axes)
    np.testing.assert_array_equal(again.code_map.centre, book.code_map.centre)
    before = dict(zip(book.names, book.map_of_codes().positions(book.centroids), strict=True))
    after = dict(zip(again.names, again.map_of_codes().positions(again.centroids), strict=True))
    kept = sorted(before.keys() & after.keys())
    assert kept, "no name survived: this test shows nothing"
    spread = np.ptp(list(before.values()), axis=0).max()
    moved = max(np.linalg.norm(before[name] - after[name]) for name in kept)
    assert moved < 0.35 * spread
