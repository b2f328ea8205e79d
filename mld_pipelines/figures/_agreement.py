"""Estimates against the truth: one point per window, the diagonal where both agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.figures._frame import check_columns
from mld_pipelines.figures._scale import Scale, fit_scale, percent, plain, tick_labels
from mld_pipelines.figures._svg import COLOURS, document, element, is_number, number, shorten, text, titled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

__all__ = ["agreement_diagram"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 14.0, 54.0, 38.0
_PAINTS = ("blue", "orange", "violet")
#: More points hide each other and make the picture heavier than a page needs.
_MOST_ROWS = 150


def agreement_diagram(
    frame: pl.DataFrame,
    *,
    title: str,
    true: str = "true",
    estimated: str = "estimated",
    low: str | None = None,
    high: str | None = None,
    kind: str | None = None,
    name: str | None = None,
    size: float = 340.0,
) -> str:
    """Draw estimated over true rates, one point per row, with the diagonal on which an estimate is right.

    Args:
        frame: Rows; those without both values are left out, and rows beyond the first 150.
        title: Title.
        true: Column of true rates.
        estimated: Column of estimated rates.
        low: Column of the lower end of the estimate's interval.
        high: Column of the upper end.
        kind: Column that colours the points and makes the legend; of more than three kinds the last share a colour.
        name: Column shown while the pointer rests on a point.
        size: Width and height in pixels.
    """
    check_columns(frame, (true, estimated, low, high, kind, name))
    rows = [row for row in frame.head(_MOST_ROWS).to_dicts() if is_number(row[true]) and is_number(row[estimated])]
    ends = [row[column] for row in rows for column in (true, estimated, high) if column and is_number(row[column])]
    vertical = fit_scale(ends, start=size - _BOTTOM, end=_TOP)
    horizontal = Scale(low=vertical.low, high=vertical.high, start=_LEFT, end=size - _RIGHT)
    kinds = list(dict.fromkeys(str(row[kind]) for row in rows)) if kind else []
    parts = [text(8, 15, title, weight="600"), *_legend(kinds), *_grid(horizontal, vertical)]
    for row in rows:
        colour = COLOURS[_PAINTS[min(kinds.index(str(row[kind])), len(_PAINTS) - 1)] if kind else "blue"]
        part = _point(row, (true, estimated, low, high), horizontal, vertical, colour)
        parts.append(titled(part, _said(row, (true, estimated, low, high), name)))
    if not rows:
        parts.append(text(size / 2, size / 2, "no data", anchor="middle"))
    gap = sum(abs(row[true] - row[estimated]) for row in rows) / len(rows) if rows else None
    description = "No data." if gap is None else f"{len(rows)} windows; mean absolute difference {plain(gap)}."
    return document(parts, width=size, height=size, title=title, description=description)


def _grid(horizontal: Scale, vertical: Scale) -> list[str]:
    parts = []
    ticks = vertical.ticks()
    for tick, label in zip(ticks, tick_labels(ticks, is_share=True), strict=True):
        at, up = horizontal(tick), vertical(tick)
        lines = f"M{number(_LEFT)} {number(up)}H{number(horizontal.end)}M{number(at)} {number(vertical.start)}V{_TOP:g}"
        parts.append(element("path", d=lines, stroke=COLOURS["grid"], stroke_opacity="0.3"))
        parts.append(text(_LEFT - 5, up + 4, label, anchor="end"))
        parts.append(text(at, vertical.start + 14, label, anchor="middle"))
    diagonal = f"M{number(_LEFT)} {number(vertical.start)}L{number(horizontal.end)} {number(_TOP)}"
    parts.append(element("path", d=diagonal, stroke=COLOURS["grid"], stroke_dasharray="4 4", fill="none"))
    parts.append(text((_LEFT + horizontal.end) / 2, vertical.start + 31, "true error rate →", anchor="middle"))
    parts.append(text(_LEFT, _TOP - 6, "↑ estimated"))
    return parts


def _point(row: dict[str, Any], names: tuple[str, str, str | None, str | None], x: Scale, y: Scale, colour: str) -> str:
    true, estimated, low, high = names
    at, up = x(row[true]), y(row[estimated])
    whisker = ""
    if low and high and is_number(row[low]) and is_number(row[high]):
        line = f"M{number(at)} {number(y(row[low]))}V{number(y(row[high]))}"
        whisker = element("path", class_="interval", d=line, stroke=colour, stroke_opacity="0.55")
    return whisker + element("circle", cx=at, cy=up, r=3, fill=colour)


def _said(row: dict[str, Any], names: tuple[str, str, str | None, str | None], name: str | None) -> str:
    true, estimated, low, high = names
    between = f" ({percent(row[low])} … {percent(row[high])})" if low and high and is_number(row[low]) else ""
    head = f"{row[name]}: " if name else ""
    return f"{head}estimated {percent(row[estimated])}{between}, true {percent(row[true])}"


def _legend(kinds: Sequence[str]) -> list[str]:
    parts, place = [], 8.0
    for index, kind in enumerate(kinds[: len(_PAINTS)]):
        parts.append(element("rect", x=place, y=21, width=9, height=9, fill=COLOURS[_PAINTS[index]]))
        parts.append(text(place + 13, 30, shorten(kind, 28)))
        place += 24 + 6.2 * min(len(kind), 28)
    return parts
