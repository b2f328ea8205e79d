"""Horizontal bars: shares of categories, counts of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.figures._frame import check_columns
from mld_pipelines.figures._scale import fit_scale, percent, plain
from mld_pipelines.figures._svg import COLOURS, document, element, is_number, shorten, text

if TYPE_CHECKING:
    import polars as pl

    from mld_pipelines.figures._scale import Scale

__all__ = ["CATEGORY_COLOURS", "bar_chart"]

#: Covered green, undecided grey, bad orange and red; the overlay violet.
CATEGORY_COLOURS = {
    "stable_coverage": COLOURS["green"],
    "operational_coverage": COLOURS["blue"],
    "hotspot": COLOURS["orange"],
    "critical_hotspot": COLOURS["red"],
    "recessive_hotspot": COLOURS["grey"],
    "aleatoric_hotspot": COLOURS["violet"],
}

_ROW, _BAR, _LEFT, _RIGHT, _TOP = 20.0, 12.0, 150.0, 70.0, 24.0
_LABEL_CHARACTERS = 24


def bar_chart(
    frame: pl.DataFrame,
    *,
    label: str,
    value: str,
    title: str,
    low: str | None = None,
    high: str | None = None,
    is_share: bool = True,
    limit: int = 20,
    width: float = 520.0,
) -> str:
    """Draw one horizontal bar per row, in the order of the frame.

    Args:
        frame: Rows; those without a finite value are drawn as "no data".
        label: Column of labels; issue categories have their own colours.
        value: Column of values ≥ 0.
        title: Title.
        low: Column of the lower end of an interval, drawn as a whisker.
        high: Column of the upper end.
        is_share: Print values as percentages.
        limit: Rows to draw; the rest is counted in a last line.
        width: Width in pixels.
    """
    check_columns(frame, (label, value, low, high))
    rows = frame.head(limit).to_dicts()
    columns = [name for name in (value, high) if name is not None]
    known = [float(row[name]) for row in rows for name in columns if is_number(row[name])]
    scale = fit_scale(known, start=_LEFT, end=width - _RIGHT)
    parts = [text(8, 15, title, weight="600")]
    for index, row in enumerate(rows):
        parts += _bar(row, _TOP + index * _ROW, scale, names=(label, value, low, high), is_share=is_share)
    lines = len(rows)
    note = "no data" if not rows else f"and {frame.height - lines} more" if frame.height > lines else None
    if note:
        parts.append(text(8, _TOP + lines * _ROW + 14, note))
    height = _TOP + (lines + bool(note)) * _ROW + 6
    return document(parts, width=width, height=height, title=title, description=_describe(rows, label, value, is_share))


def _bar(
    row: dict[str, Any], top: float, scale: Scale, *, names: tuple[str, str, str | None, str | None], is_share: bool
) -> list[str]:
    label, value, low, high = names
    parts = [text(_LEFT - 6, top + 13, shorten(row[label], _LABEL_CHARACTERS), anchor="end")]
    if not is_number(row[value]):
        return [*parts, text(_LEFT + 4, top + 13, "no data")]
    end = scale(row[value])
    colour = CATEGORY_COLOURS.get(str(row[label]).removesuffix("_ratio"), COLOURS["blue"])
    parts.append(element("rect", x=_LEFT, y=top + 3, width=end - _LEFT, height=_BAR, fill=colour))
    if low is not None and high is not None and is_number(row[low]) and is_number(row[high]):
        middle = top + 3 + _BAR / 2
        parts.append(
            element("line", x1=scale(row[low]), x2=scale(row[high]), y1=middle, y2=middle, stroke=COLOURS["text"])
        )
        end = max(end, scale(row[high]))
    return [*parts, text(end + 4, top + 13, percent(row[value]) if is_share else plain(row[value]))]


def _describe(rows: list[dict[str, Any]], label: str, value: str, is_share: bool) -> str:
    if not rows:
        return "No data."
    shown = [
        f"{row[label]} {percent(row[value]) if is_share else plain(row[value])}"
        for row in rows
        if is_number(row[value])
    ]
    return "; ".join(shown[:8]) + ("; …" if len(shown) > 8 else ".")
