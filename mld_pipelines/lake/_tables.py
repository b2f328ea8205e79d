"""Opening and creating Delta tables: kept handles that are safe between threads and refuse forks."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from mld_pipelines.exceptions import (
    CommitConflictError,
    ContractError,
    LakeError,
    ReadOnlyLakeError,
    VersionUnavailableError,
)
from mld_pipelines.lake._errors import is_gone, translated
from mld_pipelines.lake._schema import CONSTRAINTS_KEY, SCHEMA_VERSION_KEY, configuration, delta_schema, stored_version
from mld_pipelines.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mld_pipelines.lake._storage import Storage
    from mld_pipelines.tables import TableSpec

__all__ = ["COMMIT_RETRIES", "Tables", "pause"]

COMMIT_RETRIES = 100
"""Retries inside one commit: with the default of 15, six writers lost 3 of 300 appends; with 100 none."""

_SETUP_ATTEMPTS = 30
"""Attempts to create or extend a table while other processes do the same."""

_SNAPSHOT_SECONDS = 3600.0
"""Age at which a read handle is reopened even if no newer commit file is seen (a clean-up may have removed it)."""

_WORN_AFTER = 20
"""Versions after which a writer is reopened on the newest checkpoint: a handle keeps every commit since it was opened,
so at 400 of them a commit took 92 ms instead of 13."""

_APPEND_ONLY = "delta.appendOnly"

_process: list[int] = []


class _LocalTable(DeltaTable):
    """A local table whose file list polars can open: delta-rs percent-encodes blanks and letters beyond ASCII."""

    def __init__(self, table_uri: str, **options: Any) -> None:
        super().__init__(table_uri, **options)
        self._plain = str(table_uri)

    @property
    def table_uri(self) -> str:
        """The path as it was given."""
        return self._plain

    def file_uris(self, *filters: Any, **named: Any) -> list[str]:
        """Return the data files as plain paths."""
        encoded = super().table_uri.removeprefix("file://").rstrip("/")
        return [
            self._plain + uri.removeprefix("file://").removeprefix(encoded)
            for uri in super().file_uris(*filters, **named)
        ]


@dataclass(slots=True)
class _Entry:
    write_lock: threading.RLock = field(default_factory=threading.RLock)
    read_lock: threading.Lock = field(default_factory=threading.Lock)
    writer: DeltaTable | None = None
    writer_identity: tuple[int, int] | None = None
    writer_opened_at: int = 0
    snapshot: DeltaTable | None = None
    snapshot_identity: tuple[int, int] | None = None
    opened_at: float = 0.0


class Tables:
    """Handles of the tables of one lake.

    Two kinds of handle never mix: a *snapshot* is never updated, so lazy frames built on it keep their version; the
    *writer* is updated under a lock that is held until its commit is done.
    """

    def __init__(self, storage: Storage, code_version: str) -> None:
        self.storage = storage
        # Setting up a table is no run's work, but its code has a version.
        metadata = {"code_version": code_version}
        self._setup = CommitProperties(custom_metadata=metadata, max_commit_retries=COMMIT_RETRIES)
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def snapshot(self, table: str, *, version: int | None = None) -> DeltaTable | None:
        """Return an unchanging handle of the newest (or a given) version, None if the table does not exist.

        Args:
            table: Name of the table.
            version: A Delta version; None is the newest.

        Raises:
            VersionUnavailableError: There is no such version.
            CorruptTableError: The log is damaged.
        """
        _refuse_fork()
        if version is not None:
            return self._at_version(table, version)
        entry = self._entry(table)
        with entry.read_lock:
            if entry.snapshot is None or self._is_stale(table, entry):
                entry.snapshot_identity = self.storage.identity(table)
                entry.snapshot, entry.opened_at = self._open(table), time.monotonic()
            return entry.snapshot

    @contextmanager
    def writable(self, spec: TableSpec) -> Iterator[DeltaTable]:
        """Yield an up-to-date handle that no other thread of this process uses; creates or extends the table.

        Args:
            spec: The table.

        Raises:
            ReadOnlyLakeError: The table was written by newer code.
            CommitConflictError: Other processes kept changing the table's metadata.
        """
        _refuse_fork()
        entry = self._entry(spec.name)
        with entry.write_lock:
            handle = self._current_writer(spec, entry)
            try:
                yield handle
            except BaseException:
                entry.writer = None
                raise

    def existing(self) -> list[str]:
        """Return the names of the catalogue's tables that exist."""
        from mld_pipelines.tables import CATALOGUE

        return [name for name in CATALOGUE if self.snapshot(name) is not None]

    def _entry(self, table: str) -> _Entry:
        with self._lock:
            return self._entries.setdefault(table, _Entry())

    def _handle(self, table: str, version: int | None = None) -> DeltaTable:
        kind = _LocalTable if self.storage.is_local else DeltaTable
        return kind(self.storage.uri(table), version=version, storage_options=self.storage.options or None)

    def _open(self, table: str) -> DeltaTable | None:
        if not self.storage.log_is_there(table):
            return None
        with translated(self.storage, table, "opening"):
            try:
                return self._handle(table)
            except TableNotFoundError:
                return None
            except DeltaError as error:
                if self._is_being_created(table, error):
                    return None
                raise

    def _at_version(self, table: str, version: int) -> DeltaTable | None:
        newest = self.snapshot(table)
        if newest is None:
            return None
        if not 0 <= version <= newest.version():
            raise VersionUnavailableError(
                f"there is no version {version} of table {table}; its versions are 0 … {newest.version()}."
            )
        try:
            return self._handle(table, version)
        except DeltaError as error:
            raise VersionUnavailableError(
                f"version {version} of table {table} cannot be read any more ({str(error).splitlines()[0]}): its log "
                "was most likely cleaned up. `Lake.history` and `mld tables history` list the versions that are left."
            ) from error

    def _is_stale(self, table: str, entry: _Entry) -> bool:
        if entry.snapshot is None or time.monotonic() - entry.opened_at > _SNAPSHOT_SECONDS:
            return True
        if self.storage.identity(table) != entry.snapshot_identity:
            return True
        return self.storage.exists(table, self.storage.commit_name(entry.snapshot.version() + 1))

    def _is_being_created(self, table: str, error: DeltaError) -> bool:
        # Between making the log folder and the first commit another process sees a log without files.
        return "File not found" in str(error) and not self.storage.exists(table, self.storage.commit_name(0))

    def _current_writer(self, spec: TableSpec, entry: _Entry) -> DeltaTable:
        identity = self.storage.identity(spec.name)
        if entry.writer is not None and identity == entry.writer_identity and not _is_worn(entry):
            try:
                with translated(self.storage, spec.name, "refreshing"):
                    entry.writer.update_incremental()
                    _refuse_newer(entry.writer, spec)
                    if _is_complete(entry.writer, spec):
                        return entry.writer
            except ReadOnlyLakeError:
                raise
            except LakeError:
                entry.writer = None
        entry.writer = self._complete(spec)
        entry.writer_identity = self.storage.identity(spec.name)
        entry.writer_opened_at = entry.writer.version()
        return entry.writer

    def _complete(self, spec: TableSpec) -> DeltaTable:
        """Open a table for writing, finishing what its creation or an older version of the code left undone."""
        for attempt in range(_SETUP_ATTEMPTS):
            try:
                with translated(self.storage, spec.name, "preparing"):
                    handle = self._open(spec.name) or self._create(spec)
                    _refuse_newer(handle, spec)
                    if not _is_complete(handle, spec):
                        _extend(handle, spec, self._setup)
                        handle = self._handle(spec.name)
                    return handle
            except CommitConflictError:
                pause(attempt)
            except LakeError as error:
                if not is_gone(error):
                    raise
                pause(attempt)
        raise CommitConflictError(
            f"table {spec.name} could not be prepared in {_SETUP_ATTEMPTS} attempts because other processes kept "
            "changing it; nothing was written. Repeat when they are done."
        )

    def _create(self, spec: TableSpec) -> DeltaTable:
        try:
            DeltaTable.create(
                self.storage.uri(spec.name),
                schema=delta_schema(spec.columns),
                mode="ignore",
                partition_by=list(spec.partition_by),
                name=spec.name,
                description=spec.description,
                configuration=configuration(spec),
                storage_options=self.storage.options or None,
                commit_properties=self._setup,
            )
        except DeltaError as error:
            if "already exists" not in str(error) and "File not found" not in str(error):
                raise
        return self._handle(spec.name)


