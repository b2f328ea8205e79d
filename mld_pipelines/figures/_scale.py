"""Linear axes with round ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Scale", "fit_scale", "percent", "plain", "tick_labels"]


#: Spans below this are drawn as one value: their decimal logarithm is not safe.
_SMALLEST_SPAN = 1e-200


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values to coordinates.

    Attributes:
        low: Value at `start`.
        high: Value at `end`.
        start: Coordinate of `low`.
        end: Coordinate of `high` (smaller than `start` for a vertical axis).
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value, clipped to the axis."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        """Return about `count` round values inside the axis."""
        step = _round_step((self.high - self.low) / max(count, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def fit_scale(values: Iterable[float], *, start: float, end: float, floor: float | None = 0.0) -> Scale:
    """Return a scale that holds all values, with the top at a round number.

    Args:
        values: Values to hold; none gives the axis 0 … 1.
        start: Coordinate of the lowest value.
        end: Coordinate of the highest.
        floor: Value that the axis holds in any case; None fits tightly.
    """
    known = list(values)
    if not known:
        return Scale(low=0.0, high=1.0, start=start, end=end)
    low = min(known) if floor is None else min(floor, *known)
    high = max(known)
    if high - low <= max(_SMALLEST_SPAN, 1e-12 * abs(high)):
        high = low + (abs(low) if abs(low) > _SMALLEST_SPAN else 1.0)
    step = _round_step((high - low) / 4)
    top = high if floor is None else math.ceil(high / step - 1e-9) * step
    return Scale(low=low, high=top, start=start, end=end)


def percent(value: float) -> str:
    """Return a share as text with one decimal, as all values of one picture have: `12.0 %`, `0.5 %`."""
    return f"{100 * value:.1f} %"


def tick_labels(ticks: Sequence[float], *, is_share: bool) -> list[str]:
    """Return the texts of an axis, percentages with as many decimals each as the finest tick needs: `0 %`, `20 %`."""
    if not is_share:
        return [plain(tick) for tick in ticks]
    digits = next((n for n in range(3) if all(abs(100 * tick - round(100 * tick, n)) < 1e-6 for tick in ticks)), 3)
    return [f"{100 * tick:.{digits}f} %" for tick in ticks]


def plain(value: float) -> str:
    """Return a number as short text."""
    return f"{value:.4g}"


def _round_step(rough: float) -> float:
    """The 1-2-5 number at or above a rough step."""
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1.0, 2.0, 5.0, 10.0):
        if rough <= factor * power * (1 + 1e-9):
            return factor * power
    return 10.0 * power
