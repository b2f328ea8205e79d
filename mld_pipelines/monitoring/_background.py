"""The logger's background side: it must not refer to the logger, so that a forgotten logger can end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters import fingerprint, pooled, weights_version
from mld_pipelines.capture import (
    CallContext,
    InferenceCall,
    InferenceEncoder,
    float_array,
    is_described,
    model_row,
    renewed_in_children,
)
from mld_pipelines.exceptions import MldError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.adapters import Probe
    from mld_pipelines.capture import Columns, Identity, Recorder

__all__ = ["Background"]

_log = logging.getLogger("mld_pipelines.monitoring")


class Background:
    """Encodes calls, keeps the fingerprint of the model fresh and describes the model once per set of weights.

    Args:
        identity: Names of the model.
        probe: Knows the model.
        encoder: Turns calls into columns.
    """

    def __init__(self, identity: Identity, probe: Probe, encoder: InferenceEncoder) -> None:
        self.context: CallContext | None = None
        self.recorder: Recorder | None = None
        self._fingerprint: str | None = None
        self._identity = identity
        self._probe = probe
        self._encoder = encoder
        self._version: int | None = None
        self._described: set[str] = set()
        self._has_warned = False
        renewed_in_children(self)

    def current_fingerprint(self) -> str:
        """Return the fingerprint of the model, taken at the first call and after every change that was noticed."""
        if self._fingerprint is None:
            self._version = weights_version(self._probe.model)
            self._fingerprint = fingerprint(self._probe.model)
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
        self.context = CallContext(
            self.current_fingerprint(),
            str(self._probe.path),
            self._probe.feature_layer,
            self.recorder.stream.stream_id,
        )
        return self.context

    def encode(self, kept: Sequence[tuple[Any, ...]]) -> list[tuple[list[int], Columns]]:
        """See `Recorder`; the logger keeps bare tuples, which are quicker to make than named ones."""
        calls = [InferenceCall(*fields) for fields in kept]
        if self._probe.is_compiled:
            calls = [self._agreeing(call) for call in calls]
        groups = self._encoder(calls)
        for _, columns in groups:
            self._describe(columns)
        self._look_at_weights()
        return groups

    def _look_at_weights(self) -> None:
        """Notice weights changed in place, e.g. loaded while serving; later calls carry the new fingerprint."""
        if self._version is not None and weights_version(self._probe.model) != self._version:
            self.forget_weights()
            self.current_fingerprint()
        context = self.context
        if context is not None and context.fingerprint != self._fingerprint:  # made while the weights were looked at
            self.context = None

    def _agreeing(self, call: InferenceCall) -> InferenceCall:
        """Drop a feature that the head does not turn into the scores: a compiled model has one slot for all threads."""
        head = self._probe.head
        if call.feature is None or call.scores is None or head is None or not head.is_linear:
            return call
        vector = pooled(call.feature, call.rows)
        if vector is None:
            return call._replace(feature=None)
        module: Any = head.module
        shift_by = 0.0 if module.bias is None else module.bias.detach().float().cpu().numpy()
        made = float_array(vector) @ float_array(module.weight).T + shift_by
        given = float_array(call.scores)
        shift = (made - given).max(axis=1) - (made - given).min(axis=1)  # softmax forms differ by a constant per row
        agrees = np.allclose(made, given, rtol=0.05, atol=0.05) or bool((shift < 0.1).all())
        return call if agrees else call._replace(feature=None)

    def _describe(self, columns: Columns) -> None:
        key = columns["fingerprint"]
        if key in self._described or (columns.get("logits") is None and columns.get("probs") is None):
            return
        self._described.add(key)
        scores = columns["logits"] if columns["logits"] is not None else columns["probs"]
        feature = columns["feature"]
        if feature is None:
            self._say_without_features()
        if self.recorder is None or is_described(self.recorder.sink, self._identity, key):
            return
        row = model_row(
            self._identity,
            self._probe.model,
            fingerprint=key,
            output_kind=self._encoder.output_kind,
            feature_layer=self._probe.feature_layer,
            feature_dim=None if feature is None else feature.shape[1],
            n_classes=scores.shape[1],
            head=self._probe.head,
        )
        self.recorder.send("landing/models", row)

    def _say_without_features(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            hint = (
                "wrap the model before its first compiled call, or pass the module before torch.compile"
                if self._probe.is_compiled
                else "pass feature_layer= to name the layer whose input to use"
            )
            _log.warning("%s is logged without features, so there are no error codes: %s.", self._identity[0], hint)
