"""A picture so small that it stands in a line of text: bars without axes, for the first look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import quote

from mld_pipelines.figures._svg import COLOURS, number

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GLANCE_LIMIT", "glance"]

GLANCE_LIMIT = 1000
"""Characters of Markdown that the Dagster UI shows in place (measured with 1.13.27); longer text needs a click."""

_MOST_BARS = 32
_HEIGHT = 32
_SAFE = " =:/-.~!*@,;"
"""Characters that a data URI in a Markdown link may hold as they are, apart from the space, which is encoded."""


def glance(values: Sequence[float | None], alt: str) -> str:
    """Return a Markdown image of small bars, at most `GLANCE_LIMIT` characters long.

    Args:
        values: One bar each, up to 32; None and values that are not finite leave a gap. Values below 0 count as 0.
        alt: What the bars are, with the number that matters; shown where pictures are not.
    """
    shown = [value if value is not None and math.isfinite(value) and value > 0 else 0.0 for value in values]
    bars = shown[:_MOST_BARS]
    label = "".join(" " if character in "[]()\n\r" else character for character in alt)[:120]
    return f"![{label}]({_data_uri(bars)})"


def _data_uri(bars: list[float]) -> str:
    step = 10 if len(bars) <= 12 else 5
    top = max(bars, default=0.0) or 1.0
    width = max(step * len(bars), step)
    heights = [number(bar / top * _HEIGHT) for bar in bars]
    path = "".join(f"M{step * i} {_HEIGHT}v-{height}h{step - 1}V{_HEIGHT}" for i, height in enumerate(heights))
    size = f"width='{4 * width}' height='{3 * _HEIGHT}' viewBox='0 0 {width} {_HEIGHT}'"
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} preserveAspectRatio='none'>"
        f"<path fill='{COLOURS['blue']}' d='{path}'/></svg>"
    )
    return "data:image/svg+xml," + quote(svg, safe=_SAFE.replace(" ", ""))
