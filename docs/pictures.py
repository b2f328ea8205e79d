"""The pictures of docs/concepts/: drawn from the stored measurements, the same bytes on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import CATEGORIES, Policy, categorise
from mld_pipelines.figures import (
    CATEGORY_COLOURS,
    COLOURS,
    agreement_diagram,
    bar_chart,
    bubble_map,
    line_chart,
    reliability_diagram,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Data = Mapping[str, Any]

__all__ = ["PEERS", "PICTURES", "SITUATIONS"]

#: The situations of docs/concepts/limits.md in its order, with their short names.
SITUATIONS = {
    "same": "same kind of inputs",
    "few-classes": "only 1, 8 and 9",
    "blank": "blank images",
    "negative": "negatives",
    "turned": "turned by 90°",
    "concept": "1 now means 7",
    "small-reference": "small reference",
    "no-errors": "reference without errors",
    "few-units": "window of 20",
}
#: Estimates of a window that the benchmark compares, with their short names.
PEERS = {
    "ours": "ours, no stress pass",
    "stress": "ours, with a stress pass",
    "temperature": "1 − confidence at T",
    "cbpe": "CBPE",
    "atc": "ATC",
    "doc": "DoC",
    "bbse": "BBSE",
}
_WORDS = {
    "stable_coverage": "stable",
    "operational_coverage": "operational",
    "recessive_hotspot": "undecided (recessive)",
    "hotspot": "hotspot",
    "critical_hotspot": "critical",
}
_MOST_UNITS, _MOST_ERRORS = 150, 45


def code_examples(data: Data) -> str:
    """Rows of digits: what lies nearest the centre of three codes; wrong predictions are named."""
    parts, top, side = [_text(8, 15, "What lies nearest the centre of three codes", weight=600)], 30.0, 32.0
    for row in data["digits"]["examples"]:
        words = f"{row['error_code']} · {_WORDS[row['category']]} · {row['errors']} of {row['counts']} wrong"
        parts.append(_text(8, top + 10, words, colour=CATEGORY_COLOURS[row["category"]], weight=600))
        for index, unit in enumerate(row["units"]):
            left = 8 + index * (side + 10)
            parts += _digit(unit["pixels"], left, top + 18, side / 8)
            if unit["label"] != unit["prediction"]:
                parts.append(_box(left - 1, top + 17, side + 2, CATEGORY_COLOURS["critical_hotspot"]))
                said = f"{unit['label']}→{unit['prediction']}"
                parts.append(_text(left + side / 2, top + side + 31, said, anchor="middle"))
        top += side + 48
    return _document(parts, 8 + 12 * (side + 10), top, "Digits in three error codes, wrong predictions framed")


def code_map(data: Data) -> str:
    """Every code at its place, coloured by category."""
    rows = [one for one in data["digits"]["codes"] if one["map_x"] is not None]
    frame = pl.DataFrame([{name: one[name] for name in _MAP} for one in rows])
    return bubble_map(
        frame.sort("error_rate", descending=True), x="map_x", y="map_y", label="error_code", size="counts",
        category="category", named=len(rows), title="Map of the codes; area: units", height=300.0,
    )  # fmt: skip


_MAP = ("error_code", "category", "counts", "errors", "error_rate", "map_x", "map_y")


def code_intervals(data: Data) -> str:
    """The error rate of every code with its interval, between the two tolerances."""
    rows = [
        (f"{one['error_code']}  {one['errors']}/{one['counts']}", one["error_rate_low"], one["error_rate"],
         one["error_rate_high"], None, CATEGORY_COLOURS[one["category"]])
        for one in sorted(data["digits"]["codes"], key=lambda one: -(one["error_rate"] or 0.0))
        if one["counts"]
    ]  # fmt: skip
    policy = Policy()
    return _intervals("Error rate of each code, 95 % interval", rows, lines=(policy.tau_stable, policy.tau_operational))


def verdicts(_: Data) -> str:
    """Which verdict any number of errors among any number of units gets, by the rule itself."""
    units, errors = np.meshgrid(np.arange(1, _MOST_UNITS + 1), np.arange(_MOST_ERRORS + 1))
    possible = errors <= units
    found = np.full(units.shape, "", dtype=object)
    found[possible] = categorise(
        units[possible], errors[possible], np.zeros(int(possible.sum()), dtype=int), policy=Policy()
    ).category
    left, top, wide, high = 44.0, 44.0, 3.0, 5.0
    bottom = top + (_MOST_ERRORS + 1) * high
    parts = [_text(8, 15, "The verdict on a code, by its units and errors", weight=600)]
    x = left
    for category in CATEGORIES:
        if not (found == category).any():
            continue
        runs = [
            f"M{left + start * wide:g} {bottom - (row + 1) * high:g}h{(end - start) * wide:g}v{high:g}"
            f"h-{(end - start) * wide:g}z"
            for row in range(_MOST_ERRORS + 1)
            for start, end in _runs(found[row] == category)
        ]
        colour = CATEGORY_COLOURS[category]
        parts += [f'<path d="{"".join(runs)}" fill="{colour}" fill-opacity="0.75"/>']
        parts += [
            f'<rect x="{x:g}" y="24" width="10" height="10" fill="{colour}"/>',
            _text(x + 14, 33, _WORDS[category]),
        ]
        x += 30 + 6.2 * len(_WORDS[category])
    for value in (1, 50, 100, 150):
        parts.append(_text(left + value * wide, bottom + 14, str(value), anchor="middle"))
    for value in (0, 10, 20, 30, 40):
        parts.append(_text(left - 6, bottom - value * high, str(value), anchor="end"))
    parts.append(_text(left + _MOST_UNITS * wide / 2, bottom + 28, "units", anchor="middle"))
    parts.append(_text(8, top + 8, "errors"))
    return _document(parts, left + _MOST_UNITS * wide + 16, bottom + 36, "Regions of the five categories")


def category_shares(data: Data) -> str:
    """Shares of units per category."""
    shares = data["digits"]["reference"]["categories"]
    names = [*_WORDS, "aleatoric_hotspot"]
    frame = pl.DataFrame({"category": names, "share": [shares[f"{name}_ratio"] for name in names]})
    return bar_chart(frame, label="category", value="share", title="Shares of the validation units by category")


def calibration(data: Data) -> str:
    """Error probability against what happened."""
    frame = pl.DataFrame(data["digits"]["calibration"])
    return reliability_diagram(frame, title="Said and happened, cross-fitted", low="low", high="high", size=320.0)


def noise(data: Data) -> str:
    """Windows under rising noise: estimate, interval, truth."""
    said = pl.format("noise {} %", (100 * pl.col("severity")).round().cast(pl.Int64))
    frame = pl.DataFrame(data["digits"]["noise"]).with_columns(said.alias("said"))
    return line_chart(
        frame, x="said", y="estimate", low="low", high="high", dots="true",
        reference=data["digits"]["reference"]["error_rate"], names=("estimated without labels", "true", "reference"),
        title="Windows of 500 digits under more and more noise",
    )  # fmt: skip


def agreement(data: Data) -> str:
    """The same windows: our estimate and plain confidence against the truth."""
    rows = [
        {"true": one["true"], "estimated": value, "kind": kind}
        for one in data["digits"]["noise"]
        for kind, value in (("our estimate", one["estimate"]), ("1 − confidence", one["confidence_says"]))
    ]
    return agreement_diagram(pl.DataFrame(rows), kind="kind", title="Estimated against true error rate")


def situations(data: Data) -> str:
    """Every situation of the limits: interval, estimate, truth."""
    rows = []
    for key, words in SITUATIONS.items():
        one = data["digits"]["limits"][key]
        held = one["low"] <= one["true"] <= one["high"]
        colour = COLOURS["blue"] if held else COLOURS["red"]
        rows.append((words, one["low"], one["estimate"], one["high"], one["true"], colour))
    return _intervals("Estimate with its 90 % interval; the dot is the truth", rows)


def peers(group: str, title: str) -> Callable[[Data], str]:
    """The error of every estimate of a window, over the models of one group of the benchmark."""

    def draw(data: Data) -> str:
        found = data["bench"][group]
        rows = {"method": list(PEERS.values()), "error": [found["error"][name] for name in PEERS]}
        frame = pl.DataFrame(rows, schema={"method": pl.String, "error": pl.Float64})
        said = f"{found['models']} {title}" if found["models"] else f"{title}: not measured yet"
        return bar_chart(frame, label="method", value="error", is_share=False, title=f"Mean absolute error, {said}")

    return draw


PICTURES: dict[str, Callable[[Data], str]] = {
    "codes-examples": code_examples,
    "codes-map": code_map,
    "categories-rule": verdicts,
    "categories-codes": code_intervals,
    "categories-shares": category_shares,
    "estimate-calibration": calibration,
    "estimate-noise": noise,
    "estimate-agreement": agreement,
    "estimate-peers": peers("small", "small models"),
    "estimate-peers-photographs": peers("photos", "photograph models"),
    "limits-situations": situations,
}
"""Every picture by the name of its file in docs/concepts/pictures/."""


Row = tuple[str, float, float, float, float | None, str]


def _intervals(title: str, rows: Sequence[Row], *, lines: Sequence[float] = ()) -> str:
    left, top, step, wide = 168.0, 40.0, 22.0, 360.0
    most = max(max(high, true or 0.0) for _, _, _, high, true, _ in rows)
    bottom = top + step * len(rows)
    parts = [_text(8, 15, title, weight=600)]

    def at(value: float) -> float:
        return round(left + wide * value / most, 1)

    for value in (*lines, most) if lines else (0.0, 0.25, 0.5, 0.75, 1.0):
        if value <= most:
            dash = ' stroke-dasharray="5 4"' if value in lines else ""
            parts.append(
                _line(at(value), top - 8, at(value), bottom, COLOURS["grid"], more=f' stroke-opacity="0.5"{dash}')
            )
            parts.append(_text(at(value), top - 12, f"{value:.0%}".replace("%", " %"), anchor="middle"))
    for index, (label, low, value, high, true, colour) in enumerate(rows):
        middle = top + step * index + step / 2
        parts.append(_text(left - 8, middle + 4, label, anchor="end"))
        parts.append(_line(at(low), middle, at(high), middle, colour, more=' stroke-width="6" stroke-opacity="0.45"'))
        parts.append(_line(at(value), middle - 6, at(value), middle + 6, colour, more=' stroke-width="2"'))
        if true is not None:
            parts.append(f'<circle cx="{at(true):g}" cy="{middle:g}" r="4.5" fill="{COLOURS["orange"]}"/>')
    return _document(parts, left + wide + 28, bottom + 10, title)


def _digit(pixels: str, left: float, top: float, size: float) -> list[str]:
    levels: dict[int, list[str]] = {}
    for index, character in enumerate(pixels):
        level = (int(character, 17) + 2) // 4
        if level:
            x, y = left + index % 8 * size, top + index // 8 * size
            levels.setdefault(level, []).append(f"M{x:g} {y:g}h{size:g}v{size:g}h-{size:g}z")
    return [
        f'<path d="{"".join(cells)}" fill="{COLOURS["text"]}" fill-opacity="{level / 4:g}"/>'
        for level, cells in sorted(levels.items())
    ]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _box(left: float, top: float, side: float, colour: str) -> str:
    return f'<rect x="{left:g}" y="{top:g}" width="{side:g}" height="{side:g}" fill="none" stroke="{colour}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, more: str = "") -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}"{more}/>'


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", weight: int = 400, colour: str | None = None
) -> str:
    fill = f' fill="{colour}"' if colour else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-weight="{weight}"{fill}>{escape(words)}</text>'


def _document(parts: Sequence[str], width: float, height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label={quoteattr(title)} '
        f'font-family="system-ui,sans-serif" font-size="11" fill="{COLOURS["text"]}"><title>{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )
