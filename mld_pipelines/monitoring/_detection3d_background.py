"""The background side of a 3D detector's logger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.capture import Lists, model_row
from mld_pipelines.monitoring._background import Background

if TYPE_CHECKING:
    from mld_pipelines.capture import Columns

__all__ = ["Detection3DBackground"]


class Detection3DBackground(Background):
    """Describes a detector by the first frame in which it found something."""

    def _places(self) -> tuple[str, str | None]:
        """See `Background`; every frame says where its features are from."""
        return "frames", None

    def _model_columns(self, columns: Columns) -> Columns | None:
        """See `Background`."""
        labels: Lists = columns["labels"]
        if not len(labels.values):
            return None
        return model_row(
            self._identity,
            self._model,
            fingerprint=columns["fingerprint"],
            output_kind=None,
            feature_layer=next((one for one in columns["feature_layer"] if one is not None), None),
            feature_dim=_width(columns.get("features"), len(labels.values)),
            n_classes=_width(columns.get("class_scores"), len(labels.values)) or int(labels.values.max()) + 1,
        )


def _width(values: Lists | None, boxes: int) -> int | None:
    """Return the numbers per box; None where some boxes have none."""
    if values is None or not len(values.values) or len(values.values) % boxes:
        return None
    return len(values.values) // boxes
