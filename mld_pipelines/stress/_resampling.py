"""Resampling of (C, H, W) images by one matrix per axis; pixels are areas, their centres lie at k + ½."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["area_matrix", "bilinear_matrix", "nearest_matrix", "resample", "size_factor"]

#: Shorter side, in pixels, that lengths are stated for.
NOMINAL_SIDE = 32.0


def size_factor(image: NDArray[np.float64]) -> float:
    """Factor by which lengths in pixels grow: shorter side / 32."""
    return float(min(image.shape[1:])) / NOMINAL_SIDE


def resample(
    image: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return `rows · image · columnsᵀ` of each channel."""
    resampled: NDArray[np.float64] = rows @ image @ columns.T
    return resampled


def area_matrix(size: int, target: int) -> NDArray[np.float64]:
    """Mean over the area of each target pixel, `(target, size)`; pixels on its border count by the covered part."""
    edges = np.linspace(0.0, size, target + 1)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1.0) - np.maximum(edges[:-1, None], pixels)
    shares: NDArray[np.float64] = np.maximum(covered, 0.0) * (target / size)
    return shares


def bilinear_matrix(size: int, target: int) -> NDArray[np.float64]:
    """Linear interpolation between pixel centres, constant beyond the outer ones, `(target, size)`."""
    centres = np.clip((np.arange(target) + 0.5) * (size / target) - 0.5, 0.0, size - 1.0)
    below = np.minimum(centres.astype(np.int64), max(size - 2, 0))
    weights = np.zeros((target, size))
    rows = np.arange(target)
    weights[rows, below] = 1.0 - (centres - below)
    weights[rows, np.minimum(below + 1, size - 1)] += centres - below
    return weights


def nearest_matrix(size: int, target: int) -> NDArray[np.float64]:
    """The pixel that holds each target centre, `(target, size)`."""
    return np.eye(size)[((np.arange(target) + 0.5) * (size / target)).astype(np.int64)]
