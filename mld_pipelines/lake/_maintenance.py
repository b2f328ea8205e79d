"""Maintenance: compaction by file count, vacuum that keeps pinned versions, log clean-up where nothing needs it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl
from deltalake import CommitProperties

from mld_pipelines.exceptions import CommitConflictError, InvalidInputError
from mld_pipelines.lake._describe import data_files
from mld_pipelines.lake._errors import translated
from mld_pipelines.lake._schema import writer_properties
from mld_pipelines.lake._tables import COMMIT_RETRIES, Tables, pause
from mld_pipelines.lake._values import Compaction, Vacuum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mld_pipelines.tables import TableSpec

__all__ = ["MINIMUM_RETENTION", "compact", "vacuum"]

MINIMUM_RETENTION = timedelta(hours=168)
"""Delta's own floor: readers of an older version and uncommitted writers may still need younger files."""

_SMALL_FILE = 64 * 2**20
"""Bytes below which a file counts as small; the target at our scale (≤ 10 GB per table) is 64–128 MB."""

_ATTEMPTS = 5


def compact(tables: Tables, spec: TableSpec, *, min_files: int, metadata: Mapping[str, str]) -> Compaction:
    """Compact the partitions that hold too many small files; see `Lake.compact`."""
    snapshot = tables.snapshot(spec.name)
    crowded = [] if snapshot is None else _crowded(data_files(snapshot), spec.partition_by, min_files)
    removed = added = 0
    for partition in crowded:
        metrics = _compact_partition(tables, spec, partition, metadata)
        removed += metrics["numFilesRemoved"]
        added += metrics["numFilesAdded"]
    return Compaction(spec.name, len(crowded), removed, added)


def vacuum(
    tables: Tables,
    spec: TableSpec,
    *,
    pinned: Sequence[int],
    retention: timedelta,
    dry_run: bool,
    metadata: Mapping[str, str],
) -> Vacuum:
    """Delete files that no kept version needs; see `Lake.vacuum`."""
    if retention < MINIMUM_RETENTION:
        raise InvalidInputError(
            f"retention {retention} is shorter than {MINIMUM_RETENTION}; nothing was deleted. Running readers and "
            "writers may need younger files."
        )
    if tables.snapshot(spec.name) is None:
        return Vacuum(spec.name, (), (), dry_run)
    with tables.writable(spec) as handle, translated(tables.storage, spec.name, "vacuum"):
        keep = sorted({version for version in pinned if _is_loadable(tables, spec, version)})
        files = handle.vacuum(
            retention_hours=int(retention.total_seconds() // 3600),
            dry_run=dry_run,
            enforce_retention_duration=timedelta(hours=168) <= MINIMUM_RETENTION,
            full=False,  # a full vacuum deletes the files of appends that are not committed yet (delta-rs#3645)
            keep_versions=keep,
            commit_properties=CommitProperties(custom_metadata=dict(metadata)),
        )
        if not dry_run and not pinned:
            handle.create_checkpoint()
            handle.cleanup_metadata()
    return Vacuum(spec.name, tuple(sorted(files)), tuple(keep), dry_run)


def _crowded(files: pl.DataFrame, keys: Sequence[str], min_files: int) -> list[list[tuple[str, str, str]]]:
    small = files.filter(pl.col("size_bytes") < _SMALL_FILE)
    if not keys:
        return [[]] if small.height >= min_files else []
    counted = small.group_by(keys, maintain_order=True).len().filter(pl.col("len") >= min_files)
    return [
        [(name, "=", "" if row[name] is None else str(row[name])) for name in keys]
        for row in counted.iter_rows(named=True)
    ]


def _compact_partition(
    tables: Tables, spec: TableSpec, partition: list[tuple[str, str, str]], metadata: Mapping[str, str]
) -> dict[str, int]:
    for attempt in range(_ATTEMPTS):
        try:
            with tables.writable(spec) as handle, translated(tables.storage, spec.name, "compaction"):
                return handle.optimize.compact(
                    partition_filters=partition or None,
                    writer_properties=writer_properties(spec),
                    commit_properties=CommitProperties(
                        custom_metadata=dict(metadata), max_commit_retries=COMMIT_RETRIES
                    ),
                )
        except CommitConflictError:
            pause(attempt)
    # A partition that is being replaced all the time is compact by that; the next night tries again.
    return {"numFilesRemoved": 0, "numFilesAdded": 0}


def _is_loadable(tables: Tables, spec: TableSpec, version: int) -> bool:
    from mld_pipelines.exceptions import VersionUnavailableError

    try:
        return tables.snapshot(spec.name, version=version) is not None
    except VersionUnavailableError:
        return False
