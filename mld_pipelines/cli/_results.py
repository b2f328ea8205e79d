"""`mld results`: what was found, and which result is in force."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld_pipelines.cli._answer import Answer, sheet_of, table_of
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._exits import Exit
from mld_pipelines.cli._open import open_lake, require_model

if TYPE_CHECKING:
    from mld_pipelines.evaluator import Result

__all__ = ["app", "document", "overview"]

app = group("Show evaluation results and choose the one in force.")

ResultName = Annotated[str, typer.Argument(metavar="RESULT", help="Name of the result.")]

_ISSUES_SHOWN = 10
_FRAME_COLUMNS = [
    "dataset", "n_epoch", "input_id", "predictions", "objects", "true_positives", "false_positives", "missed",
    "expected_errors", "error_proba", "error_code",
]  # fmt: skip
_CLASS_COLUMNS = ["dataset", "class", "threshold", "ap", "precision", "recall", "f1", "objects", "missed"]


@command(app, "list")
def list_stored(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only results of this NAME@VERSION.")] = None,
) -> Answer:
    """List results, oldest first; the current one of each model is marked."""
    import polars as pl

    from mld_pipelines.evaluation import current_results, list_results

    lake = open_lake()
    rows = list_results(lake, require_model(lake, model) if model else None)
    current = list(current_results(lake).values())
    frame = rows.with_columns(pl.col("result_name").is_in(current).alias("current"))
    shown = frame.select("result_name", "model_key", "n_epoch", "counts", "created_at", "current")
    return Answer({"results": frame}, (table_of(shown) if frame.height else "no results yet",))


@command(app, "show")
def show(name: ResultName) -> Answer:
    """Show a result: metrics, categories, the worst issues and what it was computed from."""
    from mld_pipelines.evaluation import load_result
    from mld_pipelines.evaluator import Result

    result = Result(load_result(open_lake(), name))
    return Answer(document(result), overview(result))


@command(app, "frames")
def frames(
    name: ResultName,
    *,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only this dataset.")] = None,
    n_epoch: Annotated[int | None, typer.Option("--n-epoch", help="Only this epoch.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--filter", metavar="CONDITION", help="As 'missed > 2'; may be given again.")
    ] = None,
    order: Annotated[
        str, typer.Option("--order", help="errors, false_positives, missed, expected_errors, error_proba or input_id.")
    ] = "errors",
    limit: Annotated[int, typer.Option("--limit", help="Most frames.")] = 20,
) -> Answer:
    """List the frames of a detector's result, those with most errors first."""
    from mld_pipelines.evaluation import load_result
    from mld_pipelines.evaluator import Result

    result = Result(load_result(open_lake(), name))
    found = result.get_frames(dataset, n_epoch, only or None, order=order, limit=limit)
    hidden = () if found["n_epoch"].is_not_null().any() else ("n_epoch",)
    shown = found.select(column for column in _FRAME_COLUMNS if column not in hidden)
    text = table_of(shown) if found.height else "no such frames"
    return Answer({"result_name": name, "frames": found}, (text,))


@command(app, "compare")
def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Name of the baseline result.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Name of the result to compare with it.")],
    *,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only this dataset.")] = None,
    n_boot: Annotated[int, typer.Option("--n-boot", help="Resamples of the paired bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the resamples.")] = 0,
    level: Annotated[float, typer.Option("--level", help="Level of intervals and verdicts.")] = 0.95,
    n_epoch: Annotated[int | None, typer.Option("--n-epoch", help="Epoch of BEFORE; its latest by default.")] = None,
    other_epoch: Annotated[
        int | None, typer.Option("--other-epoch", help="Epoch of AFTER; its latest by default.")
    ] = None,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="End with status 6 if a dataset's accuracy is worse with evidence.")
    ] = False,
) -> Answer:
    """Compare two results on their common inputs: tests, fixed and broken inputs, code transitions."""
    from mld_pipelines.evaluation import load_result
    from mld_pipelines.evaluator import Result

    lake = open_lake()
    baseline, other = (Result(load_result(lake, name)) for name in (before, after))
    found = baseline.compare(
        other, dataset=dataset, n_boot=n_boot, seed=seed, level=level, n_epoch=n_epoch, other_epoch=other_epoch
    )
    worse = found.metrics.filter(metric="accuracy", verdict="worse")["dataset"].to_list()
    failed = fail_if_worse and bool(worse)
    verdict = (f"accuracy is worse on {', '.join(worse)}",) if failed else ()
    return Answer(found.to_dict(), (str(found), *verdict), Exit.CHECK_FAILED if failed else Exit.OK)


@command(app, "promote")
def promote(name: ResultName) -> Answer:
    """Declare a result current until a newer one finishes."""
    from mld_pipelines.evaluation import promote_result

    model = promote_result(open_lake(), name, promoted_by=getpass.getuser(), at=datetime.now(UTC))
    return Answer({"result_name": name, "model_key": model}, (f"{name} is the current result of {model}",))


@command(app, "export")
def export(
    name: ResultName,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A .html, .json, .csv or .parquet file, or a folder.")],
    format: Annotated[  # the name users expect
        str | None, typer.Option("--format", help="parquet, csv, json or html; by default the file's suffix.")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="units, metrics, issues or codes; by default the file's name.")
    ] = None,
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> Answer:
    """Write a result to files: a report of one page, or its tables."""
    from mld_pipelines.evaluation import load_result
    from mld_pipelines.evaluator import Result

    result = Result(load_result(open_lake(), name))
    written = [str(file) for file in result.export(path, format, table=table, overwrite=overwrite)]
    return Answer({"result_name": name, "files": written}, tuple(f"wrote {file}" for file in written))


def document(result: Result) -> dict[str, Any]:
    """Return a result as data."""
    return {
        "result_name": result.result_name,
        "decision_dataset": result.decision_dataset,
        "warnings": result.warnings,
        "metrics": result.metrics_summary(),
        **({"classes": result.class_summary()} if _detects(result) else {}),
        "categories": result.issue_category_summary(),
        "issues": result.get_issues(),
        "inputs": result.inputs,
    }


def overview(result: Result) -> tuple[Any, ...]:
    """Return a result for reading."""
    issues = result.get_issues()
    columns = [
        "dataset",
        "error_code",
        "category",
        "counts",
        "error_rate",
        "error_rate_low",
        "error_rate_high",
        "reason",
    ]
    if _detects(result):
        columns.insert(1, "unit_kind")
    worst = issues.select([name for name in columns if name in issues.columns]).head(_ISSUES_SHOWN)
    return (
        result.result_name,
        *(f"note: {warning}" for warning in result.warnings),
        sheet_of(result.metrics_summary(), key="dataset", title="metrics"),
        *([table_of(result.class_summary().select(_CLASS_COLUMNS), title="classes")] if _detects(result) else []),
        sheet_of(result.issue_category_summary(), key="dataset", title="issue categories (share of units)"),
        table_of(worst, title=f"issues ({worst.height} of {issues.height})"),
    )


def _detects(result: Result) -> bool:
    return bool((result.get_issues()["unit_kind"] != "input").any())
