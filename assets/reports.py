"""What a materialisation shows: numbers that Dagster plots, one small picture, ten rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from mld_pipelines.tables import CATALOGUE
from resources import LakeResource, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from mld_pipelines.evaluation import StoredResult
    from mld_pipelines.rollups import References

__all__ = ["detector_windows", "drawings", "evaluation_materializations", "result_metadata", "verified_under_shift"]

_PLOTTED = (
    "accuracy", "auroc", "error_proba_auroc", "error_rate",
    "precision", "recall", "f1", "map", "nds_like",
)  # fmt: skip
"""Metrics of the decision dataset that are worth a line over results; the second line only detectors have."""


_DETECTOR = (
    "event_day", "model_key", "n_frames", "detections_per_frame", "precision_estimated", "precision_low",
    "precision_high", "recall_estimated", "recall_low", "recall_high", "f1_estimated",
)  # fmt: skip
"""What a reader wants to know of a day of a detector."""

_HELD = {None: "no shift", False: "no", True: "yes"}
"""Whether the interval held on a family; the originals are under no shift."""

_BINS = 20

#: A map of more codes would be heavier than metadata should be (10 kB), and the report shows all of them.
_MOST_CODES = 60


def drawings(svg: str, alt: str, values: Sequence[float | None]) -> dict[str, dg.MarkdownMetadataValue]:
    """Return `glance`, bars that the UI shows in place, and `picture`, the whole drawing behind a click.

    Args:
        svg: The drawing.
        alt: What it shows.
        values: The bars of the glance, in the order of the drawing.
    """
    from mld_pipelines.figures import glance, to_markdown

    return {
        "glance": dg.MetadataValue.md(glance(values, alt)),
        "picture": dg.MetadataValue.md(to_markdown(svg, alt)),
    }


def detector_windows(states: pl.DataFrame, references: References) -> dict[date, dict[str, Any]]:
    """Return precision and recall of detectors by day: `detectors`, a table of its results, and numbers to plot.

    Days without a result of a detector are left out.

    Args:
        states: Window states of some days.
        references: What their results are compared with.
    """
    from mld_pipelines.windows import derive, roll_up

    judged = states.filter(pl.col("result_name").is_not_null() & pl.col("n_frames").is_not_null())
    if judged.is_empty():
        return {}
    days = derive(roll_up(judged), references.baselines, references.windows).sort("event_day", "result_name")
    return {rows["event_day"][0]: _detectors_of(rows) for rows in days.partition_by("event_day", maintain_order=True)}


def _detectors_of(rows: pl.DataFrame) -> dict[str, Any]:
    """Return a day's results as a table, and as numbers where it has one: a plotted line is one detector's."""
    records = [
        dg.TableRecord({name: _readable(row[name]) for name in (*_DETECTOR, "result_name")})
        for row in rows.iter_rows(named=True)
    ]
    plotted = ("precision_estimated", "recall_estimated", "f1_estimated") if rows.height == 1 else ()
    return {"detectors": dg.MetadataValue.table(records), **numbers({name: rows[name].item() for name in plotted})}


def _readable(value: Any) -> str | float | int | None:
    if isinstance(value, float):
        return round(value, 4)
    return value if value is None or isinstance(value, int) else str(value)


def evaluation_materializations(lake: LakeResource, stored: StoredResult) -> Iterator[dg.MaterializeResult[Any]]:
    """Yield one materialisation per table of a result, the result itself last."""
    frames = {
        "evaluation/units": stored.units().collect(),
        "evaluation/metrics": stored.metrics(),
        "evaluation/issues": stored.issues(),
        "evaluation/codes": stored.codes(),
        "estimators/models": stored.artifacts(),
        "evaluation/results": pl.DataFrame([stored.row], schema=CATALOGUE["evaluation/results"].polars_schema),
    }
    shown = result_metadata(stored, frames["evaluation/metrics"])
    pictures = _pictures(stored, frames)
    opened = lake.open()
    for table, frame in frames.items():
        spec = CATALOGUE[table]
        # the model's partition holds every result of it; `rows` are those of this one
        partition = opened.scan(spec, model_key=stored.model_key).select(pl.len()).collect().item()
        yield lake.result(
            spec,
            version=opened.version(spec),
            rows=frame.height,
            frame=frame,
            scope="range",
            metadata=shown | pictures.get(table, {}) | {"dagster/partition_row_count": partition},
        )


def result_metadata(stored: StoredResult, metrics: pl.DataFrame | None = None) -> dict[str, Any]:
    """Return which result it is and the numbers of its decision dataset."""
    rows = stored.metrics() if metrics is None else metrics
    decisive = rows.filter(
        (pl.col("dataset_type") == stored.row["decision_dataset"])
        & pl.col("metric").is_in([*_PLOTTED, "hotspot_ratio", "critical_hotspot_ratio", "stable_coverage_ratio"])
    )
    values = dict(decisive.select("metric", "value").iter_rows())
    return {
        "result_name": stored.result_name,
        "decision_dataset": stored.row["decision_dataset"],
        "trigger": stored.row["trigger"],
        **verified_under_shift(stored.verifications().get(stored.row["epochs"][-1])),
        **numbers(values),
    }


def verified_under_shift(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return on which corruptions the window estimate was verified, and a table of how far it was off on each."""
    if facts is None:
        return {"verified_under_shift": "no: no stress pass was used"}
    from mld_pipelines.evaluation import verified_rates

    rates = tuple(verified_rates(facts))
    held, missed = (
        list(dict.fromkeys(one.family for one in rates if one.is_held is wanted)) for wanted in (True, False)
    )
    verdict = "partly" if held and missed else "yes" if held else "no"
    parts = [
        f"{what} {', '.join(families)}" for what, families in (("held on", held), ("missed on", missed)) if families
    ]
    said = f"{verdict}: the interval {'; '.join(parts)}" if parts else f"{verdict}: no corruption could be verified"
    records = [
        dg.TableRecord(
            {
                "family": one.family,
                "rate": one.rate,
                "error": round(one.error, 4),
                "held": _HELD[one.is_held],
                "map_weight": one.map_weight,
                "interval_factor": round(one.width_factor, 4),
            }
        )
        for one in rates
    ]
    table = {"verification": dg.MetadataValue.table(records)} if records else {}
    return {"verified_under_shift": said, **table}


