"""What holds for every figure."""

from __future__ import annotations

import base64
import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.figures import (
    CATEGORY_COLOURS,
    COLOURS,
    agreement_diagram,
    bar_chart,
    bubble_map,
    heat_map,
    histogram,
    line_chart,
    reliability_diagram,
    sparkline,
    to_data_uri,
    to_markdown,
)
from mld_pipelines.figures._svg import document, text

if TYPE_CHECKING:
    from collections.abc import Callable

DAYS = [date(2026, 5, 1) + timedelta(days=k) for k in range(14)]


def _days() -> pl.DataFrame:
    rate = [0.05 + 0.02 * k for k in range(14)]
    return pl.DataFrame(
        {"day": DAYS, "p": rate, "lo": [r - 0.03 for r in rate], "hi": [r + 0.03 for r in rate], "true": rate[::-1]}
    )


def _cells() -> pl.DataFrame:
    """14 days × 20 codes."""
    rows = [(d, f"E{c:03d}", float(k - c) / 3, c == 5) for k, d in enumerate(DAYS) for c in range(20)]
    return pl.DataFrame(
        rows, schema={"day": pl.Date, "code": pl.String, "delta": pl.Float64, "few": pl.Boolean}, orient="row"
    )


def _windows() -> pl.DataFrame:
    rows = [
        (f"w{k}", 0.01 * k, 0.012 * k, 0.01 * k - 0.01, 0.02 * k, "random" if k % 2 else "class") for k in range(12)
    ]
    return pl.DataFrame(rows, schema=["name", "true", "estimated", "low", "high", "kind"], orient="row")


def _codes() -> pl.DataFrame:
    kinds = list(CATEGORY_COLOURS)
    rows = [(f"E{k:03d}", float(k % 5), float(k // 5), 10 * k, kinds[k % 6]) for k in range(40)]
    return pl.DataFrame(rows, schema=["code", "x", "y", "n", "category"], orient="row")


def _figures() -> dict[str, str]:
    shares = pl.DataFrame({"category": ["stable_coverage", "hotspot"], "ratio": [0.8, 0.2]})
    bins = pl.DataFrame({"predicted": [0.1, 0.7], "observed": [0.2, 0.6], "counts": [90, 10]})
    return {
        "bars": bar_chart(shares, label="category", value="ratio", title="Issue categories"),
        "line": line_chart(
            _days(), x="day", y="p", low="lo", high="hi", dots="true", reference=0.1, title="Error rate"
        ),
        "heat": heat_map(_cells(), x="day", y="code", value="delta", masked="few", title="Error map"),
        "spark": sparkline([1.0, None, 3.0], title="Volume"),
        "histogram": histogram([3, 1, 0], edges=[0, 1, 2, 3], reference=[1, 1, 1], title="Error probability"),
        "reliability": reliability_diagram(bins, title="Calibration"),
        "agreement": agreement_diagram(
            _windows(), low="low", high="high", kind="kind", name="name", title="Estimated and true"
        ),
        "bubbles": bubble_map(_codes(), x="x", y="y", label="code", size="n", category="category", title="Map"),
    }


EMPTY = {
    "bars": lambda: bar_chart(pl.DataFrame(schema={"a": pl.String, "b": pl.Float64}), label="a", value="b", title="t"),
    "line": lambda: line_chart(_days().clear(), x="day", y="p", low="lo", high="hi", dots="true", title="t"),
    "heat": lambda: heat_map(_cells().clear(), x="day", y="code", value="delta", masked="few", title="t"),
    "spark": lambda: sparkline([], title="t"),
    "histogram": lambda: histogram([0, 0], edges=[0, 1, 2], title="t"),
    "reliability": lambda: reliability_diagram(
        pl.DataFrame(schema={"predicted": pl.Float64, "observed": pl.Float64, "counts": pl.Int64}), title="t"
    ),
    "agreement": lambda: agreement_diagram(_windows().clear(), low="low", high="high", kind="kind", title="t"),
    "bubbles": lambda: bubble_map(_codes().clear(), x="x", y="y", label="code", size="n", title="t"),
}

NAMES = ["bars", "line", "heat", "spark", "histogram", "reliability", "agreement", "bubbles"]


@pytest.mark.parametrize("name", NAMES)
def test_equal_inputs_give_equal_text(name: str) -> None:
    assert _figures()[name] == _figures()[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_name_and_a_description(name: str, parse: Callable) -> None:
    picture = parse(_figures()[name])
    assert picture.root.attrib["role"] == "img"
    assert picture.root.attrib["aria-label"] == picture.all("title")[0].text
    assert any(character.isdigit() for character in picture.all("desc")[0].text)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_executed_or_fetched(name: str) -> None:
    svg = _figures()[name].replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"script|href|url\(|http|@import|on\w+=|foreignObject", svg)


@pytest.mark.parametrize("name", NAMES)
def test_figures_fit_into_metadata(name: str) -> None:
    assert len(to_data_uri(_figures()[name])) < 10_000


def test_the_longest_line_chart_still_fits() -> None:
    long = pl.concat([_days()] * 40)
    svg = line_chart(long, x="day", y="p", low="lo", high="hi", dots="true", title="t")
    assert len(to_data_uri(svg)) < 14_000


@pytest.mark.parametrize("name", list(EMPTY))
def test_an_empty_frame_says_so(name: str, parse: Callable) -> None:
    picture = parse(EMPTY[name]())
    assert "no data" in picture.texts() or name == "spark"
    assert "ata" in picture.all("desc")[0].text or "0 values" in picture.all("desc")[0].text


@given(st.text(max_size=40))
def test_any_label_stays_text(label: str) -> None:
    from xml.etree import ElementTree as ET

    frame = pl.DataFrame({"a": [label], "b": [1.0]})
    root = ET.fromstring(bar_chart(frame, label="a", value="b", title=label))
    assert {element.tag.split("}")[1] for element in root.iter()} <= {"svg", "title", "desc", "text", "rect"}


def test_markup_in_a_label_is_escaped(parse: Callable) -> None:
    frame = pl.DataFrame({"a": ["<b>&\"'</b>"], "b": [1.0]})
    svg = bar_chart(frame, label="a", value="b", title='<script>alert("1")</script>')
    assert "<script" not in svg
    picture = parse(svg)
    assert "<b>&\"'</b>" in picture.texts()
    assert picture.root.attrib["aria-label"] == '<script>alert("1")</script>'


def test_data_uri_holds_the_document() -> None:
    svg = document([text(1, 2, "é")], width=10, height=10, title="t", description="d")
    prefix, payload = to_data_uri(svg).split(",")
    assert prefix == "data:image/svg+xml;base64"
    assert base64.b64decode(payload).decode() == svg


def test_markdown_alt_text_cannot_end_the_image() -> None:
    assert to_markdown("<svg/>", "a]b\n(c").startswith("![a b (c](data:")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InvalidInputError, match="nope"):
        line_chart(_days(), x="day", y="nope", title="t")


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("name", "colour"), COLOURS.items())
@pytest.mark.parametrize("page", ["#ffffff", "#0f1318"])
def test_colours_can_be_read_on_light_and_dark_pages(name: str, colour: str, page: str) -> None:
    """WCAG 2.2: 3 : 1 for graphics; text gets 4 : 1."""
    light, dark = sorted((_luminance(colour), _luminance(page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= (4.0 if name == "text" else 3.0)
