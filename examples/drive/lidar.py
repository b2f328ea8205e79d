"""A spinning LiDAR: rays against upright boxes and cylinders over uneven ground, with what air and faults do to them.

Everything is columns. A ray is a ring and an azimuth; a part of the world only meets the azimuths it covers, so a sweep
of 23,040 rays over a street of 150 parts is some ten thousand pairs of part and azimuth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from examples.drive.conditions import Conditions

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["AZIMUTHS", "RINGS", "SENSOR_HEIGHT", "Ground", "Parts", "sweep"]

AZIMUTHS = 720
RINGS = 32
SENSOR_HEIGHT = 1.8
ELEVATIONS = np.deg2rad(np.concatenate([np.linspace(-24.0, -9.0, 12, endpoint=False), np.linspace(-9.0, 3.0, 20)]))
"""Dense around the horizon, as in the automotive sensors of 32 to 64 rings: a person at 30 m meets five rings."""

MAX_RANGE = 80.0
RANGE_NOISE = 0.02
DROPOUT = 0.015
POWER_THRESHOLD = 6e-6
"""Half of the pulses return at reflectivity × cosine / range² = this: asphalt fades at 40 m, a dark car at 50 m."""
POWER_SPREAD = 0.5
"""Standard deviation of the log power: speckle and surface texture."""

_AZIMUTH: NDArray[np.float64] = -np.pi + (np.arange(AZIMUTHS, dtype=np.float64) + 0.5) * (2.0 * np.pi / AZIMUTHS)
_TAN, _COS, _SIN = np.tan(ELEVATIONS), np.cos(ELEVATIONS), np.abs(np.sin(ELEVATIONS))


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Upright boxes and cylinders in the sensor frame, one row each.

    Attributes:
        round: Whether the part is a cylinder; its radius is `half_length`.
        centre: (P, 2) metres.
        half_length: Along the heading.
        half_width: Across it.
        yaw: Radians, counter-clockwise from +x.
        bottom: z of the lower face.
        top: z of the upper face.
        reflectivity: 0 to 1.
        porosity: Chance that a pulse passes; what it meets lies anywhere inside. 0 for anything solid.
        owner: Row of the object it belongs to; −1 for clutter.
    """

    round: NDArray[np.bool_]
    centre: Floats
    half_length: Floats
    half_width: Floats
    yaw: Floats
    bottom: Floats
    top: Floats
    reflectivity: Floats
    porosity: Floats
    owner: Integers


@dataclass(frozen=True, slots=True)
class Ground:
    """A sloped plane with one gentle wave: z in the sensor frame.

    Attributes:
        slope: Rise per metre along x and y.
        amplitude: Of the wave, metres.
        wave: Wave number vector, 1/m.
        phase: Radians.
    """

    slope: tuple[float, float] = (0.0, 0.0)
    amplitude: float = 0.0
    wave: tuple[float, float] = (0.1, 0.0)
    phase: float = 0.0

    def height(self, x: Floats, y: Floats) -> Floats:
        """Return z at these positions; −1.8 m below the sensor."""
        bump = np.sin(self.wave[0] * x + self.wave[1] * y + self.phase) - np.sin(self.phase)
        z: Floats = -SENSOR_HEIGHT + self.slope[0] * x + self.slope[1] * y + self.amplitude * bump
        return z


class _Hits(NamedTuple):
    """Candidate returns: flat ray (azimuth · RINGS + ring), ground distance, cosine of incidence, part."""

    ray: Integers
    distance: Floats
    cosine: Floats
    part: Integers


