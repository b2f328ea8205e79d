"""What the demo prints at its end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.rollups import Scorers
from mld_pipelines.settings import state_directory
from mld_pipelines.tables import MONITORING_ALERTS, MONITORING_WINDOWS
from mld_pipelines.windows import derive, roll_up

if TYPE_CHECKING:
    from examples.demo.loop import Truth
    from mld_pipelines.evaluator import Result
    from mld_pipelines.lake import Lake

__all__ = ["alerts", "days", "document", "print_summary", "top_issues"]


def days(lake: Lake, result_name: str, truth: Truth) -> pl.DataFrame:
    """Return, per day, the estimated error rate with its interval beside the true one."""
    states = lake.scan(MONITORING_WINDOWS, result_name=result_name).filter(pl.col("slice") == "all").collect()
    known = Scorers(lake).references({result_name})
    derived = derive(roll_up(states), known.baselines, known.windows, known.maps)
    columns = ["event_day", "n", "error_rate_estimated", "error_rate_low", "error_rate_high"]
    joined = derived.select(columns).join(truth.error_rates(), on="event_day").sort("event_day")
    inside = pl.col("error_rate_true").is_between("error_rate_low", "error_rate_high")
    return joined.select(*columns, "error_rate_true", inside.alias("in_interval"))


def top_issues(result: Result) -> pl.DataFrame:
    """Return the five worst codes of the deciding dataset."""
    issues = result.get_issues(dataset=result.decision_dataset)
    columns = ["error_code", "category", "reason", "counts", "errors", "error_rate", "top_error_types"]
    return issues.head(5).select(columns)


def alerts(lake: Lake) -> pl.DataFrame:
    """Return the alerts that were raised, oldest first."""
    rows = lake.read(MONITORING_ALERTS)
    return rows.sort("opened_at").select("rule", "result_name", "severity", "state", "opened_at", "value", "threshold")


def document(lake: Lake, results: list[Result], truth: Truth, counts: dict[str, Any]) -> dict[str, Any]:
    """Return the summary as plain values."""
    last = results[-1]
    return {
        "results": [{"result_name": r.result_name, "inputs": r.inputs} for r in results],
        "days": days(lake, results[0].result_name, truth).to_dicts(),
        "issues": top_issues(last).to_dicts(),
        "alerts": alerts(lake).to_dicts(),
        "tables": lake.tables().to_dicts(),
        "counts": counts,
    }


def print_summary(lake: Lake, results: list[Result], truth: Truth, counts: dict[str, Any]) -> None:
    """Print the summary as tables that fit 80 columns."""
    from rich.console import Console

    console = Console()
    first, last = results[0], results[-1]
    daily = days(lake, first.result_name, truth).select(
        pl.col("event_day").alias("day"),
        pl.col("n").alias("requests"),
        pl.col("error_rate_estimated").alias("estimated"),
        pl.format("{} – {}", pl.col("error_rate_low").round(3), pl.col("error_rate_high").round(3)).alias(
            "90 % interval"
        ),
        pl.col("error_rate_true").alias("true"),
        pl.when("in_interval").then(pl.lit("inside")).otherwise(pl.lit("outside")).alias(""),
    )
    _table(console, f"Error rate per day, estimated without labels, beside the truth ({first.result_name})", daily)
    metrics = last.metrics_summary().select("dataset", "counts", "accuracy", "auroc", "error_proba_auroc")
    _table(console, f"Metrics after the re-evaluation that labels triggered ({last.result_name})", metrics)
    issues = top_issues(last).rename({"error_code": "code", "error_rate": "rate", "top_error_types": "confusions"})
    _table(console, "Top issues", issues.drop("reason"))
    raised = alerts(lake).select(
        "rule", pl.col("result_name").alias("result"), pl.col("opened_at").dt.date().alias("opened"), "state", "value"
    )
    _table(console, "Alerts", raised)
    _table(console, "Tables", lake.tables().select("table", "rows", "version", "files"))
    _table(console, "Streams (known = already stored)", _streams(counts))
    console.print("\nNext:", style="bold")
    home = os.path.relpath(state_directory())
    console.print(f"  MLD_HOME={home} make up          open the Dagster UI on what you just saw")
    console.print(f"  MLD_HOME={home} .venv/bin/mld monitor show digits@v1")
    console.print(f"  MLD_HOME={home} .venv/bin/mld results list")


def _streams(counts: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{"stream": name, **values} for name, values in counts.items()])


def _table(console: Any, title: str, frame: pl.DataFrame) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name, dtype in frame.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left")
    for row in frame.iter_rows():
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.3f}"
        case list():
            return ", ".join(str(item) for item in value)
        case _:
            return str(value)
