"""The logger's background side: it must not refer to the logger, so that a forgotten logger can end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters import fingerprint, weights_version
from mld_pipelines.capture import CallContext, InferenceCall, is_described, renewed_in_children
from mld_pipelines.exceptions import MldError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mld_pipelines.capture import Columns, Identity, Recorder

__all__ = ["Background"]


class Background:
    """Encodes calls, keeps the fingerprint of the model fresh and describes the model once per set of weights.

    Args:
        identity: Names of the model.
        model: The wrapped model.
        encoder: Turns calls into columns.
    """

    def __init__(
        self,
        identity: Identity,
        model: Any,
        encoder: Callable[[Sequence[InferenceCall]], list[tuple[list[int], Columns]]],
    ) -> None:
        self.context: CallContext | None = None
        self.recorder: Recorder | None = None
        self._fingerprint: str | None = None
        self._identity = identity
        self._model = model
        self._encoder = encoder
        self._version: int | None = None
        self._described: set[str] = set()
        renewed_in_children(self)

    def current_fingerprint(self) -> str:
        """Return the fingerprint of the model, taken at the first call and after every change that was noticed."""
        if self._fingerprint is None:
            self._version = weights_version(self._model)
            self._fingerprint = fingerprint(self._model)
        return self._fingerprint

    def forget_weights(self) -> None:
        """The weights may have changed: the next call takes their fingerprint."""
        self._fingerprint = self.context = None

    def renew_after_fork(self) -> None:
        """A child's calls belong to a stream of its own."""
        self.context = None

    def current_context(self) -> CallContext:
        """Return what calls share; kept as `context` until weights, head or process change.

        Raises:
            MldError: There is no recorder yet.
        """
        if self.recorder is None:
            raise MldError("a call was logged before its logger was complete; this is a defect, please report it.")
        path, feature_layer = self._places()
        self.context = CallContext(self.current_fingerprint(), path, feature_layer, self.recorder.stream.stream_id)
        return self.context

    def encode(self, kept: Sequence[tuple[Any, ...]]) -> list[tuple[list[int], Columns]]:
        """See `Recorder`; the logger keeps bare tuples, which are quicker to make than named ones."""
        groups = self._encoder(self._judged([InferenceCall(*fields) for fields in kept]))
        for _, columns in groups:
            self._describe(columns)
        self._look_at_weights()
        return groups

    def _look_at_weights(self) -> None:
        """Notice weights changed in place, e.g. loaded while serving; later calls carry the new fingerprint."""
        if self._version is not None and weights_version(self._model) != self._version:
            self.forget_weights()
            self.current_fingerprint()
        context = self.context
        if context is not None and context.fingerprint != self._fingerprint:  # made while the weights were looked at
            self.context = None

    def _describe(self, columns: Columns) -> None:
        """Send the row about the model, once per set of weights."""
        key = columns["fingerprint"]
        row = None if key in self._described else self._model_columns(columns)
        if row is None:
            return
        self._described.add(key)
        if self.recorder is not None and not is_described(self.recorder.sink, self._identity, key):
            self.recorder.send("landing/models", row)

    def _places(self) -> tuple[str, str | None]:
        """Return where scores and feature are found in a call."""
        raise NotImplementedError

    def _judged(self, calls: list[InferenceCall]) -> list[InferenceCall]:
        """Return the calls without what does not belong to them."""
        return calls

    def _model_columns(self, columns: Columns) -> Columns | None:
        """Return the row about the model behind some rows; None where they do not tell enough."""
        raise NotImplementedError
