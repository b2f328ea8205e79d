"""The section of a detector's report on its boxes: precision, recall and error types by range and by class; frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.evaluator._classes import WRONG_TYPES, box_table
from mld_pipelines.evaluator._html import Markup, svg, tag
from mld_pipelines.evaluator._report_words import figure_number, percent, table
from mld_pipelines.figures import bar_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.evaluator._report import ReportFacts

__all__ = ["box_table", "boxes_section"]

_RANGE_STEP = 10
"""Metres of a range bin, as in views."""
_MOST_RANGES, _MOST_CLASSES, _MOST_FRAMES = 12, 20, 10
_PICTURE = 420.0
#: Error types in words, for the columns of tables.
_WORDS = {"cls": "wrong class", "loc": "misplaced", "both": "class and place", "dupe": "twice", "bkg": "background"}


def boxes_section(facts: ReportFacts) -> Markup | None:
    """Return pictures and tables of the boxes of the deciding dataset; nothing for a classifier."""
    if facts.boxes is None:
        return None
    steps = (pl.col("range_m") / _RANGE_STEP).floor().cast(pl.Int64)
    by_range = box_table(facts.boxes, steps)
    starts = [place * _RANGE_STEP for place in by_range["key"]]
    by_range = by_range.with_columns(pl.Series("name", [f"{start}–{start + _RANGE_STEP} m" for start in starts]))
    by_class = pl.DataFrame() if facts.classes is None else facts.classes.with_columns(pl.col("class").alias("name"))
    return tag(
        "section",
        tag("h2", "Where boxes fail"),
        tag("p", f"Predictions at the operating point and true objects of “{facts.decision_dataset}”. A prediction "
                 "stands under the class it claims, an object under its own; range is the distance on the ground."),
        tag("div", _bars(by_range, "precision"), _bars(by_range, "recall"), class_="grid"),
        _table("range", by_range.head(_MOST_RANGES), by_range.height - _MOST_RANGES),
        _table("class", by_class.head(_MOST_CLASSES), by_class.height - _MOST_CLASSES),
        None if facts.frames is None else _frames(facts.frames),
    )  # fmt: skip


def _bars(frame: pl.DataFrame, share: str) -> Markup:
    picture = bar_chart(
        frame, label="name", value=share, low=f"{share}_low", high=f"{share}_high", title=f"{share.title()} by range",
        limit=_MOST_RANGES, width=_PICTURE,
    )  # fmt: skip
    said = {"precision": "Share of the predictions that are right", "recall": "Share of the objects that were found"}
    return tag("figure", svg(picture), tag("figcaption", f"{said[share]}, with 95 % intervals."))


def _table(by: str, frame: pl.DataFrame, left_out: int) -> Markup:
    has_point = "threshold" in frame.columns
    header = [by, "objects", "recall", "missed", "predictions", "precision", *(_WORDS[name] for name in WRONG_TYPES)]
    header += ["score from", "AP"] if has_point else []
    lines: list[Sequence[object]] = [
        [
            row["name"], f"{row['objects']:,}", percent(row["recall"]), f"{row['missed']:,}",
            f"{row['predictions']:,}", percent(row["precision"]), *(f"{row[name]:,}" for name in WRONG_TYPES),
            *([figure_number(row["threshold"]), figure_number(row["ap"])] if has_point else []),
        ]
        for row in frame.iter_rows(named=True)
    ]  # fmt: skip
    more = f" {left_out} further rows are left out." if left_out > 0 else ""
    return table(
        header, lines, caption=f"Boxes by {by}; columns from “wrong class” on count wrong predictions by type.{more}"
    )


def _frames(frames: pl.DataFrame) -> Markup | None:
    """Return the frames with most errors, and how many there are."""
    wrong = frames.filter("is_error")
    if wrong.is_empty():
        return None
    lines: list[Sequence[object]] = [
        [
            row["input_id"], f"{row['false_positives']:,}", f"{row['missed']:,}", f"{row['predictions']:,}",
            f"{row['objects']:,}", figure_number(row["expected_errors"]), row["error_code"],
        ]
        for row in wrong.head(_MOST_FRAMES).iter_rows(named=True)
    ]  # fmt: skip
    caption = (
        f"Frames with most errors; {wrong.height:,} of {frames.height:,} hold a wrong prediction or a missed object. "
        "Wrong predictions were expected from their error probabilities."
    )
    header = ["frame", "wrong", "missed", "predictions", "objects", "wrong, expected", "worst code"]
    return table(header, lines, caption=caption)
