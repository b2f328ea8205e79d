from __future__ import annotations

import re
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mld_pipelines.figures import GLANCE_LIMIT, glance


def drawn(markdown: str) -> tuple[str, ElementTree.Element]:
    """Return alt text and document of a Markdown image."""
    match = re.fullmatch(r"!\[([^\]\n]*)\]\(data:image/svg\+xml,([^\s()]*)\)", markdown)
    assert match
    return match.group(1), ElementTree.fromstring(unquote(match.group(2)))


def heights(document: ElementTree.Element) -> list[float]:
    path = document.find("{http://www.w3.org/2000/svg}path")
    assert path is not None
    return [float(height) for height in re.findall(r"v-([\d.]+)", path.attrib["d"])]


def test_bars_are_as_high_as_their_values() -> None:
    _, document = drawn(glance([1.0, 0.5, 0.25, 0.0], "shares"))
    assert heights(document) == pytest.approx([32, 16, 8, 0])


def test_gaps_and_negative_values_have_no_height() -> None:
    _, document = drawn(glance([None, float("nan"), -3.0, 2.0], "x"))
    assert heights(document) == pytest.approx([0, 0, 0, 32])


def test_nothing_to_draw_is_a_picture_too() -> None:
    assert heights(drawn(glance([], "nothing"))[1]) == []


@given(st.lists(st.one_of(st.none(), st.floats())), st.text())
def test_any_picture_is_valid_and_short_enough_to_stand_in_place(values: list[float | None], alt: str) -> None:
    markdown = glance(values, alt)
    label, _ = drawn(markdown.replace("\u2028", " ").replace("\u2029", " "))
    assert len(markdown) <= GLANCE_LIMIT
    assert len(label) <= 120
