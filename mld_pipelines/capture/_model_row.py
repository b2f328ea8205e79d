"""The row of `landing/models`: what another process needs to score rows of these weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.adapters import export_head, unwrap
from mld_pipelines.capture._forks import can_use_frames
from mld_pipelines.capture._sink import EmbeddedSink
from mld_pipelines.capture._stream import microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.adapters import Head
    from mld_pipelines.capture._calls import Identity
    from mld_pipelines.capture._columns import Columns
    from mld_pipelines.capture._sink import Sink

__all__ = ["is_described", "model_row"]


def model_row(
    identity: Identity,
    model: Any,
    *,
    fingerprint: str,
    output_kind: str | None,
    feature_layer: str | None,
    feature_dim: int | None,
    n_classes: int,
    class_names: Sequence[str] | None = None,
    head: Head | None = None,
) -> Columns:
    """Return the columns of one model row.

    Args:
        identity: Names of the model.
        model: The model, wrapped or not.
        fingerprint: Hash of the weights.
        output_kind: What the model returns; None for a detector.
        feature_layer: Module path whose input or output is the feature.
        feature_dim: Width of the feature; None without one.
        n_classes: Number of classes.
        class_names: Their names by index.
        head: Last linear layer of a classifier.
    """
    return {
        "model_key": identity.key,
        "fingerprint": fingerprint,
        "task": identity.task,
        "architecture": type(unwrap(model)).__name__,
        "output_kind": output_kind,
        "feature_layer": feature_layer,
        "feature_dim": feature_dim,
        "n_classes": n_classes,
        "class_names": None if class_names is None else list(class_names),
        "first_seen": microseconds(),
        "head": export_head(head),
    }


def is_described(sink: Sink, identity: Identity, fingerprint: str) -> bool:
    """Return whether the lake has a row for these weights already, as far as this process can look.

    Args:
        sink: Where the row would go.
        identity: Names of the model.
        fingerprint: Hash of the weights.
    """
    if not isinstance(sink, EmbeddedSink) or not can_use_frames():
        return False
    from mld_pipelines.tables import LANDING_MODELS

    rows = sink.lake.scan(LANDING_MODELS, model_key=identity.key, fingerprint=fingerprint)
    return rows.select("fingerprint").head(1).collect().height > 0
