"""Numbers, categories and badges of a report in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mld_pipelines.evaluator._html import Markup, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BADGE_WORDS",
    "CATEGORY_WORDS",
    "chip",
    "dataset_order",
    "figure_number",
    "listed",
    "percent",
    "range_of",
    "table",
]

CATEGORY_WORDS = {
    "stable_coverage": "Surely rarely wrong: the error rate lies below the strict tolerance.",
    "operational_coverage": "Good enough for operation: the error rate lies below the wider tolerance.",
    "hotspot": "Surely often wrong, and the confidence is low on many of the errors.",
    "critical_hotspot": "Surely often wrong, and confident about it: the confidence does not warn.",
    "recessive_hotspot": "Undecided: the labelled units do not yet tell whether it is covered or often wrong.",
    "aleatoric_hotspot": "An overlay: the errors are about as frequent as the ambiguity that the model itself states.",
}

BADGE_WORDS = {
    "not verified under shift": "No stress pass taught the estimate what happens when inputs change; how far it may be "
    "off then is not known.",
    "under some kinds of shift the interval did not hold": "The stress pass left each kind of corruption out in turn; "
    "on some of them the true error rate lay outside the interval more often than it may.",
    "few errors": "The reference holds fewer than 50 errors: the estimate rests on the mean error probability alone.",
    "no errors seen": "The reference holds no error: the estimate is an assumption, and it cannot raise an alert.",
    "no successes seen": "The reference holds no correct unit: the estimate is an assumption.",
    "few units": "The reference holds fewer than 60 units: there are no error codes and intervals stay wide.",
    "few units in the window": "Fewer than 50 units: no alert is based on the estimate.",
    "one predicted class": "The model predicted a single class on the reference: neighbours tell nothing.",
    "no features": "The model was traced without features: there are no error codes and confidence decides alone.",
    "confidence is the better score": "On this model the plain confidence ranks errors best, so it is used.",
    "many units share one error probability": "So many reference units share a value that a threshold on it means "
    "little; the mean error probability stands alone.",
    "only the confidence varies": "No score but the confidence differs between units, so it decides alone.",
    "few frames": "Fewer than 50 frames here or in the reference: boxes of a frame err together, so there is little "
    "evidence however many boxes there are.",
    "no candidates visible": "The detector shows nothing below its threshold: what is missed cannot be told from what "
    "is not there, and the miss rate of the reference is assumed.",
    "misses that no candidate shows are assumed as in the reference": "An object that left no trace in the detector "
    "cannot be counted without labels: as many per frame are assumed as in the reference.",
    "inputs outside the reference; the estimate may be too low": "More inputs than expected lie far from all reference "
    "units.",
}


def chip(category: str) -> Markup:
    """Return a category as a coloured word."""
    return tag("span", category.replace("_", " "), class_=f"chip {category.split('_', 1)[0]}")


def dataset_order(name: str, decisive: str) -> tuple[bool, bool, str]:
    """Return a sort key: the deciding dataset first, training data last."""
    return name != decisive, name.lower() == "train", name


def percent(share: float | None, *, digits: int = 1) -> str:
    """Return a share as a percentage; `–` where there is none."""
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f} %"


def range_of(low: float | None, high: float | None) -> str:
    """Return an interval of shares: `12.0–18.5 %`."""
    if low is None or high is None:
        return ""
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def figure_number(value: object) -> str:
    """Return a number of a table with three decimals, counts as they are."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def listed(values: Sequence[object], *, limit: int = 8) -> str:
    """Return values separated by commas, the rest counted."""
    shown = ", ".join(map(str, values[:limit]))
    return f"{shown} and {len(values) - limit} more" if len(values) > limit else shown


def table(
    header: Sequence[object], rows: Sequence[Sequence[object]], *, caption: str | None = None, text: int = 1
) -> Markup:
    """Return a table that scrolls sideways where the page is narrow; the first `text` columns are words."""

    def cell(name: str, index: int, value: object, **attributes: str) -> Markup:
        return tag(name, value, class_="text" if 0 < index < text else None, **attributes)

    head = tag("thead", tag("tr", [cell("th", i, name, scope="col") for i, name in enumerate(header)]))
    body = [
        tag("tr", tag("th", row[0], scope="row"), [cell("td", i, value) for i, value in enumerate(row[1:], start=1)])
        for row in rows
    ]
    return tag(
        "div", tag("table", tag("caption", caption) if caption else None, head, tag("tbody", body)),
        class_="wide", tabindex="0", role="region", aria_label=caption or "table",
    )  # fmt: skip
