"""Precision, recall and errors of a detector by what groups both kinds of its units: class, range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.diagnosis import jeffreys_interval
from mld_pipelines.metrics import ERROR_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["WRONG_TYPES", "box_table", "class_table"]

WRONG_TYPES = tuple(name for name in ERROR_TYPES if name != "miss")
"""Error types of predictions."""


def box_table(units: pl.DataFrame, key: pl.Expr) -> pl.DataFrame:
    """Return precision, recall and errors by a key of both kinds of units, with 95 % Jeffreys intervals.

    Args:
        units: Units of a detector of one dataset.
        key: What to group by; rows come in its order.

    Returns:
        Columns: key, objects, found, recall, recall_low, recall_high, missed, predictions, hits, precision,
        precision_low, precision_high, and one column per error type of predictions.
    """
    is_object, found = pl.col("unit_kind") == "object", pl.col("outcome") == "tp"
    counted = (
        units.group_by(key.alias("key"))
        .agg(
            is_object.sum().alias("objects"),
            (is_object & found).sum().alias("found"),
            (is_object & pl.col("is_error")).sum().alias("missed"),
            (~is_object).sum().alias("predictions"),
            (~is_object & found).sum().alias("hits"),
            *((~is_object & (pl.col("error_type") == name)).sum().alias(name) for name in WRONG_TYPES),
        )
        .with_columns(pl.exclude("key").cast(pl.Int64))
        .sort("key")
    )
    for share, hits, total in (("recall", "found", "objects"), ("precision", "hits", "predictions")):
        low, high = jeffreys_interval(counted[total].to_numpy(), counted[hits].to_numpy())
        known = pl.col(total) > 0
        counted = counted.with_columns(
            pl.when(known).then(pl.col(hits) / pl.col(total)).alias(share),
            pl.when(known).then(pl.Series(low)).alias(f"{share}_low"),
            pl.when(known).then(pl.Series(high)).alias(f"{share}_high"),
        )
    return counted


def class_table(
    units: pl.DataFrame,
    metrics: pl.DataFrame,
    *,
    thresholds: dict[int | None, NDArray[np.float64]],
    class_names: Sequence[str],
) -> pl.DataFrame:
    """Return one row per dataset, epoch and class.

    Args:
        units: Units of a detector.
        metrics: `evaluation.detection_class_metrics`.
        thresholds: Operating point by epoch.
        class_names: Names by class index; indices are shown where there are none.

    Returns:
        Columns: dataset, n_epoch, label, class, threshold, ap, precision, recall and f1 with intervals of the first
        two, objects, found, missed, predictions, hits, one column per error type, ate, ase, aoe, ave.
    """
    parts = []
    # without a unit one empty group gives the columns
    groups = list(units.group_by("dataset_type", "n_epoch", maintain_order=True)) or [((None, *thresholds), units)]
    for (dataset, epoch, *_), part in groups:
        counted = box_table(part, pl.col("prediction")).rename({"key": "label"})
        limits = pl.DataFrame({"label": range(len(thresholds[epoch])), "threshold": thresholds[epoch]})
        named = [class_names[label] if label < len(class_names) else str(label) for label in counted["label"]]
        parts.append(
            counted.join(limits, on="label", how="left", maintain_order="left").with_columns(
                pl.lit(dataset, pl.String).alias("dataset"),
                pl.lit(epoch, pl.Int64).alias("n_epoch"),
                pl.Series("class", named, dtype=pl.String),
            )
        )
    keys = ["dataset", "n_epoch", "label"]
    rows = pl.concat(parts).join(metrics, on=keys, how="left", nulls_equal=True, maintain_order="left")
    total = pl.col("precision") + pl.col("recall")
    f1 = pl.when(total > 0).then(2 * pl.col("precision") * pl.col("recall") / total).otherwise(total * 0.0)
    rates = ["precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high", "f1"]
    counts = ["objects", "found", "missed", "predictions", "hits", *WRONG_TYPES]
    names = [*keys, "class", "threshold", "ap", *rates, *counts, "ate", "ase", "aoe", "ave"]
    return rows.with_columns(f1.alias("f1")).select(names).sort(keys)
