"""What every tracer does with what it recorded: one stream, the weights it was recorded with, receipts."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Self

from mld_pipelines.adapters import fingerprint, weights_version
from mld_pipelines.capture import Recorder, open_sink
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import model_key
from mld_pipelines.training._arguments import checked_class_names, checked_epoch
from mld_pipelines.training._save import save
from mld_pipelines.training._traced import Traced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mld_pipelines.capture import Columns, Identity, Stats
    from mld_pipelines.training._traced import Receipt

__all__ = ["ROW_BYTES", "Tracer"]

_MAX_BUFFER_BYTES = 256 * 2**20
"""A tracer waits when this much is in memory: 120,000 rows with 512 features."""

ROW_BYTES = 300
"""Bytes of a row beside its vectors: identifiers and the objects that hold them."""


class Tracer:
    """Base of all tracers, for `isinstance`; make a tracer of a task.

    Args:
        model: The model as its user calls it.
        identity: Names and task of the model.
        encode: Turns recorded calls into rows of `landing/traces`.
        class_names: Names of the classes by index.
        stream_id: Name of the stream if it may be sent again.
    """

    def __init__(
        self,
        model: Any,
        identity: Identity,
        encode: Callable[[Sequence[Any]], list[tuple[list[int], Columns]]],
        *,
        class_names: Sequence[str] | None,
        stream_id: str | None,
    ) -> None:
        model_key(identity.model_name, identity.version_name)
        self.model = model
        self.model_name, self.version_name = identity.model_name, identity.version_name
        self.class_names = checked_class_names(class_names)
        self._identity = identity
        self._recorder = Recorder(
            "landing/traces",
            open_sink(),
            encode=encode,
            overflow="block",
            max_buffer_bytes=_MAX_BUFFER_BYTES,
            stream_id=stream_id,
        )
        self._lock = threading.Lock()
        self._calls = 0
        self._traced: dict[tuple[str, int | None], Traced] = {}
        self._described: set[str] = set()
        self._stream_of_state = self.stream_id
        weakref.finalize(self, self._recorder.abandon).atexit = False

    def _model_columns(self, key: str) -> Columns | None:
        """Return what another process needs to know of the weights `key`; None before anything was recorded."""
        raise NotImplementedError

    def wait_for_save(self, n_epoch: int | None = None, *, timeout: float = 300.0) -> Receipt:
        """Store everything traced so far and declare it complete.

        Args:
            n_epoch: Only rows of this epoch; default all that are pending.
            timeout: Seconds to wait for the lake.

        Returns:
            What was stored.

        Raises:
            InvalidInputError: Nothing is pending, or not this epoch (the message lists the pending ones), or the tracer
                is closed.
            StorageError: The lake cannot be written. The rows are in the spool; call again or run `mld ingest replay`.
        """
        epoch = checked_epoch(n_epoch)
        self._forget_after_fork()
        pending = [traced for traced in self._traced.values() if traced.is_pending]
        chosen = [traced for traced in pending if n_epoch is None or traced.n_epoch == epoch]
        if pending and self._recorder.is_closed:
            raise InvalidInputError(
                f"this tracer was closed before wait_for_save, so stream {self.stream_id} has no receipt. Its rows are "
                f"safe: run `mld trace accept {self.stream_id}`, or trace again and save before closing."
            )
        if not pending:
            raise InvalidInputError("nothing was traced since the last save; call the tracer on some batches first.")
        if not chosen:
            epochs = sorted({str(traced.n_epoch) for traced in pending})
            raise InvalidInputError(
                f"n_epoch={epoch} was not traced; pending epochs are {', '.join(epochs)}. Nothing was saved: pass the "
                "epoch that was traced, or none for all."
            )
        return save(self, chosen, timeout=timeout)

    def close(self) -> None:
        """Bring what was traced to the lake and end the background thread; `wait_for_save` has to come before."""
        self._recorder.close()

    def __enter__(self) -> Self:
        """Return the tracer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def stream_id(self) -> str:
        """Stream of the rows."""
        return self._recorder.stream.stream_id

    @property
    def stats(self) -> Stats:
        """Where the rows are now."""
        return self._recorder.stats

    def _opened(self, dataset: str, epoch: int | None) -> Traced:
        """Return the state of a dataset and epoch; judge whether the weights moved since its first call."""
        self._forget_after_fork()
        if self._recorder.is_closed:
            raise InvalidInputError(
                f"this tracer is closed; the batch was not recorded. Make a new {type(self).__name__}."
            )
        key = (dataset, epoch)
        version = weights_version(self.model)
        with self._lock:
            if key not in self._traced:
                self._traced[key] = Traced(dataset, epoch, fingerprint(self.model), version, is_pending=False)
            traced = self._traced[key]
            if traced.weights_version != version and not traced.weights_changed:
                traced.weights_changed = fingerprint(self.model) != traced.fingerprint
                traced.weights_version = version
        return traced

    def _record(self, call: Any, ids: Sequence[str], hashes: Sequence[str], *, size: int, traced: Traced) -> None:
        """Keep a call of so many bytes."""
        with self._lock:  # the number of a call is its place in the buffer
            self._recorder.put(call, len(ids), size)
            traced.add(ids, hashes, call=self._calls)
            self._calls += 1

    def _forget_after_fork(self) -> None:
        """In a forked child, what the parent traced is the parent's."""
        if self._stream_of_state != self.stream_id:
            self._stream_of_state = self.stream_id
            self._lock = threading.Lock()
            self._traced, self._described, self._calls = {}, set(), 0
