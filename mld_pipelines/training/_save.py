"""`wait_for_save`: store the rows, then the receipt, then look whether they can be read."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.adapters import fingerprint, weights_version
from mld_pipelines.capture import EmbeddedSink, is_described, microseconds
from mld_pipelines.exceptions import StorageError
from mld_pipelines.records import model_key
from mld_pipelines.training._traced import Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.capture import Columns, Recorder
    from mld_pipelines.training._traced import Traced
    from mld_pipelines.training._tracer import Tracer

__all__ = ["save"]

_log = logging.getLogger("mld_pipelines.training")


def save(tracer: Tracer, chosen: Sequence[Traced], *, timeout: float) -> Receipt:
    """Store the rows of some datasets and epochs and their receipts.

    Raises:
        StorageError: The lake cannot be written; everything stays in the spool.
    """
    recorder = tracer._recorder
    deadline = time.monotonic() + timeout
    _flush(recorder, deadline)
    current = _judge_weights(tracer, chosen)
    for columns in _new_models(tracer, chosen):
        recorder.send("landing/models", columns)
    stats = recorder.stats
    for traced in chosen:
        recorder.send("landing/receipts", _receipt_columns(tracer, traced, dropped=stats.total_dropped))
    _flush(recorder, deadline)
    version, uri = _verified(recorder)
    for traced in chosen:
        traced.is_pending = False
        if traced.hash_conflicts:
            _log.warning("dataset %r: %s.", traced.dataset_type, traced.note)
    stats = recorder.stats
    return Receipt(
        rows=sum(traced.rows for traced in chosen),
        inputs=sum(len(traced.hashes) for traced in chosen),
        datasets=tuple(dict.fromkeys(traced.dataset_type for traced in chosen)),
        epochs=tuple(dict.fromkeys(traced.n_epoch for traced in chosen)),
        dropped=stats.total_dropped,
        known=stats.known,
        known_batches=stats.known_batches,
        quarantined=stats.quarantined,
        duplicates=sum(traced.duplicates for traced in chosen),
        hash_conflicts=sum(traced.hash_conflicts for traced in chosen),
        fingerprint=current,
        weights_changed=any(traced.weights_changed for traced in chosen),
        stream_id=tracer.stream_id,
        version=version,
        uri=uri,
    )


def _flush(recorder: Recorder, deadline: float) -> None:
    if recorder.flush(max(0.1, deadline - time.monotonic()), is_patient=False):
        return
    stats = recorder.stats
    waiting = stats.spooled + stats.buffered
    raise StorageError(
        f"{waiting} rows of stream {recorder.stream.stream_id} are not in the lake {recorder.sink.root} "
        f"({recorder.problem or 'timed out'}). None is lost: they wait in {recorder.stream.spool.folder}. Call "
        "wait_for_save again when the lake can be written, or run `mld ingest replay`."
    )


def _judge_weights(tracer: Tracer, chosen: Sequence[Traced]) -> str:
    """Return the fingerprint now; note datasets whose weights moved while they were traced.

    Only the dataset of the last call is compared with the weights now: an earlier one was compared call by call, and
    that training went on after it says nothing about its rows.
    """
    version = weights_version(tracer.model)
    current = fingerprint(tracer.model)
    last = max(chosen, key=lambda traced: traced.last_call)
    if last.weights_version != version or last.fingerprint != current:
        last.weights_changed = last.weights_changed or last.fingerprint != current
    return current


def _new_models(tracer: Tracer, chosen: Sequence[Traced]) -> list[Columns]:
    """Return a row for each set of weights that this stream has not described yet."""
    rows = []
    for key in dict.fromkeys(traced.fingerprint for traced in chosen):
        columns = None if key in tracer._described else tracer._model_columns(key)
        if columns is None:
            continue
        tracer._described.add(key)
        if not is_described(tracer._recorder.sink, tracer._identity, key):
            rows.append(columns)
    return rows


def _receipt_columns(tracer: Tracer, traced: Traced, *, dropped: int) -> Columns:
    return {
        "model_key": model_key(tracer.model_name, tracer.version_name),
        "dataset_type": traced.dataset_type,
        "n_epoch": traced.n_epoch,
        "purpose": "trace",
        "state": "complete",
        "last_seq": np.array([traced.last_call], np.int64),
        "rows": traced.rows,
        "dropped": dropped,
        "fingerprint": traced.fingerprint,
        "weights_changed": traced.weights_changed,
        "note": traced.note,
        "completed_at": microseconds(),
    }


def _verified(recorder: Recorder) -> tuple[int | None, str]:
    """Count the rows of the stream in the lake.

    Raises:
        StorageError: Fewer can be read than were stored.
    """
    from mld_pipelines.capture import can_use_frames

    if not isinstance(recorder.sink, EmbeddedSink) or not can_use_frames():
        return None, recorder.sink.root
    import polars as pl

    from mld_pipelines.tables import LANDING_TRACES

    lake = recorder.sink.lake
    stats = recorder.stats
    stream = recorder.stream.stream_id
    found = lake.scan(LANDING_TRACES, stream_id=stream).select(pl.len()).collect().item()
    if found < stats.stored - stats.quarantined:
        raise StorageError(
            f"only {found} of {stats.stored - stats.quarantined} rows of stream {stream} can be read from {lake.root}; "
            "run `mld doctor` on the lake."
        )
    return lake.version(LANDING_TRACES), lake.uri(LANDING_TRACES)
