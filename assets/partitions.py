"""The two partition sets of the platform."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from mld_pipelines.tables import FIRST_EVENT_DAY

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DAYS", "MODELS", "MODEL_PARTITIONS", "days_of", "is_partition", "partitions_of", "range_tags"]

MODEL_PARTITIONS = "model_key"
"""Name of the dynamic partition set, needed to add keys."""

#: One partition per `model_name@version_name`.
MODELS = dg.DynamicPartitionsDefinition(name=MODEL_PARTITIONS)

#: One partition per UTC event day; `end_offset=1` makes today exist while it is still filling.
DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_EVENT_DAY.isoformat(), timezone="UTC", end_offset=1)

_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"


def range_tags(first: date, last: date) -> dict[str, str]:
    """Return the run tags that make one run of a contiguous range of days."""
    return {_RANGE_START: first.isoformat(), _RANGE_END: last.isoformat()}


def partitions_of(tags: Mapping[str, str]) -> set[str]:
    """Return the partition keys that the tags of a run name: every day of its range, or its one partition."""
    if _RANGE_START in tags and _RANGE_END in tags:
        first, last = date.fromisoformat(tags[_RANGE_START]), date.fromisoformat(tags[_RANGE_END])
        return {(first + timedelta(days=later)).isoformat() for later in range((last - first).days + 1)}
    return {tags["dagster/partition"]} if "dagster/partition" in tags else set()


def days_of(context: dg.AssetExecutionContext) -> list[date]:
    """Return the event days of a run, oldest first."""
    return [date.fromisoformat(key) for key in sorted(context.partition_keys)]


def is_partition(day: date, now: datetime) -> bool:
    """Return whether an event day is a partition at a moment: neither before the first day nor in the future."""
    return FIRST_EVENT_DAY <= day <= now.date()
