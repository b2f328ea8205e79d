"""The stream of a stress pass: named by what it holds, so that the same pass is recognised and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.capture import EmbeddedSink, Recorder, StressEncoder, can_use_frames, is_described
from mld_pipelines.exceptions import MldError, StorageError

if TYPE_CHECKING:
    from mld_pipelines.capture import Columns, StressCall
    from mld_pipelines.lake import Lake
    from mld_pipelines.training._classification import ClassificationTracer

__all__ = ["StressStream"]

_TABLE = "landing/stress"
_MAX_BUFFER_BYTES = 256 * 2**20
_ADOPT_SECONDS = 30.0
"""Time to bring what an interrupted pass left in the spool to the lake, before looking what is missing."""
_FLUSH_SECONDS = 300.0


class StressStream:
    """Stores the sets of a stress pass in their order, one batch each.

    Args:
        tracer: Whose model, names and sink these are.
        stream_id: Name of the stream.

    Raises:
        ConfigurationError: Another process runs the same pass.
    """

    def __init__(self, tracer: ClassificationTracer, stream_id: str) -> None:
        self._tracer = tracer
        self._encoder = StressEncoder(tracer._identity)
        self._recorder = Recorder(
            _TABLE,
            tracer._recorder.sink,
            encode=self._encoder,
            overflow="block",
            max_buffer_bytes=_MAX_BUFFER_BYTES,
            stream_id=stream_id,
        )
        self.known = self._known()
        self._recorder.stream.skip_to(_TABLE, self.known)

    def __enter__(self) -> StressStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._recorder.close()

    def put(self, call: StressCall) -> None:
        """Keep one set."""
        size = call.scores.nbytes + (0 if call.feature is None else call.feature.nbytes) + 300 * len(call.labels)
        self._recorder.put(call, len(call.labels), size)

    def flush(self) -> None:
        """Store everything that was kept.

        Raises:
            StorageError: The lake cannot be written; everything stays in the spool.
        """
        recorder = self._recorder
        if recorder.flush(_FLUSH_SECONDS, is_patient=False):
            return
        stats = recorder.stats
        raise StorageError(
            f"{stats.spooled + stats.buffered} stressed copies of stream {recorder.stream.stream_id} are not in the "
            f"lake {recorder.sink.root} ({recorder.problem or 'timed out'}). None is lost: they wait in "
            f"{recorder.stream.spool.folder}. Call stress again with the same arguments when the lake can be written."
        )

    def count(self, expected: int) -> int:
        """Return how many copies are in the lake; where it cannot be read, those that were not lost."""
        lake = self._lake()
        if lake is None:
            return expected - self._recorder.stats.total_dropped
        import polars as pl

        from mld_pipelines.tables import LANDING_STRESS

        found = lake.scan(LANDING_STRESS, stream_id=self.stream_id).select(pl.len()).collect().item()
        return int(found)

    def complete(self, receipt: Columns, *, fingerprint: str) -> None:
        """Store the receipt, and a description of the weights where the lake has none.

        Raises:
            StorageError: The lake cannot be written; everything stays in the spool.
        """
        tracer = self._tracer
        row = tracer._model_columns(fingerprint)
        if row is not None and not is_described(self._recorder.sink, tracer._identity, fingerprint):
            row["output_kind"] = self._encoder.output_kind
            self._recorder.send("landing/models", row)
        self._recorder.send("landing/receipts", receipt)
        self.flush()

    @property
    def stream_id(self) -> str:
        """Name of the stream."""
        return self._recorder.stream.stream_id

    @property
    def place(self) -> tuple[int | None, str]:
        """Version and address of the table, as far as they are known."""
        lake = self._lake()
        if lake is None:
            return None, self._recorder.sink.root
        from mld_pipelines.tables import LANDING_STRESS

        return lake.version(LANDING_STRESS), lake.uri(LANDING_STRESS)

    def _known(self) -> int:
        """Return how many sets are in the lake, after what an interrupted pass left in the spool got there."""
        self._recorder.worker.flush(_ADOPT_SECONDS, is_patient=False)
        lake = self._lake()
        if lake is None:
            return 0
        from mld_pipelines.tables import LANDING_STRESS

        try:
            mark = lake.mark(LANDING_STRESS, self.stream_id)
        except MldError:  # the lake cannot be read now; what it has already is recognised when the rows arrive
            return 0
        return 0 if mark is None else mark + 1

    def _lake(self) -> Lake | None:
        sink = self._recorder.sink
        return sink.lake if isinstance(sink, EmbeddedSink) and can_use_frames() else None
