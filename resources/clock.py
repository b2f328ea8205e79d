"""The wall clock as a resource, so that tests and replays can say what time it is."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

__all__ = ["ClockResource"]


class ClockResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Tells the time. Monitoring counts in event time; only waiting for something uses this clock."""

    fixed: str = Field(default="", description="ISO instant to return for ever; empty is the real clock.")

    def now(self) -> datetime:
        """Return the current instant, UTC."""
        return datetime.fromisoformat(self.fixed).astimezone(UTC) if self.fixed else datetime.now(UTC)
