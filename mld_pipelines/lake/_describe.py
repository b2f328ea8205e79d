"""What the log tells about tables: commits, sizes, files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.lake._schema import stored_version
from mld_pipelines.tables import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltalake import DeltaTable

    from mld_pipelines.lake._lake import Lake
    from mld_pipelines.tables import TableSpec

__all__ = ["data_files", "describe_history", "describe_tables", "no_files", "schema_versions", "table_id"]

_TIMESTAMP = pl.Datetime("us", "UTC")
_HISTORY = {
    "version": pl.Int64(),
    "timestamp": _TIMESTAMP,
    "operation": pl.String(),
    "rows": pl.Int64(),
    "run_id": pl.String(),
    "code_version": pl.String(),
    "extra": pl.String(),
}
_TABLES = {
    "table": pl.String(),
    "layer": pl.String(),
    "version": pl.Int64(),
    "rows": pl.Int64(),
    "files": pl.Int64(),
    "bytes": pl.Int64(),
}
_FILES = {"path": pl.String(), "size_bytes": pl.Int64(), "rows": pl.Int64(), "modified_at": _TIMESTAMP}
_DELTA_KEYS = frozenset(
    {
        "timestamp", "operation", "operationParameters", "engineInfo", "operationMetrics", "clientVersion", "version",
        "readVersion", "isolationLevel", "isBlindAppend", "userName", "userId", "userMetadata",
    }
)  # fmt: skip
"""Keys of a commit that are not custom metadata."""


def table_id(lake: Lake, spec: TableSpec) -> str | None:
    """Return the id that Delta gave a table when it was made, None where there is none.

    Versions count from 0 again when a table is deleted and made anew; the id is another one.

    Args:
        lake: The lake.
        spec: The table.
    """
    handle = lake._tables.snapshot(spec.name)
    return None if handle is None else str(handle.metadata().id)


def schema_versions(lake: Lake) -> dict[str, int]:
    """Return the version of the catalogue that each existing table was last written by; a newer one is read-only.

    Args:
        lake: The lake.
    """
    handles = {name: lake._tables.snapshot(name) for name in CATALOGUE}
    return {name: stored_version(handle) for name, handle in handles.items() if handle is not None}


def data_files(handle: DeltaTable) -> pl.DataFrame:
    """Return the active data files: path, size_bytes, rows, modified_at and one column per partition column."""
    actions = pl.DataFrame(handle.get_add_actions(flatten=True))
    keys = handle.metadata().partition_columns
    return actions.select(
        "path",
        "size_bytes",
        pl.col("num_records").cast(pl.Int64).alias("rows"),
        pl.col("modification_time").cast(pl.Datetime("ms", "UTC")).cast(_TIMESTAMP).alias("modified_at"),
        *(pl.col(f"partition.{name}").alias(name) for name in keys),
    )


def no_files(spec: TableSpec) -> pl.DataFrame:
    """Return the frame of `data_files` for a table that does not exist."""
    keys = {name: spec.column(name).data_type for name in spec.partition_by}
    return pl.DataFrame(schema={**_FILES, **keys})


def describe_history(commits: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return commits as rows: version, timestamp, operation, rows added, run_id, code_version, extra (JSON)."""
    return pl.DataFrame([_described(commit) for commit in commits], schema=_HISTORY)


def describe_tables(handles: Mapping[str, DeltaTable | None]) -> pl.DataFrame:
    """Return tables as rows: table, layer, version, rows, files, bytes."""
    rows = [_summary(name, handle) for name, handle in handles.items() if handle is not None]
    return pl.DataFrame(rows, schema=_TABLES)


def _described(commit: Mapping[str, Any]) -> dict[str, Any]:
    metrics = commit.get("operationMetrics") or {}
    extra = {key: value for key, value in commit.items() if key not in _DELTA_KEYS | {"run_id", "code_version"}}
    return {
        "version": commit["version"],
        "timestamp": datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
        "operation": commit.get("operation"),
        "rows": metrics.get("num_added_rows"),
        "run_id": commit.get("run_id"),
        "code_version": commit.get("code_version"),
        "extra": json.dumps(extra, sort_keys=True, default=str) if extra else None,
    }


def _summary(name: str, handle: DeltaTable) -> dict[str, Any]:
    files = data_files(handle)
    return {
        "table": name,
        "layer": CATALOGUE[name].layer,
        "version": handle.version(),
        "rows": files["rows"].sum(),
        "files": files.height,
        "bytes": files["size_bytes"].sum(),
    }
