from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SVG = "{http://www.w3.org/2000/svg}"


class Picture:
    """A parsed SVG: elements by tag, path coordinates by class, texts."""

    def __init__(self, svg: str) -> None:
        self.root = ET.fromstring(svg)

    def all(self, tag: str) -> list[ET.Element]:
        return self.root.findall(f".//{SVG}{tag}")

    def texts(self) -> list[str]:
        return [element.text or "" for element in self.all("text")]

    def position(self, content: str) -> tuple[float, float]:
        (found,) = [element for element in self.all("text") if element.text == content]
        return float(found.attrib["x"]), float(found.attrib["y"])

    def path(self, kind: str) -> list[tuple[float, float]]:
        data = [p.attrib["d"] for p in self.all("path") if p.attrib.get("class") == kind]
        return [(float(x), float(y)) for x, y in re.findall(r"[ML]?(-?[\d.]+) (-?[\d.]+)", " ".join(data))]

    def runs(self, kind: str) -> int:
        return sum(p.attrib["d"].count("M") for p in self.all("path") if p.attrib.get("class") == kind)

    def bounds(self) -> tuple[float, float]:
        return float(self.root.attrib["width"]), float(self.root.attrib["height"])


@pytest.fixture
def parse() -> Callable[[str], Picture]:
    return Picture
