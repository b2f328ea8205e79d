"""What a materialisation shows: numbers that Dagster plots, one small picture, ten rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from mld_pipelines.tables import CATALOGUE
from resources import LakeResource, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mld_pipelines.evaluation import StoredResult

__all__ = ["drawing", "evaluation_materializations", "result_metadata"]

_PLOTTED = ("accuracy", "auroc", "error_proba_auroc", "error_rate")
"""Metrics of the decision dataset that are worth a line over results."""


_BINS = 20


def drawing(svg: str, alt: str) -> dg.MarkdownMetadataValue:
    """Return an SVG as inline Markdown."""
    from mld_pipelines.figures import to_markdown

    return dg.MetadataValue.md(to_markdown(svg, alt))


def evaluation_materializations(lake: LakeResource, stored: StoredResult) -> Iterator[dg.MaterializeResult[Any]]:
    """Yield one materialisation per table of a result, the result itself last."""
    frames = {
        "evaluation/units": stored.units().collect(),
        "evaluation/metrics": stored.metrics(),
        "evaluation/issues": stored.issues(),
        "estimators/models": stored.artifacts(),
        "evaluation/results": pl.DataFrame([stored.row], schema=CATALOGUE["evaluation/results"].polars_schema),
    }
    shown = result_metadata(stored, frames["evaluation/metrics"])
    pictures = _pictures(stored, frames)
    for table, frame in frames.items():
        spec = CATALOGUE[table]
        yield lake.result(
            spec,
            version=lake.open().version(spec),
            rows=frame.height,
            frame=frame,
            scope="partition",
            metadata=shown | ({"picture": pictures[table]} if table in pictures else {}),
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
        **numbers(values),
    }


def _pictures(stored: StoredResult, frames: dict[str, pl.DataFrame]) -> dict[str, dg.MarkdownMetadataValue]:
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
    return {
        "evaluation/results": drawing(
            bar_chart(_by_dataset(frames, "accuracy"), label="dataset_type", value="value", title="Accuracy"),
            "accuracy per dataset",
        ),
        "estimators/models": drawing(
            bar_chart(
                _by_dataset(frames, "error_proba_auroc"),
                label="dataset_type",
                value="value",
                title="AUROC of the error probability",
                is_share=False,
            ),
            "how well errors are ranked, per dataset",
        ),
        "evaluation/issues": drawing(codes, "error rate by code"),
        "evaluation/metrics": drawing(mix, "issue categories"),
        "evaluation/units": drawing(
            histogram(counts, edges=edges, title=f"Error probability, {decisive}"), "error probability"
        ),
    }


def _by_dataset(frames: dict[str, pl.DataFrame], metric: str) -> pl.DataFrame:
    rows = frames["evaluation/metrics"].filter((pl.col("metric") == metric) & (pl.col("scope") == "metric"))
    return rows.sort("dataset_type")
