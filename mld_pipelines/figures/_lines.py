"""Values over time: line with interval band and dots, and a sparkline."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from mld_pipelines.figures._frame import check_columns
from mld_pipelines.figures._scale import fit_scale, percent, plain, tick_labels
from mld_pipelines.figures._svg import COLOURS, document, element, is_number, number, shorten, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import polars as pl

    from mld_pipelines.figures._scale import Scale

__all__ = ["line_chart", "sparkline"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 40.0, 22.0
#: Rows beyond the newest 120 would make the picture heavier than metadata should be (10 kB) and no clearer.
_MOST_ROWS = 120

Point = tuple[float, float]


def line_chart(
    frame: pl.DataFrame,
    *,
    x: str,
    y: str,
    title: str,
    low: str | None = None,
    high: str | None = None,
    dots: str | None = None,
    weak: str | None = None,
    reference: float | None = None,
    names: tuple[str, str, str] = ("estimated", "true", "reference"),
    is_share: bool = True,
    width: float = 560.0,
    height: float = 220.0,
) -> str:
    """Draw a line over rows in their order, e.g. estimated error rate with interval and true rate per day.

    Args:
        frame: Rows; of more than 120 the last are drawn. Nulls interrupt the line, the band and the dots.
        x: Column of dates, times or any labels; spaced evenly.
        y: Column of the line.
        title: Title.
        low: Column of the lower end of the band.
        high: Column of the upper end.
        dots: Column of values drawn as dots.
        weak: Boolean column: such rows are grey dots, not part of the line ("too few").
        reference: Value of a dashed horizontal line.
        names: Legend of line, dots and reference.
        is_share: Print values as percentages.
        width: Width in pixels.
        height: Height in pixels.
    """
    check_columns(frame, (x, y, low, high, dots, weak))
    rows = frame.tail(_MOST_ROWS).to_dicts()
    columns = [name for name in (y, low, high, dots) if name is not None]
    known = [float(row[name]) for row in rows for name in columns if is_number(row[name])]
    vertical = fit_scale([*known, *([] if reference is None else [reference])], start=height - _BOTTOM, end=_TOP)
    places = _places(len(rows), _LEFT, width - _RIGHT)
    strong = [None if weak is not None and row[weak] else row for row in rows]
    faint = [row if weak is not None and row[weak] else None for row in rows]
    format_value = percent if is_share else plain
    parts = [text(8, 15, title, weight="600"), *_axis(vertical, width, is_share=is_share)]
    parts += _x_labels([row[x] for row in rows], places, height)
    if low is not None and high is not None:
        parts += _band(_points(strong, low, places, vertical), _points(strong, high, places, vertical))
    if reference is not None:
        parts.append(_across(vertical(reference), width, stroke=COLOURS["green"], stroke_dasharray="5 4"))
    parts += _line(_points(strong, y, places, vertical), COLOURS["blue"])
    parts += _dots(_points(faint, y, places, vertical), COLOURS["grey"], "weak")
    if dots is not None:
        parts += _dots(_points(rows, dots, places, vertical), COLOURS["orange"], "dots")
    parts += _legend(names, (True, dots is not None, reference is not None))
    if not known:
        parts.append(text(width / 2, height / 2, "no data", anchor="middle"))
    description = _describe(rows, x, y, dots, format_value)
    return document(parts, width=width, height=height, title=title, description=description)


def sparkline(values: Iterable[float | None], *, title: str, width: float = 120.0, height: float = 28.0) -> str:
    """Draw values as a bare line with a dot at the last one; nulls interrupt it.

    Args:
        values: Values in order; of more than 120 the last are drawn.
        title: Accessible name.
        width: Width in pixels.
        height: Height in pixels.
    """
    rows = [{"v": value} for value in values][-_MOST_ROWS:]
    known = [float(row["v"]) for row in rows if row["v"] is not None and is_number(row["v"])]
    vertical = fit_scale(known, start=height - 3, end=3.0, floor=None)
    points = _points(rows, "v", _places(len(rows), 3.0, width - 3), vertical)
    parts = _line(points, COLOURS["blue"])
    last = [point for point in points if point is not None][-1:]
    parts += _dots(list(last), COLOURS["orange"], "last")
    description = f"{len(known)} values, last {plain(known[-1])}." if known else "No data."
    return document(parts, width=width, height=height, title=title, description=description)


def _places(count: int, start: float, end: float) -> list[float]:
    if count == 1:
        return [(start + end) / 2]
    return [start + (end - start) * index / (count - 1) for index in range(count)]


def _points(
    rows: Sequence[dict[str, Any] | None], column: str, places: Sequence[float], vertical: Scale
) -> list[Point | None]:
    return [
        (place, vertical(row[column])) if row is not None and is_number(row[column]) else None
        for row, place in zip(rows, places, strict=True)
    ]


def _runs(points: Sequence[Point | None]) -> list[list[Point]]:
    runs: list[list[Point]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _path(points: Iterable[Point]) -> str:
    return "L".join(f"{number(px)} {number(py)}" for px, py in points)


def _line(points: Sequence[Point | None], colour: str) -> list[str]:
    # a run of one point is drawn by its round cap
    data = "".join(f"M{_path(run)}" + ("h0" if len(run) == 1 else "") for run in _runs(points))
    if not data:
        return []
    return [element("path", class_="line", d=data, fill="none", stroke=colour, stroke_width=2, stroke_linecap="round")]


def _band(low: Sequence[Point | None], high: Sequence[Point | None]) -> list[str]:
    pairs = [None if a is None or b is None else (a, b) for a, b in zip(low, high, strict=True)]
    data, run = "", list[tuple[Point, Point]]()
    for pair in [*pairs, None]:
        if pair is not None:
            run.append(pair)
        elif run:
            outline = [b for _, b in run] + [a for a, _ in reversed(run)]
            data += f"M{_path(_widen(outline) if len(run) == 1 else outline)}Z"
            run = []
    return [element("path", class_="band", d=data, fill=COLOURS["blue"], fill_opacity="0.25")] if data else []


def _widen(outline: list[Point]) -> list[Point]:
    """A band over one point is a bar of four pixels."""
    (px, top), (_, bottom) = outline
    return [(px - 2, top), (px + 2, top), (px + 2, bottom), (px - 2, bottom)]


def _dots(points: Sequence[Point | None], colour: str, kind: str) -> list[str]:
    data = "".join(f"M{number(point[0])} {number(point[1])}h0" for point in points if point is not None)
    if not data:
        return []
    return [element("path", class_=kind, d=data, stroke=colour, stroke_width=6, stroke_linecap="round")]


def _axis(vertical: Scale, width: float, *, is_share: bool) -> list[str]:
    parts = []
    ticks = vertical.ticks()
    for tick, label in zip(ticks, tick_labels(ticks, is_share=is_share), strict=True):
        at = vertical(tick)
        parts.append(_across(at, width, stroke=COLOURS["grid"], stroke_opacity="0.35"))
        parts.append(text(_LEFT - 5, at + 4, label, anchor="end"))
    return parts


def _x_labels(labels: Sequence[object], places: Sequence[float], height: float) -> list[str]:
    count = len(labels)
    shown = sorted({0, count // 2, count - 1}) if count > 2 else list(range(count))
    anchors = {0: "start", count - 1: "end"} if count > 1 else {}
    return [text(places[i], height - 6, _x_label(labels[i]), anchor=anchors.get(i, "middle")) for i in shown]


def _x_label(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%m-%d %H:%M}"
    return value.isoformat() if isinstance(value, date) else shorten(value, 16)


def _legend(names: Sequence[str], is_shown: Sequence[bool]) -> list[str]:
    parts, place = [], _LEFT
    for name, colour, shown in zip(names, ("blue", "orange", "green"), is_shown, strict=True):
        if shown:
            parts.append(element("rect", x=place, y=22, width=9, height=9, fill=COLOURS[colour]))
            parts.append(text(place + 13, 31, shorten(name, 24)))
            place += 30 + 6.5 * min(len(name), 24)
    return parts


def _across(at: float, width: float, **attributes: str) -> str:
    """A horizontal line over the plot."""
    return element("path", d=f"M{number(_LEFT)} {number(at)}H{number(width - _RIGHT)}", fill="none", **attributes)


def _describe(
    rows: Sequence[dict[str, Any]], x: str, y: str, dots: str | None, format_value: Callable[[float], str]
) -> str:
    known = [row for row in rows if is_number(row[y])]
    if not known:
        return "No data."
    last = known[-1]
    truth = f", true {format_value(last[dots])}" if dots is not None and is_number(last[dots]) else ""
    return f"{len(known)} values; the last, {_x_label(last[x])}, is {format_value(last[y])}{truth}."
