"""Numbers land where they belong."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.figures import (
    CATEGORY_COLOURS,
    COLOURS,
    bar_chart,
    heat_map,
    histogram,
    line_chart,
    reliability_diagram,
    sparkline,
)
from mld_pipelines.figures._scale import fit_scale, tick_labels
from mld_pipelines.figures._svg import number

if TYPE_CHECKING:
    from collections.abc import Callable


def test_bar_lengths_are_proportional_to_their_values(parse: Callable) -> None:
    frame = pl.DataFrame({"c": ["a", "b", "d"], "v": [0.1, 0.4, 0.0]})
    bars = parse(bar_chart(frame, label="c", value="v", title="t")).all("rect")
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths[1] == pytest.approx(4 * widths[0], abs=0.3)
    assert widths[2] == 0


def test_bars_say_their_value_on_their_own_line(parse: Callable) -> None:
    frame = pl.DataFrame({"c": ["a", "b"], "v": [0.1234, 0.4]})
    picture = parse(bar_chart(frame, label="c", value="v", title="t"))
    assert picture.position("12.3 %")[1] == picture.position("a")[1]
    assert picture.position("40.0 %")[1] == picture.position("b")[1]


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0.0, 0.2, 0.4], ["0 %", "20 %", "40 %"]),
        ([0.0, 0.005, 0.01], ["0.0 %", "0.5 %", "1.0 %"]),
        ([0.0, 0.0002], ["0.00 %", "0.02 %"]),
        ([i * 0.1 for i in range(4)], ["0 %", "10 %", "20 %", "30 %"]),
    ],
)
def test_the_percentages_of_an_axis_have_as_many_decimals_each(ticks: list[float], labels: list[str]) -> None:
    assert tick_labels(ticks, is_share=True) == labels


def test_categories_keep_their_colour(parse: Callable) -> None:
    frame = pl.DataFrame({"c": ["critical_hotspot_ratio", "stable_coverage"], "v": [0.1, 0.9]})
    bars = parse(bar_chart(frame, label="c", value="v", title="t")).all("rect")
    assert [bar.attrib["fill"] for bar in bars] == [
        CATEGORY_COLOURS["critical_hotspot"],
        CATEGORY_COLOURS["stable_coverage"],
    ]


def test_rows_beyond_the_limit_are_counted(parse: Callable) -> None:
    frame = pl.DataFrame({"c": [f"E{k:03d}" for k in range(25)], "v": [1.0] * 25})
    picture = parse(bar_chart(frame, label="c", value="v", title="t", is_share=False))
    assert len(picture.all("rect")) == 20
    assert "and 5 more" in picture.texts()


def test_a_missing_value_is_not_a_bar_of_zero(parse: Callable) -> None:
    frame = pl.DataFrame({"c": ["a", "b"], "v": [None, float("nan")]}, strict=False)
    picture = parse(bar_chart(frame, label="c", value="v", title="t"))
    assert picture.all("rect") == []
    assert picture.texts().count("no data") == 2


def _frame(**columns: list) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    return pl.DataFrame({"day": [date(2026, 5, 1) + timedelta(days=k) for k in range(count)], **columns})


def test_line_rises_with_its_values_on_even_steps(parse: Callable) -> None:
    points = parse(line_chart(_frame(p=[0.0, 0.1, 0.2]), x="day", y="p", title="t")).path("line")
    xs, ys = zip(*points, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert ys[0] > ys[2]


def test_dots_and_line_share_one_scale(parse: Callable) -> None:
    frame = _frame(p=[0.1, 0.3], true=[0.3, 0.1])
    picture = parse(line_chart(frame, x="day", y="p", dots="true", title="t"))
    line, dots = picture.path("line"), picture.path("dots")
    assert (line[0][1], line[1][1]) == (dots[1][1], dots[0][1])
    assert [point[0] for point in line] == [point[0] for point in dots]


def test_the_axis_says_where_a_value_lies(parse: Callable) -> None:
    picture = parse(line_chart(_frame(p=[0.0, 0.2]), x="day", y="p", title="t"))
    assert picture.path("line")[1][1] == pytest.approx(picture.position("20 %")[1] - 4, abs=0.2)
    assert picture.path("line")[0][1] == pytest.approx(picture.position("0 %")[1] - 4, abs=0.2)


def test_the_band_runs_between_its_bounds(parse: Callable) -> None:
    frame = _frame(p=[0.2, 0.2], lo=[0.1, 0.1], hi=[0.4, 0.4])
    picture = parse(line_chart(frame, x="day", y="p", low="lo", high="hi", title="t"))
    line = picture.path("line")[0][1]
    ys = sorted({y for _, y in picture.path("band")})
    assert len(ys) == 2
    assert line - ys[0] == pytest.approx(2 * (ys[1] - line), abs=0.3)


def test_a_null_interrupts_line_and_band(parse: Callable) -> None:
    frame = _frame(p=[0.1, None, 0.3, 0.3], lo=[0.0, None, 0.2, 0.2], hi=[0.2, None, 0.4, 0.4])
    picture = parse(line_chart(frame, x="day", y="p", low="lo", high="hi", title="t"))
    assert picture.runs("line") == 2
    assert picture.runs("band") == 2


def test_a_window_of_too_few_units_is_a_grey_dot_off_the_line(parse: Callable) -> None:
    frame = _frame(p=[0.1, 0.9, 0.1], few=[False, True, False])
    picture = parse(line_chart(frame, x="day", y="p", weak="few", title="t"))
    assert len(picture.path("weak")) == 1
    assert len(picture.path("line")) == picture.runs("line") == 2


def test_the_reference_lies_between_lower_and_higher_values(parse: Callable) -> None:
    picture = parse(line_chart(_frame(p=[0.0, 0.2]), x="day", y="p", reference=0.1, title="t"))
    (dashed,) = [p for p in picture.all("path") if "stroke-dasharray" in p.attrib]
    at = float(dashed.attrib["d"].split(" ")[1].split("H")[0])
    low, high = (point[1] for point in picture.path("line"))
    assert at == pytest.approx((low + high) / 2, abs=0.1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), max_size=60))
def test_a_sparkline_never_leaves_its_box(parse: Callable, values: list[float | None]) -> None:

    picture = parse(sparkline(values, title="t"))
    width, height = picture.bounds()
    assert all(0 <= x <= width and 0 <= y <= height for x, y in picture.path("line"))
    assert len(picture.path("line")) == sum(value is not None for value in values)


def test_histogram_columns_stand_on_the_axis_with_proportional_heights(parse: Callable) -> None:
    bars = parse(histogram([10, 0, 40], edges=[0, 1, 2, 3], title="t")).all("rect")
    heights = [float(bar.attrib["height"]) for bar in bars]
    feet = {round(float(bar.attrib["y"]) + float(bar.attrib["height"]), 1) for bar in bars}
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.3)
    assert len(feet) == 1


def test_a_reference_histogram_is_scaled_to_the_same_total(parse: Callable) -> None:
    same = parse(histogram([10, 30], edges=[0, 1, 2], reference=[100, 300], title="t"))
    (outline,) = [p for p in same.all("path") if p.attrib.get("class") == "reference"]
    tops = [float(part.split("H")[0]) for part in outline.attrib["d"].split("V")[1:]]
    assert tops == pytest.approx([float(bar.attrib["y"]) for bar in same.all("rect")], abs=0.11)


def test_a_histogram_with_wrong_edges_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 counts, 2 edges"):
        histogram([1, 2], edges=[0, 1], title="t")


def test_a_perfectly_calibrated_bin_lies_on_the_diagonal(parse: Callable) -> None:
    frame = pl.DataFrame({"predicted": [0.25, 0.75], "observed": [0.25, 0.5], "counts": [100, 25]})
    picture = parse(reliability_diagram(frame, title="t"))
    (diagonal,) = [p.attrib["d"] for p in picture.all("path") if "stroke-dasharray" in p.attrib]
    start, end = (tuple(map(float, point.split(" "))) for point in diagonal[1:].split("L"))
    on, below = ((float(c.attrib["cx"]), float(c.attrib["cy"])) for c in picture.all("circle"))
    assert on == pytest.approx((start[0] + 0.25 * (end[0] - start[0]), start[1] + 0.25 * (end[1] - start[1])), abs=0.11)
    assert below[1] == pytest.approx((start[1] + end[1]) / 2, abs=0.11)
    # expected calibration error by hand: 25/125 · 0.25
    assert "0.05" in picture.all("desc")[0].text


def test_the_area_of_a_reliability_point_follows_its_units(parse: Callable) -> None:
    frame = pl.DataFrame({"predicted": [0.2, 0.8], "observed": [0.2, 0.8], "counts": [400, 100]})
    large, small = (float(c.attrib["r"]) for c in parse(reliability_diagram(frame, title="t")).all("circle"))
    assert (large - 2) == pytest.approx(2 * (small - 2))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_an_axis_holds_every_value_and_its_ticks_are_inside(values: list[float]) -> None:
    scale = fit_scale(values, start=100.0, end=0.0)
    assert scale.low <= min(values)
    assert scale.high >= max(values) * (1 - 1e-12)
    assert 1 <= len(scale.ticks()) <= 8
    assert all(scale.low - 1e-6 <= tick <= scale.high * (1 + 1e-9) for tick in scale.ticks())


def test_coordinates_are_short_and_finite() -> None:
    assert [number(v) for v in (1.0, 2.25, -0.01, 3.14159)] == ["1", "2.2", "0", "3.1"]
    with pytest.raises(InvalidInputError, match="not finite"):
        number(float("nan"))


def _cells(parse: Callable, svg: str, colour: str) -> set[tuple[float, float]]:
    import re

    data = " ".join(p.attrib["d"] for p in parse(svg).all("path") if p.attrib["fill"] == COLOURS[colour])
    return {(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)h", data)}


def test_cells_lie_on_the_line_of_their_label_in_the_column_of_their_day(parse: Callable) -> None:
    frame = pl.DataFrame({"day": [1, 2, 1, 2], "code": ["a", "a", "b", "b"], "delta": [5.0, -1.0, -2.0, 3.0]})
    svg = heat_map(frame, x="day", y="code", value="delta", title="t")
    red, blue = _cells(parse, svg, "red"), _cells(parse, svg, "blue")
    line = {name: parse(svg).position(name)[1] - 11 for name in ("a", "b")}
    first, second = sorted({x for x, _ in red | blue})
    assert red == {(first, line["a"]), (second, line["b"])}
    assert blue == {(second, line["a"]), (first, line["b"])}


def test_masked_cells_are_grey_and_do_not_set_the_scale(parse: Callable) -> None:
    frame = pl.DataFrame({"day": [1, 1], "code": ["a", "b"], "delta": [90.0, 2.0], "few": [True, False]})
    svg = heat_map(frame, x="day", y="code", value="delta", masked="few", title="t")
    assert len(_cells(parse, svg, "grey")) == 1
    assert any("up to 2;" in content for content in parse(svg).texts())
    opacity = [p.attrib["fill-opacity"] for p in parse(svg).all("path") if p.attrib["fill"] == COLOURS["red"]]
    assert opacity == ["1"]


def test_the_codes_that_moved_most_come_first(parse: Callable) -> None:
    frame = pl.DataFrame(
        {"day": [1] * 30, "code": [f"E{k:02d}" for k in range(30)], "delta": [float(k) for k in range(30)]}
    )
    picture = parse(heat_map(frame, x="day", y="code", value="delta", title="t", limit=3))
    assert [content for content in picture.texts() if content.startswith("E")] == ["E29", "E28", "E27"]
