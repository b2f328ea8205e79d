"""What the demo prints at its end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import polars as pl

from examples.demo import drive_summary
from examples.demo.console import interval_of, print_table
from mld_pipelines.rollups import Scorers
from mld_pipelines.settings import state_directory
from mld_pipelines.tables import MONITORING_ALERTS, MONITORING_WINDOWS
from mld_pipelines.windows import derive, roll_up

if TYPE_CHECKING:
    from examples.demo.drive import Driven
    from examples.demo.loop import Served, Truth
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
    columns = ["model_key", "rule", "result_name", "severity", "state", "opened_at", "value", "threshold"]
    return rows.sort("opened_at", "rule").select(columns)


def document(lake: Lake, served: Served | None, driven: Driven | None) -> dict[str, Any]:
    """Return the summary as plain values; of a part that did not run, nothing.

    Args:
        lake: Where everything is.
        served: What the classification part did.
        driven: What the 3D part did.
    """
    found: dict[str, Any] = {} if served is None else _digits_document(lake, served)
    if driven is not None:
        found["drive"] = drive_summary.document(lake, driven)
    counts = {name: count for part in (served, driven) if part is not None for name, count in part.counts.items()}
    return found | {"alerts": alerts(lake).to_dicts(), "tables": lake.tables().to_dicts(), "counts": counts}


def _digits_document(lake: Lake, served: Served) -> dict[str, Any]:
    first, last = served.results[0], served.results[-1]
    return {
        "results": [{"result_name": r.result_name, "inputs": r.inputs} for r in served.results],
        "days": days(lake, first.result_name, served.truth).to_dicts(),
        "issues": top_issues(last).to_dicts(),
    }


def print_summary(lake: Lake, served: Served | None, driven: Driven | None) -> None:
    """Print the summary as tables that fit 80 columns.

    Args:
        lake: Where everything is.
        served: What the classification part did.
        driven: What the 3D part did.
    """
    from rich.console import Console

    console = Console()
    if served is not None:
        _print_digits(console, lake, served)
    if driven is not None:
        drive_summary.print_summary(console, lake, driven)
    raised = alerts(lake).select(
        "rule", pl.col("result_name").alias("result"), pl.col("opened_at").dt.date().alias("opened"), "state", "value"
    )
    print_table(console, "Alerts", raised)
    print_table(console, "Tables", lake.tables().select("table", "rows", "version", "files"))
    counts = [{"stream": n, **c} for part in (served, driven) if part is not None for n, c in part.counts.items()]
    print_table(console, "Streams (known = already stored)", pl.DataFrame(counts))
    console.print("\nNext:", style="bold")
    home = os.path.relpath(state_directory())
    models = [name for name, part in (("digits@v1", served), ("pillars@v1", driven)) if part is not None]
    console.print(f"  MLD_HOME={home} make up          open the Dagster UI on what you just saw")
    for name in models:
        console.print(f"  MLD_HOME={home} .venv/bin/mld monitor show {name}")
    console.print(f"  MLD_HOME={home} .venv/bin/mld results list")


def _print_digits(console: Any, lake: Lake, served: Served) -> None:
    first, last = served.results[0], served.results[-1]
    daily = days(lake, first.result_name, served.truth)
    shown = daily.select(
        pl.col("event_day").alias("day"),
        pl.col("n").alias("requests"),
        pl.col("error_rate_estimated").alias("estimated"),
        interval_of(daily, ("error_rate_low", "error_rate_high")).alias("90 % interval"),
        pl.col("error_rate_true").alias("true"),
        pl.when("in_interval").then(pl.lit("inside")).otherwise(pl.lit("outside")).alias(""),
    )
    print_table(console, f"Error rate per day, estimated without labels, beside the truth ({first.result_name})", shown)
    metrics = last.metrics_summary().select("dataset", "counts", "accuracy", "auroc", "error_proba_auroc")
    print_table(console, f"Metrics after the re-evaluation that labels triggered ({last.result_name})", metrics)
    issues = top_issues(last).rename({"error_code": "code", "error_rate": "rate", "top_error_types": "confusions"})
    print_table(console, "Top issues", issues.drop("reason"))