def pause(attempt: int) -> None:
    """Wait a little longer and less predictably after every lost race."""
    time.sleep(random.random() * min(0.02 * (attempt + 1), 0.25))  # noqa: S311 - not a secret


def _refuse_fork() -> None:
    if not _process:
        _process.append(os.getpid())
    if _process[0] != os.getpid():
        raise LakeError(
            "this process was forked from one that had the lake open, which polars and delta-rs do not survive; "
            "nothing was read or written. Start workers with the 'spawn' method."
        )


def _is_worn(entry: _Entry) -> bool:
    return entry.writer is not None and entry.writer.version() - entry.writer_opened_at >= _WORN_AFTER


def _refuse_newer(handle: DeltaTable, spec: TableSpec) -> None:
    stored = stored_version(handle)
    if stored > SCHEMA_VERSION:
        raise ReadOnlyLakeError(
            f"table {spec.name} has schema version {stored}, this code writes version {SCHEMA_VERSION}; nothing was "
            "written. Upgrade mld-pipelines; reading goes on working."
        )


def _is_complete(handle: DeltaTable, spec: TableSpec) -> bool:
    stored = handle.metadata().configuration
    return (
        stored.get(SCHEMA_VERSION_KEY) == str(SCHEMA_VERSION)
        and stored.get(_APPEND_ONLY) == configuration(spec)[_APPEND_ONLY]
        and stored.get(CONSTRAINTS_KEY) == _declared_constraints(spec)
        and not _missing_columns(handle, spec)
    )


