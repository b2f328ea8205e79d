"""`ClassificationLogger`: a classifier that logs what it does in production."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters import Probe, input_hashes
from mld_pipelines.capture import (
    Identity,
    InferenceEncoder,
    Recorder,
    generated_request_ids,
    host_copies,
    open_sink,
)
from mld_pipelines.exceptions import InvalidInputError, StorageError
from mld_pipelines.monitoring._call import (
    CallEnd,
    CallStart,
    batch_size,
    combined,
    frozen,
    rows_of,
)
from mld_pipelines.monitoring._classification_background import ClassificationBackground
from mld_pipelines.monitoring._logger import Logger
from mld_pipelines.monitoring._scoring import ResultScoring
from mld_pipelines.records import model_key, normalise_input_ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mld_pipelines.adapters import HeadSearch, Slot
    from mld_pipelines.capture import Overflow

__all__ = ["ClassificationLogger"]

_log = logging.getLogger("mld_pipelines.monitoring")

_MAX_BUFFER_BYTES = 64 * 2**20
"""10,000 inferences with 1,000 logits and 512 features: ten seconds of a stalled disk at 1,000 a second."""

_ROW_BYTES = 400
"""Bytes of a row beside its vectors: identifiers, times, the objects that hold them."""


class ClassificationLogger(Logger):
    """Stands in for a model: `logger(inputs)` is `model(inputs)`, and an inference is logged.

    The caller's thread takes two times, clones logits and feature and appends them; one background thread does the
    rest. Nothing that goes wrong with logging reaches the caller: rows wait in memory (bounded), then in the spool, and
    what is lost is counted in `stats`. The head of the model carries one forward pre-hook until `close`.

    Args:
        model: `torch.nn.Module` (or what `torch.compile`, DataParallel and DistributedDataParallel make of one).
        model_name: Model identifier, the same as at the tracer.
        version_name: Version identifier.
        result_name: Result whose estimator scores the inferences; without it only basic metrics are logged.
        feature_layer: Path of the module whose input is the feature; default the head, which is found.
        overflow: What happens when the buffer is full: `drop_oldest`, `sample` (thin out) or `block` (wait).
        max_buffer_bytes: Bound of the buffer.
        hash_inputs: Record `input_hash` (0.5 ms for a 224² image, on the caller's thread).
        clock: Returns the time of an event (datetime or seconds since 1970), to replay history.
        accept_fingerprint: Score although the weights differ from the evaluated ones.
        stream_id: Name of this stream if it may be sent again, as at the tracer; use `overflow="block"` with it.
        metadata: Scalars by name for every inference; the call's own come on top.

    Raises:
        InvalidInputError: A name or argument is not usable.
        ConfigurationError: `MLD_API_ENDPOINT` is no lake, or another process sends this stream.

    Example:
        >>> logger = ClassificationLogger(model, "digits", "v1")  # doctest: +SKIP
        >>> predictions = logger(images)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        model_name: str,
        version_name: str,
        result_name: str | None = None,
        *,
        feature_layer: str | None = None,
        overflow: Overflow = "drop_oldest",
        max_buffer_bytes: int = _MAX_BUFFER_BYTES,
        hash_inputs: bool = False,
        clock: Callable[[], datetime | float] | None = None,
        accept_fingerprint: bool = False,
        stream_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        model_key(model_name, version_name)
        self._arguments: dict[str, Any] = {
            "feature_layer": feature_layer,
            "overflow": overflow,
            "max_buffer_bytes": max_buffer_bytes,
            "hash_inputs": hash_inputs,
            "clock": clock,
            "accept_fingerprint": accept_fingerprint,
            "metadata": metadata,
        }
        self._model = model
        self._names = model_name, version_name, result_name
        self._clock = clock
        self._probe = Probe(model, feature_layer=feature_layer)
        self._tap = self._probe.tap()
        self._start_recording(stream_id)
        self._start = CallStart(model, self._tap, is_attached=False, hashes_inputs=hash_inputs)
        self._end = CallEnd(
            put=self._recorder.put,
            background=self._background,
            next_number=itertools.count().__next__,
            clock=clock,
            metadata=dict(metadata) if metadata else None,
        )
        self._lock = threading.Lock()
        self._said: set[str] = set()
        self._finalizer = weakref.finalize(self, _release, self._recorder, self._probe)
        self._finalizer.atexit = False

    def _start_recording(self, stream_id: str | None) -> None:
        identity = Identity(*self._names[:2])
        sink = open_sink()
        name = self._names[2]
        accept = self._arguments["accept_fingerprint"]
        score = None if name is None else ResultScoring(sink, name, accept_fingerprint=accept)
        encoder = InferenceEncoder(identity, result_name=name, score=score)
        self._background = ClassificationBackground(identity, self._probe, encoder)
        self._recorder = Recorder(
            "landing/inferences",
            sink,
            encode=self._background.encode,
            overflow=self._arguments["overflow"],
            max_buffer_bytes=self._arguments["max_buffer_bytes"],
            stream_id=stream_id,
        )
        self._background.recorder = self._recorder

    def __call__(self, *args: Any, request_ids: Any = None, metadata: Any = None, **kwargs: Any) -> Any:
        """Return the model's own output for these arguments, and log the inference.

        Args:
            *args: Passed on to the model; the first is the batch of inputs.
            request_ids: One int or string per input, to join labels later; generated if absent, see
                `last_request_ids`.
            metadata: Scalars per input by name.
            **kwargs: Passed on to the model.
        """
        model, tap, is_attached, hashes_inputs = self._start
        hashed = self._hashed(args, kwargs) if hashes_inputs else None
        if not is_attached:
            return self._first_call(args, kwargs, (request_ids, metadata, hashed))
        slot = tap.arm()
        start = time.perf_counter_ns()
        try:
            output = model(*args, **kwargs)
        except BaseException:
            tap.take(slot)
            raise
        latency = time.perf_counter_ns() - start
        self._keep(slot, output, tap.take(slot), latency, args, request_ids, metadata, hashed)
        return output

    def _keep(  # noqa: PLR0917 - names cost more than places here
        self,
        slot: Slot,
        output: Any,
        feature: Any,
        latency: int,
        args: Any,
        request_ids: Any,
        metadata: Any,
        hashed: Any,
    ) -> None:
        """Clone and append, on the caller's thread; a call that cannot be logged is counted and never reaches it."""
        try:
            put, background, next_number, clock, constant, plain, row_bytes = self._end
            kept, device, ready = None, None, None
            try:
                scores: Any = output if type(output) is plain else self._probe.scores(output)
                rows = scores.size(0)
                if scores.is_cuda or scores.requires_grad:
                    device = scores.device
                    kept, feature, ready = host_copies(scores, feature)
                else:  # what `host_copies` does, without the call
                    kept = scores.clone()
                size = rows * row_bytes or self._measured(kept, feature)
            except InvalidInputError as error:
                self._say("output", f"only basic metrics are logged: {error}")
                feature, rows, size = None, batch_size(args), _ROW_BYTES
            number = next_number()
            if request_ids is not None or metadata is not None or constant is not None:
                request_ids, metadata = frozen(request_ids), combined(constant, metadata)
            context = background.context or background.current_context()
            slot.said = number, rows, request_ids, context
            at = time.time_ns() if clock is None else self._event_time()
            # A bare tuple: the background makes an InferenceCall of it.
            put(
                (at, latency, kept, feature, rows, number, request_ids, metadata, hashed, context, ready, device),
                rows,
                size,
            )
        except StorageError as error:  # `overflow="block"`: counted already
            self._failed(error)
        except Exception as error:
            self._recorder.lose("failed", rows_of(args))
            self._failed(error)

    def _measured(self, scores: Any, feature: Any) -> int:
        """Return the bytes of a call, and remember them per row: widths do not change."""
        size = int(scores.nbytes) + (0 if feature is None else int(feature.nbytes))
        rows = int(scores.shape[0])
        row_bytes: int = size // max(1, rows) + _ROW_BYTES
        self._learn(row_bytes=row_bytes)
        return row_bytes * rows

    def _learn(self, **facts: Any) -> None:
        with self._lock:
            self._end = self._end._replace(**facts)

    def _first_call(self, args: Any, kwargs: Any, said: tuple[Any, ...]) -> Any:
        """Call the model, watching it to learn where scores and feature are; concurrent first calls each do."""
        with ExitStack() as hooks:
            search = self._prepared(hooks, args, kwargs)
            start = time.perf_counter_ns()
            output = self._model(*args, **kwargs)
            latency = time.perf_counter_ns() - start
        feature, slot = None, self._tap.slot()
        try:
            feature = self._tap.take(slot) if search is None else self._probe.settle(search, output).feature
        except InvalidInputError as error:
            self._say("output", f"only basic metrics are logged: {error}")
        except Exception as error:
            self._failed(error)
        self._keep(slot, output, feature, latency, args, *said)
        try:
            self._attach()
            self._background.context = None
            found = self._probe.path
            self._learn(plain=found.output_type if found is not None and not found.steps else None)
        except Exception as error:
            self._failed(error)
        return output

    def _prepared(self, hooks: ExitStack, args: Any, kwargs: Any) -> HeadSearch | None:
        """Watch the first call; where the head is known or must be known before, put the hook on it at once."""
        try:
            self._background.current_fingerprint()
            if not self._probe.is_compiled and not self._probe.is_named:
                search = self._probe.search()
                hooks.enter_context(search.watching(self._model))
                return search
            if not self._probe.is_named and not self._model.training:  # the compiler must see the hook
                self._probe.learn(*args, **kwargs)
            self._attach()
            self._tap.arm()
        except Exception as error:
            self._failed(error)
        return None

    def _attach(self) -> None:
        """Put the hook on the head, once."""
        with self._lock:
            if not self._start.is_attached and not self._recorder.is_closed:
                if self._probe.head is not None:
                    self._tap.attach(self._probe.head)
                    self._probe.attached = self._tap
                self._start = self._start._replace(is_attached=True)

    def _hashed(self, args: Any, kwargs: Any) -> list[str] | None:
        """Hash the inputs before the model can change them."""
        try:
            inputs = {**kwargs, "inputs": args[0]} if kwargs and args else (args[0] if args else kwargs)
            return input_hashes(inputs, batch_size((inputs,)))
        except Exception as error:
            self._failed(error)
            return None

    @property
    def last_request_ids(self) -> list[str]:
        """Request ids of the last call of this thread, to hand to `log_labels`; empty before the first."""
        if (last := self._tap.slot().said) is None:
            return []
        number, rows, given, context = last
        if given is not None:
            try:
                return normalise_input_ids(given, rows)
            except (InvalidInputError, TypeError):
                pass
        return generated_request_ids(context.stream_id, number, rows)

    def _detach(self) -> None:
        """See `Logger`."""
        with self._lock:
            self._tap.detach()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as its arguments: the copy in another process has a stream of its own."""
        return _restore, (self._model, self._names, self._arguments)


def _restore(model: Any, names: tuple[str, str, str | None], arguments: dict[str, Any]) -> ClassificationLogger:
    return ClassificationLogger(model, *names, **arguments)


def _release(recorder: Recorder, probe: Probe) -> None:
    """A logger was forgotten: take its hook off and let its thread deliver what is there."""
    recorder.abandon()
    if probe.attached is not None:
        probe.attached.detach()
