"""Values that go into and come out of a lake."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

__all__ = ["Batch", "Commit", "Compaction", "Provenance", "Vacuum"]

_RESERVED = frozenset(
    {
        "timestamp", "operation", "engineInfo", "operationParameters", "operationMetrics", "readVersion", "userId",
        "userName", "userMetadata", "isolationLevel", "isBlindAppend", "clientVersion", "version", "run_id",
        "code_version",
    }
)  # fmt: skip
"""Keys that Delta or this package writes into a commit itself."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who made a commit; stored in its custom metadata and shown by `Lake.history`.

    Attributes:
        run_id: Dagster run, None for commits made in process.
        code_version: Version of the code; the lake's own when None.
        extra: Further text, e.g. versions of the tables that were read.
    """

    run_id: str | None = None
    code_version: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names that Delta reserves."""
        if clash := sorted(_RESERVED & set(self.extra)):
            raise InvalidInputError(f"provenance extra uses the reserved names {clash}; rename them.")

    def metadata(self, code_version: str) -> dict[str, str]:
        """Return the custom metadata of a commit.

        Args:
            code_version: Used where the provenance has none of its own.
        """
        run = {} if self.run_id is None else {"run_id": self.run_id}
        return {"code_version": self.code_version or code_version, **run, **self.extra}


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of one stream that are committed exactly once.

    Attributes:
        stream: Name of the stream: a `stream_id`, or a made-up one such as `result:NAME`.
        seq: Number of the batch; within a stream batches arrive in rising order.
        frame: The rows.
    """

    stream: str
    seq: int
    frame: pl.DataFrame

    def __post_init__(self) -> None:
        """Refuse identities that a transaction cannot carry."""
        if not self.stream or self.seq < 0:
            raise InvalidInputError(
                f"batch ({self.stream!r}, {self.seq!r}) has no identity; give a non-empty stream and seq >= 0."
            )


@dataclass(frozen=True, slots=True)
class Commit:
    """What one write did.

    Attributes:
        table: Name of the table.
        version: Delta version after the write.
        rows: Rows added.
        quarantined: Rows that broke the contract and went to `ops/quarantine`.
        duplicates: Batches that the table had already; nothing was written for them.
        uri: Where the table is.
    """

    table: str
    version: int
    rows: int
    quarantined: int
    duplicates: int
    uri: str


@dataclass(frozen=True, slots=True)
class Compaction:
    """What one compaction did.

    Attributes:
        table: Name of the table.
        partitions: Partitions that were compacted.
        files_removed: Small files replaced.
        files_added: Files written instead.
    """

    table: str
    partitions: int
    files_removed: int
    files_added: int


@dataclass(frozen=True, slots=True)
class Vacuum:
    """What one vacuum did.

    Attributes:
        table: Name of the table.
        files: Files deleted (or that would be, in a dry run).
        kept_versions: Pinned versions whose files stayed.
        dry_run: Nothing was deleted.
    """

    table: str
    files: tuple[str, ...]
    kept_versions: tuple[int, ...]
    dry_run: bool
