"""Frames: a point cloud with its truth; sets of them for training, and drives through drifting conditions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from examples.drive.conditions import CLEAR, NIGHT, Conditions
from examples.drive.lidar import Parts, sweep
from examples.drive.shapes import parts_of, parts_of_clutter
from examples.drive.sites import SITES, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from examples.drive.scenes import Scene

__all__ = [
    "REACH",
    "START",
    "Frame",
    "count_points",
    "drift",
    "drive",
    "drive_frame",
    "frame_at",
    "mild",
    "single_frames",
]

REACH = 32.0
"""Truth covers the square of ±32 m around the sensor: what the detector is asked about."""
START = datetime(2026, 2, 2, 8, 0, tzinfo=UTC)
SECONDS_PER_SCENE = 8.0
STEP = 0.5
"""Two frames a second, as nuScenes' key frames."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One turn of the sensor and what was there.

    Attributes:
        frame_id: Name of the frame, for ever the same.
        at: When it was taken.
        site: Kind of street.
        conditions: Air, sensor, traffic.
        points: (N, 4) float32: x, y, z, intensity.
        boxes: (M, 7) float64 canonical: cx, cy, cz, w, l, h, yaw.
        labels: (M,) int64, rows of `CLASS_NAMES`.
        velocities: (M, 2) float64, m/s over ground in the sensor's axes.
        counts: (M,) int64, points inside each box.
    """

    frame_id: str
    at: datetime
    site: str
    conditions: Conditions
    points: NDArray[np.float32]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    velocities: NDArray[np.float64]
    counts: NDArray[np.int64]


def frame_at(
    scene: Scene,
    seconds: float,
    rng: np.random.Generator,
    *,
    conditions: Conditions = CLEAR,
    frame_id: str,
    at: datetime = START,
) -> Frame:
    """Return the frame that the sensor records in a scene at a time.

    Args:
        scene: Where.
        seconds: Since the scene began.
        rng: Noise of the sensor.
        conditions: Air and sensor.
        frame_id: Name to give.
        at: Time to give.
    """
    boxes, labels, velocities, paint, clutter, ground = scene.seen(seconds)
    solids, things = parts_of(boxes, labels, paint), parts_of_clutter(clutter, ground)
    names = Parts.__dataclass_fields__
    parts = Parts(*(np.concatenate([getattr(solids, name), getattr(things, name)]) for name in names))
    points = sweep(parts, ground, conditions, rng)
    near = np.abs(boxes[:, :2]).max(axis=1, initial=0.0) < REACH
    counts = count_points(points, boxes[near])
    return Frame(frame_id, at, scene.site, conditions, points, boxes[near], labels[near], velocities[near], counts)


def count_points(points: NDArray[np.float32], boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many points lie inside each box."""
    x, y, z = points[:, :3].T.astype(np.float32)
    centre = boxes.astype(np.float32)
    cos, sin = np.cos(centre[:, 6]), np.sin(centre[:, 6])
    order = np.argsort(x, kind="stable")
    x, y, z = x[order], y[order], z[order]
    reach = np.hypot(centre[:, 3], centre[:, 4]) / 2.0
    first, last = np.searchsorted(x, centre[:, 0] - reach), np.searchsorted(x, centre[:, 0] + reach)
    counts = np.zeros(len(boxes), np.int64)
    for row, (low, high) in enumerate(zip(first, last, strict=True)):
        dx, dy, dz = x[low:high] - centre[row, 0], y[low:high] - centre[row, 1], z[low:high] - centre[row, 2]
        ahead, left = cos[row] * dx + sin[row] * dy, cos[row] * dy - sin[row] * dx
        _, _, _, width, length, height, _ = centre[row] / 2.0
        counts[row] = np.count_nonzero((np.abs(ahead) <= length) & (np.abs(left) <= width) & (np.abs(dz) <= height))
    return counts


def single_frames(
    count: int, seed: int, *, conditions: Conditions = CLEAR, first: int = 0, sites: tuple[str, ...] = SITES
) -> Iterator[Frame]:
    """Yield frames of as many different scenes; frame i of a seed is the same however many are asked for.

    Args:
        count: How many.
        seed: Of the generator: two seeds share no scene.
        conditions: Of all frames.
        first: Number of the first.
        sites: Kinds of street, in turn.
    """
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        scene = build(sites[number % len(sites)], rng, conditions)
        yield frame_at(scene, 0.0, rng, conditions=conditions, frame_id=f"{seed}-{number:05d}")


def drift(progress: float) -> Conditions:
    """Return the conditions of the example drive: sound and clear for half of it, then one cause after the other.

    Args:
        progress: 0 at the start of the drive, 1 at its end.
    """
    if progress < 0.5:
        return CLEAR
    if progress < 0.75:  # the weather turns
        wet = (progress - 0.5) / 0.25
        return Conditions(rain=wet, fog=0.5 * wet)
    if progress < 0.875:  # it clears, but the sensor has suffered
        return Conditions(dead_rings=tuple(range(1, 32, 3)), blind=(20.0, 50.0), pitch=1.5)
    return replace(NIGHT, rain=0.3)


def mild(number: int, seed: int) -> Conditions:
    """Return the conditions of a frame of a data set that knows bad days: every fourth is a little off.

    Args:
        number: Of the frame.
        seed: Of the generator.
    """
    if number % 4:
        return CLEAR
    rng = np.random.default_rng([seed, 3_000_000 + number])
    kind, much = int(rng.integers(3)), float(rng.uniform())
    return (Conditions(rain=0.3 * much), Conditions(fog=0.2 * much), Conditions(pitch=1.5 * much, roll=much))[kind]


def drive_frame(
    number: int,
    frames: int,
    seed: int,
    *,
    conditions: Callable[[float], Conditions] = drift,
    start: datetime = START,
    every: timedelta = timedelta(seconds=STEP),
) -> Frame:
    """Return one frame of a drive; see `drive`.

    Args:
        number: Of the frame, from 0.
        frames: Of the whole drive.
        seed: Of the generator.
        conditions: From progress (0 to 1) to conditions.
        start: Time of the first frame.
        every: Between time stamps.
    """
    per_scene = round(SECONDS_PER_SCENE / STEP)
    clip, within = divmod(number, per_scene)
    last = max(1, frames - 1)
    scene = _clip(seed, clip, conditions(clip * per_scene / last))
    noise = np.random.default_rng([seed, 2_000_000 + number])
    name, at = f"drive-{seed}-{number:05d}", start + number * every
    return frame_at(scene, within * STEP, noise, conditions=conditions(number / last), frame_id=name, at=at)


@lru_cache(maxsize=2)
def _clip(seed: int, clip: int, conditions: Conditions) -> Scene:
    """Scene of a drive; building it costs as much as two frames of it."""
    rng = np.random.default_rng([seed, 1_000_000 + clip])
    site = SITES[int(rng.integers(len(SITES)))]
    return build(site, rng, conditions, seconds=SECONDS_PER_SCENE)


def drive(
    frames: int,
    seed: int,
    *,
    conditions: Callable[[float], Conditions] = drift,
    start: datetime = START,
    every: timedelta = timedelta(seconds=STEP),
) -> Iterator[Frame]:
    """Yield frames in the order of time: scenes of eight seconds, one after the other, while conditions change.

    Args:
        frames: How many.
        seed: Of the generator.
        conditions: From progress (0 to 1) to conditions; the traffic of a scene follows those at its beginning.
        start: Time of the first frame.
        every: Time stamps are this far apart; the world itself moves half a second between frames.
    """
    for number in range(frames):
        yield drive_frame(number, frames, seed, conditions=conditions, start=start, every=every)
