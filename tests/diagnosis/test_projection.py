"""Wide features are projected on the principal axes of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from mld_pipelines.diagnosis import Projection, fit_projection
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError


@pytest.fixture
def wide() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(500, 40)) * np.linspace(3, 0.1, 40) @ rng.normal(size=(40, 40)) + 5).astype(np.float32)


def test_narrow_feature_passes_unchanged(wide: np.ndarray) -> None:
    projection = fit_projection(wide, limit=40)
    assert projection.is_identity
    assert projection.width == 40
    np.testing.assert_array_equal(projection.project(wide), wide.astype(np.float64))
    np.testing.assert_array_equal(projection.embed(wide), wide.astype(np.float64))


def test_wide_feature_equals_scikit_learn_pca_up_to_sign(wide: np.ndarray) -> None:
    projection = fit_projection(wide, limit=12)
    expected = PCA(12, svd_solver="full").fit(wide.astype(np.float64)).transform(wide.astype(np.float64))
    np.testing.assert_allclose(np.abs(projection.project(wide)), np.abs(expected), rtol=1e-6, atol=1e-8)


def test_embedding_of_a_wide_feature_has_unit_norm(wide: np.ndarray) -> None:
    norms = np.linalg.norm(fit_projection(wide, limit=12).embed(wide), axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-6)


def test_row_does_not_depend_on_its_batch(wide: np.ndarray) -> None:
    projection = fit_projection(wide, limit=12)
    whole = projection.project(wide)
    for start, stop in [(0, 1), (7, 300), (255, 257), (3, 500)]:
        np.testing.assert_allclose(projection.project(wide[start:stop]), whole[start:stop], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [99, 250])
def test_row_keeps_its_bits_at_every_place_of_a_block(kept: int) -> None:
    """A plain product of 64 rows with these shapes does not (OpenBLAS, SkylakeX kernels)."""
    rng = np.random.default_rng(0)
    projection = fit_projection(rng.normal(size=(kept + 1, 300)).astype(np.float32))
    assert projection.width == kept
    rows = rng.normal(size=(130, 300)).astype(np.float32)
    whole = projection.project(rows)
    alone = np.concatenate([projection.project(rows[place : place + 1]) for place in range(130)])
    np.testing.assert_array_equal(alone, whole)


def test_rank_bounds_the_width() -> None:
    rng = np.random.default_rng(1)
    low_rank = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 30))
    assert fit_projection(low_rank, limit=10).width == 3


def test_constant_feature_projects_to_the_origin() -> None:
    projection = fit_projection(np.full((10, 30), 2.0), limit=10)
    np.testing.assert_allclose(projection.embed(np.full((2, 30), 2.0)), 0.0, atol=1e-12)


def test_state_round_trip_is_exact(wide: np.ndarray) -> None:
    projection = fit_projection(wide, limit=12)
    again = Projection.from_arrays(projection.to_arrays(), feature_dim=40)
    np.testing.assert_array_equal(again.project(wide), projection.project(wide))


def test_incomplete_state_is_an_error(wide: np.ndarray) -> None:
    arrays = fit_projection(wide, limit=12).to_arrays()
    with pytest.raises(CorruptArtifactError):
        Projection.from_arrays({"projection.mean": arrays["projection.mean"]}, feature_dim=40)
    with pytest.raises(CorruptArtifactError):
        Projection.from_arrays(arrays, feature_dim=41)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 4)), np.zeros((4, 0)), np.array([[1.0, np.nan]])])
def test_bad_features_are_an_error(bad: np.ndarray) -> None:
    with pytest.raises(InvalidInputError):
        fit_projection(bad)


def test_feature_of_another_width_is_an_error(wide: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="40"):
        fit_projection(wide, limit=12).project(wide[:, :39])
