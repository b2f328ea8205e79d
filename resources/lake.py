"""The lake as a Dagster resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from mld_pipelines import __version__, settings
from resources._keys import asset_key
from resources._receipts import Scope, table_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from mld_pipelines.lake import Lake
    from mld_pipelines.tables import TableSpec

__all__ = ["LakeResource"]


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Opens the lake and turns what was written into materialisations, the same way for every table."""

    root: str = Field(
        default="",
        description="Path, file:// or s3:// URI of the lake; empty takes MLD_API_ENDPOINT, then the state directory.",
    )
    _lake: Any = PrivateAttr(default=None)

    def open(self) -> Lake:
        """Return the lake, one handle per resource instance."""
        from mld_pipelines.lake import Lake

        if self._lake is None:
            self._lake = Lake(settings.lake_uri(self.root or None), code_version=__version__)
        lake: Lake = self._lake
        return lake

    def result(
        self,
        spec: TableSpec,
        *,
        version: int | None,
        rows: int,
        frame: pl.DataFrame | None = None,
        scope: Scope = "table",
        metadata: Mapping[str, Any] | None = None,
    ) -> dg.MaterializeResult[Any]:
        """Return the materialisation of one table: counts, address, version, schema, preview and data version.

        Args:
            spec: The table.
            version: Delta version that holds the rows; None when nothing was ever written.
            rows: Rows of the table, of the partition, or of the range of partitions that was materialised.
            frame: Rows of which ten are shown.
            scope: Which of them.
            metadata: More metadata of this asset.
        """
        common = table_metadata(spec, uri=self.uri(spec), version=version, rows=rows, frame=frame, scope=scope)
        return dg.MaterializeResult(
            asset_key=asset_key(spec),
            metadata={**common, **(metadata or {})},
            data_version=dg.DataVersion(f"delta:{version}") if version is not None else None,
        )

    def uri(self, spec: TableSpec) -> str:
        """Return where a table lies."""
        return f"{settings.lake_uri(self.root or None).rstrip('/')}/{spec.name}"
