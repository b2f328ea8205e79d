"""What air, sensor and traffic are like: the causes of drift, one field each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CLEAR", "NIGHT", "Conditions"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of one frame; the default is a clear day with a sound sensor, the one thing the model was trained on.

    Attributes:
        rain: 0 to 1, a downpour: attenuation, a wet dark road, echoes from drops near the sensor, noisier ranges.
        fog: 0 to 1, a view of 60 m: strong attenuation and echoes.
        dead_rings: Numbers of rings that return nothing.
        blind: First azimuth and width of a sector that returns nothing, degrees.
        roll: Error of the mounting about x, degrees.
        pitch: About y, degrees; positive turns the points ahead downwards.
        yaw: About z, degrees.
        density: Factor on the number of road users.
        mix: Factors on cars, trucks, pedestrians and cyclists.
    """

    rain: float = 0.0
    fog: float = 0.0
    dead_rings: tuple[int, ...] = ()
    blind: tuple[float, float] = (0.0, 0.0)
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    density: float = 1.0
    mix: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    @property
    def attenuation(self) -> float:
        """Extinction of the air, 1/m: 0.02 in a downpour, 0.06 in fog with a view of 60 m (Koschmieder: 3.9 / view)."""
        return 0.02 * self.rain + 0.06 * self.fog

    @property
    def backscatter(self) -> float:
        """Chance that a pulse comes back from drops instead of what lies behind."""
        return 0.05 * self.rain + 0.18 * self.fog

    @property
    def scatter_reach(self) -> float:
        """Mean distance of those echoes beyond 1.5 m, metres."""
        return 6.0 - 2.0 * self.fog

    @property
    def tilt(self) -> NDArray[np.float64]:
        """Rotation from where a point is to where the wrong mounting puts it."""
        (cr, cp, cy), (sr, sp, sy) = (f(np.deg2rad([self.roll, self.pitch, self.yaw])) for f in (np.cos, np.sin))
        about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        turned: NDArray[np.float64] = about_z @ about_y @ about_x
        return turned

    def working(self, azimuth: NDArray[np.float64], ring: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rays the sensor still delivers.

        Args:
            azimuth: Radians.
            ring: 0 is the lowest.
        """
        alive = ~np.isin(ring, self.dead_rings)
        start, width = self.blind
        seen: NDArray[np.bool_] = (np.rad2deg(azimuth) - start) % 360.0 >= width
        return alive & seen


CLEAR = Conditions()
NIGHT = Conditions(density=0.6, mix=(0.8, 2.5, 0.4, 0.5))
"""A LiDAR sees in the dark; what changes at night is who is on the road: few people, many lorries."""
