"""Geometric changes of (C, H, W) images; strengths per severity, index 0 to 4. Borders are mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["elastic", "rotate", "shear", "zoom"]

#: Degrees, in either direction.
ANGLES = (5.0, 10.0, 15.0, 22.0, 30.0)
#: Columns per row, in either direction.
SHEARS = (0.10, 0.20, 0.30, 0.40, 0.55)
#: Share of the image that fills the frame.
ZOOMS = (0.9, 0.8, 0.7, 0.6, 0.5)
#: Standard deviation of the displacement, in half sides.
ELASTIC = (0.03, 0.05, 0.08, 0.11, 0.15)
#: Displacements are drawn on a grid of this many points a side and interpolated by cubic splines.
ELASTIC_GRID = 5


def rotate(image: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Turn around the centre."""
    angle = np.deg2rad(ANGLES[step]) * _sign(rng)
    cosine, sine = np.cos(angle), np.sin(angle)
    return _transform(image, np.array([[cosine, sine], [-sine, cosine]]))


def shear(image: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Slant: the farther from the middle row, the farther to the side."""
    return _transform(image, np.array([[1.0, 0.0], [SHEARS[step] * _sign(rng), 1.0]]))


def zoom(image: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Enlarge the middle."""
    return _transform(image, np.eye(2) * ZOOMS[step])


def elastic(image: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Displace smoothly."""
    from scipy.ndimage import map_coordinates

    height, width = image.shape[1:]
    fields = rng.standard_normal((2, ELASTIC_GRID, ELASTIC_GRID)) * ELASTIC[step]
    # Grid points are pixel centres of a coarse image that covers the same frame.
    at = np.meshgrid(*((np.arange(n) + 0.5) * ELASTIC_GRID / n - 0.5 for n in (height, width)), indexing="ij")
    rows, columns = (map_coordinates(field, at, order=3, mode="nearest") for field in fields)
    places = np.indices((height, width)).astype(np.float64)
    places += np.stack([rows * (height / 2.0), columns * (width / 2.0)])
    return np.stack([map_coordinates(channel, places, order=1, mode="reflect") for channel in image])


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _transform(image: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sample each channel at `matrix · (row, column)`, measured from the centre; linear interpolation."""
    from scipy.ndimage import affine_transform

    centre = (np.array(image.shape[1:]) - 1.0) / 2.0
    offset = centre - matrix @ centre
    return np.stack([affine_transform(channel, matrix, offset, order=1, mode="reflect") for channel in image])
