"""Light and weather on (C, H, W) images; strengths per severity, index 0 to 4."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.stress._resampling import bilinear_matrix, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["brighter", "contrast", "darker", "fog", "gamma", "saturation"]

#: Added.
BRIGHTER = (0.05, 0.12, 0.20, 0.30, 0.40)
#: Factor.
DARKER = (0.85, 0.70, 0.50, 0.35, 0.20)
#: Factor of the distance to the mean.
CONTRAST = (0.80, 0.60, 0.40, 0.25, 0.15)
#: Exponent.
GAMMA = (1.25, 1.6, 2.0, 2.6, 3.4)
#: Factor of the distance to grey: towards grey, then past the original.
SATURATION = (0.6, 0.3, 0.0, 2.0, 3.0)
#: Grey images have no colour: factor of the distance to ½ instead.
STRETCH = (1.3, 1.6, 1.9, 2.2, 2.5)
#: Weight of the fog.
FOG = (0.20, 0.35, 0.50, 0.60, 0.70)
#: Grid of each octave of fog; its weight halves from one to the next.
FOG_GRIDS = (2, 4, 8)


def brighter(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Add a constant."""
    return image + BRIGHTER[step]


def darker(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Multiply by a constant."""
    return image * DARKER[step]


def contrast(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Pull every value to the image's mean."""
    mean = float(image.mean())
    return mean + (image - mean) * CONTRAST[step]


def gamma(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Raise to a power: dark parts lose most."""
    darkened: NDArray[np.float64] = image ** GAMMA[step]
    return darkened


def saturation(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Fade or exaggerate the colours; without colours, stretch the contrast."""
    if len(image) < 3:
        return 0.5 + (image - 0.5) * STRETCH[step]
    changed = image.copy()
    grey = image[:3].mean(axis=0)  # a fourth channel is no colour
    changed[:3] = grey + (image[:3] - grey) * SATURATION[step]
    return changed


def fog(image: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Blend with three octaves of smooth noise."""
    height, width = image.shape[1:]
    cloud = np.zeros((1, height, width))
    for octave, grid in enumerate(FOG_GRIDS):
        patch = rng.random((1, grid, grid))
        cloud += resample(patch, bilinear_matrix(grid, height), bilinear_matrix(grid, width)) / 2**octave
    cloud /= sum(0.5**octave for octave in range(len(FOG_GRIDS)))
    return image * (1.0 - FOG[step]) + cloud * FOG[step]
