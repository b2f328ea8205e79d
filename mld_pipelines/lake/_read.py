"""Reading: lazy frames of one version, and the rows that a range of versions added."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.exceptions import CorruptTableError, VersionUnavailableError
from mld_pipelines.lake._errors import translated
from mld_pipelines.lake._log import AddedFile, added_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltalake import DeltaTable

    from mld_pipelines.lake._storage import Storage
    from mld_pipelines.tables import TableSpec

__all__ = ["read_changes", "scan_handle"]


def scan_handle(handle: DeltaTable, spec: TableSpec, equals: Mapping[str, Any] | None = None) -> pl.LazyFrame:
    """Return a lazy frame of the handle's version in the table's declared schema.

    Columns that are younger than the version come as typed nulls, columns that only newer code knows are left out.

    Args:
        handle: A handle that is not updated any more.
        spec: The table.
        equals: Conditions by column: a value, None for null, or a list of values.

    Raises:
        ContractError: A condition names no column of the table.
    """
    stored = pl.Schema(handle.schema())
    frame = pl.scan_delta(handle)
    for name, value in (equals or {}).items():
        spec.column(name)
        frame = frame.filter(_condition(name, value) if name in stored else pl.lit(value is None))
    return frame.select(
        pl.col(column.name) if column.name in stored else pl.lit(None, dtype=column.data_type).alias(column.name)
        for column in spec.columns
    )


def read_changes(storage: Storage, spec: TableSpec, *, since: int, until: int, columns: Sequence[str]) -> pl.DataFrame:
    """Return the rows that versions `since + 1 … until` added, oldest first.

    Args:
        storage: The lake.
        spec: The table.
        since: Last version that was read.
        until: Last version to read.
        columns: Columns to read; others, e.g. vectors, stay on the disk.

    Raises:
        VersionUnavailableError: Log or data files of the range were cleaned up.
        CorruptTableError: A file is damaged.
    """
    files = added_files(storage, spec.name, since=since, until=until)
    groups = [
        _rows(storage, spec, list(group), columns) for _, group in groupby(files, key=lambda file: file.partition)
    ]
    return pl.concat([spec.empty().select(columns), *groups])


def _condition(name: str, value: Any) -> pl.Expr:
    if value is None:
        return pl.col(name).is_null()
    if isinstance(value, list | tuple | set | frozenset):
        members = [member for member in value if member is not None]
        found = pl.col(name).is_in(members)
        return found if len(members) == len(value) else found | pl.col(name).is_null()
    return pl.col(name).eq(value)


def _rows(storage: Storage, spec: TableSpec, files: list[AddedFile], columns: Sequence[str]) -> pl.DataFrame:
    partition = files[0].partition
    stored = {name: dtype for name, dtype in spec.polars_schema.items() if name not in partition}
    scan = pl.scan_parquet(
        [file.path for file in files],
        schema=stored,
        glob=False,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        storage_options=storage.options or None,
    )
    # without any column of the files their rows could not be counted
    wanted = [name for name in columns if name in stored] or list(stored)[:1]
    try:
        with translated(storage, spec.name, "reading changes"):
            rows = scan.select(wanted).collect()
    except CorruptTableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise VersionUnavailableError(
                f"a data file that versions {files[0].version} … {files[-1].version} of table {spec.name} added was "
                "vacuumed after a compaction, so what changed since cannot be told; read the whole table once and go "
                "on from its current version."
            ) from error
        raise
    return rows.with_columns(_partition_values(spec, partition)).select(columns)


def _partition_values(spec: TableSpec, partition: Mapping[str, str | None]) -> list[pl.Expr]:
    return [
        _partition_value(name, value, spec.column(name).data_type)
        for name, value in partition.items()
        if name in spec.column_names
    ]


def _partition_value(name: str, value: str | None, dtype: pl.DataType) -> pl.Expr:
    text = pl.lit(value or None, dtype=pl.String)  # Delta stores an empty string as null
    return (text.str.to_date() if dtype == pl.Date else text.cast(dtype)).alias(name)
