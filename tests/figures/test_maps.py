"""Bubbles and points land where they belong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mld_pipelines.figures import CATEGORY_COLOURS, COLOURS, agreement_diagram, bubble_map

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.figures.conftest import Picture

CODES = pl.DataFrame(
    {
        "code": ["E001", "E002", "E003"],
        "x": [0.0, 3.0, 0.0],
        "y": [0.0, 0.0, 1.0],
        "n": [400, 100, 0],
        "category": ["hotspot", "stable_coverage", "hotspot"],
        "note": ["bad", "good", "<i>"],
    }
)


def circles(picture: Picture) -> list[tuple[float, float, float, str]]:
    return [
        (float(c.attrib["cx"]), float(c.attrib["cy"]), float(c.attrib["r"]), c.attrib["fill"])
        for c in picture.all("circle")
    ]


def draw(frame: pl.DataFrame = CODES, **options: object) -> str:
    given_options = {"size": "n", "category": "category", "note": "note", "title": "t"} | options
    return bubble_map(frame, x="x", y="y", label="code", **given_options)  # type: ignore[arg-type]


def test_both_axes_have_one_scale(parse: Callable) -> None:
    by_size = sorted(circles(parse(draw())), key=lambda circle: -circle[2])
    (x0, y0, *_), (x1, y1, *_), (x2, y2, *_) = by_size
    assert x1 - x0 == pytest.approx(3 * (y0 - y2), abs=0.4)
    assert (y1, x2) == (y0, x0)


def test_areas_follow_the_counts_and_an_empty_code_stays_visible(parse: Callable) -> None:
    radii = sorted((circle[2] for circle in circles(parse(draw()))), reverse=True)
    assert radii[0] == pytest.approx(2 * radii[1], abs=0.1)
    assert radii[2] >= 2.0


def test_small_bubbles_lie_on_top_of_large_ones(parse: Callable) -> None:
    radii = [circle[2] for circle in circles(parse(draw()))]
    assert radii == sorted(radii, reverse=True)


def test_colours_and_legend_are_those_of_the_categories_present(parse: Callable) -> None:
    picture = parse(draw())
    assert {circle[3] for circle in circles(picture)} == {
        CATEGORY_COLOURS["hotspot"],
        CATEGORY_COLOURS["stable_coverage"],
    }
    assert {"hotspot", "stable coverage"} <= set(picture.texts())
    assert "critical hotspot" not in picture.texts()


def test_every_bubble_says_its_note_without_a_script(parse: Callable) -> None:
    titles = [title.text for title in parse(draw()).all("title")]
    assert {"bad", "good", "<i>"} <= set(titles)


def test_codes_without_a_place_are_left_out(parse: Callable) -> None:
    frame = CODES.with_columns(pl.when(pl.col("code") == "E002").then(None).otherwise(pl.col("x")).alias("x"))
    assert len(circles(parse(draw(frame)))) == 2


@pytest.mark.parametrize("count", [1, 5])
def test_codes_in_one_place_are_drawn_in_the_middle(parse: Callable, count: int) -> None:
    frame = pl.DataFrame({"code": [f"E{i}" for i in range(count)], "x": [2.0] * count, "y": [7.0] * count})
    picture = parse(bubble_map(frame, x="x", y="y", label="code", title="t", width=400, height=300))
    assert {(x, y) for x, y, *_ in circles(picture)} == {(200.0, 163.0)}


def test_labels_do_not_cover_each_other(parse: Callable) -> None:
    frame = pl.DataFrame({"code": [f"E{i:03d}" for i in range(8)], "x": [0.0] * 7 + [9.0], "y": [0.0] * 7 + [4.0]})
    picture = parse(bubble_map(frame, x="x", y="y", label="code", title="t"))
    shown = [t for t in picture.texts() if t.startswith("E")]
    assert 1 <= len(shown) <= 3
    assert "E000" in shown


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(0, 10**6), st.text(max_size=20)), max_size=20
    )
)
def test_everything_stays_inside_and_every_label_stays_text(rows: list[tuple[float, float, int, str]]) -> None:
    schema = {"x": pl.Float64, "y": pl.Float64, "n": pl.Int64, "code": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    root = ET.fromstring(bubble_map(frame, x="x", y="y", label="code", size="n", title="t", width=300, height=200))
    for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
        x, y, r = (float(circle.attrib[name]) for name in ("cx", "cy", "r"))
        assert r <= x <= 300 - r
        assert r <= y <= 200 - r
        assert all(map(math.isfinite, (x, y, r)))


WINDOWS = pl.DataFrame(
    {"name": ["a", "b"], "true": [0.1, 0.2], "estimated": [0.1, 0.4], "low": [0.0, 0.3], "high": [0.2, 0.5]}
)


def test_a_right_estimate_lies_on_the_diagonal(parse: Callable) -> None:
    points = circles(parse(agreement_diagram(WINDOWS, title="t", size=300)))
    picture = parse(agreement_diagram(WINDOWS, title="t", size=300))
    ((x0, y0), (x1, y1)) = [
        (float(a), float(b))
        for p in picture.all("path")
        if "stroke-dasharray" in p.attrib
        for a, b in [part.split(" ") for part in p.attrib["d"].removeprefix("M").split("L")]
    ]
    x, y, *_ = points[0]
    assert (x - x0) / (x1 - x0) == pytest.approx((y0 - y) / (y0 - y1), abs=0.005)
    x, y, *_ = points[1]
    assert (y0 - y) / (y0 - y1) == pytest.approx(2 * (x - x0) / (x1 - x0), abs=0.01)


def test_the_whisker_runs_between_the_bounds(parse: Callable) -> None:
    picture = parse(agreement_diagram(WINDOWS, low="low", high="high", title="t", size=300))
    (_, y, *_), _ = circles(picture)
    first = next(p.attrib["d"] for p in picture.all("path") if p.attrib.get("class") == "interval")
    start, end = first.split(" ")[1].split("V")
    assert float(start) - y == pytest.approx(y - float(end), abs=0.2)


def test_kinds_are_coloured_and_named(parse: Callable) -> None:
    frame = WINDOWS.with_columns(kind=pl.Series(["random", "by class"]))
    picture = parse(agreement_diagram(frame, kind="kind", title="t"))
    assert [circle[3] for circle in circles(picture)] == [COLOURS["blue"], COLOURS["orange"]]
    assert {"random", "by class"} <= set(picture.texts())


def test_points_say_their_numbers(parse: Callable) -> None:
    titles = [
        t.text for t in parse(agreement_diagram(WINDOWS, low="low", high="high", name="name", title="t")).all("title")
    ]
    assert "b: estimated 40.0 % (30.0 % … 50.0 %), true 20.0 %" in titles


def test_the_description_is_the_mean_absolute_difference(parse: Callable) -> None:
    (description,) = parse(agreement_diagram(WINDOWS, title="t")).all("desc")
    assert description.text == "2 windows; mean absolute difference 0.1."


def test_windows_without_truth_are_left_out(parse: Callable) -> None:
    frame = WINDOWS.with_columns(pl.Series("true", [None, 0.2]))
    assert len(circles(parse(agreement_diagram(frame, title="t")))) == 1
