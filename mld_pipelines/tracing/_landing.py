"""From a worker's numpy columns to rows of landing, committed in order and exactly once."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines import __version__
from mld_pipelines.capture import TraceCall, TraceEncoder, decode, microseconds, to_frame
from mld_pipelines.lake import Batch
from mld_pipelines.tables import LANDING_MODELS, OPS_QUARANTINE
from mld_pipelines.tracing._ranges import Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.capture import Columns
    from mld_pipelines.compute import BatchResult
    from mld_pipelines.lake import Lake, Provenance
    from mld_pipelines.tables import TableSpec
    from mld_pipelines.tracing._job import TraceJob

__all__ = ["BatchWriter", "FrameWriter", "RangeWriter", "TraceWriter", "deliver"]

_FLUSH_BYTES = 32 * 2**20
"""Rows held before a commit: a Delta commit costs 10-30 ms, and files of 32 MB need no compaction soon."""

_DAY_US = 86_400_000_000


def deliver(spec: TableSpec, rows: int, columns: Columns, *, stream_id: str, seq: int) -> pl.DataFrame:
    """Return rows of a landing table: the given columns plus how and when they arrived.

    Args:
        spec: A landing table.
        rows: Number of rows.
        columns: See `capture.Columns`.
        stream_id: Stream of the rows.
        seq: Batch of the rows within the stream.
    """
    now = microseconds()
    delivery: Columns = {
        "stream_id": stream_id,
        "seq": seq,
        "row": np.arange(rows, dtype=np.int32),
        "ingested_at": now,
        "ingest_day": now // _DAY_US,
        "sdk_version": __version__,
    }
    return to_frame(spec, rows, delivery | columns)


@dataclass(slots=True, kw_only=True)
class BatchWriter(ABC):
    """Takes results in any order and commits them in the order of the batches.

    `Lake.commit_once` remembers the highest batch number of a stream, so batches must be committed in order; a result
    that comes early waits here. A failed batch becomes one row of `ops/quarantine`, a failed item of a batch one row
    with its number, committed before any later batch, so that a killed driver never forgets them.

    Attributes:
        lake: Where to write.
        spec: Landing table of the rows.
        model_key: Model of the rows.
        stream_id: Stream of the rows.
        provenance: Written with every commit.
        next_seq: First batch that is not committed yet.
        fingerprints: Fingerprints of the weights seen.
        failures: Reasons of the batches given up, by batch number.
        lost_items: Reasons of the items given up, whose batch was not, by batch number and place in it.
    """

    lake: Lake
    spec: TableSpec
    model_key: str
    stream_id: str
    provenance: Provenance | None = None
    next_seq: int = 0
    fingerprints: set[str] = field(default_factory=set)
    failures: dict[int, str] = field(default_factory=dict)
    lost_items: dict[tuple[int, int], str] = field(default_factory=dict)
    _waiting: dict[int, Sequence[Part]] = field(default_factory=dict)
    _rows: list[Batch] = field(default_factory=list)
    _quarantine: list[Batch] = field(default_factory=list)
    _bytes: int = 0

    @abstractmethod
    def encode(self, seq: int, /, columns: Mapping[str, NDArray[Any]]) -> tuple[int, Columns]:
        """Return the number of rows a batch makes, and their columns."""

    @abstractmethod
    def content(self, seq: int, position: int | None = None) -> str:
        """Return in words what a batch, or the item at a place in it, holds."""

    def take(self, seq: int, result: BatchResult) -> None:
        """Take the result of a batch; commit when enough rows are together."""
        self.take_parts(seq, [Part(0, result)])

    def take_parts(self, seq: int, parts: Sequence[Part]) -> None:
        """Take the results of the parts that a batch was run in; commit when enough rows are together.

        Args:
            seq: Number of the batch.
            parts: The whole batch, or every item of it, in order.
        """
        for _, result in parts:
            if "model_row" in result.columns:  # every worker sends them once, with its first result
                self._describe_model(result.columns)
        self._waiting[seq] = parts
        while (ready := self._waiting.pop(self.next_seq, None)) is not None:
            self._release(self.next_seq, ready)
            self.next_seq += 1
        if self._bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Commit what is held: failures first, rows last."""
        if self._quarantine:
            self.lake.commit_once(OPS_QUARANTINE, self._quarantine, provenance=self.provenance)
        if self._rows:
            self.lake.commit_once(self.spec, self._rows, provenance=self.provenance)
        self._rows, self._quarantine, self._bytes = [], [], 0

    def _release(self, seq: int, parts: Sequence[Part]) -> None:
        frames = [self._frame(seq, part) for part in parts if not part.result.failed]
        lost = [part for part in parts if part.result.failed]
        if not frames:
            self.failures[seq] = str(lost[0].result.reason)
            lost = [lost[0]._replace(position=-1)]
        self.lost_items |= {(seq, part.position): str(part.result.reason) for part in lost if part.position >= 0}
        if lost:  # its own mark: the lake quarantines single rows of this stream too
            self._quarantine.append(Batch(f"{self.stream_id}#batches", seq, self._failures(seq, lost)))
        if frames:
            frame = pl.concat(frames)
            self._bytes += int(frame.estimated_size())
            self._rows.append(Batch(self.stream_id, seq, frame))

    def _frame(self, seq: int, part: Part) -> pl.DataFrame:
        rows, columns = self.encode(seq, part.result.columns)
        # a row's number is its place in the batch, whatever of the batch is missing
        row: Columns = {"row": np.arange(part.position, part.position + rows, dtype=np.int32)}
        return deliver(self.spec, rows, columns | row, stream_id=self.stream_id, seq=seq)

    def _failures(self, seq: int, lost: Sequence[Part]) -> pl.DataFrame:
        now = datetime.now(UTC)
        rows = [
            {
                "stream_id": self.stream_id,
                "seq": seq,
                "row": position,
                "table": self.spec.name,
                "model_key": self.model_key,
                "rule": "batch|worker" if position < 0 else "item|worker",
                "reason": f"{self.content(seq, None if position < 0 else position)}, given up after {result.attempts} "
                f"attempts: {result.reason}",
                "quarantined_at": now,
                "ingest_day": now.date(),
            }
            for position, result in lost
        ]
        schema = {name: OPS_QUARANTINE.column(name).data_type for name in rows[0]}
        return OPS_QUARANTINE.align(pl.DataFrame(rows, schema=schema))

    def _describe_model(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write `landing/models` before the first row that refers to it."""
        fingerprint = str(columns["fingerprint"][0])
        if fingerprint in self.fingerprints:
            return
        head = columns["model_head"].tobytes() if "model_head" in columns else None
        row: Columns = {**json.loads(str(columns["model_row"][0])), "head": head}
        stream = f"{self.stream_id}#{fingerprint}"
        frame = deliver(LANDING_MODELS, 1, row, stream_id=self.stream_id, seq=len(self.fingerprints))
        self.lake.commit_once(LANDING_MODELS, [Batch(stream, 0, frame)], provenance=self.provenance)
        self.fingerprints.add(fingerprint)


@dataclass(slots=True, kw_only=True)
class RangeWriter(BatchWriter):
    """Writes the batches of a trace run, each a range of the dataset.

    Attributes:
        job: Whose rows these are.
        items: Size of the dataset.
    """

    job: TraceJob
    items: int

    @property
    def lost_by_item(self) -> dict[int, str]:
        """Reasons of the items given up, whose batch was not, by their place in the dataset."""
        return {seq * self.job.batch_size + place: why for (seq, place), why in sorted(self.lost_items.items())}

    def content(self, seq: int, position: int | None = None) -> str:
        """See `BatchWriter.content`."""
        start, stop = self.job.ranges(self.items)[seq]
        which = f"items {start} to {stop - 1}" if position is None else f"item {start + position}"
        return f"{which} of {self.job.dataset_type!r}"


@dataclass(slots=True, kw_only=True)
class TraceWriter(RangeWriter):
    """Writes what a classifier said; rows are made of calls here, as the tracer makes them."""

    _encoder: TraceEncoder | None = None

    def encode(self, _seq: int, /, columns: Mapping[str, NDArray[Any]]) -> tuple[int, Columns]:
        """See `BatchWriter.encode`."""
        call = TraceCall(
            scores=columns["scores"],
            feature=columns.get("feature"),
            labels=columns["labels"],
            input_ids=columns["input_ids"].tolist(),
            hashes=columns["hashes"].tolist(),
            dataset_type=self.job.dataset_type,
            n_epoch=self.job.n_epoch,
            captured_at=int(columns["captured_at"][0]),
            fingerprint=str(columns["fingerprint"][0]),
            path=str(columns["path"][0]),
            feature_layer=str(columns["feature_layer"][0]) or None,
            metadata=None,
            input_uris=None,
        )
        if self._encoder is None:
            self._encoder = TraceEncoder(self.job.identity)
        ((_, encoded),) = self._encoder([call])
        return len(call.labels), encoded


@dataclass(slots=True, kw_only=True)
class FrameWriter(RangeWriter):
    """Writes what a detector found; the workers have made rows of it."""

    def encode(self, _seq: int, /, columns: Mapping[str, NDArray[Any]]) -> tuple[int, Columns]:
        """See `BatchWriter.encode`."""
        segment = decode(columns["segment"].tobytes())
        return segment.rows, segment.columns
