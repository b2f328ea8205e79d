"""A result on one page: facts in, one HTML file out, the same bytes for the same facts."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mld_pipelines.evaluator._html import Markup, join, tag
from mld_pipelines.evaluator._report_boxes import boxes_section
from mld_pipelines.evaluator._report_evidence import evidence_section
from mld_pipelines.evaluator._report_issues import issues_section
from mld_pipelines.evaluator._report_sections import (
    categories_section,
    head_section,
    map_section,
    metrics_section,
    origin_section,
)
from mld_pipelines.evaluator._report_style import STYLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import polars as pl

__all__ = ["ReportFacts", "render_report"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportFacts:
    """Everything a report says.

    Attributes:
        result_name: Name of the result.
        model_key: `model_name@version_name`.
        task: Task.
        created_at: When the result was finished.
        counts: Units.
        epochs: Epochs of the result; codes, issues and pictures are of the last.
        decision_dataset: Dataset whose counts decide.
        notes: What a reader should know.
        inputs: What it was computed from.
        metrics: `Result.metrics_summary()`.
        intervals: Long rows of `evaluation/metrics`: dataset, metric, value, low, high, n.
        issues: Issues of the deciding dataset, the worst first.
        codes: `Result.get_codes()`.
        evidence: `evaluation.window_evidence`; of a detector `evaluation.detection_window_evidence`.
        reliability: Reliability bins by dataset, the reference first.
        boxes: Of a detector the units of the deciding dataset; None for a classifier.
        classes: `Result.class_summary()` of that dataset and epoch.
        frames: `Result.get_frames()` of that dataset and epoch.
        verification: What a stress pass verified (`StoredResult.verifications`); None without one.
    """

    result_name: str
    model_key: str
    task: str
    created_at: datetime
    counts: int
    epochs: tuple[int | None, ...]
    decision_dataset: str
    notes: tuple[str, ...]
    inputs: Mapping[str, Any]
    metrics: pl.DataFrame
    intervals: pl.DataFrame
    issues: pl.DataFrame
    codes: pl.DataFrame
    evidence: pl.DataFrame
    reliability: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    boxes: pl.DataFrame | None = None
    classes: pl.DataFrame | None = None
    frames: pl.DataFrame | None = None
    verification: Mapping[str, Any] | None = None


def render_report(facts: ReportFacts) -> str:
    """Return the report as one HTML document: no script, nothing fetched, every text escaped.

    Its policy forbids the browser everything but this style sheet, should any of the shown names contain markup.
    """
    style = Markup(STYLE)
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content="mld_pipelines"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{facts.result_name} · {facts.model_key}"),
        tag("style", style),
    )
    body = tag(
        "main",
        head_section(facts),
        metrics_section(facts),
        categories_section(facts),
        boxes_section(facts),
        issues_section(facts),
        map_section(facts),
        evidence_section(facts),
        origin_section(facts),
        tag("footer", "Made by mld_pipelines. This page holds everything it shows: it loads nothing and runs nothing."),
    )
    return "<!doctype html>\n" + join([tag("html", head, tag("body", body), lang="en")]) + "\n"
