"""Nightly care of every table in the catalogue: compact, vacuum, profile."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from assets.graph import CODE_VERSIONS, OWNER
from assets.reports import drawings
from mld_pipelines.tables import CATALOGUE, OPS_QUALITY, TableSpec
from resources import LakeResource, numbers, provenance

__all__ = ["MAINTENANCE", "compact", "profile", "vacuum"]

_RETENTION = timedelta(hours=168)
"""Age of deleted files: a week, far beyond the longest run that could still read them."""

_UNBOUND = timedelta(days=2)
"""Age of evaluation attempts without a result that are removed: no evaluation takes as long."""

_PROFILE_ROWS = 1_000_000
"""Rows of a profile; beyond, the newest partition is profiled."""

_POOL = "lake_maintenance"


def _declare(name: str, description: str, deps: list[list[str]] | None = None) -> dg.AssetSpec:
    return dg.AssetSpec(
        ["maintenance", name],
        description=description,
        deps=deps,
        group_name="maintenance",
        owners=[OWNER],
        kinds={"deltalake", "polars"},
        code_version=CODE_VERSIONS["maintenance"],
        metadata={
            "dagster/column_schema": dg.TableSchema([dg.TableColumn("table", "String", "Table of the catalogue")])
        },
    )


@dg.multi_asset(
    name="compact",
    specs=[_declare("compact", "Rewrites partitions that hold many small files, and removes rows no result binds.")],
    pool=_POOL,
)
def compact(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Compact every table; readers and appending writers go on."""
    from mld_pipelines.evaluation import remove_unbound

    opened, origin = lake.open(), provenance(context.run.run_id)
    unbound = remove_unbound(opened, older_than=datetime.now(UTC) - _UNBOUND)
    done = [opened.compact(spec, provenance=origin) for spec in _existing(lake)]
    rows = [(one.table, one.partitions, one.files_removed, one.files_added) for one in done]
    totals = {"files_removed": sum(row[2] for row in rows), "files_added": sum(row[3] for row in rows)}
    return dg.MaterializeResult(
        metadata={
            **_pictures("Files merged", {row[0]: row[2] for row in rows}),
            "dagster/row_count": len(rows),
            "tables": _table(("table", "partitions", "files removed", "files added"), rows),
            **numbers({**totals, "unbound_rows_removed": sum(unbound.values())}),
        }
    )


@dg.multi_asset(
    name="vacuum",
    specs=[_declare("vacuum", "Deletes files that no kept version needs.", deps=[["maintenance", "compact"]])],
    pool=_POOL,
)
def vacuum(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Vacuum every table; versions that results pinned stay readable."""
    done = [lake.open().vacuum(spec, retention=_RETENTION) for spec in _existing(lake)]
    rows = [(one.table, len(one.files), len(one.kept_versions)) for one in done]
    context.log.info(f"{sum(row[1] for row in rows)} files deleted")
    return dg.MaterializeResult(
        metadata={
            **_pictures("Files deleted", {row[0]: row[1] for row in rows}),
            "dagster/row_count": len(rows),
            "tables": _table(("table", "files deleted", "pinned versions"), rows),
            **numbers({"files_deleted": sum(row[1] for row in rows)}),
        }
    )


@dg.multi_asset(
    name="profile",
    specs=[_declare("profile", "Profiles every table over all rows and compares it with the last profile.")],
    pool=_POOL,
)
def profile(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Profile every table; drift is a row of `ops/quality` and a log line."""
    from mld_pipelines import quality

    opened = lake.open()
    known = opened.scan(OPS_QUALITY).filter(pl.col("check") == "profile").collect()
    outcomes, sizes = [], {}
    for spec in _existing(lake):
        newest = _newest_rows(lake, spec)
        sizes[spec.name] = newest.height
        current = quality.profile(spec, newest)
        earlier = quality.reference_profile(known, spec)
        outcomes += quality.run_profile(spec, current, earlier, version=opened.version(spec) or 0)
    origin = provenance(context.run.run_id)
    opened.append(OPS_QUALITY, quality.outcomes_frame(outcomes, run_id=context.run.run_id), provenance=origin)
    failed = [one for one in outcomes if not one.passed]
    for one in failed:
        context.log.warning(f"{one.table}: {one.name} failed for {one.observed}")
    rows = [(one.table, one.name, one.observed) for one in failed]
    return dg.MaterializeResult(
        metadata={
            **_pictures("Rows profiled", sizes),
            "dagster/row_count": len(sizes),
            "failed": _table(("table", "check", "columns"), rows),
            **numbers({"tables_profiled": len(outcomes), "checks_failed": len(failed)}),
        }
    )


def _existing(lake: LakeResource) -> list[TableSpec]:
    opened = lake.open()
    return [spec for spec in CATALOGUE.values() if opened.version(spec) is not None]


def _newest_rows(lake: LakeResource, spec: TableSpec) -> pl.DataFrame:
    """Read the scalar columns; of a large table only its newest partition by day."""
    narrow = [column.name for column in spec.columns if not column.vector]
    rows = lake.open().scan(spec).select(narrow)
    day = next((name for name in spec.partition_by if name.endswith("_day")), None)
    if day is not None and rows.select(pl.len()).collect().item() > _PROFILE_ROWS:
        rows = rows.filter(pl.col(day) == rows.select(pl.col(day).max()).collect().item())
    return rows.collect()


def _pictures(title: str, counts: dict[str, int]) -> dict[str, dg.MarkdownMetadataValue]:
    """Draw a number per table, the largest first."""
    from mld_pipelines.figures import bar_chart

    rows = pl.DataFrame({"table": list(counts), "number": list(counts.values())}).sort("number", "table")
    chart = bar_chart(rows.reverse(), label="table", value="number", title=title, is_share=False, limit=10)
    return drawings(chart, title.lower() + " per table", rows["number"].reverse().head(10).to_list())


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dg.MarkdownMetadataValue:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in rows]
    return dg.MetadataValue.md("\n".join(lines) if rows else "nothing")


#: The assets of the nightly run.
MAINTENANCE = [compact, vacuum, profile]
