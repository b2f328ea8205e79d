"""Asset keys and table names are the same words: `evaluation/units` ↔ `["evaluation", "units"]`."""

from __future__ import annotations

import dagster as dg

from mld_pipelines.tables import TableSpec

__all__ = ["asset_key", "table_name"]


def asset_key(table: TableSpec | str) -> dg.AssetKey:
    """Return the key of a table's asset.

    The name is split into parts: `AssetKey("a/b")` would quietly be a key of one part.
    """
    name = table.name if isinstance(table, TableSpec) else table
    return dg.AssetKey(name.split("/"))


def table_name(key: dg.AssetKey) -> str:
    """Return the table of an asset key."""
    return "/".join(key.path)
