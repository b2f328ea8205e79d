"""Measured numbers in the pages: written into marked places from docs/data/, never by hand.

A page holds `<span data-n="digits.reference.error_rate %1">8.6 %</span>`: where the number comes from, how it is
written, and the number; a table stands between two comments. What was not
measured yet says so.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from docs.capacity import capacity_table, load_terms, terms_block
from docs.pictures import PEERS, SITUATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Data = Mapping[str, Any]

__all__ = ["MISSING", "fill", "load"]

DIGITS = Path(__file__).resolve().parent / "data" / "digits.json"
BENCHMARK = Path(__file__).resolve().parent / "estimation.json"
MISSING = "*not measured yet*"

_NUMBER = re.compile(r'(<span data-n="(?P<path>[\w.]+) (?P<form>\S+)">).*?(</span>)')
_TABLE = re.compile(r"(<!-- table: (?P<name>\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)
_FORMS: dict[str, Callable[[float], str]] = {
    "d": lambda value: f"{value:,.0f}",
    "%": lambda value: f"{100 * value:.0f}\u00a0%",
    "%1": lambda value: f"{100 * value:.1f}\u00a0%",
    ".2": lambda value: f"{value:.2f}",
    ".3": lambda value: f"{value:.3f}",
    ".4": lambda value: f"{value:.4f}",
}


def load() -> dict[str, Any]:
    """Return what is stored: the run on digits, the terms of throughput, and the benchmark of the estimate so far."""
    digits = json.loads(DIGITS.read_text(encoding="utf-8"))
    missed = [one for one in digits["limits"].values() if not one["low"] <= one["true"] <= one["high"]]
    measured = json.loads(BENCHMARK.read_text(encoding="utf-8")) if BENCHMARK.exists() else {}
    return {"digits": digits | {"fooled": len(missed)}, "bench": summary(measured), "throughput": load_terms()}


def fill(page: str, data: Data) -> str:
    """Return the page with every number and table of its markers written anew.

    Args:
        page: Markdown.
        data: From `load`.

    Raises:
        KeyError: A marker names a form, a table or a place that does not exist.
    """

    def number(found: re.Match[str]) -> str:
        value = _find(data, found["path"])
        return f"{found[1]}{MISSING if value is None else _FORMS[found['form']](value)}{found[4]}"

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n{_TABLES[found['name']](data)}\n\n{found[3]}"

    return _TABLE.sub(table, _NUMBER.sub(number, page))


def summary(document: Data) -> dict[str, Any]:
    """Return what the pages take from the benchmark; None for what its document does not hold.

    Args:
        document: JSON of `python -m benchmarks.estimation`, or nothing.
    """
    models = document.get("models", {})
    small, photos = ([one for name, one in models.items() if name[0] in kinds] for kinds in (_SMALL, _PHOTOS))
    planted = document.get("planted", [])
    large = [one["share"] >= _LARGE_SLICE - 5e-4 for one in planted]
    return {
        "small": _means(small),
        "photos": _means(photos),
        "codes": {key: _mean(one.get("codes", {}).get(name) for one in small) for key, name in _STABILITY.items()},
        "planted": {
            "large": _mean(one["purity"] for one, is_large in zip(planted, large, strict=True) if is_large),
            "small": _mean(one["purity"] for one, is_large in zip(planted, large, strict=True) if not is_large),
        },
    }


def _means(models: Iterable[Data]) -> dict[str, Any]:
    units = [one["units"]["all"]["methods"] for one in models if one.get("units")]
    windows = [one["windows"] for one in models if one.get("windows")]
    return {
        "models": len(windows) or None,
        "auroc": _mean(one.get("ours", {}).get("AUROC") for one in units),
        "auroc_confidence": _mean(one.get("MSP", {}).get("AUROC") for one in units),
        "auroc_corrupted": _mean(one.get("ours", {}).get("AUROC corrupted") for one in units),
        "auroc_confidence_corrupted": _mean(one.get("MSP", {}).get("AUROC corrupted") for one in units),
        "error": {
            name: _mean(one["methods"].get(method, {}).get("all") for one in windows)
            for name, method in _METHODS.items()
        },
        "best_peer": _mean(one["methods"][one["best peer"]]["all"] for one in windows),
        "interval": {
            name: {
                key: _mean(one["intervals"].get(method, {}).get(wanted) for one in windows)
                for key, wanted in _QUALITIES.items()
            }
            for name, method in (("ours", "ours"), ("stress", "ours + stress"))
        },
    }


_SMALL, _PHOTOS = "pngt", "f"
"""First letters of the names of the benchmark's models, as the benchmark groups them."""
_LARGE_SLICE = 0.03
_STABILITY = {
    "ari_cold": "ARI, cold",
    "ari_warm": "ARI, warm",
    "names_warm": "names kept, warm",
    "family_warm": "family agreement, warm",
}
_METHODS = {
    "ours": "ours",
    "stress": "ours + stress",
    "temperature": "MSP + temperature",
    "cbpe": "CBPE",
    "atc": "ATC-MC",
    "doc": "DoC",
    "bbse": "BBSE",
}
_QUALITIES = {
    "coverage": "coverage",
    "shifted": "coverage shift",
    "width": "width",
    "false": "false alerts",
    "detection": "detection",
}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known else None


