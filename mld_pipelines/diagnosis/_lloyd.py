"""Lloyd's algorithm from given centroids, for refits that have to keep the identity of their cells.

Unlike a library's k-means an empty cell stays where it is instead of moving elsewhere: its name would move with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_centroids", "lloyd"]

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-4
"""Squared shift of all centroids, relative to the mean variance of a column, at which the fit has converged."""


def lloyd(places: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the centroids after Lloyd's iterations on the places, index by index.

    Args:
        places: float32, shape (N, D).
        centroids: Start, float32, shape (C, D).
    """
    current = centroids.astype(np.float32)
    limit = _TOLERANCE * float(places.var(axis=0, dtype=np.float64).mean())
    cells: NDArray[np.int64] | None = None
    for _ in range(_MAX_ITERATIONS):
        previous, cells = cells, _nearest(places, current)
        if previous is not None and np.array_equal(previous, cells):
            break
        moved = _means(places, cells, current)
        shift = float(((moved.astype(np.float64) - current) ** 2).sum())
        current = moved
        if shift <= limit:
            break
    return current


def add_centroids(
    places: NDArray[np.float32], centroids: NDArray[np.float32], *, count: int, seed: int
) -> NDArray[np.float32]:
    """Return the centroids followed by up to `count` more, drawn by k-means++ given the old ones.

    Each new one is a place drawn with probability proportional to its squared distance to the nearest centroid so
    far; fewer are added when every place coincides with a centroid.
    """
    rng = np.random.default_rng(seed)
    chosen = [centroids.astype(np.float32)]
    squared = np.concatenate([_squared(block, chosen[0]).min(axis=1) for block in _split(places)]).astype(np.float64)
    for _ in range(count):
        # Rounding of the expanded square leaves ~1e-6 where the distance is 0; those places must not be drawn.
        weights = np.where(squared > 1e-5, squared, 0.0)
        if not (total := float(weights.sum())) > 0.0:
            break
        pick = min(int(np.searchsorted(np.cumsum(weights), rng.random() * total, side="right")), len(places) - 1)
        new = places[pick : pick + 1]
        squared = np.minimum(squared, ((places - new) ** 2).sum(axis=1))
        chosen.append(new)
    return np.concatenate(chosen)


def _means(
    places: NDArray[np.float32], cells: NDArray[np.int64], centroids: NDArray[np.float32]
) -> NDArray[np.float32]:
    order = np.argsort(cells, kind="stable")
    counts = np.bincount(cells, minlength=len(centroids))
    filled = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts[filled])[:-1]])
    sums = np.add.reduceat(places[order].astype(np.float64), starts, axis=0)
    moved = centroids.copy()
    moved[filled] = sums / counts[filled, None]
    return moved


def _nearest(places: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.concatenate([_squared(block, centroids).argmin(axis=1) for block in _split(places)]).astype(np.int64)


def _squared(places: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.einsum("ij,ij->i", centroids, centroids)
    own = np.einsum("ij,ij->i", places, places)
    squared: NDArray[np.float32] = lengths - 2.0 * (places @ centroids.T) + own[:, None]
    return squared


def _split(places: NDArray[np.float32], rows: int = 2048) -> list[NDArray[np.float32]]:
    # 2,048 rows x 512 cells in float32 are 4 MB: they stay in the cache between product and search.
    return [places[start : start + rows] for start in range(0, len(places), rows)]
