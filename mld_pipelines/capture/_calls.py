"""Captured calls and how they become columns: vectorised over all calls of a drain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mld_pipelines.adapters import judge_scores, pooled
from mld_pipelines.capture._metadata import metadata_rows
from mld_pipelines.capture._stream import microseconds
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.records import model_key, normalise_input_ids, require_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.adapters import Verdict
    from mld_pipelines.capture._columns import Columns

__all__ = [
    "CallContext",
    "Identity",
    "InferenceCall",
    "InferenceEncoder",
    "ScoreOutputs",
    "TraceCall",
    "TraceEncoder",
    "event_columns",
    "float_array",
    "generated_request_ids",
    "lenient_metadata",
    "request_ids",
    "texts",
]

_log = logging.getLogger("mld_pipelines.capture")

_MAX_SKEW_US = 60_000_000
"""An event this far ahead of the ingest clock keeps its row but not its time."""

_DAY_US = 86_400_000_000

Groups = list[tuple[list[int], "Columns"]]
ScoreOutputs = Callable[..., Mapping[str, Any] | None]
"""`score(logits=…, probabilities=…, features=…, fingerprint=…)` returns score columns, or None if it cannot score."""


class Identity(NamedTuple):
    """What is the same for every row of a tracer or logger."""

    model_name: str
    version_name: str
    task: str = "classification"

    @property
    def key(self) -> str:
        """`model_name@version_name`."""
        return model_key(self.model_name, self.version_name)

    @property
    def columns(self) -> Columns:
        """Constant columns."""
        return {
            "model_name": self.model_name,
            "version_name": self.version_name,
            "model_key": self.key,
            "task": self.task,
            "framework": "torch",
        }


class TraceCall(NamedTuple):
    """One traced call, on the CPU: N inputs with their labels.

    Attributes:
        scores: (N, K) float32.
        feature: (N, d) float32, or None.
        labels: (N,) int64.
        input_ids: N strings.
        hashes: N SHA-256 digests.
        dataset_type: Dataset of the inputs.
        n_epoch: Epoch, or None.
        captured_at: When the forward pass ended, µs since 1970.
        fingerprint: Weights at the first call of this dataset and epoch.
        path: Where the scores were inside the output.
        feature_layer: Layer whose input is `feature`.
        metadata: N JSON objects, or None.
        input_uris: N strings, or None.
    """

    scores: NDArray[np.float32]
    feature: NDArray[np.float32] | None
    labels: NDArray[np.int64]
    input_ids: list[str]
    hashes: list[str]
    dataset_type: str
    n_epoch: int | None
    captured_at: int
    fingerprint: str
    path: str
    feature_layer: str | None
    metadata: list[str | None] | None
    input_uris: list[str] | None


class CallContext(NamedTuple):
    """What the calls of a logger share until weights or process change.

    Attributes:
        fingerprint: Weights of the model.
        path: Where the scores are inside the output.
        feature_layer: Layer whose input is the feature.
        stream_id: Stream of the calls, the start of generated request ids.
    """

    fingerprint: str
    path: str
    feature_layer: str | None
    stream_id: str


class InferenceCall(NamedTuple):
    """One logged call as the caller's thread left it: clones, nothing computed.

    Attributes:
        at: When the call ended by the logger's clock, ns since 1970.
        latency: Wall time of the forward pass, ns.
        scores: (N, K) tensor, or None if the output was not recognised.
        feature: The head's input, not pooled, or None.
        rows: Number of inputs.
        number: Number of the call in its stream, from 0.
        request_ids: As the caller gave them, or None.
        metadata: As the caller gave it, or None.
        hashes: N SHA-256 digests, or None.
        context: What is the same from call to call.
        ready: Event after which the copies from the device are complete, or None on the CPU.
        device: Device the scores were on, or None if they are there still.
    """

    at: int
    latency: int
    scores: Any
    feature: Any
    rows: int
    number: int
    request_ids: Any
    metadata: Any
    hashes: list[str] | None
    context: CallContext
    ready: Any
    device: Any


class _Judge:
    """Remembers what kind of scores a model returns, so that the evidence of a stream is one sentence."""

    def __init__(self) -> None:
        self._verdict: Verdict | None = None

    @property
    def kind(self) -> str:
        """What the model returns, as far as is known."""
        return "logits" if self._verdict is None else self._verdict.kind

    def columns(self, scores: NDArray[np.float32], path: str) -> Columns:
        """Return the columns about the output of several calls, (rows, K)."""
        found = judge_scores(scores)
        if self._verdict is None or (found is not None and found.kind != self._verdict.kind):
            if self._verdict is not None and found is not None:
                _log.warning(
                    "the model returned %s so far and %s now: %s", self._verdict.kind, found.kind, found.evidence
                )
            if found is not None and found.doubt is not None:
                _log.warning("%s: %s", path, found.doubt)
            self._verdict = found
        kind = self.kind
        evidence = "no finite row yet" if self._verdict is None else self._verdict.evidence
        probabilities = _probabilities(scores, kind)
        broken = np.asarray(~np.isfinite(scores).all(axis=1))
        return {
            "output_kind": kind,
            "output_evidence": f"{path}: {evidence}",
            "prediction": _masked(np.where(broken[:, None], 0.0, scores).argmax(axis=1).astype(np.int64), broken),
            "confidence": _masked(np.where(broken, 0.0, probabilities.max(axis=1)).astype(np.float32), broken),
            "logits": None if kind == "probabilities" else scores,
            "probs": scores if kind == "probabilities" else probabilities,
        }


class TraceEncoder:
    """Turns traced calls into rows of `landing/traces`."""

    def __init__(self, identity: Identity) -> None:
        self._constant = identity.columns
        self._judge = _Judge()

    @property
    def output_kind(self) -> str:
        """What the model returns, as far as is known."""
        return self._judge.kind

    def __call__(self, calls: Sequence[TraceCall]) -> Groups:
        """Return groups of calls with equal widths, in order."""
        return [self._group(list(group)) for _, group in groupby(calls, key=_trace_shape)]

    def _group(self, calls: list[TraceCall]) -> tuple[list[int], Columns]:
        lengths = [len(call.labels) for call in calls]
        first = calls[0]
        scores = np.concatenate([call.scores for call in calls])
        columns = {
            **self._constant,
            "dataset_type": first.dataset_type,
            "n_epoch": first.n_epoch,
            "input_id": [one for call in calls for one in call.input_ids],
            "captured_at": np.repeat(np.array([call.captured_at for call in calls], np.int64), lengths),
            "label": np.concatenate([call.labels for call in calls]),
            "fingerprint": first.fingerprint,
            "input_hash": [one for call in calls for one in call.hashes],
            "input_uri": texts([(call.input_uris, n) for call, n in zip(calls, lengths, strict=True)]),
            "metadata": texts([(call.metadata, n) for call, n in zip(calls, lengths, strict=True)]),
            "feature_layer": first.feature_layer,
            "feature": None
            if first.feature is None
            else np.concatenate([c.feature for c in calls if c.feature is not None]),
            **self._judge.columns(scores, first.path),
        }
        return lengths, columns


class InferenceEncoder:
    """Turns logged calls into rows of `landing/inferences`.

    Args:
        identity: Model of the logger.
        result_name: Result the logger was given.
        score: Adds score columns; called with what will be stored.
    """

    def __init__(self, identity: Identity, *, result_name: str | None, score: ScoreOutputs | None) -> None:
        self._constant = {**identity.columns, "result_name": result_name}
        self._score = score
        self._judge = _Judge()

    @property
    def output_kind(self) -> str:
        """What the model returns, as far as is known."""
        return self._judge.kind

    def __call__(self, calls: Sequence[InferenceCall]) -> Groups:
        """Return groups of calls with equal widths, in order."""
        prepared = [_prepared(call) for call in calls]
        return [self._group(list(group)) for _, group in groupby(prepared, key=_inference_shape)]

    def _group(self, calls: list[InferenceCall]) -> tuple[list[int], Columns]:
        lengths = [call.rows for call in calls]
        first = calls[0]
        columns = {
            **self._constant,
            **event_columns(calls, lengths),
            "request_id": [one for call in calls for one in request_ids(call)],
            "metadata": texts([(lenient_metadata(call), call.rows) for call in calls]),
            "input_hash": texts([(call.hashes, call.rows) for call in calls]),
            "device": str(first.device),
            "fingerprint": first.context.fingerprint,
            "feature_layer": first.context.feature_layer,
        }
        if first.scores is not None:
            columns |= self._judge.columns(np.concatenate([call.scores for call in calls]), first.context.path)
            columns["feature"] = None if first.feature is None else np.concatenate([call.feature for call in calls])
            if columns["logits"] is not None:
                columns["probs"] = None  # derived from the logits; landing keeps what the model returned
            columns |= self._scored(columns)
        return lengths, columns

    def _scored(self, columns: Columns) -> Columns:
        if self._score is None:
            return {}
        scored = self._score(
            logits=columns["logits"],
            probabilities=columns["probs"],
            features=columns["feature"],
            fingerprint=columns["fingerprint"],
        )
        return {} if scored is None else {name: _nullable(value) for name, value in scored.items()}


def _trace_shape(call: TraceCall) -> tuple[Any, ...]:
    width = None if call.feature is None else call.feature.shape[1]
    return call.scores.shape[1], width, call.dataset_type, call.n_epoch, call.fingerprint, call.path


def _inference_shape(call: InferenceCall) -> tuple[Any, ...]:
    classes = None if call.scores is None else call.scores.shape[1]
    width = None if call.feature is None else call.feature.shape[1]
    return classes, width, call.context, str(call.device)


def _prepared(call: InferenceCall) -> InferenceCall:
    """Return the call with float32 arrays instead of tensors."""
    if call.ready is not None:
        call.ready.synchronize()
    if call.scores is None:
        return call._replace(feature=None)
    device = call.scores.device if call.device is None else call.device
    scores = float_array(call.scores)
    feature = None if call.feature is None else pooled(call.feature, len(scores))
    call = call._replace(device=device)
    return call._replace(scores=scores, rows=len(scores), feature=None if feature is None else float_array(feature))


def float_array(tensor: Any) -> NDArray[np.float32]:
    """Return a tensor (N, …) of any float dtype and device as an array (N, width) in float32."""
    require_data("outputs of the model", tensor)
    flat = tensor.detach().flatten(1).float().cpu()
    return np.ascontiguousarray(flat.numpy())


def event_columns(calls: list[InferenceCall], lengths: list[int]) -> Columns:
    """Return when and how calls of so many rows each happened."""
    now = microseconds()
    stated = np.array([call.at // 1000 for call in calls], np.int64)
    skewed = stated > now + _MAX_SKEW_US
    at = np.where(skewed, now, stated)
    latency = np.array([max(0, call.latency) / 1e6 for call in calls])
    return {
        "event_at": np.repeat(at, lengths),
        "event_day": np.repeat((at // _DAY_US).astype(np.int32), lengths),
        "clock_skewed": np.repeat(skewed, lengths),
        "latency_ms": np.repeat(latency, lengths),
        "batch_size": np.repeat(np.array(lengths, np.int32), lengths),
    }


def generated_request_ids(prefix: str, number: int, rows: int) -> list[str]:
    """Return the ids of a call that was given none."""
    return [f"{prefix}-{number}-{row}" for row in range(rows)]


def request_ids(call: InferenceCall) -> list[str]:
    """Return the ids of a call's rows: the caller's where they can be used, else generated ones."""
    if call.request_ids is None:
        return generated_request_ids(call.context.stream_id, call.number, call.rows)
    try:
        return normalise_input_ids(call.request_ids, call.rows, what="request_ids")
    except (InvalidInputError, TypeError) as error:
        _log.warning("request_ids of a call are not used; generated ones take their place: %s", error)
        return generated_request_ids(call.context.stream_id, call.number, call.rows)


def lenient_metadata(call: InferenceCall) -> list[str | None] | None:
    """Return the metadata of a call's rows, or None, with a warning, where it cannot be read."""
    try:
        return metadata_rows(call.metadata, call.rows)
    except (InvalidInputError, TypeError, ValueError) as error:
        _log.warning("metadata of a call is not recorded: %s", error)
        return None


def texts(pieces: Sequence[tuple[Sequence[str | None] | None, int]]) -> list[str | None] | None:
    """Join optional texts of several calls; None if no call has any."""
    if all(texts is None for texts, _ in pieces):
        return None
    return list(_each(pieces))


def _each(pieces: Sequence[tuple[Sequence[str | None] | None, int]]) -> Iterator[str | None]:
    for texts, rows in pieces:
        yield from [None] * rows if texts is None else texts


def _probabilities(scores: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Return class probabilities, computed in float64, stored in float32; NaN rows stay NaN."""
    if kind == "probabilities":
        return scores
    with np.errstate(invalid="ignore", over="ignore"):
        powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def _masked(values: NDArray[Any], gaps: NDArray[np.bool_]) -> NDArray[Any]:
    return np.ma.MaskedArray(values, gaps) if gaps.any() else values


def _nullable(value: Any) -> Any:
    """Turn NaN of a score column into null."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "f" and np.isnan(value).any():
        return np.ma.MaskedArray(np.nan_to_num(value), np.isnan(value))
    return value
