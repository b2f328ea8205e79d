"""`log_labels`: labels that arrive after the inference."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.capture import Recorder, class_labels, microseconds, open_sink
from mld_pipelines.exceptions import InvalidInputError, StorageError
from mld_pipelines.records import normalise_input_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.capture import Columns

__all__ = ["LabelReceipt", "log_labels"]

_MAX_BUFFER_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class LabelReceipt:
    """What `log_labels` stored.

    Attributes:
        rows: Labels given.
        known: Labels of an earlier run of the same stream, stored once.
        quarantined: Labels that broke the contract of `landing/feedback`.
        stream_id: Stream of the labels.
    """

    rows: int
    known: int
    quarantined: int
    stream_id: str


def log_labels(
    request_ids: Any,
    labels: Any,
    *,
    source: str = "user",
    labelled_at: datetime | Sequence[datetime] | None = None,
    stream_id: str | None = None,
    timeout: float = 30.0,
) -> LabelReceipt:
    """Store true classes of earlier inferences; the latest label of a request wins.

    Args:
        request_ids: Ids of the inferences, as given to the logger or from `logger.last_request_ids`.
        labels: One class index per request.
        source: Who labelled.
        labelled_at: When, for all or one per label; default now.
        stream_id: Name of this stream of labels if a repeated script sends it again.
        timeout: Seconds to wait for the lake.

    Returns:
        What was stored.

    Raises:
        InvalidInputError: Lengths or values do not fit; nothing was stored.
        StorageError: The lake cannot be written; the labels wait in the spool.
    """
    classes = class_labels(labels)
    n = len(classes)
    if n == 0:
        raise InvalidInputError("no labels were given; nothing was stored.")
    columns = {
        "request_id": normalise_input_ids(request_ids, n, what="request_ids"),
        "label": classes,
        "source": _source(source),
        "labelled_at": _instants(labelled_at, n),
    }
    recorder = _recorder(stream_id)
    with _lock:
        before = recorder.stats
        recorder.put(columns, n, classes.nbytes + 100 * n)
        is_stored = recorder.flush(timeout, is_patient=False)
        after = recorder.stats
    if not is_stored:
        raise StorageError(
            f"{n} labels are not in the lake {recorder.sink.root} ({recorder.problem or 'timed out'}). None is lost: "
            f"they wait in {recorder.stream.spool.folder}; run `mld ingest replay` when the lake can be written."
        )
    return LabelReceipt(
        n, after.known - before.known, after.quarantined - before.quarantined, recorder.stream.stream_id
    )


_lock = threading.Lock()
_recorders: dict[tuple[str, str | None], Recorder] = {}


def _recorder(stream_id: str | None) -> Recorder:
    """Return the recorder of a stream of labels; its batches go on counting from call to call."""
    sink = open_sink()
    from mld_pipelines.capture import Spool

    key = str(Spool(sink.root).folder), stream_id
    with _lock:
        if key not in _recorders or _recorders[key].is_closed:
            _recorders[key] = Recorder(
                "landing/feedback",
                sink,
                encode=_encode,
                overflow="block",
                max_buffer_bytes=_MAX_BUFFER_BYTES,
                stream_id=stream_id,
            )
        return _recorders[key]


def _encode(calls: Sequence[Columns]) -> list[tuple[list[int], Columns]]:
    return [([len(columns["label"])], columns) for columns in calls]


def _source(source: Any) -> str:
    if not isinstance(source, str) or not source:
        raise InvalidInputError(f"source is {source!r}; say who labelled, e.g. 'user'.")
    return source


def _instants(labelled_at: Any, n: int) -> Any:
    if labelled_at is None:
        return microseconds()
    moments = [labelled_at] * n if isinstance(labelled_at, datetime) else list(labelled_at)
    if len(moments) != n or not all(isinstance(moment, datetime) for moment in moments):
        raise InvalidInputError(f"labelled_at must be a datetime or {n} of them; nothing was stored.")
    aware = [moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC) for moment in moments]
    return np.array([microseconds(moment.timestamp()) for moment in aware], np.int64)
