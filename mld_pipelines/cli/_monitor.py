"""`mld monitor`: what a model does in production."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld_pipelines.cli._answer import Answer, print_document, print_text, table_of
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._open import ModelKey, open_lake, require_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from mld_pipelines.lake import Lake

__all__ = ["app"]

app = group("Watch what a model does in production.")

_SHOWN = (
    "event_day", "result_name", "n", "latency_p50_ms", "latency_p95_ms", "error_rate_estimated", "error_rate_low",
    "error_rate_high", "n_labelled", "error_rate_realised",
)  # fmt: skip
_SHOWN_3D = (
    "event_day", "result_name", "n", "latency_p50_ms", "detections_per_frame", "precision_estimated", "precision_low",
    "precision_high", "recall_estimated", "recall_low", "recall_high",
)  # fmt: skip
_TAILED = (
    "event_at", "request_id", "prediction", "confidence", "latency_ms", "error_proba", "error_code", "category",
    "result_name",
)  # fmt: skip
_TAILED_3D = (
    "event_at", "request_id", "boxes", "latency_ms", "expected_errors", "expected_misses", "error_proba", "error_code",
    "category", "result_name",
)  # fmt: skip
_POLL_SECONDS = 1.0


@command(app, "show")
def show(model: ModelKey, *, days: Annotated[int, typer.Option(min=1, help="Newest event days.")] = 14) -> Answer:
    """Show volume, latency, estimates (error rate; precision and recall of a detector) per day, and open alerts."""
    import polars as pl

    from mld_pipelines.evaluation import current_result, list_results
    from mld_pipelines.tables import MONITORING_ALERTS

    lake = open_lake()
    require_model(lake, model)
    windows = _days(lake, model, days)
    alerts = (
        lake.scan(MONITORING_ALERTS, model_key=model).filter(pl.col("state").is_in(["firing", "pending"])).collect()
    )
    current = current_result(lake, model)
    data = {"model_key": model, "current_result": current, "days": windows, "alerts": alerts}
    seen = _through(windows, [*list_results(lake, model)["result_name"], current])
    nothing = f"nothing monitored for {model} yet; `mld up` does it"
    shown = _SHOWN_3D if seen["detections_per_frame"].count() else _SHOWN
    text: list[Any] = [table_of(seen.select(shown)) if seen.height else nothing]
    return Answer(data, (*text, *_notes(seen), *_open_alerts(alerts, current)))


@command(app, "tail")
def tail(
    model: ModelKey,
    *,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="Newest inferences to start with.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
    as_json: bool = False,
) -> Answer:
    """Show the newest inferences. With --follow, --json prints one document per inference."""
    from mld_pipelines.tables import LANDING_INFERENCES

    lake = open_lake()
    require_model(lake, model)
    version = lake.version(LANDING_INFERENCES)
    rows_of = lake.scan(LANDING_INFERENCES, version=version, model_key=model)
    columns = _tailed(rows_of)
    newest = _inferences(rows_of, columns).tail(rows).collect()
    if not follow:
        return Answer({"model_key": model, "inferences": newest}, (table_of(newest),))
    try:
        while True:
            _print(newest, as_json=as_json)
            time.sleep(_POLL_SECONDS)
            before, version = version, lake.version(LANDING_INFERENCES)
            changes = lake.changes(LANDING_INFERENCES, since=before, until=version).lazy()
            newest = _inferences(changes.filter(_of(model)), columns).collect()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _days(lake: Lake, model: str, days: int) -> pl.DataFrame:
    """Derive days from the hours; estimates come from each result's own window reference."""
    import polars as pl

    from mld_pipelines.rollups import Scorers
    from mld_pipelines.tables import MONITORING_WINDOWS
    from mld_pipelines.windows import derive, roll_up

    states = lake.scan(MONITORING_WINDOWS, model_key=model).filter(pl.col("slice") == "all").collect()
    newest = states["event_day"].unique().sort().tail(days)
    daily = roll_up(states.filter(pl.col("event_day").is_in(newest.implode())))
    known = Scorers(lake).references({*daily["result_name"].drop_nulls()})
    return derive(daily, known.baselines, known.windows, known.maps).sort("event_day", "result_name")


