"""The background side of a 3D detector's logger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.adapters import unwrap
from mld_pipelines.capture import detector_row
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
        return detector_row(self._identity, columns, architecture=type(unwrap(self._model)).__name__)
