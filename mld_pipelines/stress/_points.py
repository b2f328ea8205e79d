"""Point-cloud families: seven corruptions of four causes on (N, 3 or more) scans in metres, sensor at the origin.

Columns are x, y, z, then intensity if there is one; further columns travel with their point. Strengths of severities
1, 3 and 5 are fixed by design, those of 2 and 4 lie between.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.stress._family import Family, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mld_pipelines.stress._family import Values

    Effect = Callable[["NDArray[np.float64]", int, np.random.Generator], "NDArray[np.float64]"]

__all__ = ["point_families"]

#: Share of points lost at random.
DROPPED = (0.10, 0.20, 0.30, 0.45, 0.60)
#: Range that remains, relative to the 99 % quantile of the scan's ranges.
VISIBLE = (0.80, 0.65, 0.50, 0.35, 0.25)
#: Share of the beams lost.
DEAD_BEAMS = (0.125, 0.25, 0.50, 0.625, 0.75)
#: Beams that a scan is divided into by elevation.
BEAMS = 32
#: Standard deviation of the error of each coordinate, metres.
JITTER = (0.02, 0.035, 0.05, 0.075, 0.10)
#: Degrees of azimuth lost.
SECTOR = (20.0, 40.0, 60.0, 90.0, 120.0)
#: Factor of the intensity.
INTENSITY = (0.70, 0.55, 0.40, 0.30, 0.20)
#: False points relative to the scan's.
CLUTTER = (0.02, 0.04, 0.08, 0.12, 0.20)
#: Distances of false points, metres: spray and dust return from nearby.
CLUTTER_RANGE = (1.0, 10.0)


def point_families(*, has_intensity: bool = True) -> tuple[Family, ...]:
    """Return the point-cloud families. Each kind takes one floating scan and may change its number of points.

    Args:
        has_intensity: Whether the fourth column is an intensity; without one there is no such family.
    """
    effects: dict[str, dict[str, Effect]] = {
        "density": {"drop": _drop, "beam_drop": _beam_drop},
        "coverage": {"far_drop": _far_drop, "sector_loss": _sector_loss},
        "noise": {"jitter": _jitter, "clutter": partial(_clutter, has_intensity)},
        "intensity": {"faint": _faint},
    }
    return tuple(
        Family(
            name,
            tuple(
                Kind(kind, partial(_on_scan, effect, has_intensity), keeps_shape=False)
                for kind, effect in kinds.items()
            ),
            "points",
        )
        for name, kinds in effects.items()
        if has_intensity or name != "intensity"
    )


def _on_scan(effect: Effect, has_intensity: bool, scan: Values, severity: int, rng: np.random.Generator) -> Values:
    columns = 4 if has_intensity else 3
    if scan.ndim != 2 or scan.shape[1] < columns or not np.isfinite(scan[:, :columns]).all():
        raise InvalidInputError(
            f"a scan of shape {scan.shape} is no finite array of points with {columns} or more columns; nothing was "
            "corrupted. Pass x, y, z and the intensity, or has_intensity=False."
        )
    if not len(scan):
        return scan
    return effect(scan.astype(np.float64), severity - 1, rng)


def _drop(scan: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return scan[rng.random(len(scan)) >= DROPPED[step]]


def _beam_drop(scan: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Whole beams go: elevations are divided into 32 bins of equally many points."""
    elevation = np.arctan2(scan[:, 2], np.hypot(scan[:, 0], scan[:, 1]))
    edges = np.quantile(elevation, np.linspace(0.0, 1.0, BEAMS + 1)[1:-1])
    dead = rng.permutation(BEAMS)[: round(BEAMS * DEAD_BEAMS[step])]
    return scan[~np.isin(np.searchsorted(edges, elevation, side="right"), dead)]


def _far_drop(scan: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    """Points beyond a shorter range are gone, as in fog or rain."""
    distance = np.linalg.norm(scan[:, :3], axis=1)
    is_near: NDArray[np.bool_] = distance <= VISIBLE[step] * float(np.quantile(distance, 0.99))
    return scan[is_near]


def _sector_loss(scan: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A sector of azimuth is gone, as behind dirt on the cover."""
    azimuth = np.arctan2(scan[:, 1], scan[:, 0])
    start = rng.uniform(0.0, 2.0 * np.pi)
    is_clear: NDArray[np.bool_] = np.mod(azimuth - start, 2.0 * np.pi) >= np.deg2rad(SECTOR[step])
    return scan[is_clear]


def _jitter(scan: NDArray[np.float64], step: int, rng: np.random.Generator) -> NDArray[np.float64]:
    scan[:, :3] += JITTER[step] * rng.standard_normal((len(scan), 3))
    return scan


def _clutter(
    has_intensity: bool, scan: NDArray[np.float64], step: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Add false returns near the sensor: directions of random points, other distances, the faintest intensities."""
    source = scan[rng.integers(0, len(scan), max(1, round(len(scan) * CLUTTER[step])))].copy()
    distance = np.maximum(np.linalg.norm(source[:, :3], axis=1, keepdims=True), 1e-9)
    source[:, :3] *= rng.uniform(*CLUTTER_RANGE, (len(source), 1)) / distance
    if has_intensity:
        source[:, 3] = scan[:, 3].min()
    return np.concatenate([scan, source])


def _faint(scan: NDArray[np.float64], step: int, _rng: np.random.Generator) -> NDArray[np.float64]:
    scan[:, 3] *= INTENSITY[step]
    return scan
