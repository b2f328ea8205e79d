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

__all__ = ["CHECKED_TABLES", "CHECKS", "check_groups", "check_table"]

#: Tables that assets write; landing was judged row by row before its commit.
CHECKED_TABLES = tuple(name for name, spec in CATALOGUE.items() if spec.layer in {"silver", "gold"})


def check_table(table: str) -> dg.AssetChecksDefinition:
    """Return the checks of one table: one per kind of rule, and those of the table as a whole."""
    spec = CATALOGUE[table]
    groups = check_groups(spec)

    @dg.multi_asset_check(
        name=f"check_{table.replace('/', '_')}",
        specs=[_check_spec(spec, name, group) for name, group in groups.items()],
        can_subset=True,
        pool=writer_pool("ops/quality"),
    )
    def run_checks(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        """Judge what the run materialised, or the newest part of the table."""
        opened = lake.open()
        frame, partition = _part(context, opened, spec)
        version = opened.version(spec)
        chosen = [key.name for key in context.selected_asset_check_keys]
        names = {one.name for name in chosen for one in groups[name]}
        outcomes = run_suite(spec, frame, version=-1 if version is None else version, partition=partition, names=names)
        if version is not None:
            rows = outcomes_frame(outcomes, run_id=context.run.run_id)
            opened.append(OPS_QUALITY, rows, provenance=provenance(context.run.run_id))
        by_name = {one.name: one for one in outcomes}
        yield from (_result(spec, name, [by_name[one.name] for one in groups[name]]) for name in sorted(chosen))

    return run_checks


def check_groups(spec: TableSpec) -> dict[str, list[Expectation]]:
    """Return the expectations behind each check: one per kind of rule, over all columns.

    Every check is two events with an fsync each: a check per column made an evaluation's run 100 checks and half a
    minute longer on a busy disk. Which column broke which rule is in the description, the metadata and `ops/quality`.
    """
    groups: dict[str, list[Expectation]] = {}
    for one in expectations(spec):
        groups.setdefault(one.name.removeprefix(f"{one.column}_"), []).append(one)
    return groups


def _check_spec(spec: TableSpec, name: str, group: list[Expectation]) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name,
        asset=asset_key(spec),
        description="; ".join(one.description for one in group),
        blocking=any(one.severity == "critical" for one in group),
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


def _result(spec: TableSpec, name: str, outcomes: list[QualityOutcome]) -> dg.AssetCheckResult:
    """Map verdicts: the worst failure gives the severity; what is only information never fails."""
    failed = [one for one in outcomes if not one.passed and one.severity != "info"]
    worst = dg.AssetCheckSeverity.ERROR if any(one.blocks for one in failed) else dg.AssetCheckSeverity.WARN
    counts = {"rows": outcomes[0].rows, "unexpected": sum(one.unexpected or 0 for one in outcomes)}
    shown = failed or outcomes
    texts = {
        "partition": outcomes[0].partition,
        "engines": ", ".join(sorted({one.engine for one in outcomes})),
        "failed": ", ".join(one.name for one in failed) or None,
        "observed": next((one.observed for one in shown if one.observed), None),
        "sample": next((one.sample for one in shown if one.sample), None),
    }
    return dg.AssetCheckResult(
        passed=not failed,
        asset_key=asset_key(spec),
        check_name=name,
        severity=worst if failed else dg.AssetCheckSeverity.WARN,
        description="broken: " + "; ".join(one.description for one in failed) if failed else None,
        metadata={**numbers(counts), **{key: text for key, text in texts.items() if text is not None}},
    )


#: The checks of every table that assets write.
CHECKS = [check_table(table) for table in CHECKED_TABLES]
