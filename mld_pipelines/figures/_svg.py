"""Small deterministic SVG documents: no scripts, no external references, no randomness."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "COLOURS",
    "document",
    "element",
    "is_number",
    "number",
    "shorten",
    "text",
    "titled",
    "to_data_uri",
    "to_markdown",
]

#: Mid-tones that keep ≥ 3 : 1 contrast (text 4 : 1) on white and on the dark page alike, so that one picture fits
#: both themes of the Dagster UI: an image in a page cannot see which theme the page has.
COLOURS = {
    "text": "#747a82",
    "grid": "#8c939c",
    "blue": "#3f7cc8",
    "orange": "#c2620c",
    "green": "#2f8a4e",
    "red": "#d2453f",
    "violet": "#8a67c9",
    "grey": "#858b93",
}
_FONT = "system-ui,sans-serif"


def document(parts: Iterable[str], *, width: float, height: float, title: str, description: str) -> str:
    """Return a complete SVG document.

    Args:
        parts: Elements in painting order.
        width: Width in user units (pixels at scale 1).
        height: Height.
        title: Accessible name.
        description: What the picture shows, in a sentence with the numbers that matter.
    """
    size = {"width": number(width), "height": number(height), "viewBox": f"0 0 {number(width)} {number(height)}"}
    label = {"role": "img", "aria-label": title, "font-family": _FONT, "font-size": "11", "fill": COLOURS["text"]}
    attributes = _attributes({"xmlns": "http://www.w3.org/2000/svg"} | size | label)
    return f"<svg{attributes}><title>{_clean(title)}</title><desc>{_clean(description)}</desc>{''.join(parts)}</svg>"


def element(name: str, content: str | None = None, **attributes: str | float | None) -> str:
    """Return one element; `_` in attribute names becomes `-`, None leaves an attribute out.

    Args:
        name: Tag.
        content: Text content, escaped.
        attributes: Attributes; floats are rounded to a tenth.
    """
    values = {
        key.rstrip("_").replace("_", "-"): value if isinstance(value, str) else number(value)
        for key, value in attributes.items()
        if value is not None
    }
    body = "/>" if content is None else f">{_clean(content)}</{name}>"
    return f"<{name}{_attributes(values)}{body}"


def text(x: float, y: float, content: str, *, anchor: str = "start", weight: str | None = None) -> str:
    """Return a text element; it inherits the text colour of the document."""
    return element(
        "text",
        content,
        x=x,
        y=y,
        text_anchor=None if anchor == "start" else anchor,
        font_weight=weight,
    )


def titled(part: str, title: str) -> str:
    """Return an element that shows a text while the pointer rests on it; it needs no script."""
    return f"<g><title>{_clean(title)}</title>{part}</g>"


def number(value: float) -> str:
    """Return a coordinate with at most one decimal: `12`, `3.5`; never `-0`.

    Raises:
        InvalidInputError: The value is not finite.
    """
    if not math.isfinite(value):
        raise InvalidInputError(f"coordinate {value!r} is not finite; no figure was made.")
    rounded = round(float(value), 1) + 0.0
    return str(int(rounded)) if rounded.is_integer() else str(rounded)


def is_number(value: object) -> bool:
    """Whether a value can be drawn: an int or a finite float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def shorten(label: object, limit: int) -> str:
    """Return a label of at most `limit` characters."""
    content = str(label)
    return content if len(content) <= limit else content[: limit - 1] + "…"


def to_data_uri(svg: str) -> str:
    """Return the document as a base64 data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def to_markdown(svg: str, alt: str) -> str:
    """Return a Markdown image with the document inside, for Dagster metadata."""
    safe = "".join(" " if character in "[]\n\r" else character for character in alt)
    return f"![{safe}]({to_data_uri(svg)})"


def _attributes(values: Mapping[str, str]) -> str:
    return "".join(f" {name}={quoteattr(_printable(value))}" for name, value in values.items())


def _clean(content: str) -> str:
    return escape(_printable(content))


def _printable(content: str) -> str:
    """XML 1.0 has no way to write control characters, surrogates and non-characters."""
    return "".join(
        c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else " " for c in content
    )
