"""The sections of a report that say what the model does: head, metrics, categories, map, origin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.evaluator._html import Markup, svg, tag
from mld_pipelines.evaluator._report_words import (
    BADGE_WORDS,
    CATEGORY_WORDS,
    chip,
    dataset_order,
    figure_number,
    listed,
    percent,
    range_of,
    table,
)
from mld_pipelines.figures import bar_chart, bubble_map

if TYPE_CHECKING:
    from mld_pipelines.evaluator._report import ReportFacts

__all__ = ["categories_section", "head_section", "map_section", "metrics_section", "origin_section"]

_PICTURE = 360.0
"""Width of a picture in pixels: fits a phone at full size, three fit a desk."""
_MOST_DATASETS = 6
_COVERED = ("stable_coverage_ratio", "operational_coverage_ratio")
_BAD = ("hotspot_ratio", "critical_hotspot_ratio")

#: Metrics by the name shown, in the order of `metrics_summary()`.
_METRICS = {
    "counts": "units",
    "accuracy": "accuracy",
    "error_rate": "error rate",
    "auroc": "AUROC, macro one-vs-rest",
    "auprc": "AUPRC, macro one-vs-rest",
    "net_entropy_loss": "net entropy loss, nats",
    "net_entropy": "net entropy, nats",
    "mean_loss": "mean loss, nats",
    "mean_entropy": "mean entropy, nats",
    "error_proba_auroc": "errors ranked by error probability, AUROC",
    "confidence_auroc": "errors ranked by confidence, AUROC",
    "error_proba_auprc": "errors ranked by error probability, AUPRC",
    "error_proba_auprc_success": "successes ranked by error probability, AUPRC",
}
#: The same of a detector.
_BOX_METRICS = {
    "n_inputs": "frames",
    "counts": "units: kept predictions and missed objects",
    "n_missed": "missed objects",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "map": "mAP, mean over classes and 0.5, 1, 2 and 4 m",
    "nds_like": "nuScenes score without attributes",
    "mate": "translation error of matches, m",
    "mase": "scale error of matches, 1 − IoU",
    "maoe": "orientation error of matches, rad",
    "mave": "velocity error of matches, m/s",
    "accuracy": "units without error",
    "auroc": "true above false positives by score, AUROC over all recorded boxes",
    **{name: shown for name, shown in _METRICS.items() if name not in ("counts", "accuracy", "auroc", "auprc")},
}


def head_section(facts: ReportFacts) -> Markup:
    """Return name, the four numbers to know first, and what a reader should know."""
    decisive = facts.intervals.filter(pl.col("dataset") == facts.decision_dataset)
    value = {row["metric"]: row for row in decisive.iter_rows(named=True)}
    when = f"{facts.created_at:%Y-%m-%d %H:%M} UTC"
    return tag(
        "header",
        tag("h1", facts.result_name),
        tag("p", f"{facts.model_key} · {facts.task} · evaluated {when} · {facts.counts:,} units", class_="sub"),
        tag("p", f"Decided by dataset “{facts.decision_dataset}”{_epochs(facts)}.", class_="sub"),
        tag("dl", _tiles(value, facts), class_="tiles"),
        _notes(facts.notes),
    )


def _epochs(facts: ReportFacts) -> str:
    if facts.epochs == (None,):
        return ""
    names = ["without epoch" if epoch is None else str(epoch) for epoch in facts.epochs]
    if len(names) == 1:
        return f", epoch {names[0]}"
    return f"; epochs {', '.join(names)}, of which issues, codes and pictures show the last"


def _tiles(value: dict[str, dict[str, Any]], facts: ReportFacts) -> list[Markup]:
    def tile(name: str, number: str, note: str) -> Markup:
        return tag(
            "div", tag("dt", name), tag("dd", number, class_="value"), tag("dd", note, class_="soft"), class_="tile"
        )

    accuracy, ranking = value.get("accuracy", {}), value.get("error_proba_auroc", {})
    covered, bad = (sum(value.get(name, {}).get("value") or 0.0 for name in names) for names in (_COVERED, _BAD))
    bad_codes = facts.issues.filter(pl.col("category").is_in(["hotspot", "critical_hotspot"])).height
    noun = "code" if bad_codes == 1 else "codes"
    if facts.boxes is None:
        shares = {"Accuracy": accuracy}
    else:
        shares = {"Precision": value.get("precision", {}), "Recall": value.get("recall", {})}
    return [
        *(
            tile(name, percent(one.get("value")), range_of(one.get("low"), one.get("high")))
            for name, one in shares.items()
        ),
        tile("Units in covered codes", percent(covered), "stable or operational"),
        tile("Units in hotspots", percent(bad), f"{bad_codes} {noun}, hotspot or critical"),
        tile("Errors ranked, AUROC", figure_number(ranking.get("value")), "by error probability, cross-fitted"),
    ]


def _notes(notes: tuple[str, ...]) -> Markup | None:
    if not notes:
        return None
    items = [
        tag("li", tag("strong", note), ". ", BADGE_WORDS[note]) if note in BADGE_WORDS else tag("li", note)
        for note in notes
    ]
    return tag("ul", items, class_="notes")


def metrics_section(facts: ReportFacts) -> Markup:
    """Return one column per dataset, one line per metric."""
    rows = sorted(facts.metrics.to_dicts(), key=lambda row: dataset_order(row["dataset"], facts.decision_dataset))
    words = _METRICS if facts.boxes is None else _BOX_METRICS
    known = [(name, shown) for name, shown in words.items() if name in facts.metrics.columns]
    header = ["", *(_dataset(row) for row in rows)]
    lines = [[shown, *(figure_number(row[name]) for row in rows)] for name, shown in known]
    return tag("section", tag("h2", "Metrics"), table(header, lines))


def _dataset(row: dict[str, Any]) -> str:
    epoch = row.get("n_epoch")
    return str(row["dataset"]) if epoch is None else f"{row['dataset']}, epoch {epoch}"


def categories_section(facts: ReportFacts) -> Markup:
    """Return the share of units in each category, one picture per dataset, and what the words mean."""
    ratios = facts.intervals.filter(pl.col("metric").str.ends_with("_ratio"))
    names = ratios["dataset"].unique(maintain_order=True).to_list()
    shown = sorted(names, key=lambda name: dataset_order(name, facts.decision_dataset))[:_MOST_DATASETS]
    pictures = [_category_bars(ratios.filter(pl.col("dataset") == name), name) for name in shown]
    more = f"{len(names) - len(shown)} further datasets are not drawn." if len(names) > len(shown) else None
    words = [tag("li", chip(name), text) for name, text in CATEGORY_WORDS.items()]
    return tag(
        "section",
        tag("h2", "Issue categories"),
        tag("p", "Share of units whose code has each category, with 95 % intervals. Each unit has one of the first "
                 "five; aleatoric overlays them."),
        tag("div", pictures, class_="grid"),
        tag("p", more) if more else None,
        tag("details", tag("summary", "What the categories mean"), tag("ul", words)),
    )  # fmt: skip


def _category_bars(ratios: pl.DataFrame, dataset: str) -> Markup:
    named = ratios.with_columns(pl.col("metric").str.strip_suffix("_ratio"))
    frame = pl.DataFrame({"metric": list(CATEGORY_WORDS)}).join(named, on="metric", maintain_order="left")
    picture = bar_chart(
        frame, label="metric", value="value", low="low", high="high", title=f"Issue categories, {dataset}",
        width=_PICTURE,
    )  # fmt: skip
    return tag("figure", svg(picture))


def map_section(facts: ReportFacts) -> Markup | None:
    """Return the map of codes, of a detector one of predictions and one of objects; nothing without codes."""
    placed = facts.codes.filter(pl.col("map_x").is_not_null())
    maps = [_map(part, str(kind)) for (kind,), part in placed.group_by("unit_kind", maintain_order=True)]
    if not maps:
        return None
    return tag("section", tag("h2", "Map of codes"), maps)


def _map(placed: pl.DataFrame, kind: str) -> Markup:
    wrong, what = {"object": ("missed", " of objects"), "prediction": ("wrong", " of predictions")}.get(
        kind, ("wrong", "")
    )
    frame = placed.with_columns(
        pl.format(f"{{}}: {{}} of {{}} {wrong}, {{}}", "error_code", "errors", "counts", "category").alias("note")
    )

    def draw(width: float, height: float, named: int) -> Markup:
        return svg(
            bubble_map(
                frame, x="map_x", y="map_y", label="error_code", size="counts", category="category", note="note",
                title=f"Map of {placed.height} codes{what}", width=width, height=height, named=named,
            )
        )  # fmt: skip

    caption = (
        "Each bubble is a code: its area follows the units of the deciding dataset, its colour the category; the codes "
        f"with most errors beyond the average rate are named. Near bubbles hold similar {_HELD.get(kind, 'inputs')}. "
        "The axes are the first two principal axes of the codes and have no unit; they stay the same in later results "
        "of these weights."
    )
    return tag(
        "figure",
        tag("div", draw(_PICTURE * 2, 460.0, 14), class_="roomy"),
        tag("div", draw(_PICTURE, 300.0, 8), class_="narrow"),
        tag("figcaption", caption),
        class_="beside",
    )


_HELD = {"object": "objects", "prediction": "predictions"}


def origin_section(facts: ReportFacts) -> Markup:
    """Return what the result was computed from."""
    inputs = dict(facts.inputs)
    policy = inputs.pop("policy", {})
    entries = [(name.replace("_", " "), _said(value)) for name, value in sorted(inputs.items()) if value is not None]
    facts_list = tag("dl", [(tag("dt", name), tag("dd", text)) for name, text in entries], class_="facts")
    lines = [[name, _said(value)] for name, value in sorted(policy.items())]
    return tag(
        "section",
        tag("h2", "What it was computed from"),
        tag("p", "The same inputs on the same versions give the same numbers."),
        facts_list,
        tag("details", tag("summary", "Policy: all tolerances and bounds"), table(["", "value"], lines)),
    )


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return listed([f"{key} {item}" for key, item in sorted(value.items())], limit=20)
    if isinstance(value, (list, tuple)):
        return listed([item for item in value if item], limit=20) or "–"
    return value if isinstance(value, str) else json.dumps(value)
