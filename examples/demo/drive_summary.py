"""What the demo prints about the drive: precision and recall without labels, beside the truth, and where it errs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from examples.demo.console import interval_of, print_table
from mld_pipelines.evaluation import load_detection_scorer, load_result
from mld_pipelines.rollups import Scorers
from mld_pipelines.tables import MONITORING_WINDOWS
from mld_pipelines.windows import derive, roll_up

if TYPE_CHECKING:
    from examples.demo.drive import Driven
    from mld_pipelines.evaluator import Result
    from mld_pipelines.lake import Lake

__all__ = ["days", "document", "print_summary", "top_issues", "verified"]

RATES = ("precision", "recall")
_OF_CLASS = ("class", "threshold", "objects", "precision", "recall", "ap")
_TOP = 3
"""Codes shown of each kind."""


def days(lake: Lake, driven: Driven) -> pl.DataFrame:
    """Return one row per day: estimated precision and recall with 90 % intervals beside the true ones.

    Args:
        lake: Where the windows are.
        driven: What was driven.
    """
    name = driven.result.result_name
    states = lake.scan(MONITORING_WINDOWS, result_name=name, slice="all").collect()
    known = Scorers(lake).references({name})
    derived = derive(roll_up(states), known.baselines, known.windows, known.maps)
    estimated = [f"{rate}_{part}" for rate in RATES for part in ("estimated", "low", "high")]
    shown = derived.select("event_day", "n", "detections_per_frame", *estimated)
    thresholds = load_detection_scorer(lake, name).estimator.thresholds
    joined = shown.join(driven.week.daily(thresholds), on="event_day").sort("event_day")
    inside = (
        pl.col(f"{rate}_true").is_between(f"{rate}_low", f"{rate}_high").alias(f"{rate}_in_interval") for rate in RATES
    )
    return joined.with_columns(inside)


def top_issues(result: Result) -> pl.DataFrame:
    """Return the worst codes of predictions and of objects in the deciding dataset, with what to do first.

    Args:
        result: Of a detector.
    """
    columns = [
        "error_code", "category", "counts", "errors", "error_rate", "top_classes", "top_error_types",
        "recommended_method", "reason",
    ]  # fmt: skip
    kinds = (result.get_issues(result.decision_dataset, unit_kind=kind) for kind in ("prediction", "object"))
    return pl.concat([pl.DataFrame(issues).head(_TOP).select(columns) for issues in kinds])


def verified(lake: Lake, result: Result) -> dict[str, list[str]]:
    """Return on which corruptions both intervals held when they were left out, and on which not.

    Args:
        lake: Where the result is.
        result: Of a detector.
    """
    facts = load_result(lake, result.result_name).verifications().get(None, {})
    return {"held": facts.get("verified_families", []), "missed": facts.get("missed_families", [])}


def document(lake: Lake, driven: Driven) -> dict[str, Any]:
    """Return the summary as plain values.

    Args:
        lake: Where the windows are.
        driven: What was driven.
    """
    daily = days(lake, driven)
    metrics = driven.result.metrics_summary()
    return {
        "result": {"result_name": driven.result.result_name, "inputs": driven.result.inputs},
        "days": daily.to_dicts(),
        "inside": {rate: int(daily[f"{rate}_in_interval"].sum()) for rate in RATES},
        "verified": verified(lake, driven.result),
        "metrics": metrics.to_dicts(),
        "issues": top_issues(driven.result).to_dicts(),
    }


def print_summary(console: Any, lake: Lake, driven: Driven) -> None:
    """Print the summary as tables that fit 80 columns.

    Args:
        console: Of rich.
        lake: Where the windows are.
        driven: What was driven.
    """
    daily, name = days(lake, driven), driven.result.result_name
    metrics = driven.result.metrics_summary().select("dataset", *RATES, "f1", "map", "nds_like", "mate")
    print_table(console, f"The detector on labelled scenes ({name})", metrics)
    classes = pl.DataFrame(driven.result.class_summary()).filter(pl.col("dataset") == driven.result.decision_dataset)
    print_table(console, f"Its classes on {driven.result.decision_dataset}", classes.select(_OF_CLASS))
    for rate in RATES:
        title = f"{rate.capitalize()} per day, estimated without labels, beside the truth ({name})"
        print_table(console, title, _shown(daily, rate))
        console.print(f"  {int(daily[f'{rate}_in_interval'].sum())} of {daily.height} days inside the interval\n")
    shown = {name: ", ".join(families) or "none" for name, families in verified(lake, driven.result).items()}
    console.print(f"  intervals held under corruption of: {shown['held']}; not of: {shown['missed']}\n")
    issues = top_issues(driven.result).select(
        pl.col("error_code").alias("code"),
        pl.col("top_classes").list.first().alias("class"),
        pl.format("{} of {}", "errors", "counts").alias("errors"),
        "category",
        pl.col("recommended_method").alias("what to do first"),
    )
    print_table(console, "Top issues of the detector (P: what it predicts, M: what it misses)", issues)


def _shown(daily: pl.DataFrame, rate: str) -> pl.DataFrame:
    return daily.select(
        pl.col("event_day").dt.strftime("%d %b").alias("date"),
        "day",
        pl.Series("boxes", [f"{mean:.1f}" for mean in daily["detections_per_frame"]]),
        pl.col(f"{rate}_estimated").alias("estimated"),
        interval_of(daily, (f"{rate}_low", f"{rate}_high")).alias("90 % interval"),
        pl.col(f"{rate}_true").alias("true"),
        pl.when(f"{rate}_in_interval").then(pl.lit("inside")).otherwise(pl.lit("outside")).alias(""),
    )
