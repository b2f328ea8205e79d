"""A made-up fortnight of production: real digits, clean in the first week, corrupted more and more in the second."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from examples.demo.digits import Digits

__all__ = ["DAYS", "FIRST_DAY", "PER_DAY", "Request", "SimulatedClock", "fortnight"]

FIRST_DAY = date(2026, 1, 5)
DAYS = 14
PER_DAY = 240
BATCH = 8
SEED = 20260105


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One call of the model in production.

    Attributes:
        at: When it happens.
        images: (N, 1, 8, 8) float32.
        labels: The truth, which production does not know.
        request_ids: N names by which labels can be given later.
    """

    at: datetime
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    request_ids: list[str]


class SimulatedClock:
    """The clock of a replay: it shows the time of the current request."""

    def __init__(self) -> None:
        self.now = datetime.combine(FIRST_DAY, datetime.min.time(), UTC)

    def __call__(self) -> datetime:
        """Return the simulated time."""
        return self.now


def fortnight(pool: Digits) -> Iterator[Request]:
    """Yield the requests of 14 days in order; every run yields the same ones.

    Args:
        pool: Digits that the model has never seen.
    """
    rng = np.random.default_rng(SEED)
    for day in range(DAYS):
        midnight = datetime.combine(FIRST_DAY + timedelta(days=day), datetime.min.time(), UTC)
        severity = max(0.0, (day - 6) / (DAYS - 7))
        rows = rng.integers(0, len(pool.labels), PER_DAY)
        images = np.stack([_corrupted(image, severity, rng) for image in pool.images[rows]])
        for start in range(0, PER_DAY, BATCH):
            part = slice(start, start + BATCH)
            yield Request(
                at=midnight + timedelta(minutes=start * 24 * 60 / PER_DAY),
                images=images[part],
                labels=pool.labels[rows[part]],
                request_ids=[f"{midnight:%m%d}-{start + i:03d}" for i in range(BATCH)],
            )


def _corrupted(image: npt.NDArray[np.float32], severity: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return the image with noise, blur or an occlusion; severity 0 … 1 is also the chance of any."""
    kind, chance = rng.integers(0, 3), rng.random()
    noise, corner = rng.normal(size=image.shape), rng.integers(0, 4, size=2)
    if chance > severity:
        return image
    if kind == 0:
        changed = image + 0.45 * severity * noise
    elif kind == 1:
        changed = _blurred(image, severity)
    else:
        changed = image.copy()
        changed[:, corner[0] : corner[0] + 4, corner[1] : corner[1] + 4] = 1.0 - severity
    return np.clip(changed, 0.0, 1.0).astype(np.float32)


def _blurred(image: npt.NDArray[np.float32], severity: float) -> npt.NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    blurred: npt.NDArray[np.float32] = gaussian_filter(image, sigma=(0.0, 1.4 * severity, 1.4 * severity))
    return blurred
