"""The section of a report on how far to trust its estimates: calibration, windows, and the peers beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.evaluator._html import Markup, svg, tag
from mld_pipelines.evaluator._report_verification import verification
from mld_pipelines.evaluator._report_words import BADGE_WORDS, percent, range_of, table
from mld_pipelines.figures import agreement_diagram, reliability_diagram

if TYPE_CHECKING:
    from mld_pipelines.evaluator._report import ReportFacts

__all__ = ["evidence_section"]

_PICTURE = 360.0
_MOST_RELIABILITIES = 2

#: Single estimates that are shown beside ours; the first two are parts of it.
_OPINIONS = {
    "mean_ep": "mean error probability",
    "atc_ep": "ATC on error probability",
    "atc_mc": "ATC on tempered confidence",
    "msp_t": "1 − mean tempered confidence",
    "codes": "mean error rate of the codes",
}
_OURS = "estimated"
_TIE = 1.03
"""Means within 3 % of each other are called a tie: over two dozen windows such a difference is chance."""


def evidence_section(facts: ReportFacts) -> Markup:
    """Return reliability, estimated against true error, and what simpler estimates say."""
    if facts.boxes is not None:
        return _of_boxes(facts)
    windows = facts.evidence.filter(pl.col("kind") != "all")
    return tag(
        "section",
        tag("h2", "How far to trust the estimates"),
        _whose(facts),
        tag("div", [*_reliabilities(facts), _agreement(windows)], class_="grid"),
        tag("div", _by_dataset(facts.evidence.filter(pl.col("kind") == "all")), _beside_peers(windows), class_="grid"),
        verification(facts.verification),
        _badges(facts),
    )


def _of_boxes(facts: ReportFacts) -> Markup:
    """Return the section of a detector: precision and recall of windows of frames."""
    windows = facts.evidence.filter(pl.col("kind") != "all")
    if windows.is_empty():
        said: str = (
            "No labelled dataset was traced besides the reference and training data: how estimates fare on new data "
            "cannot be shown here."
        )
    else:
        names = ", ".join(windows["dataset"].unique().sort())
        said = f"Windows are drawn from datasets the estimator was not fitted on: {names}. Labels only score it."
    pictures = [_rate_agreement(windows, rate) for rate in ("precision", "recall")] if windows.height else []
    return tag(
        "section",
        tag("h2", "How far to trust the estimates"),
        tag("p", said),
        tag("div", [*_reliabilities(facts), *pictures], class_="grid"),
        _rates_beside(windows) if windows.height else None,
        verification(facts.verification),
        _badges(facts),
    )


def _rate_agreement(windows: pl.DataFrame, rate: str) -> Markup:
    frame = windows.with_columns(pl.format("{}, {}", "dataset", "name").alias("label"))
    picture = agreement_diagram(
        frame, title=f"Estimated and true {rate} of windows", true=f"{rate}_true", estimated=rate, low=f"{rate}_low",
        high=f"{rate}_high", kind="dataset", name="label", size=_PICTURE,
    )  # fmt: skip
    caption = "Each point is a window of frames; the line is the 90 % interval of the estimate, which saw no label."
    return tag("figure", svg(picture), tag("figcaption", caption))


def _rates_beside(windows: pl.DataFrame) -> Markup:
    """Return mean differences from the truth, beside the reference's own rates and the mean score."""
    peers = {"": "estimate of this result", "_reference": "as on the reference", "_score": "mean score of the boxes"}
    lines: list[list[Any]] = [
        [said, *(_gap_of(windows, f"{rate}{suffix}", f"{rate}_true") for rate in ("precision", "recall"))]
        for suffix, said in peers.items()
    ]
    covered = [
        (pl.col(f"{rate}_low") <= pl.col(f"{rate}_true")) & (pl.col(f"{rate}_true") <= pl.col(f"{rate}_high"))
        for rate in ("precision", "recall")
    ]
    lines.append(
        ["90 % interval holds the true rate", *(percent(windows.select(one.mean()).item()) for one in covered)]
    )
    caption = f"Mean absolute difference from the true rate over {windows.height} windows."
    return table(["", "precision", "recall"], lines, caption=caption)


def _gap_of(windows: pl.DataFrame, estimated: str, true: str) -> str:
    if estimated not in windows.columns:
        return "–"
    gap = windows.select((pl.col(estimated) - pl.col(true)).abs().mean()).item()
    return "–" if gap is None else f"{100 * gap:.2f} points"


def _whose(facts: ReportFacts) -> Markup:
    if facts.evidence.is_empty():
        return tag("p", "This result was stored before single confidences were kept: evaluate again for windows.")
    windows = facts.evidence.filter(pl.col("kind") != "all")
    if windows.is_empty():
        return tag("p", "Too few labelled units for windows: not enough evidence to judge the estimate.")
    if windows["is_reference"].any():
        return tag(
            "p",
            "No other labelled dataset was traced: windows are drawn from the reference itself. They show the spread "
            "of the estimate, not how it fares on new data.",
        )
    names = ", ".join(windows["dataset"].unique().sort())
    return tag("p", f"Windows are drawn from datasets the estimator was not fitted on: {names}. Labels only score it.")


