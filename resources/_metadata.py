"""Table specs and frames as metadata that the Dagster UI understands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources._keys import asset_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from mld_pipelines.tables import Column, ColumnRule, TableSpec, Unique

__all__ = ["column_lineage", "column_schema", "numbers", "preview"]

_PREVIEW_ROWS = 10
_PREVIEW_CHARACTERS = 60
"""Characters of a cell in a preview: ten rows of a wide table stay readable in the side panel."""


def column_schema(spec: TableSpec) -> dg.TableSchema:
    """Return the schema of a table for the catalogue of the UI, derived from its spec."""
    return dg.TableSchema(
        columns=[_column(spec, column) for column in spec.columns],
        constraints=dg.TableConstraints(other=[_plain(rule) for rule in spec.rules]),
    )


def _column(spec: TableSpec, column: Column) -> dg.TableColumn:
    constraints = dg.TableColumnConstraints(
        nullable=not column.required,
        unique=spec.key == (column.name,),
        other=[_plain(rule) for rule in column.rules],
    )
    kind = str(column.data_type)
    return dg.TableColumn(column.name, type=kind, description=column.description, constraints=constraints)


def _plain(rule: ColumnRule | Unique) -> str:
    """Say a rule without Markdown: the UI shows constraints as they are."""
    return rule.describe().replace("`", "")


def column_lineage(spec: TableSpec, sources: Sequence[TableSpec]) -> dg.TableColumnLineage:
    """Return which columns of the sources a table's columns come from.

    A name means the same in every table of the catalogue, so equal names are the lineage; columns that a computation
    makes have none.
    """
    deps = {
        column.name: [
            dg.TableColumnDep(asset_key=asset_key(source), column_name=column.name)
            for source in sources
            if column.name in source.column_names
        ]
        for column in spec.columns
        if column.name != "schema_version"
    }
    return dg.TableColumnLineage(deps_by_column={name: found for name, found in deps.items() if found})


def preview(spec: TableSpec, frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Return the first ten rows as a Markdown table, without vectors and bytes."""
    shown = [c.name for c in spec.columns if c.name in frame.columns and not c.vector and c.name != "schema_version"]
    lines = ["| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
    rows = frame.head(_PREVIEW_ROWS).select(shown).iter_rows()
    lines.extend("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)
    return dg.MetadataValue.md("\n".join(lines) if frame.height else "no rows")


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    text = text.replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= _PREVIEW_CHARACTERS else text[: _PREVIEW_CHARACTERS - 1] + "…"


def numbers(values: Mapping[str, float | int | None]) -> dict[str, Any]:
    """Return numeric metadata: floats, which Dagster plots over materialisations; what is undefined is left out."""
    return {
        name: dg.MetadataValue.float(float(value))
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    }
