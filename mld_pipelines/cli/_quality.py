"""`mld quality`: judge tables by the rules that their declarations state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld_pipelines.cli._answer import Answer, table_of
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._exits import Exit
from mld_pipelines.cli._open import open_lake, table_spec
from mld_pipelines.exceptions import NotFoundError

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake
    from mld_pipelines.quality import QualityOutcome
    from mld_pipelines.tables import TableSpec

__all__ = ["app"]

app = group("Judge tables by the rules that their declarations state.")


@command(app, "run")
def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="TABLE", help="Default: every table there is.")] = None,
    *,
    store: Annotated[bool, typer.Option(help="Keep the outcomes in ops/quality.")] = True,
) -> Answer:
    """Run every expectation of a table on its newest version. Exit status 6: one of them does not hold."""
    import polars as pl

    from mld_pipelines.quality import outcomes_frame
    from mld_pipelines.tables import OPS_QUALITY

    lake = open_lake()
    specs = [table_spec(name) for name in names or lake.tables()["table"].to_list()]
    outcomes = [outcome for spec in specs for outcome in _judge(lake, spec)]
    if store and outcomes:
        lake.append(OPS_QUALITY, outcomes_frame(outcomes))
    broken = [one for one in outcomes if not one.passed]
    data = {"judged": len(outcomes), "broken": [_row(one) for one in broken], "tables": [spec.name for spec in specs]}
    text: list[Any] = [f"{len(outcomes)} expectations on {len(specs)} tables, {len(broken)} broken"]
    if broken:
        text.insert(0, table_of(pl.DataFrame([_row(one) for one in broken], infer_schema_length=None)))
    if not outcomes:
        return Answer(data, ("there is nothing to judge",), Exit.NOTHING_TO_DO)
    return Answer(data, tuple(text), Exit.CHECK_FAILED if broken else Exit.OK)


def _judge(lake: Lake, spec: TableSpec) -> list[QualityOutcome]:
    from mld_pipelines.quality import run_suite

    version = lake.version(spec)
    if version is None:
        raise NotFoundError(f"table {spec.name} does not exist in {lake.root} yet.")
    return run_suite(spec, lake.read(spec, version=version), version=version)


def _row(one: QualityOutcome) -> dict[str, Any]:
    return {
        "table": one.table,
        "version": one.version,
        "expectation": one.name,
        "severity": one.severity,
        "rows": one.rows,
        "unexpected": one.unexpected,
        "sample": one.sample,
    }
