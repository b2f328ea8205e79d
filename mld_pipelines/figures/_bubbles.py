"""A map of bubbles: error codes by place, size and category."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.figures._bars import CATEGORY_COLOURS
from mld_pipelines.figures._frame import check_columns
from mld_pipelines.figures._scale import Scale
from mld_pipelines.figures._svg import COLOURS, document, element, is_number, shorten, text, titled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

__all__ = ["bubble_map"]

_MARGIN, _TOP, _LEGEND_ROW = 22.0, 26.0, 16.0
_SMALLEST, _LARGEST = 2.0, 15.0
_CHARACTER, _LINE = 6.2, 12.0
"""Width and height of a character of a label, in pixels at 11 px: what two labels must not share."""

_SMALLEST_SPAN = 1e-12
"""Differences below this share of the values are rounding: such rows are drawn in one place."""

Box = tuple[float, float, float, float]


def bubble_map(
    frame: pl.DataFrame,
    *,
    x: str,
    y: str,
    label: str,
    title: str,
    size: str | None = None,
    category: str | None = None,
    note: str | None = None,
    named: int = 8,
    limit: int = 600,
    width: float = 520.0,
    height: float = 380.0,
) -> str:
    """Draw one bubble per row; both axes have one scale, so that distances on paper are distances on the map.

    Args:
        frame: Rows, those to be named first; rows without a place are left out.
        x: Column of horizontal places.
        y: Column of vertical places.
        label: Column of labels.
        title: Title.
        size: Column of counts; the area of a bubble follows it.
        category: Column of issue categories, which have their own colours and make the legend.
        note: Column of the text shown while the pointer rests on a bubble.
        named: Rows whose label is drawn, where it covers no other.
        limit: Rows to draw.
        width: Width in pixels.
        height: Height of the map in pixels, legend not counted.
    """
    check_columns(frame, (x, y, label, size, category, note))
    rows = [row for row in frame.to_dicts() if is_number(row[x]) and is_number(row[y])][:limit]
    across, up = _scales([row[x] for row in rows], [row[y] for row in rows], width, height)
    radii = _radii(rows, size)
    parts = [text(8, 15, title, weight="600")]
    for row, radius in sorted(zip(rows, radii, strict=True), key=lambda pair: -pair[1]):
        circle = element(
            "circle", cx=across(row[x]), cy=up(row[y]), r=radius, fill=_colour(row, category), fill_opacity="0.8"
        )
        parts.append(titled(circle, str(row[note] if note else row[label])))
    parts += _labels([(across(row[x]), up(row[y]), r, str(row[label])) for row, r in zip(rows, radii, strict=True)],
                     named, width)  # fmt: skip
    if not rows:
        parts.append(text(width / 2, height / 2, "no data", anchor="middle"))
    kinds = [kind for kind in CATEGORY_COLOURS if any(category and row[category] == kind for row in rows)]
    legend, below = _legend(kinds, height, width)
    description = f"{len(rows)} codes: {', '.join(str(row[label]) for row in rows[:named])}." if rows else "No data."
    return document([*parts, *legend], width=width, height=below, title=title, description=description)


def _scales(xs: Sequence[float], ys: Sequence[float], width: float, height: float) -> tuple[Scale, Scale]:
    """Return the two axes: centred, with as many pixels per unit as fit both ways."""
    left, right, top, bottom = _MARGIN, width - _MARGIN, _TOP + _MARGIN, height - _MARGIN
    span_x, span_y = (max(values, default=0.0) - min(values, default=0.0) for values in (xs, ys))
    unit = max(span_x / (right - left), span_y / (bottom - top))
    magnitude = max((abs(value) for value in (*xs, *ys)), default=0.0)
    if unit <= _SMALLEST_SPAN * magnitude:  # one place, up to rounding
        unit = max(magnitude, 1.0)
    middle_x, middle_y = ((max(v, default=0.0) + min(v, default=0.0)) / 2 for v in (xs, ys))
    half_x, half_y = unit * (right - left) / 2, unit * (bottom - top) / 2
    return (
        Scale(low=middle_x - half_x, high=middle_x + half_x, start=left, end=right),
        Scale(low=middle_y - half_y, high=middle_y + half_y, start=bottom, end=top),
    )


def _radii(rows: Sequence[dict[str, Any]], size: str | None) -> list[float]:
    counts = [float(row[size]) if size and is_number(row[size]) else 0.0 for row in rows]
    largest = max(counts, default=0.0) or 1.0
    return [max(_SMALLEST, _LARGEST * (max(count, 0.0) / largest) ** 0.5) for count in counts]


def _colour(row: dict[str, Any], category: str | None) -> str:
    return CATEGORY_COLOURS.get(str(row[category]), COLOURS["grey"]) if category else COLOURS["blue"]


def _labels(bubbles: Sequence[tuple[float, float, float, str]], named: int, width: float) -> list[str]:
    """Return the first labels beside, above or below their bubble, leaving out those that would cover another.

    A place that covers no other bubble is preferred.
    """
    parts: list[str] = []
    taken: list[Box] = []
    discs = [(at - r, up - r, at + r, up + r) for at, up, r, _ in bubbles]
    for index, (at, up, radius, label) in enumerate(bubbles[:named]):
        content = shorten(label, 16)
        boxes = [
            box for box in _places(at, up, radius, _CHARACTER * len(content)) if box[0] >= 2 and box[2] <= width - 2
        ]
        free = [box for box in boxes if not any(_overlap(box, other) for other in taken)]
        others = discs[:index] + discs[index + 1 :]
        clear = [box for box in free if not any(_overlap(box, disc) for disc in others)]
        if chosen := (clear or free)[:1]:
            taken += chosen
            parts.append(text(chosen[0][0], chosen[0][3] - 2, content, weight="600"))
    return parts


def _places(at: float, up: float, radius: float, length: float) -> list[Box]:
    """Return where a label may stand: right, left, above, below."""
    gap = radius + 3
    corners = (
        (at + gap, up - _LINE / 2),
        (at - gap - length, up - _LINE / 2),
        (at - length / 2, up - gap - _LINE),
        (at - length / 2, up + gap),
    )
    return [(left, top, left + length, top + _LINE) for left, top in corners]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _legend(kinds: Sequence[str], top: float, width: float) -> tuple[list[str], float]:
    """Return the legend, wrapped to the width, and the height of the whole picture."""
    parts: list[str] = []
    place, down = 8.0, top + 4
    for kind in kinds:
        name = kind.replace("_", " ")
        length = 26 + _CHARACTER * len(name)
        if place > 8.0 and place + length > width:
            place, down = 8.0, down + _LEGEND_ROW
        parts.append(element("rect", x=place, y=down, width=9, height=9, fill=CATEGORY_COLOURS[kind]))
        parts.append(text(place + 13, down + 9, name))
        place += length
    return parts, down + (_LEGEND_ROW if kinds else 0.0) + 2
