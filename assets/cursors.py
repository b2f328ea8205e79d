"""What a sensor remembers: the Delta version it has read of each table, and what it still owes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from mld_pipelines.lake import Lake
    from mld_pipelines.tables import TableSpec

__all__ = ["Cursor"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """State of a sensor between two ticks.

    Attributes:
        versions: Delta version read, by table; a table not named was never read.
        pending: Work found and not requested yet (a tick requests at most 25 runs).
        state: Whatever else a decision needs.
    """

    versions: Mapping[str, int] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None) -> Cursor:
        """Return the cursor that `text` wrote; an empty one before the first tick."""
        if not text:
            return cls()
        values = json.loads(text)
        return cls(values.get("versions", {}), tuple(values.get("pending", ())), values.get("state", {}))

    @property
    def text(self) -> str:
        """The cursor as Dagster stores it."""
        values = {"versions": dict(self.versions), "pending": list(self.pending), "state": dict(self.state)}
        return json.dumps(values, sort_keys=True)

    def new_rows(
        self, lake: Lake, columns: Mapping[TableSpec, Sequence[str]]
    ) -> tuple[dict[str, pl.DataFrame], Cursor]:
        """Return the rows added since the last tick, by table, and the cursor that knows them.

        The version is taken before the rows are read, so no row is missed and none is read twice. A table that was
        made anew (its version fell behind the cursor) is read whole.

        Args:
            lake: The lake.
            columns: Columns to return, by table.
        """
        rows: dict[str, pl.DataFrame] = {}
        versions = dict(self.versions)
        for spec, names in columns.items():
            until, since = lake.version(spec), versions.get(spec.name)
            if until is None or until == since:
                rows[spec.name] = spec.empty().select(names)
                continue
            if since is None or since > until:
                rows[spec.name] = lake.scan(spec, version=until).select(names).collect()
            else:
                rows[spec.name] = lake.changes(spec, since=since, until=until, reread=True, columns=names)
            versions[spec.name] = until
        return rows, replace(self, versions=versions)
