"""The row of `landing/models`: what another process needs to score rows of these weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.adapters import export_head
from mld_pipelines.capture._forks import can_use_frames
from mld_pipelines.capture._sink import EmbeddedSink
from mld_pipelines.capture._stream import microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.adapters import Head
    from mld_pipelines.capture._calls import Identity
    from mld_pipelines.capture._columns import Columns, Lists
    from mld_pipelines.capture._sink import Sink

__all__ = ["detector_row", "is_described", "model_row"]


def model_row(
    identity: Identity,
    *,
    architecture: str,
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
        architecture: Class name of the model.
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
        "architecture": architecture,
        "output_kind": output_kind,
        "feature_layer": feature_layer,
        "feature_dim": feature_dim,
        "n_classes": n_classes,
        "class_names": None if class_names is None else list(class_names),
        "first_seen": microseconds(),
        "head": export_head(head),
    }


def detector_row(
    identity: Identity, columns: Columns, *, architecture: str, class_names: Sequence[str] | None = None
) -> Columns | None:
    """Return the columns of the model row behind some frames of a detector; None if nothing was found in them.

    Args:
        identity: Names of the model.
        columns: Of the frames, see `frame_columns`, with `fingerprint`.
        architecture: Class name of the model.
        class_names: Names of its classes by index.
    """
    labels: Lists = columns["labels"]
    boxes = len(labels.values)
    if not boxes:
        return None
    seen = _width(columns.get("class_scores"), boxes) or int(labels.values.max()) + 1
    return model_row(
        identity,
        architecture=architecture,
        fingerprint=columns["fingerprint"],
        output_kind=None,
        feature_layer=next((one for one in columns["feature_layer"] if one is not None), None),
        feature_dim=_width(columns.get("features"), boxes),
        n_classes=len(class_names) if class_names else seen,
        class_names=class_names,
    )


def _width(values: Lists | None, boxes: int) -> int | None:
    """Return the numbers per box; None where some boxes have none."""
    if values is None or not len(values.values) or len(values.values) % boxes:
        return None
    return len(values.values) // boxes


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
