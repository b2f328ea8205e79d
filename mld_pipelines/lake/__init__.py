"""The only code that touches Delta tables: `Lake` reads, appends, replaces, commits exactly once, maintains."""

from __future__ import annotations

from mld_pipelines.lake._damage import damaged_tables, explained, explaining
from mld_pipelines.lake._describe import schema_versions, table_id
from mld_pipelines.lake._lake import Lake
from mld_pipelines.lake._values import Batch, Commit, Compaction, Provenance, Vacuum

__all__ = [
    "Batch",
    "Commit",
    "Compaction",
    "Lake",
    "Provenance",
    "Vacuum",
    "damaged_tables",
    "explained",
    "explaining",
    "schema_versions",
    "table_id",
]
