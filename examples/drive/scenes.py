"""A street for some seconds: roads, their users, clutter and ground, and where all of it is at any time."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from examples.drive.lidar import Ground

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from examples.drive.shapes import Clutter

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["SIGHT", "Road", "Scene", "Users", "without_collisions"]

SIGHT = 55.0
"""Nothing farther is built: returns from there are few, and the detector looks 32 m far."""


@dataclass(frozen=True, slots=True)
class Road:
    """A line of constant curvature; positions are (s along it, d to its left).

    Attributes:
        x: Where s = 0 lies.
        y: Where s = 0 lies.
        yaw: Direction there.
        curvature: 1/m, positive to the left.
    """

    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    curvature: float = 0.0

    def pose(self, s: Floats, d: Floats) -> tuple[Floats, Floats, Floats]:
        """Return x, y and direction of the road at these positions."""
        bend = self.curvature if abs(self.curvature) > 1e-9 else 1e-9
        turn = bend * s
        along, aside = np.sin(turn) / bend - d * np.sin(turn), (1.0 - np.cos(turn)) / bend + d * np.cos(turn)
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return self.x + cos * along - sin * aside, self.y + sin * along + cos * aside, self.yaw + turn


@dataclass(frozen=True, slots=True, eq=False)
class Users:
    """Road users as columns; row 0 of a scene is the ego vehicle.

    Attributes:
        road: Row of the scene's roads.
        s: Metres along the road at time 0.
        d: Metres to its left.
        along: Speed along the road, m/s.
        aside: Speed across it.
        heading: Relative to the road, radians.
        labels: Rows of `CLASS_NAMES`.
        sizes: (N, 3) width, length, height.
        paint: Reflectivity.
    """

    road: Integers
    s: Floats
    d: Floats
    along: Floats
    aside: Floats
    heading: Floats
    labels: Integers
    sizes: Floats
    paint: Floats

    def take(self, rows: NDArray[np.bool_] | Integers) -> Users:
        """Return some of them."""
        return Users(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, several: list[Users]) -> Users:
        """Return all of them in one."""
        return cls(*(np.concatenate([getattr(one, field.name) for one in several]) for field in fields(cls)))


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A street for some seconds.

    Attributes:
        site: Kind of street.
        roads: The lines that users follow.
        users: Road users, the ego vehicle first.
        clutter: Buildings, poles, trees, bushes, walls, in world coordinates.
        ground: As seen from the world's origin.
    """

    site: str
    roads: tuple[Road, ...]
    users: Users
    clutter: Clutter
    ground: Ground

    def poses(self, seconds: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Return x, y, yaw and velocity (N, 2) of every user at a time, in world coordinates."""
        return _poses(self.users, self.roads, seconds)

    def seen(self, seconds: float) -> tuple[Floats, Integers, Floats, Floats, Clutter, Ground]:
        """Return what surrounds the sensor at a time, in its own frame.

        Returns:
            Boxes (N, 7), labels, velocities (N, 2) over ground, paint, clutter, ground.
        """
        x, y, yaw, velocity = self.poses(seconds)
        origin, turn = (x[0], y[0]), yaw[0]
        ground = _moved(self.ground, *origin, turn)
        near = np.flatnonzero(np.hypot(x - x[0], y - y[0]) < SIGHT)[1:]
        bx, by = _rotated(x[near] - x[0], y[near] - y[0], -turn)
        vx, vy = _rotated(velocity[near, 0], velocity[near, 1], -turn)
        size, labels = self.users.sizes[near], self.users.labels[near]
        heading = (yaw[near] - turn + np.pi) % (2.0 * np.pi) - np.pi
        boxes = np.column_stack([bx, by, ground.height(bx, by) + size[:, 2] / 2.0, size, heading])
        close = np.hypot(self.clutter.x - x[0], self.clutter.y - y[0]) - self.clutter.half_length < SIGHT
        things = self.clutter.take(close)
        tx, ty = _rotated(things.x - x[0], things.y - y[0], -turn)
        things = replace(things, x=tx, y=ty, yaw=things.yaw - turn)
        return boxes, labels, np.stack([vx, vy], axis=1), self.users.paint[near], things, ground


def _poses(users: Users, roads: tuple[Road, ...], seconds: float) -> tuple[Floats, Floats, Floats, Floats]:
    s, d = users.s + users.along * seconds, users.d + users.aside * seconds
    x, y, yaw = np.zeros_like(s), np.zeros_like(s), np.zeros_like(s)
    for number, road in enumerate(roads):
        on = users.road == number
        x[on], y[on], yaw[on] = road.pose(s[on], d[on])
    vx, vy = _rotated(users.along, users.aside, yaw)
    return x, y, yaw + users.heading, np.stack([vx, vy], axis=1)


def _rotated(x: Floats, y: Floats, angle: Floats | float) -> tuple[Floats, Floats]:
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * y, sin * x + cos * y


def _moved(ground: Ground, x: float, y: float, yaw: float) -> Ground:
    """The same ground seen from another place."""
    back = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    slope, wave = back @ ground.slope, back @ ground.wave
    phase = ground.phase + ground.wave[0] * x + ground.wave[1] * y
    return Ground((float(slope[0]), float(slope[1])), ground.amplitude, (float(wave[0]), float(wave[1])), float(phase))


def without_collisions(users: Users, roads: tuple[Road, ...], seconds: float) -> Users:
    """Drop users that would touch an earlier one at any full second: three discs each, along the length."""
    discs = np.array([-1.0, 0.0, 1.0])
    radius = np.maximum(users.sizes[:, 0] * 0.55, users.sizes[:, 1] / 5.0)
    reach = np.repeat(radius, 3).astype(np.float32)
    clash = np.zeros((len(radius), len(radius)), bool)
    for moment in np.arange(0.0, seconds + 1.0):
        x, y, yaw, _ = _poses(users, roads, float(moment))
        arm = (users.sizes[:, 1] / 3.0)[:, None] * discs
        px = (x[:, None] + np.cos(yaw)[:, None] * arm).ravel().astype(np.float32)
        py = (y[:, None] + np.sin(yaw)[:, None] * arm).ravel().astype(np.float32)
        gap = (px[:, None] - px) ** 2 + (py[:, None] - py) ** 2 - (reach[:, None] + reach) ** 2
        clash |= gap.reshape(len(radius), 3, len(radius), 3).min(axis=(1, 3)) < 0.0
    kept: list[int] = []
    for row in range(len(radius)):
        if not clash[row, kept].any():
            kept.append(row)
    return users.take(np.array(kept))
