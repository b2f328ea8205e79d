"""The best cells of heatmaps, with what regression maps say there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["at_cells", "best_cells", "best_pairs", "sigmoid"]


def sigmoid(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 / (1 + e⁻ˣ) without overflow."""
    x = np.asarray(values, np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def best_pairs(scores: NDArray[Any], limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the best (class, cell) pairs of a map, the best first; equal scores in the order of the map.

    Args:
        scores: (C, rows, columns) or (C, cells), logits or probabilities.
        limit: Most pairs.

    Returns:
        Classes and cells, (K,) int64 each; a cell counts along the rows of the map.
    """
    flat = scores.reshape(scores.shape[0], -1)
    best = _best(flat.reshape(-1), limit)
    return best // flat.shape[1], best % flat.shape[1]


def best_cells(scores: NDArray[Any], limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the best cells by their best class; arguments and results as in `best_pairs`, one pair per cell."""
    flat = scores.reshape(scores.shape[0], -1)
    classes = flat.argmax(axis=0)
    best = _best(np.take_along_axis(flat, classes[None], axis=0)[0], limit)
    return classes[best].astype(np.int64), best


def at_cells(maps: NDArray[Any], cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what maps (C, rows, columns) hold at cells: (K, C) float64."""
    return maps.reshape(maps.shape[0], -1)[:, cells].T.astype(np.float64)


def _best(values: NDArray[Any], limit: int) -> NDArray[np.int64]:
    values = np.nan_to_num(values.astype(np.float32, copy=False), nan=-np.inf)
    pool = np.sort(np.argpartition(-values, limit - 1)[:limit]) if limit < len(values) else np.arange(len(values))
    best: NDArray[np.int64] = pool[np.argsort(-values[pool], kind="stable")].astype(np.int64)
    return best