def sweep(parts: Parts, ground: Ground, conditions: Conditions, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the points of one turn of the sensor.

    Args:
        parts: Everything that stands on the ground.
        ground: What it stands on.
        conditions: Air and sensor.
        rng: Noise, dropouts, speckle.

    Returns:
        (N, 4) float32: x, y, z in metres, intensity in [0, 1].
    """
    distance, cosine, reflectivity = _ground_returns(ground, wetness=conditions.rain)
    hits = _part_returns(parts, rng)
    np.minimum.at(distance, hits.ray, hits.distance)
    won = hits.distance == distance[hits.ray]
    rays = hits.ray[won]
    cosine[rays], reflectivity[rays] = hits.cosine[won], parts.reflectivity[hits.part[won]]
    return _received(distance, cosine, reflectivity, conditions, rng)


def _ground_returns(ground: Ground, *, wetness: float) -> tuple[Floats, Floats, Floats]:
    """Distance, cosine and reflectivity of the ground for every ray; infinite where a ray never meets it."""
    east, north = np.cos(_AZIMUTH)[:, None], np.sin(_AZIMUTH)[:, None]
    fall = ground.slope[0] * east + ground.slope[1] * north - _TAN[None, :]
    safe = np.maximum(fall, 1e-6)
    distance = SENSOR_HEIGHT / safe
    for _ in range(2):  # two steps of a fixed point: the wave is gentle, and 1 cm is below the noise
        level = ground.height(distance * east, distance * north)
        flat = -SENSOR_HEIGHT + distance * (ground.slope[0] * east + ground.slope[1] * north)
        distance = (SENSOR_HEIGHT - (level - flat)) / safe
    distance = np.where((fall > 1e-6) & (distance < MAX_RANGE), distance, np.inf).ravel()
    cosine = np.minimum(1.0, SENSOR_HEIGHT / np.maximum(distance, SENSOR_HEIGHT))
    return distance, cosine, np.full(distance.shape, 0.22 * (1.0 - 0.7 * wetness))


def _part_returns(parts: Parts, rng: np.random.Generator) -> _Hits:
    """Every crossing of a ray and a part, occlusion not yet resolved."""
    part, column = _covered(parts)
    enter, leave, flat_cosine = _crossings(parts, part, column)
    met = (enter < leave) & (enter > 0.3) & (enter < MAX_RANGE)
    part, column, enter, leave, flat_cosine = part[met], column[met], enter[met], leave[met], flat_cosine[met]
    bottom, top = parts.bottom[part][:, None], parts.top[part][:, None]
    at_enter, at_leave = enter[:, None] * _TAN, leave[:, None] * _TAN
    side = (at_enter >= bottom) & (at_enter <= top)
    lid = ((at_enter > top) & (at_leave < top)) | ((at_enter < bottom) & (at_leave > bottom))
    pair, ring = np.nonzero(side | lid)
    on_side = side[pair, ring]
    face = np.where(at_enter[pair, ring] > top[pair, 0], top[pair, 0], bottom[pair, 0])
    distance = np.where(on_side, enter[pair], face / _TAN[ring])
    cosine = np.where(on_side, flat_cosine[pair] * _COS[ring], _SIN[ring])
    porous = parts.porosity[part[pair]]
    through = np.flatnonzero(porous > 0.0)
    if len(through):
        depth = rng.random(len(through)) * (leave - enter)[pair[through]]
        passes = rng.random(len(through)) < porous[through]
        distance[through] = np.where(passes, np.inf, distance[through] + depth)
        cosine[through] = 0.6
    return _Hits(column[pair] * RINGS + ring, distance, cosine, part[pair])


def _covered(parts: Parts) -> tuple[Integers, Integers]:
    """Pairs of part and azimuth column that may meet."""
    bearing = np.arctan2(parts.centre[:, 1], parts.centre[:, 0])
    away = np.maximum(np.hypot(parts.centre[:, 0], parts.centre[:, 1]), 1e-6)
    disc = np.arcsin(np.minimum(1.0, parts.half_length / away))
    along = parts.half_length[:, None] * np.array([1.0, 1.0, -1.0, -1.0])
    across = parts.half_width[:, None] * np.array([1.0, -1.0, 1.0, -1.0])
    cos, sin = np.cos(parts.yaw)[:, None], np.sin(parts.yaw)[:, None]
    corners = np.arctan2(
        parts.centre[:, 1:] + sin * along + cos * across, parts.centre[:, :1] + cos * along - sin * across
    )
    turn = (corners - bearing[:, None] + np.pi) % (2.0 * np.pi) - np.pi
    low = bearing + np.where(parts.round, -disc, turn.min(axis=1))
    high = bearing + np.where(parts.round, disc, turn.max(axis=1))
    step = 2.0 * np.pi / AZIMUTHS
    first = np.ceil((low + np.pi) / step - 0.5).astype(np.int64)
    count = np.maximum(0, np.floor((high + np.pi) / step - 0.5).astype(np.int64) - first + 1)
    part = np.repeat(np.arange(len(count)), count)
    offset = np.arange(len(part)) - np.repeat(np.cumsum(count) - count, count)
    return part, (first[part] + offset) % AZIMUTHS


def _crossings(parts: Parts, part: Integers, column: Integers) -> tuple[Floats, Floats, Floats]:
    """Where each vertical plane of rays enters and leaves a part, and the cosine of incidence seen from above."""
    turn = _AZIMUTH[column] - parts.yaw[part]
    ux, uy = np.cos(turn), np.sin(turn)
    cos, sin = np.cos(parts.yaw), np.sin(parts.yaw)
    ox = -(cos * parts.centre[:, 0] + sin * parts.centre[:, 1])[part]
    oy = -(cos * parts.centre[:, 1] - sin * parts.centre[:, 0])[part]
    half_length, half_width = parts.half_length[part], parts.half_width[part]
    sx, sy = _away_from_zero(ux), _away_from_zero(uy)
    x_near, x_far = (-np.sign(sx) * half_length - ox) / sx, (np.sign(sx) * half_length - ox) / sx
    y_near, y_far = (-np.sign(sy) * half_width - oy) / sy, (np.sign(sy) * half_width - oy) / sy
    enter, leave = np.maximum(x_near, y_near), np.minimum(x_far, y_far)
    cosine = np.where(x_near > y_near, np.abs(ux), np.abs(uy))
    towards = ox * ux + oy * uy
    discriminant = towards**2 - (ox**2 + oy**2) + half_length**2
    root = np.sqrt(np.maximum(discriminant, 0.0))
    is_round = parts.round[part]
    return (
        np.where(is_round, np.where(discriminant > 0.0, -towards - root, np.inf), enter),
        np.where(is_round, -towards + root, leave),
        np.where(is_round, root / half_length, cosine),
    )


def _away_from_zero(value: Floats) -> Floats:
    return np.where(np.abs(value) < 1e-9, 1e-9, value)


def _received(
    distance: Floats, cosine: Floats, reflectivity: Floats, conditions: Conditions, rng: np.random.Generator
) -> NDArray[np.float32]:
    """What comes back: attenuated, scattered by drops, dropped, noisy, and seen by the rings that still work."""
    rays = np.arange(AZIMUTHS * RINGS)
    column, ring = rays // RINGS, rays % RINGS
    slant = distance / _COS[ring]
    through_air = np.exp(-2.0 * conditions.attenuation * np.minimum(slant, MAX_RANGE))
    echo = reflectivity * np.maximum(cosine, 0.02) * through_air
    speckle = np.exp(rng.normal(0.0, POWER_SPREAD, len(rays)))
    heard = echo * speckle > POWER_THRESHOLD * slant**2
    seen = heard & (slant < MAX_RANGE) & (rng.random(len(rays)) > DROPOUT)
    drop = 1.5 + rng.exponential(conditions.scatter_reach, len(rays))
    scattered = (rng.random(len(rays)) < conditions.backscatter) & (drop < slant)
    slant = np.where(scattered, drop, slant)
    noise = rng.normal(0.0, RANGE_NOISE * (1.0 + conditions.rain), len(rays))
    intensity = np.where(scattered, 0.02 + 0.06 * rng.random(len(rays)), np.sqrt(np.maximum(echo, 0.0)) * speckle**0.3)
    kept = np.flatnonzero((seen | scattered) & conditions.working(_AZIMUTH[column], ring))
    column, ring, reach = column[kept], ring[kept], (slant + noise)[kept]
    flat = reach * _COS[ring]
    azimuth = _AZIMUTH[column]
    xyz = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), flat * _TAN[ring]], axis=1) @ conditions.tilt.T
    return np.column_stack([xyz, np.clip(intensity[kept], 0.0, 1.0)]).astype(np.float32)
