"""Blur of (C, H, W) images; strengths per severity, index 0 to 4, lengths in pixels of a 32-pixel image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.stress._resampling import area_matrix, bilinear_matrix, resample, size_factor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["coarse_size", "downsample", "gaussian", "motion"]

#: Standard deviation of the kernel.
SIGMAS = (0.5, 0.75, 1.0, 1.4, 1.9)
#: Length of the streak.
STREAKS = (3.0, 4.0, 5.0, 7.0, 9.0)
#: Weight of a streak's outer pixels at least: in tiny images it still blurs.
MIN_WEIGHT = 0.05
#: Share of the resolution that remains.
RESOLUTIONS = (0.85, 0.70, 0.55, 0.45, 0.35)


def gaussian(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Blur with a Gaussian kernel of three standard deviations, mirrored at the border."""
    from scipy.ndimage import gaussian_filter

    sigma = SIGMAS[step] * size_factor(image)
    blurred: NDArray[np.float64] = gaussian_filter(image, (0.0, sigma, sigma), mode="mirror", truncate=3.0)
    return blurred


def motion(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Average along a rising diagonal through each pixel, mirrored at the border."""
    half = STREAKS[step] * size_factor(image) / 2.0
    reach = max(1, int(np.ceil(half - 0.5)))
    offsets = np.arange(-reach, reach + 1)
    # The last pixels count by the part of them that the streak covers: centred and continuous in its length.
    weights = np.clip(half + 0.5 - np.abs(offsets), MIN_WEIGHT, 1.0)
    padded = np.pad(
        image, ((0, 0), (reach, reach), (reach, reach)), mode="reflect" if min(image.shape[1:]) > 1 else "edge"
    )
    height, width = image.shape[1:]
    blurred = np.zeros_like(image)
    for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
        top, left = reach - offset, reach + offset
        blurred += weight * padded[:, top : top + height, left : left + width]
    return blurred


def downsample(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Average into fewer pixels and interpolate back."""
    height, width = image.shape[1:]
    rows, columns = coarse_size(image, RESOLUTIONS[step])
    coarse = resample(image, area_matrix(height, rows), area_matrix(width, columns))
    return resample(coarse, bilinear_matrix(rows, height), bilinear_matrix(columns, width))


def coarse_size(image: NDArray[np.float64], share: float) -> tuple[int, int]:
    """Rows and columns when this share of a 32-pixel side remains.

    The pixels it leaves are lengths, so they grow with larger images; below 32 pixels the share itself is kept (a
    pixel cannot be smaller than a pixel).
    """
    kept = share / max(1.0, size_factor(image))
    height, width = image.shape[1:]
    return max(1, int(height * kept)), max(1, int(width * kept))
