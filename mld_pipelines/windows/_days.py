"""Which event days a run has to recompute."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

__all__ = ["plan_days"]

#: Run requests of one sensor tick (docs/storage.md#cursors).
MAX_RANGES = 25


def plan_days(touched_days: Iterable[date], limit: int = MAX_RANGES) -> list[tuple[date, date]]:
    """Return contiguous ranges of touched days, newest first: each is one ranged run.

    Ranges never hold an untouched day, so the work follows the new rows and not the span of their dates. Days beyond
    the limit are the oldest; the caller keeps them for its next tick.

    Args:
        touched_days: Event days with new rows, in any order, repeated or not.
        limit: Most ranges to return.

    Returns:
        (first, last) pairs, both inclusive.

    Raises:
        InvalidInputError: The limit is below 1.

    Example:
        >>> from datetime import date
        >>> plan_days([date(2026, 5, 2), date(2026, 5, 1), date(2026, 4, 1)])
        [(datetime.date(2026, 5, 1), datetime.date(2026, 5, 2)), (datetime.date(2026, 4, 1), datetime.date(2026, 4, 1))]
    """
    if limit < 1:
        raise InvalidInputError(f"limit is {limit}; at least one range per tick is needed to make progress.")
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(touched_days), reverse=True):
        if ranges and ranges[-1][0] - day == timedelta(days=1):
            ranges[-1] = (day, ranges[-1][1])
        else:
            ranges.append((day, day))
    return ranges[:limit]
