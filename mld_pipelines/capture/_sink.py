"""Sinks: where segments go. The one seam between capturing and storing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from mld_pipelines import settings
from mld_pipelines.capture._columns import to_frame
from mld_pipelines.capture._ledger import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from mld_pipelines.capture._segment import Segment
    from mld_pipelines.lake import Batch, Lake

__all__ = ["Delivery", "EmbeddedSink", "Sink", "open_sink"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of delivered segments.

    Attributes:
        entries: Counts per segment, in the order they were given.
        version: Version of the table afterwards, where the sink knows it.
    """

    entries: tuple[Entry, ...]
    version: int | None = None

    @property
    def rows(self) -> int:
        """Rows that are stored now."""
        return sum(entry.stored for entry in self.entries)


class Sink(Protocol):
    """Takes segments and keeps each batch of each stream exactly once.

    Attributes:
        root: What is behind the sink; spools are kept apart by it.
        scope: `machine` if one process delivers for all of the machine, `process` if each delivers its own.
    """

    @property
    def root(self) -> str:
        """What is behind the sink."""
        ...

    @property
    def scope(self) -> Literal["machine", "process"]:
        """Who delivers."""
        ...

    def deliver(self, segments: Sequence[Segment]) -> Delivery:
        """Store segments of one table, each stream's in order; raise and store nothing if that fails.

        Raises:
            MldError: The rows could not be stored; they stay in the spool.
        """
        ...


class EmbeddedSink:
    """Writes to a lake from within the process; opened at the first delivery.

    Args:
        root: Root of the lake, or the lake itself.
    """

    def __init__(self, root: str | Lake) -> None:
        self._lake = None if isinstance(root, str) else root
        self._root = root if isinstance(root, str) else root.root

    @property
    def root(self) -> str:
        """Root of the lake."""
        return self._root

    @property
    def scope(self) -> Literal["machine", "process"]:
        """`machine` on a local disk: one committer with a warm handle; `process` on an object store."""
        return "process" if "://" in self._root else "machine"

    @property
    def lake(self) -> Lake:
        """The lake behind the sink."""
        if self._lake is None:
            from mld_pipelines.lake import Lake

            self._lake = Lake.open(self._root)
        return self._lake

    def deliver(self, segments: Sequence[Segment]) -> Delivery:
        """See `Sink.deliver`."""
        from mld_pipelines.tables import CATALOGUE, check

        spec = CATALOGUE[segments[0].table]
        frames = [to_frame(spec, segment.rows, segment.columns) for segment in segments]
        batches = [_batches(segment, frame) for segment, frame in zip(segments, frames, strict=True)]
        marks = {stream: self.lake.mark(spec, stream) for stream in {segment.stream_id for segment in segments}}
        commit = self.lake.commit_once(spec, [batch for group in batches for batch in group])
        entries = []
        for segment, frame, group in zip(segments, frames, batches, strict=True):
            mark = marks[segment.stream_id]
            known = [batch.frame.height for batch in group if mark is not None and batch.seq <= mark]
            refused = check(spec, frame).invalid.height
            entries.append(Entry(stored=frame.height, known=sum(known), known_batches=len(known), quarantined=refused))
        return Delivery(tuple(entries), commit.version)


def open_sink(endpoint: str | None = None) -> Sink:
    """Return the sink behind an endpoint: today always a lake.

    Args:
        endpoint: Path, `file://` or `s3://`; default `MLD_API_ENDPOINT`, else the state directory's lake.

    Raises:
        ConfigurationError: `http(s)://`, which comes with the ingestion server, or an unknown scheme.
    """
    return EmbeddedSink(settings.lake_uri(endpoint))


def _batches(segment: Segment, frame: pl.DataFrame) -> list[Batch]:
    """Return the batches of a segment: one for all, unless an earlier run may have stored a part of them."""
    from mld_pipelines.lake import Batch

    if not segment.is_repeatable or segment.first_seq == segment.last_seq:
        return [Batch(segment.stream_id, segment.last_seq, frame)]
    parts = frame.partition_by("seq", maintain_order=True)
    return [Batch(segment.stream_id, int(part["seq"][0]), part) for part in parts]
