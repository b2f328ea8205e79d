"""HTML that cannot be broken by what it shows: text is escaped unless it was made here."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Markup", "join", "svg", "tag"]

_VOID = {"meta", "br", "hr"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *content: object, **attributes: str | None) -> Markup:
    """Return an element; content that is not `Markup` is escaped, None is left out.

    Args:
        name: Tag.
        content: Markup, text, numbers, or lists of them.
        attributes: `_` becomes `-` and a trailing one is dropped; values are escaped, None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_printable(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Return parts one after another, escaped unless they are markup."""
    return Markup("".join(_html(part) for part in parts))


def svg(picture: str) -> Markup:
    """Return a picture of `mld_pipelines.figures` as markup: those functions escape what they draw."""
    return Markup(picture)


def _html(part: object) -> str:
    if part is None:
        return ""
    if isinstance(part, Markup):
        return part
    if isinstance(part, (list, tuple)):
        return join(part)
    return escape(_printable(str(part)))


def _printable(text: str) -> str:
    """HTML has no way to write most control characters and surrogates."""
    return "".join(c if (c >= " " and not "\ud800" <= c <= "\udfff") or c in "\t\n" else "\ufffd" for c in text)
