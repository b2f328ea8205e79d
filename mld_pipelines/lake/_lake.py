"""`Lake`: the one door to the tables, on a local disk or in an object store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.exceptions import ContractError, CorruptTableError, InvalidInputError, VersionUnavailableError
from mld_pipelines.lake import _commit, _maintenance
from mld_pipelines.lake._describe import data_files, describe_history, describe_tables, no_files
from mld_pipelines.lake._errors import translated
from mld_pipelines.lake._predicate import Where, partition_predicate, refuse_rows_outside, row_predicate
from mld_pipelines.lake._read import read_changes, scan_handle
from mld_pipelines.lake._storage import Storage
from mld_pipelines.lake._tables import Tables
from mld_pipelines.lake._values import Batch, Commit, Compaction, Provenance, Vacuum
from mld_pipelines.tables import CATALOGUE, OPS_PINS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mld_pipelines.tables import TableSpec

__all__ = ["Lake"]

_COMPACT_ABOVE = 200
"""Small files per partition that a compaction waits for (fleet percentiles p50 60, p95 850: merges stay fast below)."""


class Lake:
    """Delta tables below one root; the only code that reads or writes them.

    Safe between threads and processes. Not safe across `fork` (an error says so); it pickles as its settings.

    Args:
        root: Local path or `s3://…` URI.
        code_version: Version of the code, stored with every commit.
        storage_options: Object-store options; credentials come from the environment.

    Example:
        >>> from mld_pipelines.lake import Lake
        >>> from mld_pipelines.tables import OPS_MODELS
        >>> Lake("/nowhere/yet", code_version="0").read(OPS_MODELS).height
        0
    """

    def __init__(self, root: str, *, code_version: str, storage_options: Mapping[str, str] | None = None) -> None:
        self._storage = Storage(root, storage_options)
        self._tables = Tables(self._storage, code_version)
        self.code_version = code_version

    @classmethod
    def open(cls, uri: str | None = None) -> Lake:
        """Return the lake at an endpoint, by default `MLD_API_ENDPOINT` or the state directory's.

        Args:
            uri: Path, `file://` or `s3://` URI.

        Raises:
            ConfigurationError: The endpoint is no lake.
        """
        from mld_pipelines import __version__
        from mld_pipelines.settings import lake_uri

        return cls(lake_uri(uri), code_version=__version__)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.root, self.code_version, self._storage.options)

    def __repr__(self) -> str:
        return f"Lake({self.root!r})"

    @property
    def root(self) -> str:
        """Absolute path or URI below which the tables lie."""
        return self._storage.root

    def uri(self, spec: TableSpec) -> str:
        """Return where a table lies.

        Args:
            spec: The table.
        """
        return self._storage.uri(spec.name)

    # -- reading ---------------------------------------------------------------------------------------------------

    def scan(self, spec: TableSpec, *, version: int | None = None, **equals: Any) -> pl.LazyFrame:
        """Return a lazy frame of one version of a table, in its declared schema; empty if there is no table.

        Args:
            spec: The table.
            version: Delta version; None is the newest at the time of the call.
            **equals: Conditions by column: a value, None for null, or a list of values.

        Raises:
            ContractError: A condition names no column.
            VersionUnavailableError: There is no such version.
            CorruptTableError: The log is damaged.
        """
        for name in equals:
            spec.column(name)
        handle = self._tables.snapshot(spec.name, version=version)
        return spec.empty().lazy() if handle is None else scan_handle(handle, spec, equals)

    def read(self, spec: TableSpec, *, version: int | None = None, **equals: Any) -> pl.DataFrame:
        """Return the rows of a table; see `scan`.

        Args:
            spec: The table.
            version: Delta version; None is the newest.
            **equals: Conditions by column.

        Raises:
            CorruptTableError: A data file is missing or damaged.
            VersionUnavailableError: The version is unknown or its files were vacuumed.
        """
        return self._collect(spec, self.scan(spec, version=version, **equals), version)

    def version(self, spec: TableSpec) -> int | None:
        """Return the newest Delta version of a table, None if it does not exist.

        Args:
            spec: The table.
        """
        handle = self._tables.snapshot(spec.name)
        return None if handle is None else handle.version()

    def changes(
        self,
        spec: TableSpec,
        *,
        since: int | None,
        until: int | None = None,
        reread: bool = False,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Return the rows that were added after a version; rows that a compaction moved are not among them.

        Take `until = lake.version(spec)` first and keep it as the next `since`: no row is missed or read twice.

        Args:
            spec: The table.
            since: Last version that was read; None reads everything that is in the table.
            until: Last version to read; None is the newest.
            reread: Return the whole table when the versions in between were cleaned up, instead of an error.
            columns: Columns to read; None is all of them, vectors included.

        Raises:
            VersionUnavailableError: Files of the range were cleaned up and `reread` is off.
        """
        newest = self.version(spec)
        last = newest if until is None else until
        names = spec.column_names if columns is None else columns
        if newest is None or last is None:
            return spec.empty().select(names)
        if last > newest or (since is not None and since > newest):
            raise VersionUnavailableError(
                f"versions {since} … {last} of table {spec.name} were asked for, the newest is {newest}: the table was "
                "made anew or the cursor belongs to another lake. Read the whole table once."
            )
        if since is not None:
            try:
                return read_changes(self._storage, spec, since=since, until=last, columns=names)
            except VersionUnavailableError:
                if not reread:
                    raise
        return self._collect(spec, self.scan(spec, version=last).select(names), last)

    def history(self, spec: TableSpec, limit: int | None = 20) -> pl.DataFrame:
        """Return the newest commits: version, timestamp, operation, rows, run_id, code_version, extra.

        Args:
            spec: The table.
            limit: Number of commits; None is all that the log still has.
        """
        handle = self._tables.snapshot(spec.name)
        with translated(self._storage, spec.name, "history"):
            return describe_history([] if handle is None else handle.history(limit))

    def tables(self) -> pl.DataFrame:
        """Return the tables that exist with version, rows, files and bytes, all told from the log."""
        return describe_tables({name: self._tables.snapshot(name) for name in CATALOGUE})

    def files(self, spec: TableSpec) -> pl.DataFrame:
        """Return the active data files of a table: path, size_bytes, rows, modified_at, partition columns.

        Args:
            spec: The table.
        """
        handle = self._tables.snapshot(spec.name)
        return no_files(spec) if handle is None else data_files(handle)

    def mark(self, spec: TableSpec, stream: str) -> int | None:
        """Return the last batch of a stream that `commit_once` stored (or `replace` marked), None if there is none.

        Args:
            spec: The table.
            stream: Name of the stream.
        """
        handle = self._tables.snapshot(spec.name)
        with translated(self._storage, spec.name, "reading the mark"):
            return None if handle is None else handle.transaction_version(stream)

    # -- writing ---------------------------------------------------------------------------------------------------

    def append(self, spec: TableSpec, frame: pl.DataFrame, *, provenance: Provenance | None = None) -> Commit:
        """Append rows; rows that break a rule of a column go to `ops/quarantine`.

        Args:
            spec: The table; it is made if it does not exist.
            frame: Rows in the declared dtypes; optional columns may be missing.
            provenance: Who writes.

        Raises:
            ContractError: Columns or dtypes differ, or a key exists already; nothing was written.
            CommitConflictError: Other writers won every attempt.
            StorageError: Disk or object store refused.
            ReadOnlyLakeError: The table was written by newer code.
        """
        return _commit.append(self._tables, spec, frame, self._metadata(provenance))

    def replace(
        self,
        spec: TableSpec,
        frame: pl.DataFrame,
        *,
        where: Where,
        provenance: Provenance | None = None,
        marks: Mapping[str, int] | None = None,
    ) -> Commit:
        """Replace whole partitions by rows; an empty frame removes them.

        Args:
            spec: A table that is not append-only.
            frame: Rows, all of them inside `where`.
            where: Values by partition column: a string or date, or a list of them. Empty only without partitions.
            provenance: Who writes.
            marks: Numbers by name that `mark` returns from now on, e.g. the version the rows were derived from.

        Raises:
            InvalidInputError: `where` names no partition, or rows lie outside.
            ContractError: Columns, dtypes or keys do not fit.
        """
        predicate = partition_predicate(spec, where)
        refuse_rows_outside(spec, spec.align(frame), where)
        return _commit.replace(self._tables, spec, frame, predicate, self._metadata(provenance), marks=marks)

    def commit_once(self, spec: TableSpec, batches: Sequence[Batch], *, provenance: Provenance | None = None) -> Commit:
        """Append the batches that the table has not seen, all in one commit, each exactly once.

        Repeat it as often as you like, from any process: known batches are counted in `Commit.duplicates`.
        The batches of one stream must reach the table in rising order of `seq`.

        Args:
            spec: The table.
            batches: Batches of any number of streams.
            provenance: Who writes.

        Raises:
            InvalidInputError: Batches of a stream are not in rising order.
            ContractError: Outside landing, a frame has other columns or dtypes (in landing it is quarantined).
        """
        return _commit.commit_once(self._tables, spec, batches, self._metadata(provenance))

    def remove(self, spec: TableSpec, *, where: Where, provenance: Provenance | None = None) -> Commit:
        """Delete the rows that match; rows appended meanwhile by others stay unless they match.

        Args:
            spec: A table that is not append-only.
            where: Values by column: a string or date, or a list of them.
            provenance: Who deletes.

        Raises:
            InvalidInputError: The table is append-only, or `where` names no text or date column.
        """
        return _commit.remove(self._tables, spec, row_predicate(spec, where), self._metadata(provenance))

    def upsert(self, spec: TableSpec, frame: pl.DataFrame, *, provenance: Provenance | None = None) -> Commit:
        """Insert rows of a small registry table or replace those of the same key.

        Args:
            spec: A table without partitions that is not append-only.
            frame: Rows with distinct keys.
            provenance: Who writes.

        Raises:
            InvalidInputError: The table is append-only or partitioned.
            ContractError: Rows share a key or break a rule; nothing was written.
        """
        new = spec.align(frame)
        if new.select(spec.key).is_duplicated().any():
            raise ContractError(f"rows for table {spec.name} share a key {list(spec.key)}; nothing was written.")
        return self._rewrite(spec, lambda old: _merged(spec, old, new), provenance)

    # -- maintenance -----------------------------------------------------------------------------------------------

    def compact(
        self, spec: TableSpec, *, min_files: int = _COMPACT_ABOVE, provenance: Provenance | None = None
    ) -> Compaction:
        """Rewrite partitions that hold many small files; readers and appending writers go on.

        Args:
            spec: The table.
            min_files: Small files (< 64 MB) that a partition must have.
            provenance: Who compacts.
        """
        return _maintenance.compact(
            self._tables, spec, min_files=max(2, min_files), metadata=self._metadata(provenance)
        )

    def vacuum(
        self,
        spec: TableSpec,
        *,
        retention: timedelta = _maintenance.MINIMUM_RETENTION,
        dry_run: bool = False,
        provenance: Provenance | None = None,
    ) -> Vacuum:
        """Delete data files that neither the newest version nor a pinned one nor the retention needs.

        Args:
            spec: The table.
            retention: Age of deleted files; at least 168 h.
            dry_run: Only list them.
            provenance: Who deletes.

        Raises:
            InvalidInputError: The retention is too short.
        """
        pinned = self.read(OPS_PINS, table=spec.name)["version"].to_list()
        metadata = self._metadata(provenance)
        return _maintenance.vacuum(
            self._tables, spec, pinned=pinned, retention=retention, dry_run=dry_run, metadata=metadata
        )

    def pin(self, result_name: str, versions: Mapping[str, int], *, provenance: Provenance | None = None) -> Commit:
        """Keep versions of tables readable for as long as a result refers to them.

        Args:
            result_name: The result.
            versions: Delta version by table name.
            provenance: Who pins.
        """
        rows = {"result_name": result_name, "pinned_at": datetime.now(UTC)}
        frame = pl.DataFrame(
            [{**rows, "table": table, "version": version} for table, version in versions.items()],
            schema={name: OPS_PINS.column(name).data_type for name in ("result_name", "pinned_at", "table", "version")},
        )
        return self.upsert(OPS_PINS, frame, provenance=provenance)

    def unpin(self, result_name: str, *, provenance: Provenance | None = None) -> Commit:
        """Let the versions that a result pinned go.

        Args:
            result_name: The result.
            provenance: Who unpins.
        """
        return self._rewrite(OPS_PINS, lambda old: old.filter(pl.col("result_name") != result_name), provenance)

    def _collect(self, spec: TableSpec, frame: pl.LazyFrame, version: int | None) -> pl.DataFrame:
        try:
            with translated(self._storage, spec.name, "reading"):
                return frame.collect()
        except CorruptTableError as error:
            if version is None or not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise VersionUnavailableError(
                f"a data file of version {version} of table {spec.name} is gone, most likely vacuumed; pin versions "
                "that have to stay readable."
            ) from error

    def _metadata(self, provenance: Provenance | None) -> dict[str, str]:
        return (provenance or Provenance()).metadata(self.code_version)

    def _rewrite(
        self, spec: TableSpec, change: Callable[[pl.DataFrame], pl.DataFrame], provenance: Provenance | None
    ) -> Commit:
        if spec.append_only or spec.partition_by:
            raise InvalidInputError(
                f"table {spec.name} is append-only or partitioned and has no upsert; nothing was written. Use `append` "
                "or `replace`."
            )
        return _commit.rewrite(self._tables, spec, change, self._metadata(provenance))


def _restore(root: str, code_version: str, options: dict[str, str]) -> Lake:
    return Lake(root, code_version=code_version, storage_options=options)


def _merged(spec: TableSpec, old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    keys = list(spec.key)
    return pl.concat([old.join(new, on=keys, how="anti", nulls_equal=True), new]).sort(keys)
