"""The annotated objects of nuScenes as columns: a million rows of the full set are numbers, not Python objects."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.datasets._nuscenes_tables import NuScenesTables

__all__ = ["AnnotatedObjects", "read_objects"]

_MAX_GAP_S = 1.5
"""Longest time between two neighbouring annotations for a velocity; twice that across both neighbours (devkit)."""

_NUMBERS = 10
"""Translation 3, size 3, rotation 4."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedObjects:
    """Objects sorted by sample, in the global frame.

    Attributes:
        offsets: (S + 1,) rows of each sample.
        categories: (N,) index into `names`.
        names: Category names that occur.
        translation: (N, 3) gravity centre, metres.
        size: (N, 3) width, length, height.
        rotation: (N, 4) quaternions w, x, y, z.
        velocity: (N, 2) m/s, NaN where unknown.
        points: (N,) LiDAR points inside, as annotated.
    """

    offsets: NDArray[np.int64]
    categories: NDArray[np.int64]
    names: tuple[str, ...]
    translation: NDArray[np.float64]
    size: NDArray[np.float64]
    rotation: NDArray[np.float64]
    velocity: NDArray[np.float64]
    points: NDArray[np.int64]


def read_objects(tables: NuScenesTables, samples: Mapping[str, int], times: NDArray[np.float64]) -> AnnotatedObjects:
    """Read the annotations of some samples.

    Args:
        tables: Tables.
        samples: Position of each sample by token.
        times: (S,) seconds of each sample.

    Raises:
        NotFoundError: A table is missing.
        InvalidInputError: A table is broken, or names what does not exist.
    """
    category_of = {row["token"]: row["name"] for row in tables.rows("category", "token", "name")}
    instance_of = {row["token"]: row["category_token"] for row in tables.rows("instance", "token", "category_token")}
    names: dict[str, int] = {}
    numbers, integers = array("d"), array("q")  # 10 numbers; sample, category, points
    place: dict[str, int] = {}
    links: list[tuple[str, str]] = []
    fields = ("token", "sample_token", "instance_token", "translation", "size", "rotation", "prev", "next",
              "num_lidar_pts")  # fmt: skip
    for row in tables.rows("sample_annotation", *fields):
        if row["sample_token"] not in samples:
            continue
        category = category_of.get(instance_of.get(row["instance_token"], ""))
        values = [*row["translation"], *row["size"], *row["rotation"]]
        if category is None or len(values) != _NUMBERS:
            what = "names an instance or category that does not exist" if category is None else "has no whole box"
            raise InvalidInputError(
                f"{tables.path('sample_annotation')}: annotation {row['token']!r} {what}; nothing was read. Unpack the "
                "metadata again."
            )
        place[row["token"]] = len(links)
        links.append((row["prev"], row["next"]))
        numbers.extend(values)
        integers.extend((samples[row["sample_token"]], names.setdefault(category, len(names)), row["num_lidar_pts"]))
    boxes = np.frombuffer(numbers, dtype=np.float64).reshape(-1, _NUMBERS)
    sample, categories, points = np.frombuffer(integers, dtype=np.int64).reshape(-1, 3).T
    velocity = _velocities(boxes[:, :2], times[sample], _rows(links, place))
    order = np.argsort(sample, kind="stable")
    offsets = np.concatenate(([0], np.cumsum(np.bincount(sample, minlength=len(samples)))))
    return AnnotatedObjects(
        offsets=offsets.astype(np.int64),
        categories=categories[order],
        names=tuple(names),
        translation=boxes[order, :3],
        size=boxes[order, 3:6],
        rotation=boxes[order, 6:],
        velocity=velocity[order],
        points=points[order],
    )


def _rows(links: Sequence[tuple[str, str]], place: Mapping[str, int]) -> NDArray[np.int64]:
    """Return (N, 2) rows of the annotations before and after; -1 for none."""
    return np.array([(place.get(before, -1), place.get(after, -1)) for before, after in links], np.int64).reshape(-1, 2)


def _velocities(
    places: NDArray[np.float64], times: NDArray[np.float64], links: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (N, 2) velocities by central differences over the neighbouring annotations, as nuScenes defines them."""
    own = np.arange(len(places))
    has = links >= 0
    first, last = np.where(has[:, 0], links[:, 0], own), np.where(has[:, 1], links[:, 1], own)
    elapsed = times[last] - times[first]
    longest = np.where(has.all(axis=1), 2 * _MAX_GAP_S, _MAX_GAP_S)
    usable = (first != last) & (elapsed > 0) & (elapsed <= longest)
    velocity = np.full((len(places), 2), math.nan)
    velocity[usable] = (places[last] - places[first])[usable] / elapsed[usable, None]
    return velocity
