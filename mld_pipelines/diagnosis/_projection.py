"""The reference projection: wide features on the principal axes of the reference (docs/method.md#space)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._blocks import map_blocks
from mld_pipelines.diagnosis._products import FixedProduct
from mld_pipelines.exceptions import CorruptArtifactError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Projection", "check_features", "fit_projection", "principal_axes"]

_FIT_ROWS = 20_000
"""Rows of the covariance: 10 rows per axis of a 2,048-wide feature, and the cost stays flat in N."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projection:
    """Map from a feature to at most `feature_limit` columns; the identity for features that are narrow already.

    Attributes:
        feature_dim: Width d of the incoming feature.
        mean: Reference mean, float64, shape (d,); empty for the identity.
        components: Principal axes as columns, float64, shape (d, width); empty for the identity.
    """

    feature_dim: int
    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    _product: FixedProduct = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_product", FixedProduct.of(self.components))

    @property
    def is_identity(self) -> bool:
        """Whether features pass through unchanged."""
        return self.mean.size == 0

    @property
    def width(self) -> int:
        """Columns of a projected feature."""
        return self.feature_dim if self.is_identity else int(self.components.shape[1])

    def project(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return the projected features, float64, shape (N, width): `h` itself, or `(h − mean)·components`.

        Raises:
            InvalidInputError: The features are not finite or not of shape (N, feature_dim).
        """
        checked = check_features(features, width=self.feature_dim)
        if self.is_identity:
            return checked.astype(np.float64)
        return map_blocks(self._project_block, checked, width=self.width)

    def embed(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return what codes and class distances see: `h`, or the L2-normalised projection when d > limit.

        Raises:
            InvalidInputError: The features are not finite or not of shape (N, feature_dim).
        """
        projected = self.project(features)
        if self.is_identity:
            return projected
        # 1e-9: a feature at the very mean has no direction and stays at the origin.
        norms: NDArray[np.float64] = np.linalg.norm(projected, axis=1, keepdims=True) + 1e-9
        unit: NDArray[np.float64] = projected / norms
        return unit

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the state for an artifact: `projection.mean` and `projection.components`."""
        return {"projection.mean": self.mean, "projection.components": self.components}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]], *, feature_dim: int) -> Projection:
        """Return the projection whose state `to_arrays` gave.

        Raises:
            CorruptArtifactError: An array is missing or has another shape.
        """
        try:
            mean, components = arrays["projection.mean"], arrays["projection.components"]
        except KeyError as error:
            raise CorruptArtifactError(f"the artifact lacks the array {error}; evaluate again.") from error
        if mean.size and (mean.shape != (feature_dim,) or components.shape[:1] != (feature_dim,)):
            raise CorruptArtifactError(
                f"the stored projection has shapes {mean.shape} and {components.shape}, not {feature_dim} rows; "
                "evaluate again."
            )
        return cls(feature_dim=feature_dim, mean=mean, components=components)

    def _project_block(self, block: NDArray[np.generic]) -> NDArray[np.float64]:
        return self._product.after(block.astype(np.float64) - self.mean)


def fit_projection(features: ArrayLike, *, limit: int = 256, seed: int = 0) -> Projection:
    """Return the reference projection: principal axes when the feature is wider than `limit`, else the identity.

    Args:
        features: Reference features, shape (N, d), in key order.
        limit: Widest feature that is used as it is, and the number of axes kept otherwise.
        seed: Seed of the row sample for N > 20,000.

    Raises:
        InvalidInputError: The features are not a finite (N, d) array with N, d ≥ 1.
    """
    checked = check_features(features)
    width = checked.shape[1]
    if width <= limit:
        return Projection(feature_dim=width, mean=np.empty(0), components=np.empty((0, 0)))
    sample = checked
    if len(checked) > _FIT_ROWS:
        sample = checked[np.sort(np.random.default_rng(seed).permutation(len(checked))[:_FIT_ROWS])]
    mean, axes, variances = principal_axes(sample.astype(np.float64), limit=limit)
    # Axes without variance carry rounding noise only; one is kept so that a constant feature still has a width.
    kept = max(1, int(np.sum(variances > variances[0] * 1e-12))) if variances.size else 1
    return Projection(feature_dim=width, mean=mean, components=np.ascontiguousarray(axes[:, :kept]))


def principal_axes(
    rows: NDArray[np.float64], *, limit: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (mean, axes as columns, variances), by descending variance, from the covariance of the rows.

    Variances divide by N. The sign of an axis is fixed by making its entry of largest magnitude positive.
    """
    mean = rows.mean(axis=0)
    centred = rows - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(rows))
    order = np.argsort(variances)[::-1][:limit]
    axes, variances = axes[:, order], np.maximum(variances[order], 0.0)
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0.0, -1.0, 1.0)
    return mean, axes, variances


def check_features(features: ArrayLike, *, width: int | None = None) -> NDArray[np.floating]:
    """Return features as a floating (N, d) array.

    Raises:
        InvalidInputError: Not two-dimensional, empty, of another width than `width`, or not finite.
    """
    array = np.asarray(features)
    if array.ndim != 2 or array.shape[1] == 0 or (width is None and not len(array)):
        raise InvalidInputError(f"features must have shape (units, width) and not be empty, got {array.shape}.")
    if width is not None and array.shape[1] != width:
        raise InvalidInputError(f"features have {array.shape[1]} columns; this reference was fitted on {width}.")
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    finite = np.isfinite(array.sum(axis=1, dtype=np.float64))
    if not finite.all() and not (finite := np.isfinite(array).all(axis=1)).all():
        raise InvalidInputError(
            f"{int((~finite).sum())} of {len(array)} feature rows hold NaN or infinity (first: row "
            f"{int(np.argmin(finite))}); quarantine them before the diagnosis."
        )
    return array