def _find(data: Any, path: str) -> float | None:
    for step in path.split("."):
        data = data[int(step)] if isinstance(data, list) else data[step]
    return None if data is None else float(data)


def _head(*names: str) -> str:
    return f"| {' | '.join(names)} |\n| {' | '.join('---' for _ in names)} |"


def _situations(data: Data) -> str:
    rows = [
        "| window | true | estimate, 90 % interval | `UNSEEN` | alert | badges |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for key, words in SITUATIONS.items():
        one = data["digits"]["limits"][key]
        form = _FORMS["%1"]
        interval = f"{form(one['estimate'])} ({form(one['low'])} to {form(one['high'])})"
        badges = "; ".join(f"`{badge}`" for badge in one["badges"])
        alert = "yes" if one["is_alert"] else "no"
        rows.append(f"| {words} | **{form(one['true'])}** | {interval} | {form(one['unseen'])} | {alert} | {badges} |")
    return "\n".join(rows)


def _codes(data: Data) -> str:
    rows = [
        "| code | units | errors | rate, 95 % interval | category | reason |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in data["digits"]["codes"]:
        form = _FORMS["%"]
        rate = f"{form(one['error_rate'])} ({form(one['error_rate_low'])} to {form(one['error_rate_high'])})"
        counts = f"{one['counts']} | {one['errors']}"
        rows.append(f"| `{one['error_code']}` | {counts} | {rate} | `{one['category']}` | `{one['reason']}` |")
    return "\n".join(rows)


def _peers(data: Data) -> str:
    form = _FORMS[".4"]
    rows = [_head("estimate of a window", "small models", "photographs")]
    for name, words in PEERS.items():
        cells = [data["bench"][group]["error"][name] for group in ("small", "photos")]
        rows.append(f"| {words} | {' | '.join(MISSING if cell is None else form(cell) for cell in cells)} |")
    return "\n".join(rows)


def _families(data: Data) -> str:
    form = _FORMS[".4"]
    rows = [_head("family left out", "windows", "without the map", "half and half", "map alone")]
    families = data["digits"]["stress"]["families"]
    for name, one in sorted(families.items(), key=lambda pair: (pair[0] != "clean", pair[0])):
        errors = " | ".join(form(one[key]) for key in ("default", "half", "map"))
        rows.append(f"| {'none: clean inputs' if name == 'clean' else name} | {one['n_windows']} | {errors} |")
    return "\n".join(rows)


_TABLES: dict[str, Callable[[Data], str]] = {
    "situations": _situations,
    "codes": _codes,
    "peers": _peers,
    "families": _families,
    "throughput_terms": terms_block,
    "capacity": capacity_table,
}
