"""Receipts in both directions: the run in the commit, the commit in the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from mld_pipelines import __version__
from resources._metadata import column_schema, preview

if TYPE_CHECKING:
    import polars as pl

    from mld_pipelines.lake import Provenance
    from mld_pipelines.tables import TableSpec

__all__ = ["Scope", "provenance", "table_metadata"]

Scope = Literal["table", "partition", "range"]

_COUNTS = {"table": "dagster/row_count", "partition": "dagster/partition_row_count"}


def provenance(run_id: str | None) -> Provenance:
    """Return what a commit says about its origin."""
    from mld_pipelines.lake import Provenance  # the code location has to import in a second

    return Provenance(run_id=run_id, code_version=__version__)


def table_metadata(
    spec: TableSpec,
    *,
    uri: str,
    version: int | None,
    rows: int,
    frame: pl.DataFrame | None = None,
    scope: Scope = "table",
) -> dict[str, Any]:
    """Return the metadata that every table asset carries.

    Args:
        spec: The table.
        uri: Where it lies.
        version: Delta version that holds the rows; None before the first commit.
        rows: Rows of the materialised partition, or of the table.
        frame: Rows to show some of.
        scope: What `rows` counts; a range of partitions has no count of Dagster's own, its partitions have.
    """
    metadata: dict[str, Any] = {
        "rows": dg.MetadataValue.float(float(rows)),
        "dagster/uri": uri,
        "dagster/table_name": spec.name,
        "dagster/column_schema": column_schema(spec),
    }
    if scope in _COUNTS:
        metadata[_COUNTS[scope]] = rows
    if version is not None:
        metadata["delta_version"] = dg.MetadataValue.int(version)
    if frame is not None:
        metadata["preview"] = preview(spec, frame)
    return metadata
