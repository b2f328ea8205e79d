"""Cells of two dimensions: error code × day, code × predicted class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.figures._frame import check_columns
from mld_pipelines.figures._scale import percent, plain
from mld_pipelines.figures._svg import COLOURS, document, element, is_number, number, shorten, text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl

__all__ = ["heat_map"]

_LEFT, _TOP, _CELL_HEIGHT, _BOTTOM = 90.0, 26.0, 14.0, 40.0
#: Five steps of opacity: cells of one step share one path, which keeps 20 × 60 cells below 10 kB.
_STEPS = 5
_MOST_COLUMNS = 60

Place = tuple[float, float]


def heat_map(
    frame: pl.DataFrame,
    *,
    x: str,
    y: str,
    value: str,
    title: str,
    masked: str | None = None,
    is_share: bool = False,
    limit: int = 20,
    width: float = 520.0,
) -> str:
    """Draw one cell per row: red above zero, blue below, the deeper the larger; masked cells grey.

    Args:
        frame: Long form, one row per cell; of several rows of a cell the last is drawn.
        x: Column of the horizontal position, sorted; of more than 60 values the last are drawn.
        y: Column of the vertical position; the `limit` with the largest unmasked |value| are drawn, largest first.
        value: Column of values.
        title: Title.
        masked: Boolean column: cells that are no verdict.
        is_share: Print values as percentages.
        limit: Rows of cells to draw.
        width: Width in pixels.
    """
    check_columns(frame, (x, y, value, masked))
    columns = frame[x].unique().drop_nulls().sort().to_list()[-_MOST_COLUMNS:]
    cells = [row for row in frame.to_dicts() if row[x] in set(columns) and is_number(row[value])]
    strength = _strengths(cells, y, value, masked)
    names = sorted(strength, key=lambda name: (-strength[name], str(name)))[:limit]
    largest = max(strength.values(), default=0.0) or 1.0
    # whole pixels: crisp edges and short paths
    step = float(max((width - _LEFT - 8) // max(len(columns), 1), 2))
    places = _places(cells, (x, y), columns, names, step)
    layers: dict[tuple[str, int], list[Place]] = {}
    for key, row in {(row[x], row[y]): row for row in cells}.items():
        if key in places:
            layers.setdefault(_layer(row, value, masked, largest), []).append(places[key])
    parts = [text(8, 15, title, weight="600"), *(_paint(layer, group, step) for layer, group in sorted(layers.items()))]
    parts += [text(_LEFT - 6, _TOP + i * _CELL_HEIGHT + 11, shorten(n, 13), anchor="end") for i, n in enumerate(names)]
    bottom = _TOP + max(len(names), 1) * _CELL_HEIGHT
    show = percent if is_share else plain
    parts += _footer(
        columns, step, bottom, f"red + blue − up to {show(largest)}; grey: too few" if names else "no data"
    )
    description = _describe(cells, (x, y, value), masked, show)
    return document(parts, width=width, height=bottom + _BOTTOM, title=title, description=description)


def _strengths(cells: Sequence[dict[str, Any]], y: str, value: str, masked: str | None) -> dict[Any, float]:
    strength: dict[Any, float] = {}
    for row in cells:
        size = 0.0 if masked is not None and row[masked] else abs(float(row[value]))
        strength[row[y]] = max(strength.get(row[y], 0.0), size)
    return strength


def _places(
    cells: Sequence[dict[str, Any]], axes: tuple[str, str], columns: Sequence[Any], names: Sequence[Any], step: float
) -> dict[tuple[Any, Any], Place]:
    across = {name: _LEFT + index * step for index, name in enumerate(columns)}
    down = {name: _TOP + index * _CELL_HEIGHT for index, name in enumerate(names)}
    keys = [(row[axes[0]], row[axes[1]]) for row in cells]
    return {key: (across[key[0]], down[key[1]]) for key in keys if key[1] in down}


def _layer(row: dict[str, Any], value: str, masked: str | None, largest: float) -> tuple[str, int]:
    if masked is not None and row[masked]:
        return COLOURS["grey"], 1
    depth = round(_STEPS * min(abs(row[value]) / largest, 1.0))
    return COLOURS["red"] if row[value] > 0 else COLOURS["blue"], depth


def _paint(layer: tuple[str, int], group: Sequence[Place], step: float) -> str:
    colour, depth = layer
    across, down = number(max(step - 1, 0.5)), number(_CELL_HEIGHT - 1)
    data = "".join(f"M{number(left)} {number(top)}h{across}v{down}h-{across}z" for left, top in group)
    return element("path", class_="cells", d=data, fill=colour, fill_opacity=f"{depth / _STEPS:g}")


def _footer(columns: Sequence[Any], step: float, bottom: float, legend: str) -> list[str]:
    ends = sorted({0, len(columns) - 1}) if columns else []
    anchors = {0: "start", len(columns) - 1: "end"} if len(columns) > 1 else {}
    labels = [
        text(_LEFT + (i + (i > 0)) * step, bottom + 13, shorten(columns[i], 16), anchor=anchors.get(i, "start"))
        for i in ends
    ]
    return [*labels, text(_LEFT, bottom + 30, legend)]


def _describe(
    cells: Sequence[dict[str, Any]], names: tuple[str, str, str], masked: str | None, show: Callable[[float], str]
) -> str:
    x, y, value = names
    judged = [row for row in cells if masked is None or not row[masked]]
    if not judged:
        return "No data."
    top = max(judged, key=lambda row: abs(row[value]))
    return f"{len(judged)} cells; the largest is {show(top[value])}: {top[y]}, {top[x]}."