def _reliabilities(facts: ReportFacts) -> list[Markup]:
    pictures = []
    for name, bins in list(facts.reliability.items())[:_MOST_RELIABILITIES]:
        picture = reliability_diagram(bins, title=f"Error probability, {name}", low="low", high="high", size=_PICTURE)
        fitted = "cross-fitted" if name == facts.decision_dataset else "not fitted on it"
        caption = (
            f"Observed error rate over predicted error probability ({fitted}), with 95 % intervals; the area of a "
            "point follows its units. On the diagonal the probability is right."
        )
        pictures.append(tag("figure", svg(picture), tag("figcaption", caption)))
    return pictures


def _agreement(windows: pl.DataFrame) -> Markup:
    frame = windows.with_columns(
        pl.format("{}, {}", "dataset", "name").alias("label"),
        pl.when(pl.col("kind") == "random").then(pl.lit("random windows")).otherwise(pl.lit("by predicted class"))
        .alias("drawn"),
    )  # fmt: skip
    picture = agreement_diagram(
        frame, title="Estimated and true error of windows", low="low", high="high", kind="drawn", name="label",
        size=_PICTURE,
    )  # fmt: skip
    caption = "Each point is a window of units; the line is the 90 % interval of the estimate, which saw no label."
    return tag("figure", svg(picture), tag("figcaption", caption))


def _by_dataset(whole: pl.DataFrame) -> Markup | None:
    if whole.is_empty():
        return None
    rows = whole.to_dicts()
    header = ["", *(f"{row['dataset']} (reference)" if row["is_reference"] else row["dataset"] for row in rows)]
    lines: list[list[Any]] = [
        ["units", *(f"{row['n']:,}" for row in rows)],
        ["true error rate", *(percent(row["true"]) for row in rows)],
        [tag("strong", "estimate of this result"), *(_cell(row, _OURS) for row in rows)],
        ["its 90 % interval", *(range_of(row["low"], row["high"]) for row in rows)],
        *([said, *(_cell(row, name) for row in rows)] for name, said in _OPINIONS.items()),
    ]
    caption = "Error rate of whole datasets. The closest is bold; on the reference being right is no merit."
    return table(header, lines, caption=caption)


def _cell(row: dict[str, Any], name: str) -> object:
    """Return an estimate, bold where none is closer to the truth at the precision shown.

    On the reference every estimate that was fitted to its error rate is right, which says nothing: no bold there.
    """
    if row[name] is None or row["is_reference"]:
        return percent(row[name])
    gaps = [abs(row[one] - row["true"]) for one in (_OURS, *_OPINIONS) if row[one] is not None]
    is_closest = abs(row[name] - row["true"]) <= min(gaps) + 5e-4
    return tag("span", percent(row[name]), class_="best" if is_closest else None)


def _beside_peers(windows: pl.DataFrame) -> Markup | None:
    if windows.is_empty():
        return None
    gaps = {name: _mean_gap(windows, name) for name in (_OURS, *_OPINIONS)}
    known = sorted(((gap, name) for name, gap in gaps.items() if gap is not None), key=lambda pair: pair[0])
    lines: list[list[Any]] = [
        [tag("strong", "estimate of this result") if name == _OURS else _OPINIONS[name], f"{100 * gap:.2f} points"]
        for gap, name in known
    ]
    covered = windows.select(((pl.col("low") <= pl.col("true")) & (pl.col("true") <= pl.col("high"))).mean()).item()
    caption = f"Mean absolute difference from the true error rate over {windows.height} windows."
    inside = f"The 90 % interval holds the true rate in {percent(covered, digits=0)} of them."
    return tag("div", table(["", "difference"], lines, caption=caption), tag("p", _verdict(known), " ", inside))


def _mean_gap(windows: pl.DataFrame, name: str) -> float | None:
    known = windows.filter(pl.col(name).is_not_null())
    gap: float | None = known.select((pl.col(name) - pl.col("true")).abs().mean()).item() if known.height else None
    return gap


def _verdict(known: list[tuple[float, str]]) -> str:
    """Return in words whether a simpler estimate was closer."""
    ours = next(gap for gap, name in known if name == _OURS)
    (best, name) = known[0]
    if name == _OURS or ours <= best * _TIE:
        return "No simpler estimate was clearly closer on these windows."
    return f"On these windows “{_OPINIONS[name]}” alone was closer than the estimate of this result."


def _badges(facts: ReportFacts) -> Markup | None:
    badges = facts.evidence.explode("badges")["badges"].drop_nulls().unique().sort().to_list()
    if not badges:
        return None
    items = [tag("li", tag("strong", badge), ". ", BADGE_WORDS.get(badge)) for badge in badges]
    return tag("div", tag("h3", "Badges of these estimates"), tag("ul", items))
