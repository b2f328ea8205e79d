"""Quality suites as asset checks: contract failures block, drift warns, every outcome lands in `ops/quality`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from assets.graph import writer_pool
from mld_pipelines.quality import Expectation, QualityOutcome, expectations, outcomes_frame, run_suite
from mld_pipelines.tables import CATALOGUE, OPS_QUALITY, TableSpec
from resources import LakeResource, asset_key, numbers, provenance

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake

__all__ = ["CHECKED_TABLES", "CHECKS", "check_table"]

#: Tables that assets write; landing was judged row by row before its commit.
CHECKED_TABLES = tuple(name for name, spec in CATALOGUE.items() if spec.layer in {"silver", "gold"})

_SEVERITIES = {
    "critical": dg.AssetCheckSeverity.ERROR,
    "warning": dg.AssetCheckSeverity.WARN,
    "info": dg.AssetCheckSeverity.WARN,
}


def check_table(table: str) -> dg.AssetChecksDefinition:
    """Return the checks of one table: one per expectation of its spec."""
    spec = CATALOGUE[table]

    @dg.multi_asset_check(
        name=f"check_{table.replace('/', '_')}",
        specs=[_check_spec(spec, one) for one in expectations(spec)],
        can_subset=True,
        pool=writer_pool("ops/quality"),
    )
    def run_checks(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        """Judge what the run materialised, or the newest part of the table."""
        opened = lake.open()
        frame, partition = _part(context, opened, spec)
        version = opened.version(spec)
        names = {key.name for key in context.selected_asset_check_keys}
        outcomes = run_suite(spec, frame, version=-1 if version is None else version, partition=partition, names=names)
        if version is not None:
            rows = outcomes_frame(outcomes, run_id=context.run.run_id)
            opened.append(OPS_QUALITY, rows, provenance=provenance(context.run.run_id))
        yield from (_result(spec, one) for one in outcomes)

    return run_checks


def _check_spec(spec: TableSpec, one: Expectation) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        one.name,
        asset=asset_key(spec),
        description=f"{one.description} ({one.engine}, {one.severity})",
        blocking=one.severity == "critical",
    )


def _part(context: dg.AssetCheckExecutionContext, lake: "Lake", spec: TableSpec) -> tuple[pl.DataFrame, str | None]:
    """Read the partition of the run; without one the newest day, or the whole table where it has no days."""
    if spec.partition_by == ("model_key",):
        key = context.run.tags.get("dagster/partition")
        return lake.read(spec, model_key=key) if key else lake.read(spec), key
    if spec.partition_by != ("event_day",):
        return lake.read(spec), None
    first, last = _day_range(context.run.tags)
    days = lake.scan(spec).select(pl.col("event_day").unique().sort()).collect()["event_day"]
    texts = [day for day in days if first is None or first <= day.isoformat() <= (last or first)]
    chosen = texts if first is not None else texts[-1:]
    named = f"{first}…{last}" if first is not None else None
    return lake.read(spec, event_day=chosen), named


def _day_range(tags: Any) -> tuple[str | None, str | None]:
    if key := tags.get("dagster/partition"):
        return key, key
    return tags.get("dagster/asset_partition_range_start"), tags.get("dagster/asset_partition_range_end")


def _result(spec: TableSpec, one: QualityOutcome) -> dg.AssetCheckResult:
    """Map a verdict: what is only information never fails."""
    counts = {"rows": one.rows, "unexpected": one.unexpected}
    texts = {"engine": one.engine, "partition": one.partition, "observed": one.observed, "sample": one.sample}
    return dg.AssetCheckResult(
        passed=one.passed or one.severity == "info",
        asset_key=asset_key(spec),
        check_name=one.name,
        severity=_SEVERITIES[one.severity],
        description=one.description,
        metadata={**numbers(counts), **{name: text for name, text in texts.items() if text is not None}},
    )


#: The checks of every table that assets write.
CHECKS = [check_table(table) for table in CHECKED_TABLES]
