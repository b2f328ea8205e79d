"""From a table's declaration to its Delta schema, configuration and Parquet settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
from arro3.core import RecordBatchReader
from deltalake import ColumnProperties, Schema, WriterProperties

from mld_pipelines.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deltalake import DeltaTable

    from mld_pipelines.tables import Column, TableSpec

__all__ = [
    "CONSTRAINTS_KEY",
    "SCHEMA_VERSION_KEY",
    "configuration",
    "delta_schema",
    "stored_version",
    "writer_properties",
]

CONSTRAINTS_KEY = "mld.constraints"
"""Table property with the CHECK constraints as declared: Delta stores them rewritten, so they cannot be compared."""

SCHEMA_VERSION_KEY = "mld.schemaVersion"
"""Table property with the catalogue version; written last, so a table that has it is complete."""

_CHECKPOINT_LANDING, _CHECKPOINT = "20", "10"
"""Commits per checkpoint: at the default of 100, opening a landing table replays too many files (31 ms at v300). Tables
whose partitions are replaced carry more per commit: with 41 commits to replay a refresh of `monitoring/windows` took
153 ms, with at most 10 it takes 107 (at half that history 115 and 103)."""

_STATISTICS = "delta.dataSkippingStatsColumns"
"""Delta keeps the statistics of 32 columns per file by default and every commit reads them again: with those that
queries skip files by, a commit at version 1,000 took 24 ms of processor time instead of 37 (at 100: 17.5 and 20.6)."""

_ZSTD_LEVEL = 3
"""20.5 MB of float32 features: snappy 21.2 MB, ZSTD-3 without dictionaries 19.0 MB."""


def delta_schema(columns: Iterable[Column], *, nullable: bool = False) -> Schema:
    """Return the Delta schema of some columns; required ones refuse null.

    Args:
        columns: Declared columns in storage order.
        nullable: Let required columns hold null, as a column added to an existing table must.
    """
    columns = list(columns)
    empty = pl.DataFrame(schema={column.name: column.data_type for column in columns})
    document = json.loads(Schema.from_arrow(RecordBatchReader.from_arrow(empty).schema).to_json())
    for declared, column in zip(document["fields"], columns, strict=True):
        declared["nullable"] = nullable or not column.required
        declared["metadata"] = {"comment": column.description}
    return Schema.from_json(json.dumps(document))


def stored_version(handle: DeltaTable) -> int:
    """Return the catalogue version of a table; one that was never completed counts as ours."""
    return int(handle.metadata().configuration.get(SCHEMA_VERSION_KEY, SCHEMA_VERSION))


def configuration(spec: TableSpec) -> dict[str, str]:
    """Return the Delta properties a table is created with.

    Marks of streams outlive every retention of landing rows (365 days). Log clean-up is off: `Lake.vacuum` does it
    where no pinned version needs the log.
    """
    return {
        "delta.appendOnly": "true" if spec.append_only else "false",
        "delta.checkpointInterval": _CHECKPOINT_LANDING if spec.layer == "landing" else _CHECKPOINT,
        "delta.logRetentionDuration": "interval 30 days",
        "delta.setTransactionRetentionDuration": "interval 400 days",
        "delta.enableExpiredLogCleanup": "false",
        **({_STATISTICS: ",".join(names)} if (names := _skipping_columns(spec)) else {}),
    }


def _skipping_columns(spec: TableSpec) -> list[str]:
    """Return the columns that files can be skipped by: model, times, keys and the order within files."""
    chosen = {"model_key", *spec.key, *spec.zorder}
    return [
        column.name
        for column in spec.columns
        if (column.name in chosen or column.data_type.is_temporal()) and column.name not in spec.partition_by
    ]


def writer_properties(spec: TableSpec) -> WriterProperties:
    """Return the Parquet settings: dictionaries for text and counts, statistics for scalars.

    The settings of list elements can only be reached as the default, so scalars are named one by one.
    """
    return WriterProperties(
        compression="ZSTD",
        compression_level=_ZSTD_LEVEL,
        default_column_properties=ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE"),
        column_properties={
            column.name: ColumnProperties(
                dictionary_enabled=not column.data_type.is_float(), statistics_enabled="CHUNK"
            )
            for column in spec.columns
            if not column.data_type.is_nested() and not column.vector
        },
    )
