"""The background side of a classifier's logger."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters import pooled, unwrap
from mld_pipelines.capture import float_array, model_row
from mld_pipelines.monitoring._background import Background

if TYPE_CHECKING:
    from mld_pipelines.adapters import Probe
    from mld_pipelines.capture import Columns, Identity, InferenceCall, InferenceEncoder

__all__ = ["ClassificationBackground"]

_log = logging.getLogger("mld_pipelines.monitoring")


class ClassificationBackground(Background):
    """Knows what a probe found.

    Args:
        identity: Names of the model.
        probe: Knows the model and its head.
        encoder: Turns calls into columns.
    """

    def __init__(self, identity: Identity, probe: Probe, encoder: InferenceEncoder) -> None:
        super().__init__(identity, probe.model, encoder)
        self._probe = probe
        self._kind = encoder
        self._has_warned = False

    def _places(self) -> tuple[str, str | None]:
        """See `Background`."""
        return str(self._probe.path), self._probe.feature_layer

    def _judged(self, calls: list[InferenceCall]) -> list[InferenceCall]:
        """See `Background`."""
        return [self._agreeing(call) for call in calls] if self._probe.is_compiled else calls

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

    def _model_columns(self, columns: Columns) -> Columns | None:
        """See `Background`."""
        scores = columns["logits"] if columns.get("logits") is not None else columns.get("probs")
        if scores is None:
            return None
        feature = columns["feature"]
        if feature is None:
            self._say_without_features()
        return model_row(
            self._identity,
            architecture=type(unwrap(self._probe.model)).__name__,
            fingerprint=columns["fingerprint"],
            output_kind=self._kind.output_kind,
            feature_layer=self._probe.feature_layer,
            feature_dim=None if feature is None else feature.shape[1],
            n_classes=scores.shape[1],
            head=self._probe.head,
        )

    def _say_without_features(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            hint = (
                "wrap the model before its first compiled call, or pass the module before torch.compile"
                if self._probe.is_compiled
                else "pass feature_layer= to name the layer whose input to use"
            )
            _log.warning("%s is logged without features, so there are no error codes: %s.", self._identity[0], hint)
