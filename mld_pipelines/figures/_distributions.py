"""Distributions: histogram of counts, reliability of probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.figures._frame import check_columns
from mld_pipelines.figures._scale import Scale, fit_scale, plain, tick_labels
from mld_pipelines.figures._svg import COLOURS, document, element, is_number, number, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

__all__ = ["histogram", "reliability_diagram"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 26.0, 22.0


def histogram(
    counts: Sequence[int],
    *,
    edges: Sequence[float],
    title: str,
    reference: Sequence[int] | None = None,
    width: float = 420.0,
    height: float = 180.0,
) -> str:
    """Draw counts over the bins between edges; a reference of another size is scaled to the same total.

    Args:
        counts: B counts.
        edges: B + 1 rising edges; bins are drawn with equal width.
        title: Title.
        reference: B counts drawn as an outline.
        width: Width in pixels.
        height: Height in pixels.

    Raises:
        InvalidInputError: Lengths do not fit.
    """
    if len(edges) != len(counts) + 1 or (reference is not None and len(reference) != len(counts)):
        raise InvalidInputError(
            f"histogram has {len(counts)} counts, {len(edges)} edges and "
            f"{'no' if reference is None else len(reference)} reference counts; it needs one edge more than counts. "
            "Nothing was drawn."
        )
    total = sum(counts)
    scaled = _rescale(reference, total) if reference is not None else []
    vertical = fit_scale([float(count) for count in [*counts, *scaled]], start=height - _BOTTOM, end=_TOP)
    step = (width - _LEFT - _RIGHT) / max(len(counts), 1)
    parts = [text(8, 15, title, weight="600"), *_frame(vertical, width)]
    parts += [_column(index, count, step, vertical) for index, count in enumerate(counts) if count]
    if any(scaled):
        parts.append(_outline(scaled, step, vertical))
    for index in sorted({0, len(counts) // 2, len(counts)}):
        parts.append(text(_LEFT + index * step, height - 6, plain(edges[index]), anchor="middle"))
    if not total:
        parts.append(text(width / 2, height / 2, "no data", anchor="middle"))
    description = f"{total} values in {len(counts)} bins from {plain(edges[0])} to {plain(edges[-1])}."
    return document(parts, width=width, height=height, title=title, description=description)


def reliability_diagram(
    frame: pl.DataFrame,
    *,
    title: str,
    predicted: str = "predicted",
    observed: str = "observed",
    counts: str = "counts",
    low: str | None = None,
    high: str | None = None,
    size: float = 260.0,
) -> str:
    """Draw observed frequency over predicted probability, one point per bin, with the diagonal of perfect calibration.

    Args:
        frame: One row per bin; bins without units are left out.
        title: Title.
        predicted: Column of mean predicted probabilities.
        observed: Column of observed frequencies.
        counts: Column of units; the area of a point follows it.
        low: Column of the lower end of the observed frequency's interval.
        high: Column of the upper end.
        size: Width and height in pixels.
    """
    check_columns(frame, (predicted, observed, counts, low, high))
    rows = [row for row in frame.to_dicts() if row[counts] and is_number(row[predicted]) and is_number(row[observed])]
    horizontal = Scale(low=0.0, high=1.0, start=_LEFT, end=size - _RIGHT)
    vertical = Scale(low=0.0, high=1.0, start=size - _BOTTOM, end=_TOP)
    diagonal = f"M{number(horizontal(0))} {number(vertical(0))}L{number(horizontal(1))} {number(vertical(1))}"
    parts = [text(8, 15, title, weight="600"), *_frame(vertical, size, is_share=True)]
    parts.append(element("path", d=diagonal, stroke=COLOURS["grid"], stroke_dasharray="4 4", fill="none"))
    ends = {0.0: "middle", 0.5: "middle", 1.0: "end"}
    labels = zip(ends.items(), tick_labels(list(ends), is_share=True), strict=True)
    parts += [text(horizontal(v), size - 6, label, anchor=anchor) for (v, anchor), label in labels]
    largest = max((row[counts] for row in rows), default=1)
    for row in rows:
        at, up = horizontal(row[predicted]), vertical(row[observed])
        if low is not None and high is not None and is_number(row[low]) and is_number(row[high]):
            whisker = f"M{number(at)} {number(vertical(row[low]))}V{number(vertical(row[high]))}"
            parts.append(element("path", d=whisker, stroke=COLOURS["blue"]))
        radius = 2.0 + 4.0 * (row[counts] / largest) ** 0.5
        parts.append(element("circle", cx=at, cy=up, r=radius, fill=COLOURS["blue"]))
    if not rows:
        parts.append(text(size / 2, size / 2, "no data", anchor="middle"))
    units = sum(row[counts] for row in rows)
    gap = sum(row[counts] * abs(row[predicted] - row[observed]) for row in rows) / units if units else None
    description = "No data." if gap is None else f"{units} units; expected calibration error {plain(gap)}."
    return document(parts, width=size, height=size, title=title, description=description)


def _rescale(reference: Sequence[int], total: int) -> list[float]:
    whole = sum(reference)
    return [count * (total or whole) / whole for count in reference] if whole else [0.0] * len(reference)


def _column(index: int, count: int, step: float, vertical: Scale) -> str:
    top = vertical(count)
    return element("rect", x=_LEFT + index * step + 0.5, y=top, width=max(step - 1, 0.5),
                   height=vertical.start - top, fill=COLOURS["blue"])  # fmt: skip


def _outline(scaled: Sequence[float], step: float, vertical: Scale) -> str:
    data = f"M{number(_LEFT)} {number(vertical.start)}"
    for index, count in enumerate(scaled):
        data += f"V{number(vertical(count))}H{number(_LEFT + (index + 1) * step)}"
    return element("path", class_="reference", d=data, fill="none", stroke=COLOURS["orange"], stroke_width=1.5)


def _frame(vertical: Scale, width: float, *, is_share: bool = False) -> list[str]:
    parts = []
    ticks = vertical.ticks()
    for tick, label in zip(ticks, tick_labels(ticks, is_share=is_share), strict=True):
        at = vertical(tick)
        line = f"M{number(_LEFT)} {number(at)}H{number(width - _RIGHT)}"
        parts.append(element("path", d=line, stroke=COLOURS["grid"], stroke_opacity="0.35"))
        parts.append(text(_LEFT - 5, at + 4, label, anchor="end"))
    return parts
