"""The transaction log read directly: what a range of versions added, and which file is damaged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mld_pipelines.exceptions import CorruptTableError, VersionUnavailableError

if TYPE_CHECKING:
    from mld_pipelines.lake._storage import Storage

__all__ = ["AddedFile", "added_files", "find_damage"]

_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A data file that a commit added.

    Attributes:
        path: Address that polars can open.
        partition: Serialised partition values; None is null.
        version: The commit.
    """

    path: str
    partition: dict[str, str | None]
    version: int


def added_files(storage: Storage, table: str, *, since: int, until: int) -> list[AddedFile]:
    """Return the files that brought new rows in versions `since + 1 … until`.

    Files that a compaction rewrote carry `dataChange: false` and are left out, as are those in which a deletion kept
    the remaining rows: neither holds a new row.

    Args:
        storage: The lake.
        table: Name of the table.
        since: Last version that was read.
        until: Last version to read.

    Raises:
        VersionUnavailableError: The log of one of the versions was cleaned up.
        CorruptTableError: A log file is damaged.
    """
    return [
        _added(storage, table, action["add"], version)
        for version in range(since + 1, until + 1)
        for action in _new_rows(_actions(storage, table, version))
        if action.get("add", {}).get("dataChange")
    ]


def find_damage(storage: Storage, table: str) -> str | None:
    """Return which file of a local table is damaged and how, None if none can be named."""
    if not storage.is_local:
        return None
    log = Path(storage.uri(table), "_delta_log")
    commits = sorted(path for path in log.glob("*.json") if path.stem.isdecimal())
    checkpoints = sorted(log.glob("*.checkpoint*.parquet"))
    for path in commits:
        if not _is_json_lines(path.read_bytes()):
            return f"log file {path} is not valid JSON"
    for path in checkpoints:
        if not _is_parquet(path):
            return f"checkpoint {path} is not a Parquet file"
    return _gap(log, [int(path.stem) for path in commits], bool(checkpoints)) or _data_damage(storage, table, commits)


def _actions(storage: Storage, table: str, version: int) -> list[dict[str, Any]]:
    raw = storage.read(table, storage.commit_name(version))
    if raw is None:
        raise VersionUnavailableError(
            f"version {version} of table {table} was removed by log clean-up, so what changed since cannot be told; "
            "read the whole table once and go on from its current version."
        )
    try:
        return [json.loads(line) for line in raw.splitlines() if line.strip()]
    except ValueError as error:
        raise CorruptTableError(
            f"log file {storage.uri(table)}/{storage.commit_name(version)} is not valid JSON; restore it from a backup."
        ) from error


def _new_rows(actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    deletes = any(action.get("commitInfo", {}).get("operation") == "DELETE" for action in actions)
    return [] if deletes else actions


def _added(storage: Storage, table: str, add: dict[str, Any], version: int) -> AddedFile:
    path = unquote(add["path"])
    absolute = path if "://" in path else f"{storage.uri(table)}/{path}"
    return AddedFile(absolute, add.get("partitionValues") or {}, version)


def _is_json_lines(raw: bytes) -> bool:
    try:
        return all(isinstance(json.loads(line), dict) for line in raw.splitlines() if line.strip())
    except ValueError:
        return False


def _is_parquet(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, size - 4))
        return size >= 12 and head == _PARQUET_MAGIC and file.read(4) == _PARQUET_MAGIC


def _gap(log: Path, versions: list[int], has_checkpoint: bool) -> str | None:
    if versions and versions[0] != 0 and not has_checkpoint:
        return f"log file {log / f'{0:020d}.json'} is missing"
    missing = sorted(set(range(versions[0], versions[-1] + 1)) - set(versions)) if versions else []
    return f"log file {log / f'{missing[0]:020d}.json'} is missing" if missing else None


def _data_damage(storage: Storage, table: str, commits: list[Path]) -> str | None:
    active: set[str] = set()
    for commit in commits:
        for action in (json.loads(line) for line in commit.read_bytes().splitlines() if line.strip()):
            if "add" in action:
                active.add(unquote(action["add"]["path"]))
            if "remove" in action:
                active.discard(unquote(action["remove"]["path"]))
    for name in sorted(active):
        path = Path(storage.uri(table), name)
        if not path.exists():
            return f"data file {path} is missing"
        if not _is_parquet(path):
            return f"data file {path} is not a Parquet file"
    return None