def _extend(handle: DeltaTable, spec: TableSpec, properties: CommitProperties) -> None:
    """Add what is missing: columns, then constraints, then the mark that all of it is there."""
    if missing := _missing_columns(handle, spec):
        added = delta_schema([spec.column(name) for name in missing], nullable=True)
        handle.alter.add_columns(added.fields, commit_properties=properties)
    before = json.loads(handle.metadata().configuration.get(CONSTRAINTS_KEY, "{}"))
    present = {key.removeprefix("delta.constraints.") for key in handle.metadata().configuration}
    changed = {name: sql for name, sql in spec.constraints.items() if name not in present or before.get(name) != sql}
    for name in sorted(present & {*before, *changed}):
        if spec.constraints.get(name) == before.get(name):
            continue
        handle.alter.drop_constraint(name, commit_properties=properties)
    if changed:
        handle.alter.add_constraint(changed, commit_properties=properties)
    append_only = {_APPEND_ONLY: configuration(spec)[_APPEND_ONLY]}
    marks = {CONSTRAINTS_KEY: _declared_constraints(spec), SCHEMA_VERSION_KEY: str(SCHEMA_VERSION), **append_only}
    handle.alter.set_table_properties(marks, raise_if_not_exists=False, commit_properties=properties)


def _declared_constraints(spec: TableSpec) -> str:
    return json.dumps(spec.constraints, sort_keys=True)


def _missing_columns(handle: DeltaTable, spec: TableSpec) -> list[str]:
    import polars as pl

    stored = pl.Schema(handle.schema())
    wrong = [
        f"{name} is {stored[name]}, declared {dtype}"
        for name, dtype in spec.polars_schema.items()
        if name in stored and stored[name] != dtype
    ]
    if wrong:
        raise ContractError(
            f"table {spec.name} on disk contradicts its declaration ({'; '.join(wrong)}); nothing was written. "
            "Run `mld lake migrate`."
        )
    return [name for name in spec.column_names if name not in stored]
