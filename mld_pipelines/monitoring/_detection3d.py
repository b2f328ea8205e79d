"""`ObjectDetection3DLogger`: a 3D detector that logs what it finds in production."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters.detection3d import (
    GuardedDecoder,
    collected,
    frame_hashes,
    recognise,
    resolve_settings,
    tapping,
)
from mld_pipelines.capture import DetectionInferenceEncoder, Identity, Recorder, generated_request_ids, open_sink
from mld_pipelines.exceptions import InvalidInputError, StorageError
from mld_pipelines.monitoring._call import combined, frozen, rows_of, stated_time
from mld_pipelines.monitoring._detection3d_background import Detection3DBackground
from mld_pipelines.monitoring._frame_scoring import FrameScoring
from mld_pipelines.monitoring._logger import Logger
from mld_pipelines.monitoring._result_settings import traced_settings
from mld_pipelines.records import model_key, normalise_input_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from mld_pipelines.adapters.detection3d import Adapter3D, Call, Settings3D
    from mld_pipelines.capture import Overflow

__all__ = ["Detection3DLogger", "ObjectDetection3DLogger"]

_MAX_BUFFER_BYTES = 256 * 2**20
"""A CenterPoint frame's raw head maps hold 6 MB: some forty frames, ten seconds of a stalled disk at 4 a second."""


def ObjectDetection3DLogger(  # noqa: N802, PLR0917 - name and order of the original's factory
    model: Any,
    model_name: str,
    version_name: str,
    result_name: str | None = None,
    score_thresh: float | None = None,
    iou_thresh: float | None = None,
    max_detections_per_frame: int | None = None,
    pc_range: Sequence[float] | None = None,
    *,
    architecture: str | None = None,
    box_convention: str | None = None,
    **options: Any,
) -> Detection3DLogger:
    """Return a logger that stands in for a 3D detector, whose family is recognised by its head.

    Args:
        model: The detector, see `ObjectDetection3DTracer`.
        model_name: Model identifier, the same as at the tracer.
        version_name: Version identifier.
        result_name: Result whose estimator scores the frames; without it only basic metrics are logged. The thresholds
            it was traced with take the place of those that are not given.
        score_thresh: Lowest score recorded.
        iou_thresh: BEV IoU of the model's own suppression; recorded, never applied.
        max_detections_per_frame: Most boxes recorded per frame, by score.
        pc_range: [x_min, y_min, z_min, x_max, y_max, z_max], metres; required where the model does not tell.
        architecture: Name of a family or architecture where looking is not enough.
        box_convention: Convention of the boxes the model returns.
        **options: `overflow`, `max_buffer_bytes`, `hash_inputs`, `clock`, `accept_fingerprint`, `stream_id` and
            `metadata`, as at `ClassificationLogger`.

    Raises:
        UnrecognisedModelError: No family accepts the model, or several do.
        InvalidInputError: An argument is not usable, or `pc_range` is nowhere to be found.
        ConfigurationError: `MLD_API_ENDPOINT` is no lake, or another process sends this stream.
    """
    adapter = recognise(model, architecture, convention=box_convention)
    arguments = {
        "score_thresh": score_thresh,
        "iou_thresh": iou_thresh,
        "max_detections_per_frame": max_detections_per_frame,
        "pc_range": pc_range,
    }
    traced = traced_settings(open_sink(), result_name, of_model=adapter.settings)
    settings = resolve_settings(adapter.settings, family=adapter.family, arguments=arguments, of_result=traced)
    return Detection3DLogger(
        model, model_name, version_name, result_name, adapter=adapter, settings=settings, **options
    )


