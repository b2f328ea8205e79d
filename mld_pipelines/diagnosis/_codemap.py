"""Where codes lie on a map: the first two principal axes of their centroids (docs/method.md#map)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._projection import principal_axes
from mld_pipelines.diagnosis._threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["CodeMap", "fit_code_map"]

_DIMENSIONS = 2
#: Variance below this share of the first axis is rounding: such an axis is set to zero instead of pointing anywhere.
_SMALLEST_SHARE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodeMap:
    """Axes of a two-dimensional picture of a codebook. Fitted once per lineage: codes never jump between results.

    Attributes:
        centre: Mean of the centroids it was fitted on, shape (w,).
        axes: Two unit vectors as columns, shape (w, 2); a column of zeros where the centroids span fewer dimensions.
        shares: Share of the centroids' variance along each axis, shape (2,).
    """

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    shares: NDArray[np.float64]

    def positions(self, centroids: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the place of each centroid on the map, float64, shape (C, 2)."""
        places: NDArray[np.float64] = (centroids.astype(np.float64) - self.centre) @ self.axes
        return places

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays for an artifact; `from_arrays` reads them back."""
        return {"map.centre": self.centre, "map.axes": self.axes, "map.shares": self.shares}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]]) -> CodeMap | None:
        """Return the map that `to_arrays` gave, or None for an artifact older than maps."""
        if "map.axes" not in arrays:
            return None
        return cls(centre=arrays["map.centre"], axes=arrays["map.axes"], shares=arrays["map.shares"])


def fit_code_map(centroids: NDArray[np.floating]) -> CodeMap:
    """Return the map of a codebook: PCA of its centroids, each counting once.

    The sign of an axis is fixed by making its entry of largest magnitude positive, so that equal centroids give equal
    maps.

    Args:
        centroids: Shape (C, w), C ≥ 1.
    """
    rows = centroids.astype(np.float64)
    with one_thread():
        centre, axes, variances = principal_axes(rows)
    total = float(variances.sum())
    width = rows.shape[1]
    kept = np.zeros((width, _DIMENSIONS))
    shares = np.zeros(_DIMENSIONS)
    for column in range(min(_DIMENSIONS, width)):
        if total > 0.0 and variances[column] > _SMALLEST_SHARE * max(float(variances[0]), float((rows**2).sum())):
            kept[:, column], shares[column] = axes[:, column], variances[column] / total
    return CodeMap(centre=centre, axes=kept, shares=shares)
