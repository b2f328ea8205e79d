"""Faults of storage and transport on (C, H, W) images; strengths per severity, index 0 to 4."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.stress._image_blur import coarse_size
from mld_pipelines.stress._jpeg import jpeg_round_trip
from mld_pipelines.stress._resampling import area_matrix, nearest_matrix, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["jpeg", "occlude", "pixelate", "posterise"]

#: Side of the grey patch relative to the image's.
PATCHES = (0.20, 0.28, 0.36, 0.45, 0.55)
#: Share of the resolution that remains.
RESOLUTIONS = (0.80, 0.65, 0.50, 0.40, 0.30)
#: JPEG quality.
QUALITIES = (60, 35, 20, 12, 7)
#: Levels per channel.
LEVELS = (12, 8, 5, 3, 2)


def occlude(image: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Hide a rectangle behind grey."""
    height, width = image.shape[1:]
    rows, columns = (max(1, int(side * PATCHES[step])) for side in (height, width))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    hidden = image.copy()
    hidden[:, top : top + rows, left : left + columns] = 0.5
    return hidden


def pixelate(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Average into blocks."""
    height, width = image.shape[1:]
    rows, columns = coarse_size(image, RESOLUTIONS[step])
    coarse = resample(image, area_matrix(height, rows), area_matrix(width, columns))
    return resample(coarse, nearest_matrix(rows, height), nearest_matrix(columns, width))


def jpeg(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Compress and decompress."""
    return jpeg_round_trip(image, quality=QUALITIES[step])


def posterise(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Round to few levels."""
    steps = LEVELS[step] - 1
    rounded: NDArray[np.float64] = np.round(image * steps) / steps
    return rounded