def _notes(seen: pl.DataFrame) -> list[str]:
    """Return what the numbers of the shown days rest on: the reference, the badges, and days too small for an alert."""
    import polars as pl

    from mld_pipelines.windows import ALERT_FRAMES, ALERT_UNITS

    judged = seen.filter(pl.col("result_name").is_not_null())
    if judged.is_empty():
        return []
    newest, detects = judged.row(-1, named=True), judged["detections_per_frame"].count() > 0
    rates = ("precision", "recall") if detects else ("error_rate",)
    known = [(rate.replace("_", " "), newest[f"{rate}_reference"]) for rate in rates]
    said = [f"{name} {value:.3f}" for name, value in known if value is not None]
    lines = [f"reference of {newest['result_name']}: {', '.join(said)}"] if said else []
    lines += [f"- {badge}" for badge in sorted(set(judged["badges"].explode().drop_nulls()))]
    unit, least = ("frames", ALERT_FRAMES) if detects else ("inferences", ALERT_UNITS)
    if small := judged.filter(pl.col("n") < least).height:
        lines.append(f"- {small} of {judged.height} days have fewer than {least} {unit}: too few for an alert")
    return lines


def _through(windows: pl.DataFrame, results: Sequence[str | None]) -> pl.DataFrame:
    """Keep one row per day: seen through the last of the results that judged it, else the basic metrics."""
    import polars as pl

    rank = {name: place for place, name in enumerate(results)}
    ranked = windows.with_columns(pl.col("result_name").replace_strict(rank, default=-1).alias("rank"))
    return ranked.sort("event_day", "rank").unique("event_day", keep="last", maintain_order=True).drop("rank")


def _open_alerts(alerts: pl.DataFrame, current: str | None) -> list[Any]:
    """Show alerts about production itself and those of the current result; earlier results repeat most of them."""
    import polars as pl

    own = alerts.filter(pl.col("result_name").is_null() | (pl.col("result_name") == pl.lit(current, dtype=pl.String)))
    shown = own.sort("severity", "opened_at", "rule").select(
        "rule", "slice", "severity", "state", "value", "threshold", "n", "opened_at"
    )
    earlier = alerts.height - own.height
    text = [table_of(shown, title="open alerts")] if shown.height else ["no open alerts"]
    return [*text, *([f"{earlier} more through earlier results: --json"] if earlier else [])]


def _tailed(rows: pl.LazyFrame) -> tuple[str, ...]:
    """Return the columns to show: a model has one task, so its first row tells."""
    tasks = rows.select("task").head(1).collect()["task"].to_list()
    return _TAILED_3D if tasks == ["od3d"] else _TAILED


def _inferences(frame: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
    import polars as pl

    counted = frame.with_columns(pl.col("scores").list.len().cast(pl.Int64).alias("boxes"))
    return counted.select(columns).sort("event_at", "request_id")


def _of(model: str) -> pl.Expr:
    import polars as pl

    return pl.col("model_key") == model


def _print(rows: pl.DataFrame, *, as_json: bool) -> None:
    for row in rows.iter_rows(named=True):
        if as_json:
            print_document(row, sys.stdout)
        else:
            print_text((_line(row),))


def _line(row: dict[str, Any]) -> str:
    start = f"{row['event_at']:%H:%M:%S}  {row['request_id']}  → "
    if "boxes" in row:
        doubts = "" if row["expected_errors"] is None else f"  {row['expected_errors']:.1f} of them wrong, "
        return start + f"{row['boxes']} boxes" + (doubts and doubts + f"{row['expected_misses']:.1f} objects missed")
    risk = "" if row["error_proba"] is None else f"  p(error) {row['error_proba']:.3f} {row['error_code']}"
    confidence = "–" if row["confidence"] is None else f"{row['confidence']:.3f}"
    return start + f"{row['prediction']} ({confidence}){risk}"
