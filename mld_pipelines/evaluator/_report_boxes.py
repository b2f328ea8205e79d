"""The section of a detector's report on its boxes: precision, recall and error types by range and by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.diagnosis import jeffreys_interval
from mld_pipelines.evaluator._html import Markup, svg, tag
from mld_pipelines.evaluator._report_words import percent, table
from mld_pipelines.figures import bar_chart
from mld_pipelines.metrics import ERROR_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.evaluator._report import ReportFacts

__all__ = ["box_table", "boxes_section"]

_RANGE_STEP = 10
"""Metres of a range bin, as in views."""
_MOST_RANGES, _MOST_CLASSES = 12, 20
_PICTURE = 420.0
_TYPES = tuple(name for name in ERROR_TYPES if name != "miss")
#: Error types in words, for the columns of tables.
_WORDS = {"cls": "wrong class", "loc": "misplaced", "both": "class and place", "dupe": "twice", "bkg": "background"}


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
            *((~is_object & (pl.col("error_type") == name)).sum().alias(name) for name in _TYPES),
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


def boxes_section(facts: ReportFacts) -> Markup | None:
    """Return pictures and tables of the boxes of the deciding dataset; nothing for a classifier."""
    if facts.boxes is None:
        return None
    steps = (pl.col("range_m") / _RANGE_STEP).floor().cast(pl.Int64)
    by_range = box_table(facts.boxes, steps)
    starts = [place * _RANGE_STEP for place in by_range["key"]]
    by_range = by_range.with_columns(pl.Series("name", [f"{start}–{start + _RANGE_STEP} m" for start in starts]))
    names = dict(enumerate(facts.class_names))
    by_class = box_table(facts.boxes, pl.col("prediction"))
    by_class = by_class.with_columns(pl.Series("name", [names.get(key, str(key)) for key in by_class["key"]]))
    return tag(
        "section",
        tag("h2", "Where boxes fail"),
        tag("p", f"Predictions at the operating point and true objects of “{facts.decision_dataset}”. A prediction "
                 "stands under the class it claims, an object under its own; range is the distance on the ground."),
        tag("div", _bars(by_range, "precision"), _bars(by_range, "recall"), class_="grid"),
        _table("range", by_range.head(_MOST_RANGES), by_range.height - _MOST_RANGES),
        _table("class", by_class.head(_MOST_CLASSES), by_class.height - _MOST_CLASSES),
    )  # fmt: skip


def _bars(frame: pl.DataFrame, share: str) -> Markup:
    picture = bar_chart(
        frame, label="name", value=share, low=f"{share}_low", high=f"{share}_high", title=f"{share.title()} by range",
        limit=_MOST_RANGES, width=_PICTURE,
    )  # fmt: skip
    said = {"precision": "Share of the predictions that are right", "recall": "Share of the objects that were found"}
    return tag("figure", svg(picture), tag("figcaption", f"{said[share]}, with 95 % intervals."))


def _table(by: str, frame: pl.DataFrame, left_out: int) -> Markup:
    header = [by, "objects", "recall", "missed", "predictions", "precision", *(_WORDS[name] for name in _TYPES)]
    lines: list[Sequence[object]] = [
        [
            row["name"], f"{row['objects']:,}", percent(row["recall"]), f"{row['missed']:,}",
            f"{row['predictions']:,}", percent(row["precision"]), *(f"{row[name]:,}" for name in _TYPES),
        ]
        for row in frame.iter_rows(named=True)
    ]  # fmt: skip
    more = f" {left_out} further rows are left out." if left_out > 0 else ""
    return table(header, lines, caption=f"Boxes by {by}; the last columns count wrong predictions by type.{more}")
