"""Dagster resources: thin adapters around the rooms of `mld_pipelines`."""

from __future__ import annotations

from resources._keys import asset_key, table_name
from resources._metadata import column_lineage, column_schema, numbers, preview
from resources._receipts import Scope, provenance, table_metadata
from resources.clock import ClockResource
from resources.lake import LakeResource
from resources.pool import PoolResource

__all__ = [
    "ClockResource",
    "LakeResource",
    "PoolResource",
    "Scope",
    "asset_key",
    "column_lineage",
    "column_schema",
    "numbers",
    "preview",
    "provenance",
    "table_metadata",
    "table_name",
]
