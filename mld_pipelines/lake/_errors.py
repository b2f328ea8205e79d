"""Foreign errors in the words of this package: what happened to which table, and what to do."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deltalake.exceptions import CommitFailedError, DeltaError, DeltaProtocolError, SchemaMismatchError
from polars.exceptions import ComputeError, PolarsError

from mld_pipelines.exceptions import (
    CommitConflictError,
    ContractError,
    CorruptTableError,
    LakeError,
    MldError,
    ReadOnlyLakeError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mld_pipelines.lake._storage import Storage

__all__ = ["corruption", "is_gone", "translated"]

_REFUSALS = {
    "No space left on device": "the disk is full; free space and repeat",
    "File too large": "the file-size limit of the process is reached; raise it and repeat",
    "Disk quota exceeded": "the disk quota is used up; free space and repeat",
    "Read-only file system": "the file system is mounted read-only; remount it or move the lake",
    "Permission denied": "permission was denied; check the owner and mode of the folder",
    "Operation not permitted": "permission was denied; check the owner and mode of the folder",
    "Not a directory": "a file is in the way; remove it or choose another lake root",
    "AccessDenied": "the object store denied access; check the credentials and the bucket policy",
    "Input/output error": "the disk reported an input/output error; check its health",
    "error sending request": "the object store cannot be reached; check endpoint and network, then repeat",
    "Connection refused": "the object store cannot be reached; check endpoint and network, then repeat",
}
_DAMAGE = (
    "not found",
    "Kernel error",
    "Json error",
    "Parquet error",
    "Arrow error",
    "Invalid JSON",
    "Generic delta kernel error",
)
_BACKTRACE = re.compile(r"\s+0: .*", re.DOTALL)


@contextmanager
def translated(storage: Storage, table: str, action: str) -> Iterator[None]:
    """Raise errors of delta-rs, polars and the system as errors of this package.

    Args:
        storage: The lake.
        table: Name of the table.
        action: What was being done, e.g. `append`.

    Raises:
        CommitConflictError: Other writers won.
        ContractError: delta-rs refused the schema or a constraint.
        CorruptTableError: Log or data files are damaged.
        ReadOnlyLakeError: The table needs a newer delta-rs.
        StorageError: Disk or object store refused.
        LakeError: Anything else.
    """
    try:
        yield
    except MldError:
        raise
    except (DeltaError, PolarsError, OSError) as error:
        raise _translate(error, storage, table, action) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise _corrupt(error, storage, table, action) from error


def corruption(storage: Storage, table: str, action: str, damage: str) -> CorruptTableError:
    """Return the error that tells what is damaged in a table.

    Args:
        storage: The lake.
        table: Name of the table.
        action: What was being done.
        damage: Which file is damaged, and how.
    """
    return CorruptTableError(
        f"{action} of table {table} at {storage.uri(table)} failed: {damage}. Nothing was changed. Restore the file "
        "from a backup, or move the table's folder away so that it is made anew and replay the spool."
    )


def is_gone(error: BaseException) -> bool:
    """Return whether a kept handle points at a table that was deleted, made anew or cleaned up."""
    return "Invalid table version" in str(error)


def _translate(error: Exception, storage: Storage, table: str, action: str) -> MldError:
    where, text = f"{action} of table {table} at {storage.uri(table)}", _first_lines(error)
    refusal = next((remedy for sign, remedy in _REFUSALS.items() if sign in str(error)), None)
    if refusal is not None:
        return StorageError(f"{where} failed: {refusal}. The table is unchanged. ({text})")
    if _is_damage(error):
        return _corrupt(error, storage, table, action)
    if isinstance(error, OSError):
        name = errno.errorcode.get(error.errno or 0, "error")
        return StorageError(f"{where} failed with {name}. The table is unchanged. ({text})")
    return _of_delta(error, where, text)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, CommitFailedError | DeltaProtocolError | SchemaMismatchError):
        return False
    if isinstance(error, FileNotFoundError | ComputeError):
        return True
    return not isinstance(error, OSError) and any(sign in str(error) for sign in _DAMAGE)


def _of_delta(error: Exception, where: str, text: str) -> MldError:
    if isinstance(error, CommitFailedError):
        return CommitConflictError(f"{where}: another writer changed the same rows. Nothing was written. ({text})")
    if isinstance(error, DeltaProtocolError):
        return ReadOnlyLakeError(f"{where}: the table needs a newer Delta library; upgrade deltalake. ({text})")
    if isinstance(error, SchemaMismatchError) or "failed validation check" in str(error):
        return ContractError(f"{where}: Delta refused the rows; nothing was written. ({text})")
    return LakeError(f"{where} failed. ({text})")


def _corrupt(error: BaseException, storage: Storage, table: str, action: str) -> CorruptTableError:
    from mld_pipelines.lake._log import find_damage

    damage = find_damage(storage, table) or f"the library reports: {_first_lines(error)}"
    return corruption(storage, table, action, damage)


def _first_lines(error: BaseException) -> str:
    text = _BACKTRACE.sub("", str(error)).strip()
    return " ".join(text.split())[:400]