class Detection3DLogger(Logger):
    """Stands in for a 3D detector: `logger(inputs)` returns what the detector returns, and the frames are logged.

    The caller's thread clones the raw outputs and appends them; decoding, thresholds and storing happen on one
    background thread. Nothing that goes wrong with logging reaches the caller. Made by `ObjectDetection3DLogger`.

    Args:
        model: The detector.
        model_name: Model identifier.
        version_name: Version identifier.
        result_name: Result whose estimator scores the frames; without it only basic metrics are logged.
        adapter: Knows the family of the detector.
        settings: Thresholds as resolved.
        overflow: What happens when the buffer is full: `drop_oldest`, `sample` (thin out) or `block` (wait).
        max_buffer_bytes: Bound of the buffer.
        hash_inputs: Record `input_hash`, computed on the caller's thread.
        clock: Returns the time of an event (datetime or seconds since 1970), to replay history.
        accept_fingerprint: Score although the weights differ from the evaluated ones.
        stream_id: Name of this stream if it may be sent again; use `overflow="block"` with it.
        metadata: Scalars by name for every inference; the call's own come on top.
    """

    def __init__(
        self,
        model: Any,
        model_name: str,
        version_name: str,
        result_name: str | None = None,
        *,
        adapter: Adapter3D,
        settings: Settings3D,
        overflow: Overflow = "drop_oldest",
        max_buffer_bytes: int = _MAX_BUFFER_BYTES,
        hash_inputs: bool = False,
        clock: Callable[[], datetime | float] | None = None,
        accept_fingerprint: bool = False,
        stream_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        model_key(model_name, version_name)
        self._model = model
        self._names = model_name, version_name, result_name
        self._clock = clock
        self.settings = settings
        self.adapter = adapter
        self._hashes_inputs = hash_inputs
        self._metadata = dict(metadata) if metadata else None
        self._said = set()
        self._last = threading.local()
        self._next_number = itertools.count().__next__
        identity = Identity(model_name, version_name, "od3d")
        sink = open_sink()
        accepts = accept_fingerprint
        score = None if result_name is None else FrameScoring(sink, result_name, accept_fingerprint=accepts)
        encoder = DetectionInferenceEncoder(
            identity,
            result_name=result_name,
            decode=GuardedDecoder(adapter.decoder()),
            settings=settings,
            adapter=lambda: f"{adapter.family} {adapter.convention}",
            score=score,
        )
        self._background = Detection3DBackground(identity, model, encoder)
        self._recorder = self._background.recorder = Recorder(
            "landing/inferences",
            sink,
            encode=self._background.encode,
            overflow=overflow,
            max_buffer_bytes=max_buffer_bytes,
            stream_id=stream_id,
        )
        weakref.finalize(self, self._recorder.abandon).atexit = False

    def __call__(self, *args: Any, request_ids: Any = None, metadata: Any = None, **kwargs: Any) -> Any:
        """Return the detector's own output for these inputs, and log the frames.

        Args:
            *args: One input, as at the tracer: a (N, 4+) point tensor (one frame), a list of them, or the dict of the
                code base. With further arguments the model is called as it stands: `model(*args, **kwargs)`.
            request_ids: One int or string per frame, to find it again; generated if absent, see `last_request_ids`.
            metadata: Scalars per frame by name.
            **kwargs: Passed on to the model.
        """
        with ExitStack() as hooks:
            call, tapped, hashed = self._prepared(hooks, args[0] if args else kwargs)
            is_plain = call is not None and len(args) == 1 and not kwargs
            start = time.perf_counter_ns()
            if is_plain and call is not None:
                output = call.function(*call.args, **call.kwargs)
            else:
                output = self._model(*args, **kwargs)
            latency = time.perf_counter_ns() - start
        if call is not None:
            self._keep(call, output, tapped, latency, (request_ids, metadata, hashed))
        return output

    def _prepared(self, hooks: ExitStack, inputs: Any) -> tuple[Call | None, dict[str, list[Any]], list[str] | None]:
        """Put the hooks on and hash the inputs before the model can change them; a fault of ours costs the log only."""
        try:
            call = self.adapter.call(inputs)
            tapped = hooks.enter_context(tapping(self.adapter.taps()))
            hashed = frame_hashes(inputs, call.frames) if self._hashes_inputs else None
        except Exception as error:
            self._recorder.lose("failed", rows_of((inputs,)))
            self._failed(error)
            return None, {}, None
        return call, tapped, hashed

    def _keep(
        self, call: Call, output: Any, tapped: dict[str, list[Any]], latency: int, said: tuple[Any, Any, Any]
    ) -> None:
        """Clone and append; a call that cannot be logged is counted and never reaches the caller."""
        try:
            raw = collected(self.adapter, output, tapped, frames=call.frames)
            size = sum(tensor.numel() * tensor.element_size() for tensor in raw.values())
            device = next((str(tensor.device) for tensor in raw.values()), None)
            number = self._next_number()
            request_ids, metadata = frozen(said[0]), combined(self._metadata, said[1])
            context = self._background.context or self._background.current_context()
            self._last.said = number, call.frames, request_ids, context
            at = self._event_time() if self._clock is not None else stated_time(None)
            self._recorder.put(
                (at, latency, raw, None, call.frames, number, request_ids, metadata, said[2], context, None, device),
                call.frames,
                size,
            )
        except StorageError as error:  # `overflow="block"`: counted already
            self._failed(error)
        except Exception as error:
            self._recorder.lose("failed", call.frames)
            self._failed(error)

    @property
    def last_request_ids(self) -> list[str]:
        """Request ids of the last call of this thread, to find its frames again; empty before the first."""
        last = getattr(self._last, "said", None)
        if last is None:
            return []
        number, rows, given, context = last
        return (
            generated_request_ids(context.stream_id, number, rows)
            if given is None
            else normalise_input_ids(given, rows)
        )

    def log_labels(self, *_: Any, **__: Any) -> None:
        """Refuse labels: true boxes cannot be given to a logged frame later.

        Raises:
            InvalidInputError: Always.
        """
        raise InvalidInputError(
            "labels of a detector's frames cannot be logged later: `log_labels` takes one class index per inference, "
            "true boxes have no place there. Nothing was recorded. Trace the frames with their boxes by "
            "`ObjectDetection3DTracer` and evaluate again."
        )