def _pictures(stored: StoredResult, frames: dict[str, pl.DataFrame]) -> dict[str, dict[str, dg.MarkdownMetadataValue]]:
    from mld_pipelines.figures import bar_chart, histogram

    decisive = stored.row["decision_dataset"]
    ratios = frames["evaluation/metrics"].filter(
        (pl.col("dataset_type") == decisive) & (pl.col("scope") == "category_ratio")
    )
    issues = frames["evaluation/issues"].filter((pl.col("dataset") == decisive) & (pl.col("errors") > 0))
    worst = issues.sort("error_rate", "counts", "error_code", descending=[True, True, False])
    codes = bar_chart(
        worst, label="error_code", value="error_rate", low="error_rate_low", high="error_rate_high",
        title=f"Error rate by code, {decisive}", limit=10,
    )  # fmt: skip
    mix = bar_chart(
        ratios.with_columns(pl.col("metric").str.strip_suffix("_ratio")),
        label="metric",
        value="value",
        title=f"Issue categories, {decisive}",
    )
    units = frames["evaluation/units"].filter(pl.col("dataset_type") == decisive)
    bins = (units["error_proba"].drop_nulls() * _BINS).floor().clip(0, _BINS - 1).cast(pl.Int64)
    counts = [int((bins == index).sum()) for index in range(_BINS)]
    edges = [index / _BINS for index in range(_BINS + 1)]
    accuracy, ranking = _by_dataset(frames, "accuracy"), _by_dataset(frames, "error_proba_auroc")
    accuracies = bar_chart(accuracy, label="dataset_type", value="value", title="Accuracy")
    rankings = bar_chart(
        ranking, label="dataset_type", value="value", title="AUROC of the error probability", is_share=False
    )
    probabilities = histogram(counts, edges=edges, title=f"Error probability, {decisive}")
    return {
        "evaluation/results": drawings(accuracies, "accuracy per dataset", accuracy["value"].to_list()),
        "estimators/models": drawings(rankings, "how well errors are ranked, per dataset", ranking["value"].to_list()),
        "evaluation/issues": drawings(codes, "error rate by code", worst["error_rate"].head(10).to_list()),
        "evaluation/codes": _map_of_codes(frames, decisive),
        "evaluation/metrics": drawings(mix, "issue categories", ratios["value"].to_list()),
        "evaluation/units": drawings(probabilities, "error probability", counts),
    }


def _map_of_codes(frames: dict[str, pl.DataFrame], decisive: str) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the codes by place, size and category; the glance shows their errors, the worst code first.

    Of a detector these are the codes of predictions: those of objects have a map of their own.
    """
    from mld_pipelines.evaluation import excess_errors
    from mld_pipelines.figures import bubble_map

    keys = ["n_epoch", "error_code"]
    verdicts = frames["evaluation/issues"].filter(pl.col("dataset") == decisive).select(*keys, "category")
    mapped = frames["evaluation/codes"].filter(pl.col("unit_kind") != "object")
    codes = mapped.join(verdicts, on=keys, how="left", nulls_equal=True)
    worst = codes.sort(excess_errors("n_epoch", "unit_kind"), "errors", "error_code", descending=[True, True, False])
    picture = bubble_map(
        worst, x="map_x", y="map_y", label="error_code", size="counts", category="category", limit=_MOST_CODES,
        title=f"Map of codes, {decisive}",
    )  # fmt: skip
    return drawings(picture, "errors by code", [float(count) for count in worst["errors"]])


def _by_dataset(frames: dict[str, pl.DataFrame], metric: str) -> pl.DataFrame:
    rows = frames["evaluation/metrics"].filter((pl.col("metric") == metric) & (pl.col("scope") == "metric"))
    return rows.sort("dataset_type")
