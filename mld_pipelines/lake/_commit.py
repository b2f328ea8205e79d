"""Commits: contract first, refused rows aside, each batch of a stream exactly once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from mld_pipelines.exceptions import CommitConflictError, ContractError, InvalidInputError, LakeError
from mld_pipelines.lake._errors import is_gone, translated
from mld_pipelines.lake._quarantine import ROW_INDEX, content_stream, mark_name, quarantine_rows, whole_batch
from mld_pipelines.lake._schema import writer_properties
from mld_pipelines.lake._tables import COMMIT_RETRIES, Tables, pause
from mld_pipelines.lake._values import Batch, Commit
from mld_pipelines.tables import OPS_QUARANTINE, Checked, check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mld_pipelines.tables import TableSpec

__all__ = ["append", "commit_once", "mark", "remove", "replace", "rewrite"]

_ATTEMPTS = 60
"""Attempts of a whole commit; each is preceded by a growing random pause, together about ten seconds."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """Batches after the contract: what may be written, what goes to quarantine and how many rows that is."""

    valid: pl.DataFrame
    refused: tuple[Batch, ...]
    n_refused: int


def mark(handle: DeltaTable, stream: str) -> int:
    """Return the last committed batch of a stream, −1 if there is none (0 is a valid mark)."""
    version = handle.transaction_version(stream)
    return -1 if version is None else version


def append(tables: Tables, spec: TableSpec, frame: pl.DataFrame, metadata: Mapping[str, str]) -> Commit:
    """Append rows; see `Lake.append`."""
    checked = _checked(spec, frame)
    _refuse_repeated(spec, checked.valid)
    _refuse_known(tables, spec, checked.valid)
    refused = _quarantine_content(tables, spec, checked, metadata)

    def write(handle: DeltaTable) -> None:
        if checked.valid.height:
            _write(spec, handle, checked.valid, metadata)

    version = _attempt(tables, spec, "append", write)
    return Commit(spec.name, version, checked.valid.height, refused, 0, tables.storage.uri(spec.name))


def replace(
    tables: Tables,
    spec: TableSpec,
    frame: pl.DataFrame,
    predicate: str | None,
    metadata: Mapping[str, str],
    *,
    marks: Mapping[str, int] | None = None,
) -> Commit:
    """Replace the rows that match a predicate; see `Lake.replace`."""
    checked = _checked(spec, frame)
    _refuse_repeated(spec, checked.valid)
    refused = _quarantine_content(tables, spec, checked, metadata)

    def write(handle: DeltaTable) -> None:
        _write(spec, handle, checked.valid, metadata, mode="overwrite", predicate=predicate, marks=marks)

    version = _attempt(tables, spec, "replace", write)
    return Commit(spec.name, version, checked.valid.height, refused, 0, tables.storage.uri(spec.name))


def remove(tables: Tables, spec: TableSpec, predicate: str, metadata: Mapping[str, str]) -> Commit:
    """Delete the rows that match a predicate; see `Lake.remove`."""

    def write(handle: DeltaTable) -> None:
        properties = CommitProperties(custom_metadata=dict(metadata), max_commit_retries=COMMIT_RETRIES)
        handle.delete(predicate, commit_properties=properties, writer_properties=writer_properties(spec))

    version = _attempt(tables, spec, "removal", write)
    return Commit(spec.name, version, 0, 0, 0, tables.storage.uri(spec.name))


def rewrite(
    tables: Tables, spec: TableSpec, change: Callable[[pl.DataFrame], pl.DataFrame], metadata: Mapping[str, str]
) -> Commit:
    """Replace a small table by a function of its current rows, repeated if another writer came first.

    delta-rs lets a stale overwrite pass over a concurrent append, so the version read is guarded by a transaction.
    """
    rows = 0

    def write(handle: DeltaTable) -> None:
        nonlocal rows
        before = _current_rows(spec, handle)
        after = spec.align(change(before))
        rows = after.height
        if after.equals(before):
            return
        _refuse_broken(spec, after)
        _refuse_repeated(spec, after)
        guard = {f"rewrite|{spec.name}": handle.version()}
        _write(spec, handle, after, metadata, mode="overwrite", marks=guard)

    version = _attempt(tables, spec, "rewrite", write)
    return Commit(spec.name, version, rows, 0, 0, tables.storage.uri(spec.name))


def commit_once(tables: Tables, spec: TableSpec, batches: Sequence[Batch], metadata: Mapping[str, str]) -> Commit:
    """Append the batches the table has not seen; see `Lake.commit_once`."""
    _refuse_disorder(batches)
    fresh: list[Batch] = []
    done = _Judged(spec.empty(), (), 0)

    def write(handle: DeltaTable) -> None:
        nonlocal done
        # The marks and the write share one snapshot: Delta's conflict check on the transactions covers what is between.
        marks = {stream: mark(handle, stream) for stream in {batch.stream for batch in batches}}
        fresh[:] = [batch for batch in batches if batch.seq > marks[batch.stream]]
        done = _judge(spec, fresh)
        if not fresh:
            return
        _refuse_repeated(spec, done.valid)
        # Refused rows first: a crash before the main commit replays both, and the marks keep each single.
        if done.refused:
            commit_once(tables, OPS_QUARANTINE, done.refused, metadata)
        _write(spec, handle, done.valid, metadata, marks={batch.stream: batch.seq for batch in fresh})

    version = _attempt(tables, spec, "commit", write)
    known = len(batches) - len(fresh)
    return Commit(spec.name, version, done.valid.height, done.n_refused, known, tables.storage.uri(spec.name))


def _attempt(tables: Tables, spec: TableSpec, action: str, write: Callable[[DeltaTable], None]) -> int:
    """Run a write on a fresh snapshot until no other writer interferes; return the version it left."""
    reason = ""
    for attempt in range(_ATTEMPTS):
        try:
            with tables.writable(spec) as handle, translated(tables.storage, spec.name, action):
                write(handle)
                return handle.version()
        except CommitConflictError as error:
            reason = str(error)
        except LakeError as error:
            if not is_gone(error):
                raise
            reason = str(error)
        pause(attempt)
    raise CommitConflictError(
        f"{action} of table {spec.name} lost against other writers {_ATTEMPTS} times; nothing was written. "
        f"Repeat it, or run fewer writers. (last: {reason})"
    )


def _write(
    spec: TableSpec,
    handle: DeltaTable,
    frame: pl.DataFrame,
    metadata: Mapping[str, str],
    *,
    mode: Literal["append", "overwrite"] = "append",
    predicate: str | None = None,
    marks: Mapping[str, int] | None = None,
) -> None:
    now = int(time.time() * 1000)
    properties = CommitProperties(
        custom_metadata=dict(metadata),
        max_commit_retries=COMMIT_RETRIES,
        # Without last_updated, delta.setTransactionRetentionDuration never expires an entry.
        app_transactions=[Transaction(stream, seq, now) for stream, seq in (marks or {}).items()],
    )
    rows = _with_newer_columns(handle, frame)
    parquet = writer_properties(spec)
    if mode == "append":
        write_deltalake(handle, rows, mode="append", commit_properties=properties, writer_properties=parquet)
        return
    write_deltalake(
        handle, rows, mode="overwrite", predicate=predicate, commit_properties=properties, writer_properties=parquet
    )


def _with_newer_columns(handle: DeltaTable, frame: pl.DataFrame) -> pl.DataFrame:
    """Add typed nulls for columns that newer code gave the table: delta-rs refuses a frame that lacks any."""
    stored = pl.Schema(handle.schema())
    return frame.with_columns(
        pl.lit(None, dtype=dtype).alias(name) for name, dtype in stored.items() if name not in frame.columns
    )


def _current_rows(spec: TableSpec, handle: DeltaTable) -> pl.DataFrame:
    from mld_pipelines.lake._read import scan_handle

    return scan_handle(handle, spec).collect()


def _checked(spec: TableSpec, frame: pl.DataFrame) -> Checked:
    checked = check(spec, spec.align(frame).with_row_index(ROW_INDEX))
    return Checked(checked.valid.drop(ROW_INDEX), checked.invalid, checked.counts)


def _judge(spec: TableSpec, batches: Sequence[Batch]) -> _Judged:
    """Judge batches: together where all are sound, else one by one.

    600 batches of 64 rows take 3 s one by one, nearly all of it the fixed cost of a query.
    """
    together = _sound_rows(spec, batches)
    if together is not None:
        return _Judged(together, (), 0)
    judged = [_judge_one(spec, batch) for batch in batches]
    return _Judged(
        pl.concat([one.valid for one in judged]),
        tuple(refused for one in judged for refused in one.refused),
        sum(one.n_refused for one in judged),
    )


def _sound_rows(spec: TableSpec, batches: Sequence[Batch]) -> pl.DataFrame | None:
    if not batches:
        return spec.empty()
    if any(batch.frame.schema != batches[0].frame.schema for batch in batches):
        return None
    try:
        checked = check(spec, spec.align(pl.concat([batch.frame for batch in batches])))
    except ContractError:
        return None
    return checked.valid if checked.invalid.is_empty() else None


def _judge_one(spec: TableSpec, batch: Batch) -> _Judged:
    """Judge one batch; in landing a batch of the wrong shape must not block the batches of other streams."""
    stream = mark_name(spec.name, batch.stream)
    try:
        checked = _checked(spec, batch.frame)
    except ContractError as error:
        if spec.layer != "landing":
            raise
        refused = whole_batch(spec, batch.stream, batch.seq, batch.frame, str(error))
        return _Judged(spec.empty(), (Batch(stream, batch.seq, refused),), batch.frame.height)
    if checked.invalid.is_empty():
        return _Judged(checked.valid, (), 0)
    refused = quarantine_rows(spec, batch.stream, batch.seq, checked.invalid)
    return _Judged(checked.valid, (Batch(stream, batch.seq, refused),), checked.invalid.height)


def _quarantine_content(tables: Tables, spec: TableSpec, checked: Checked, metadata: Mapping[str, str]) -> int:
    if checked.invalid.is_empty():
        return 0
    stream = content_stream(checked.invalid)
    refused = quarantine_rows(spec, stream, 0, checked.invalid)
    commit_once(tables, OPS_QUARANTINE, [Batch(mark_name(spec.name, stream), 0, refused)], metadata)
    return checked.invalid.height


def _refuse_disorder(batches: Sequence[Batch]) -> None:
    last: dict[str, int] = {}
    for batch in batches:
        if batch.seq <= last.get(batch.stream, -1):
            raise InvalidInputError(
                f"batch {batch.seq} of stream {batch.stream!r} comes after batch {last[batch.stream]}; nothing was "
                "written. Give the batches of a stream in rising order."
            )
        last[batch.stream] = batch.seq


def _refuse_repeated(spec: TableSpec, frame: pl.DataFrame) -> None:
    for rule in spec.rules if spec.layer != "landing" else ():
        repeated = frame.filter(pl.struct(rule.columns).is_duplicated()).select(rule.columns)
        if repeated.height:
            raise ContractError(
                f"{repeated.height} rows for table {spec.name} share their {rule.describe()}, e.g. "
                f"{repeated.row(0, named=True)}; nothing was written. Deduplicate them first."
            )


def _refuse_known(tables: Tables, spec: TableSpec, frame: pl.DataFrame) -> None:
    """Refuse appended rows whose key the table has already."""
    handle = tables.snapshot(spec.name) if spec.rules and spec.layer != "landing" and frame.height else None
    if handle is None:
        return
    from mld_pipelines.lake._read import scan_handle

    stored = scan_handle(handle, spec, {name: frame[name].unique().to_list() for name in spec.partition_by})
    for rule in spec.rules:
        with translated(tables.storage, spec.name, "reading"):
            keys = stored.select(rule.columns).collect()
        known = frame.select(rule.columns).join(keys, on=rule.columns, how="semi", nulls_equal=True)
        if known.height:
            raise ContractError(
                f"{known.height} rows for table {spec.name} exist already ({rule.describe()}), e.g. "
                f"{known.row(0, named=True)}; nothing was written. Use `replace` or `upsert`, or leave them out."
            )


def _refuse_broken(spec: TableSpec, frame: pl.DataFrame) -> None:
    checked = check(spec, frame)
    if checked.invalid.height:
        raise ContractError(
            f"{checked.invalid.height} rows for table {spec.name} break its contract "
            f"({checked.invalid['_reason'][0]}); nothing was written."
        )
