"""What baseline JPEG loses (ITU-T T.81): colour transform, halved chroma, quantised 8 × 8 cosine transform.

Entropy coding loses nothing and is left out, so no image library is needed.
Against libjpeg on 200 photographs of 32 × 32 pixels the mean difference is 0.0004 for grey, 0.003 to 0.007 for colour
(it interpolates the chroma), where the loss itself is 0.018 to 0.060 at the qualities used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.stress._resampling import area_matrix, nearest_matrix, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["jpeg_round_trip", "quantisation_table"]

BLOCK = 8
#: Example tables of T.81, annex K.1, in use nearly everywhere.
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.float64,
)
CHROMINANCE = np.full((BLOCK, BLOCK), 99.0)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
#: RGB → YCbCr without offsets (JFIF 1.02).
TO_YCBCR = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.168735892, -0.331264108, 0.5],
        [0.5, -0.418687589, -0.081312411],
    ]
)
TO_RGB = np.linalg.inv(TO_YCBCR)
_FREQUENCY, _PLACE = np.indices((BLOCK, BLOCK))
#: Orthonormal cosine transform of eight values (T.81, A.3.3).
COSINES = np.cos((2 * _PLACE + 1) * _FREQUENCY * np.pi / (2 * BLOCK)) * np.where(_FREQUENCY == 0, 0.125, 0.25) ** 0.5


def jpeg_round_trip(image: NDArray[np.float64], *, quality: int) -> NDArray[np.float64]:
    """Return a (C, H, W) image in [0, 1] after compression; channels beyond colour are coded like grey ones.

    Args:
        image: Values in [0, 1].
        quality: 1 to 100, on the scale of libjpeg.
    """
    pixels = np.round(image * 255.0)
    luminance = quantisation_table(LUMINANCE, quality)
    decoded = np.empty_like(pixels)
    colours = 3 if len(image) >= 3 else 0
    if colours:
        luma, *chroma = np.tensordot(TO_YCBCR, pixels[:3], axes=1)
        planes = [_code(luma - 128.0, luminance) + 128.0]
        table = quantisation_table(CHROMINANCE, quality)
        planes += [_code_halved(plane, table) for plane in chroma]
        decoded[:3] = np.tensordot(TO_RGB, np.stack(planes), axes=1)
    for channel in range(colours, len(image)):
        decoded[channel] = _code(pixels[channel] - 128.0, luminance) + 128.0
    return np.clip(np.round(decoded), 0.0, 255.0) / 255.0


def quantisation_table(table: NDArray[np.float64], quality: int) -> NDArray[np.float64]:
    """Scale a table to a quality: percent are 5000/q below 50, else 200 − 2q (libjpeg); entries 1 to 255."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled: NDArray[np.float64] = np.clip(np.floor((table * percent + 50.0) / 100.0), 1.0, 255.0)
    return scaled


def _code(plane: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantise a (H, W) plane block by block; the last row and column fill incomplete blocks."""
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    rows, columns = (side // BLOCK for side in padded.shape)
    # Axes: within a block's height, block row, block column, within its width; two products for all blocks at once.
    blocks = padded.reshape(rows, BLOCK, columns, BLOCK).swapaxes(0, 1)
    steps = table[:, None, None, :]
    coefficients = np.round(np.tensordot(COSINES, blocks, axes=1) @ COSINES.T / steps) * steps
    decoded = np.tensordot(COSINES.T, coefficients, axes=1) @ COSINES
    restored: NDArray[np.float64] = decoded.swapaxes(0, 1).reshape(padded.shape)[:height, :width]
    return restored


def _code_halved(plane: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantise a plane at half its resolution in both directions (4:2:0)."""
    height, width = plane.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    halved = resample(plane[None], area_matrix(height, rows), area_matrix(width, columns))[0]
    coded = _code(halved, table)
    enlarged: NDArray[np.float64] = nearest_matrix(rows, height) @ coded @ nearest_matrix(columns, width).T
    return enlarged
