"""Noise on (C, H, W) images; strengths per severity, index 0 to 4."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["gaussian", "impulse", "shot", "speckle"]

#: Standard deviation.
GAUSSIAN = (0.02, 0.04, 0.07, 0.10, 0.14)
#: Photons of a white pixel.
PHOTONS = (400.0, 160.0, 70.0, 40.0, 20.0)
#: Share of values that become 0 or 1.
IMPULSES = (0.01, 0.02, 0.05, 0.09, 0.15)
#: Standard deviation relative to the value.
SPECKLE = (0.06, 0.10, 0.18, 0.27, 0.38)


def gaussian(image: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Add normal noise."""
    return image + GAUSSIAN[step] * rng.standard_normal(image.shape)


def shot(image: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Count photons: Poisson noise."""
    return rng.poisson(image * PHOTONS[step]) / PHOTONS[step]


def impulse(image: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Set a share of the values to black, as many to white."""
    draws = rng.random(image.shape)
    half = IMPULSES[step] / 2.0
    return np.where(draws < half, 0.0, np.where(draws > 1.0 - half, 1.0, image))


def speckle(image: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Add noise in proportion to the value."""
    return image * (1.0 + SPECKLE[step] * rng.standard_normal(image.shape))
