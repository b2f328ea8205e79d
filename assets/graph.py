"""What every table's asset says about itself, and where its rows come from; declared once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from mld_pipelines.tables import CATALOGUE, TableSpec
from resources import asset_key, column_lineage, column_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CODE_VERSIONS", "OWNER", "RETRY", "SOURCES", "declare", "writer_pool"]

OWNER = "team:mld-pipelines"

#: For steps that are safe to repeat. A sensor asks for a touched day once: without this, a lake that is out of reach
#: for a moment would leave the day as it was until something else touches it.
RETRY = dg.RetryPolicy(max_retries=2, delay=2.0, backoff=dg.Backoff.EXPONENTIAL)

#: Tables that an asset reads; columns of the same name are its column lineage.
SOURCES: dict[str, tuple[str, ...]] = {
    "traces/inputs": ("landing/traces", "landing/receipts"),
    "traces/stress": ("landing/stress", "landing/receipts"),
    "evaluation/units": ("traces/inputs", "landing/models", "landing/inferences", "landing/feedback"),
    "evaluation/metrics": ("traces/inputs", "landing/models", "landing/inferences", "landing/feedback"),
    "evaluation/issues": ("traces/inputs", "landing/models", "landing/inferences", "landing/feedback"),
    "evaluation/codes": ("traces/inputs", "landing/models"),
    "estimators/models": ("traces/inputs", "traces/stress", "landing/models"),
    "evaluation/results": ("traces/inputs", "landing/models"),
    "monitoring/scored": ("landing/inferences", "estimators/models"),
    "monitoring/windows": ("landing/inferences", "monitoring/scored", "landing/feedback"),
    "monitoring/codes": ("monitoring/windows", "estimators/models"),
    "monitoring/alerts": ("monitoring/windows", "monitoring/codes"),
}

#: Version of the pure function behind an asset: a change marks what is downstream as stale.
CODE_VERSIONS: dict[str, str] = {
    "traces": "1",
    "evaluation": "2",
    "estimators": "2",
    "monitoring": "2",
    "maintenance": "1",
    "landing": "1",
}

_WHOLE = {"monitoring/scored": ("estimators/models",), "monitoring/codes": ("estimators/models",)}
"""Sources that are read whole: every day depends on the models, whatever their partition."""


def declare(
    table: str, *, kinds: set[str] | None = None, upstream: Sequence[dg.AssetKey] = (), **options: Any
) -> dg.AssetSpec:
    """Return the spec of a table's asset: key, dependencies, words, owner, kinds, versions, schema, lineage.

    Args:
        table: Name in the catalogue.
        kinds: Technologies shown as badges; polars and Delta Lake when None.
        upstream: Assets that are no tables and come before this one.
        **options: Further arguments of `AssetSpec`.
    """
    spec = CATALOGUE[table]
    sources = [CATALOGUE[name] for name in SOURCES.get(table, ())]
    metadata: dict[str, Any] = {"dagster/table_name": spec.name, "dagster/column_schema": column_schema(spec)}
    if sources:
        metadata["dagster/column_lineage"] = column_lineage(spec, sources)
    return dg.AssetSpec(
        asset_key(spec),
        deps=[*(_dependency(table, name) for name in SOURCES.get(table, ())), *map(dg.AssetDep, upstream)],
        description=_description(spec),
        group_name=spec.group,
        owners=[OWNER],
        kinds={"polars", "deltalake"} if kinds is None else kinds,
        code_version=CODE_VERSIONS[spec.group],
        metadata=metadata,
        **options,
    )


def _dependency(table: str, source: str) -> dg.AssetDep:
    whole = source in _WHOLE.get(table, ())
    return dg.AssetDep(asset_key(source), partition_mapping=dg.AllPartitionMapping() if whole else None)


def _description(spec: TableSpec) -> str:
    key = ", ".join(f"`{column}`" for column in spec.key)
    return f"{spec.description}\n\nKey: {key}. Written by {spec.writer}."


def writer_pool(table: str) -> str:
    """Return the concurrency pool of a table: one writer at a time."""
    return "lake_" + table.replace("/", "_")
