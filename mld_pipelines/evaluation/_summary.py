"""Metrics and category ratios of every dataset, long form."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.diagnosis import jeffreys_interval
from mld_pipelines.evaluation._views import ALEATORIC
from mld_pipelines.metrics import classification_metrics
from mld_pipelines.tables import CATEGORIES, EVALUATION_METRICS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mld_pipelines.metrics import UnitStatistics

__all__ = ["CATEGORY_RATIOS", "METRIC_COLUMNS", "METRIC_EXTRAS", "metric_rows"]

#: Columns of `metrics_summary()` in the order of the guides, without `dataset`.
METRIC_COLUMNS = (
    "counts",
    "accuracy",
    "auroc",
    "auprc",
    "net_entropy_loss",
    "net_entropy",
    "error_proba_auroc",
    "error_proba_auprc",
)
#: What we add, always after them.
METRIC_EXTRAS = (
    "error_proba_auprc_success",
    "confidence_auroc",
    "mean_entropy",
    "mean_loss",
    "error_rate",
)
#: Columns of `issue_category_summary()` in the order of the guides, without `dataset`.
CATEGORY_RATIOS = tuple(f"{category}_ratio" for category in (*CATEGORIES, ALEATORIC))


def metric_rows(units: pl.DataFrame, statistics: UnitStatistics, *, n_epoch: int | None, alpha: float) -> pl.DataFrame:
    """Return the rows of `evaluation/metrics` without their attempt columns.

    Args:
        units: Rows of `evaluation/units` of one epoch, in the order of `statistics`.
        statistics: Probabilities, entropy and loss of the same units.
        n_epoch: The epoch.
        alpha: One minus the level of the intervals of proportions.
    """
    rows: list[dict[str, Any]] = []
    for dataset in units["dataset_type"].unique().sort():
        mask = (units["dataset_type"] == dataset).to_numpy()
        part = units.filter(pl.Series(mask))
        rows += [{"dataset_type": dataset, **row} for row in _metrics(part, statistics, mask, alpha)]
        rows += [{"dataset_type": dataset, **row} for row in _ratios(part, alpha)]
    schema = {name: EVALUATION_METRICS.column(name).data_type for name in rows[0]}
    return pl.DataFrame(rows, schema=schema).with_columns(pl.lit(n_epoch, dtype=pl.Int64).alias("n_epoch"))


def _metrics(
    part: pl.DataFrame, statistics: UnitStatistics, mask: npt.NDArray[np.bool_], alpha: float
) -> list[dict[str, Any]]:
    summary = classification_metrics(
        probabilities=statistics.probabilities[mask],
        labels=part["label"].to_numpy(),
        entropy=statistics.entropy[mask],
        loss=part["loss"].to_numpy(),
        error_proba=part["error_proba"].to_numpy().astype(float),
    )
    values = asdict(summary)
    intervals = {
        "accuracy": _interval(part.height, part.height - int(part["is_error"].sum()), alpha),
        "error_rate": _interval(part.height, int(part["is_error"].sum()), alpha),
    }
    return [
        _row("metric", name, values[name], part.height, intervals.get(name))
        for name in (*METRIC_COLUMNS, *METRIC_EXTRAS)
    ]


def _ratios(part: pl.DataFrame, alpha: float) -> list[dict[str, Any]]:
    counts = dict(part.group_by("category").len().iter_rows()) | {ALEATORIC: int(part["is_aleatoric"].sum())}
    return [
        _row("category_ratio", f"{name}_ratio", k / part.height, part.height, _interval(part.height, k, alpha))
        for name in (*CATEGORIES, ALEATORIC)
        for k in (counts.get(name, 0),)
    ]


def _row(scope: str, metric: str, value: float | None, n: int, interval: tuple[float, float] | None) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {"scope": scope, "metric": metric, "value": value, "low": low, "high": high, "n": n}


def _interval(n: int, k: int, alpha: float) -> tuple[float, float]:
    low, high = jeffreys_interval([n], [k], alpha=alpha)
    return float(low[0]), float(high[0])
