"""Four kinds of street: a straight one, a curve, a junction and a car park, with what belongs there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from examples.drive.conditions import CLEAR
from examples.drive.lidar import SENSOR_HEIGHT, Ground
from examples.drive.scenes import SIGHT, Road, Scene, Users, without_collisions
from examples.drive.shapes import CAR, CYCLIST, PEDESTRIAN, TRUCK, Clutter, sizes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from examples.drive.conditions import Conditions

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Street = tuple[tuple[Road, ...], Users, Clutter]
    Span = tuple[float, float]

__all__ = ["SITES", "build"]

LANE = 3.5
"""Width of a lane, metres."""


def build(site: str, rng: np.random.Generator, conditions: Conditions = CLEAR, *, seconds: float = 0.0) -> Scene:
    """Return a street that is free of collisions for some seconds.

    Args:
        site: One of `SITES`.
        rng: Decides everything.
        conditions: Of these, how many users there are, and of which class.
        seconds: How long the scene is to last.
    """
    roads, users, clutter = _BUILDERS[site](rng, conditions, seconds)
    shuffled = users.take(np.concatenate([[0], 1 + rng.permutation(len(users.s) - 1)]))
    slope, wave = rng.normal(0.0, 0.012, 2), rng.normal(0.0, 0.12, 2)
    ground = Ground(
        (float(slope[0]), float(slope[1])),
        float(rng.uniform(0.02, 0.12)),
        (float(wave[0]), float(wave[1])),
        float(rng.uniform(0.0, 6.28)),
    )
    return Scene(site, roads, without_collisions(shuffled, roads, seconds), clutter, ground)


def _users(rng: np.random.Generator, labels: Integers, s: Floats, d: Floats, **columns: Floats | float) -> Users:
    """Users of these classes at these positions; columns not given are zero."""

    def column(name: str) -> Floats:
        return np.broadcast_to(np.asarray(columns.get(name, 0.0), np.float64), s.shape).copy()

    paint = np.exp(rng.normal(np.log(0.3), 0.5, len(s)))
    road = column("road").astype(np.int64)
    sizes = sizes_of(labels, rng)
    return Users(road, s, d, column("along"), column("aside"), column("heading"), labels, sizes, paint)


def _ego(speed: float) -> Users:
    zero = np.zeros(1)
    size = np.array([[1.9, 4.6, SENSOR_HEIGHT]])
    row = np.zeros(1, np.int64)
    return Users(row, zero, zero, zero + speed, zero, zero, row, size, zero + 0.3)


def _positions(rng: np.random.Generator, span: Span, spacing: float) -> Floats:
    """A Poisson number of places between two ends."""
    return rng.uniform(*span, rng.poisson((span[1] - span[0]) / spacing))


def _thinned(users: Users, mix: tuple[float, float, float, float], rng: np.random.Generator) -> Users:
    """Drop users of classes whose factor is below 1; factors above 1 are met by `_lane`."""
    return users.take(rng.random(len(users.s)) < np.asarray(mix)[users.labels])


def _lane(
    rng: np.random.Generator, conditions: Conditions, span: Span, d: float, direction: int, **extra: float
) -> Users:
    """Cars and trucks that keep one speed in a lane; `extra`: spacing, speed, road."""
    share = np.array([0.74 * conditions.mix[CAR], 0.26 * conditions.mix[TRUCK]])
    s = _positions(rng, span, extra.get("spacing", 24.0) / (conditions.density * share.sum()))
    labels = rng.choice([CAR, TRUCK], len(s), p=share / share.sum())
    lateral = d + rng.normal(0.0, 0.15, len(s))
    sway = rng.normal(0.0, 0.02, len(s)) + (0.0 if direction > 0 else np.pi)
    speed = direction * extra.get("speed", 10.0)
    return _users(rng, labels, s, lateral, along=speed, heading=sway, road=extra.get("road", 0.0))


def _cyclists(
    rng: np.random.Generator, conditions: Conditions, span: Span, d: float, direction: int, *, road: float = 0.0
) -> Users:
    s = _positions(rng, span, 20.0 / (conditions.density * conditions.mix[CYCLIST]))
    speed = direction * rng.uniform(3.0, 6.0, len(s))
    heading = rng.normal(0.0, 0.08, len(s)) + (0.0 if direction > 0 else np.pi)
    lateral = d + rng.normal(0.0, 0.15, len(s))
    return _users(rng, np.full(len(s), CYCLIST), s, lateral, along=speed, heading=heading, road=road)


def _walkers(
    rng: np.random.Generator,
    conditions: Conditions,
    span: Span,
    between: Span,
    *,
    spacing: float = 13.0,
) -> Users:
    """People who walk along a strip, cross it, or stand."""
    s = _positions(rng, span, spacing / (conditions.density * conditions.mix[PEDESTRIAN]))
    heading = rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2], len(s), p=[0.4, 0.4, 0.1, 0.1])
    heading = heading + rng.normal(0.0, 0.25, len(s))
    pace = np.where(rng.random(len(s)) < 0.25, 0.0, rng.uniform(0.8, 1.7, len(s)))
    d = rng.uniform(*between, len(s))
    labels = np.full(len(s), PEDESTRIAN)
    return _users(rng, labels, s, d, along=pace * np.cos(heading), aside=pace * np.sin(heading), heading=heading)


def _parked(
    rng: np.random.Generator,
    conditions: Conditions,
    s: Floats,
    d: Floats | float,
    heading: float,
    *,
    trucks: float = 0.1,
) -> Users:
    labels = np.where(rng.random(len(s)) < trucks, TRUCK, CAR)
    turned = heading + rng.normal(0.0, 0.03, len(s)) + np.where(rng.random(len(s)) < 0.2, np.pi, 0.0)
    lateral = d + rng.normal(0.0, 0.12, len(s))
    users = _users(rng, labels, s, lateral, heading=turned)
    return _thinned(users, (conditions.density, conditions.density, 1.0, 1.0), rng)


def _things(road: Road, s: Floats, d: Floats, **columns: Floats | float) -> Clutter:
    """Clutter of one kind along a road; columns of `Clutter` not given are zero."""
    x, y, yaw = road.pose(s, d)

    def column(name: str, default: Floats | float = 0.0) -> Floats:
        return np.broadcast_to(np.asarray(columns.get(name, default), np.float64), s.shape).copy()

    length = column("half_length")
    return Clutter(
        round=column("round") > 0,
        x=x,
        y=y,
        half_length=length,
        half_width=column("half_width", length),
        yaw=yaw,
        bottom=column("bottom"),
        top=column("top"),
        reflectivity=column("reflectivity", 0.3),
        porosity=column("porosity"),
    )


def _posts(
    rng: np.random.Generator,
    road: Road,
    s: Floats,
    d: float,
    spread: float,
    *,
    radius: Span,
    top: Span,
    **columns: Floats | float,
) -> Clutter:
    """Cylinders near a line; radius and top are ranges."""
    lateral = d + rng.normal(0.0, spread, len(s))
    radii, tops = rng.uniform(*radius, len(s)), rng.uniform(*top, len(s))
    return _things(road, s, lateral, round=1.0, half_length=radii, top=tops, **columns)


def _roadside(rng: np.random.Generator, road: Road, span: Span, kerb: float, wall: float) -> Clutter:
    """Poles, trees, bushes and bollards at one kerb; buildings and low walls behind (d beyond `wall`)."""
    side = float(np.sign(wall))
    poles, trees, bushes, bollards, houses, walls = (_positions(rng, span, gap) for gap in (22, 18, 22, 25, 24, 30))
    girth, crown = rng.uniform(0.12, 0.28, len(trees)), rng.uniform(1.0, 2.2, len(trees))
    planted = wall - side * rng.uniform(0.0, 1.0, len(trees))
    stem = rng.uniform(1.9, 2.8, len(trees))
    depth = rng.uniform(4.0, 8.0, len(houses))
    leaves: dict[str, Floats | float] = {
        "bottom": stem - 0.2,
        "top": stem + 2.0 * crown,
        "porosity": 0.45,
        "reflectivity": 0.35,
    }
    return Clutter.joined(
        [
            _posts(rng, road, poles, kerb, 0.2, radius=(0.06, 0.14), top=(3.0, 7.0), reflectivity=0.45),
            _things(road, trees, planted, round=1.0, half_length=girth, top=stem, reflectivity=0.25),
            _things(road, trees, planted, round=1.0, half_length=crown, **leaves),
            _posts(rng, road, bushes, wall, 0.5, radius=(0.4, 0.9), top=(0.6, 1.5), porosity=0.25, reflectivity=0.4),
            _posts(rng, road, bollards, kerb, 0.3, radius=(0.08, 0.2), top=(0.7, 1.2), reflectivity=0.5),
            _buildings(rng, road, houses, wall, depth),
            _walls(rng, road, walls, wall),
        ]
    )


def _buildings(rng: np.random.Generator, road: Road, s: Floats, line: float, depth: Floats) -> Clutter:
    d = line + np.sign(line) * (1.5 + depth + rng.uniform(0.0, 2.0, len(s)))
    length, top = rng.uniform(5.0, 11.0, len(s)), rng.uniform(4.0, 12.0, len(s))
    return _things(road, s, d, half_length=length, half_width=depth, top=top, reflectivity=0.35)


def _walls(rng: np.random.Generator, road: Road, s: Floats, line: float) -> Clutter:
    d = line + np.sign(line) * rng.uniform(0.4, 1.2, len(s))
    length, top = rng.uniform(2.0, 5.0, len(s)), rng.uniform(0.8, 1.8, len(s))
    return _things(road, s, d, half_length=length, half_width=0.1, top=top)


def _street(rng: np.random.Generator, conditions: Conditions, seconds: float, *, bend: float = 0.0) -> Street:
    speed = float(rng.uniform(7.0, 13.0))
    road, span = Road(curvature=bend), (-SIGHT, SIGHT + speed * seconds)
    oncoming = (-SIGHT, SIGHT + 2.0 * speed * seconds)
    ahead, behind = {"speed": speed}, {"speed": float(rng.uniform(7.0, 13.0))}
    spots = [_positions(rng, span, 11.0) for _ in range(2)]
    users = Users.joined(
        [
            _ego(speed),
            _lane(rng, conditions, span, 0.0, 1, **ahead),
            _lane(rng, conditions, span, -LANE, 1, **ahead),
            _lane(rng, conditions, oncoming, LANE, -1, **behind),
            _lane(rng, conditions, oncoming, 2 * LANE, -1, **behind),
            _cyclists(rng, conditions, span, -1.45 * LANE, 1),
            _cyclists(rng, conditions, oncoming, 2.45 * LANE, -1),
            _parked(rng, conditions, spots[0], -6.9, 0.0),
            _parked(rng, conditions, spots[1], 10.4, np.pi),
            _walkers(rng, conditions, span, (-11.5, -8.4)),
            _walkers(rng, conditions, span, (11.8, 15.0)),
            _walkers(rng, conditions, span, (-6.0, 10.0), spacing=60.0),
        ]
    )
    clutter = [_roadside(rng, road, span, -8.1, -12.5), _roadside(rng, road, span, 11.6, 16.0)]
    return (road,), users, Clutter.joined(clutter)


def _curve(rng: np.random.Generator, conditions: Conditions, seconds: float) -> Street:
    return _street(rng, conditions, seconds, bend=float(rng.choice([-1.0, 1.0]) / rng.uniform(70.0, 160.0)))


def _junction(rng: np.random.Generator, conditions: Conditions, seconds: float) -> Street:
    """The main road waits at the stop lines; the road across flows."""
    (road,), _, clutter = _street(rng, conditions, 0.0)
    middle = float(rng.uniform(12.0, 22.0))
    speed = float(rng.uniform(6.0, 10.0))
    cross = Road(x=middle, yaw=np.pi / 2)
    waiting, facing = (-SIGHT, middle - 9.0), (middle + 9.0, SIGHT)
    flow = SIGHT + speed * seconds
    crossing = {"speed": speed, "road": 1.0, "spacing": 20.0}
    still = {"speed": 0.0, "spacing": 14.0}
    users = Users.joined(
        [
            _ego(0.0),
            _lane(rng, conditions, waiting, 0.0, 1, **still),
            _lane(rng, conditions, waiting, -LANE, 1, **still),
            _lane(rng, conditions, facing, LANE, -1, **still),
            _lane(rng, conditions, facing, 2 * LANE, -1, **still),
            _lane(rng, conditions, (-flow, SIGHT), -0.5 * LANE, 1, **crossing),
            _lane(rng, conditions, (-SIGHT, flow), 0.5 * LANE, -1, **crossing),
            _cyclists(rng, conditions, (-flow, SIGHT), -1.45 * LANE, 1, road=1.0),
            _cyclists(rng, conditions, (-SIGHT, flow), 1.45 * LANE, -1, road=1.0),
            _walkers(rng, conditions, (middle - 8.5, middle - 6.0), (-9.0, 12.0), spacing=1.2),
            _walkers(rng, conditions, (middle + 6.0, middle + 8.5), (-9.0, 12.0), spacing=1.2),
            _walkers(rng, conditions, (-SIGHT, middle - 6.0), (-11.5, -8.4)),
            _walkers(rng, conditions, (-SIGHT, middle - 6.0), (11.8, 15.0)),
        ]
    )
    return (road, cross), users, clutter.take(np.abs(clutter.x - middle) - clutter.half_length > 7.0)


def _car_park(rng: np.random.Generator, conditions: Conditions, seconds: float) -> Street:
    speed = 2.0
    road, span = Road(), (-SIGHT, SIGHT + speed * seconds)
    rows = []
    for d, heading in ((6.2, 1), (11.4, -1), (23.5, 1), (-6.2, -1), (-11.4, 1), (-23.5, -1)):
        bays = np.arange(span[0], span[1], 2.8) + rng.uniform(0.0, 2.8)
        bays = bays[rng.random(len(bays)) < 0.35]
        rows.append(_parked(rng, conditions, bays, d, heading * np.pi / 2, trucks=0.0))
    lorries = [_parked(rng, conditions, _positions(rng, span, 30.0), d, 0.0, trucks=1.0) for d in (14.2, -14.2)]
    users = Users.joined(
        [
            _ego(speed),
            *lorries,
            *rows,
            _lane(rng, conditions, span, 17.5, 1, speed=3.0, spacing=45.0),
            _lane(rng, conditions, span, -17.5, -1, speed=3.0, spacing=45.0),
            _cyclists(rng, conditions, span, -2.4, 1),
            _cyclists(rng, conditions, span, 2.4, -1),
            *(_walkers(rng, conditions, span, (d - 2.5, d + 2.5), spacing=16.0) for d in (-17.5, 0.0, 17.5)),
        ]
    )
    lamps, trees = _positions(rng, span, 16.0), _positions(rng, span, 14.0)
    edges = [_roadside(rng, road, span, 32.0, 34.0), _roadside(rng, road, span, -32.0, -34.0)]
    between = [rng.choice([-8.8, 8.8], len(s)) for s in (lamps, trees)]
    clutter = Clutter.joined(
        [
            *edges,
            _things(road, lamps, between[0], round=1.0, half_length=0.12, top=6.0, reflectivity=0.45),
            _things(road, trees, between[1], round=1.0, half_length=0.18, top=2.2, reflectivity=0.25),
        ]
    )
    return (road,), users, clutter


_BUILDERS: dict[str, Callable[..., Street]] = {
    "straight": _street,
    "curve": _curve,
    "junction": _junction,
    "parking": _car_park,
}
SITES = tuple(_BUILDERS)
