"""The section of a report on the worst error codes: what each is, what it confuses, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from mld_pipelines.diagnosis import UNCODED, UNSEEN, find_method
from mld_pipelines.evaluator._html import Markup, tag
from mld_pipelines.evaluator._report_words import chip, listed, percent, range_of, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.evaluator._report import ReportFacts

__all__ = ["issues_section"]

_SHOWN = 12
_LISTED = 60
_ORDER = "those with most errors beyond the average rate first"
_WORST = ("critical_hotspot", "hotspot", "recessive_hotspot")
_CLASSES = 4


class _Words(NamedTuple):
    """How one kind of unit is spoken of."""

    units: str
    wrong: str
    classes: str
    types: str


_KINDS = {
    "input": _Words("units", "wrong", "Predicted as", "Confusions, true → predicted"),
    "prediction": _Words("predictions", "wrong", "Predicted as", "What is wrong"),
    "object": _Words("objects", "missed", "Objects of class", "What is wrong"),
}


def issues_section(facts: ReportFacts) -> Markup:
    """Return the codes outside coverage as cards, worst first, and a table of all."""
    open_issues = facts.issues.filter(pl.col("category").is_in(_WORST) & (pl.col("errors") > 0))
    described = {(row["unit_kind"], row["error_code"]): row for row in facts.codes.iter_rows(named=True)}
    cards = [
        _card(issue, described.get((issue["unit_kind"], issue["error_code"]), {}))
        for issue in open_issues.head(_SHOWN).iter_rows(named=True)
    ]
    if not cards:
        said = tag("p", "No code outside coverage holds an error.")
    else:
        rest = open_issues.height - len(cards)
        more = f" {rest} further codes outside coverage are in the table below." if rest > 0 else ""
        said = tag("p", f"Codes outside coverage, {_ORDER}.{more}")
    return tag(
        "section", tag("h2", "Top issues"), said, tag("div", cards, class_="issues") if cards else None,
        _all_codes(facts.issues),
    )  # fmt: skip


def _card(issue: dict[str, Any], code: dict[str, Any]) -> Markup:
    overlay = chip("aleatoric_hotspot") if issue["is_aleatoric"] else None
    words = _KINDS[issue["unit_kind"]]
    counted = (
        f"{issue['errors']} of {issue['counts']} {words.wrong}: {percent(issue['error_rate'])} "
        f"({range_of(issue['error_rate_low'], issue['error_rate_high'])}), {percent(issue['share'])} of all "
        f"{words.units}."
    )
    needed = f" About {issue['n_needed']:,} further labels decide it." if issue.get("n_needed") else None
    return tag(
        "article",
        tag("h3", issue["error_code"]),
        tag("p", chip(issue["category"]), overlay, tag("span", str(issue["reason"]).replace("_", " "), class_="soft")),
        tag("p", counted, needed),
        _classes(code, words),
        _items("What distinguishes it", code.get("distinctions") or []),
        _confusions(code, words),
        _examples("Most typical errors", code.get("typical_wrong_input_ids") or issue["example_input_ids"] or []),
        _examples(_typical_of(issue["error_code"]), code.get("typical_input_ids") or []),
        _linked(code),
        _advice(issue),
        class_=f"issue {issue['category'].split('_', 1)[0]}",
    )


def _typical_of(code: str) -> str:
    return {UNSEEN: "Farthest from all codes", UNCODED: "Some of its units"}.get(code, "Nearest its centre")


def _classes(code: dict[str, Any], words: _Words) -> Markup | None:
    names, shares = code.get("predicted_classes") or [], code.get("predicted_shares") or []
    if not names:
        return None
    said = [f"{name} ({percent(share, digits=0)})" for name, share in zip(names, shares, strict=True)]
    return tag("p", f"{words.classes} ", listed(said, limit=_CLASSES), ".")


def _confusions(code: dict[str, Any], words: _Words) -> Markup | None:
    pairs, counts = code.get("confusions") or [], code.get("confusion_counts") or []
    said = [f"{pair} ({count})" for pair, count in zip(pairs, counts, strict=True)]
    return tag("p", f"{words.types}: ", listed(said, limit=_CLASSES), ".") if said else None


def _items(title: str, texts: Sequence[object]) -> Markup | None:
    return tag("div", tag("h4", title), tag("ul", [tag("li", text) for text in texts])) if texts else None


def _examples(title: str, ids: Sequence[str]) -> Markup | None:
    return tag("div", tag("h4", title), tag("p", [(tag("code", one), " ") for one in ids])) if ids else None


def _linked(code: dict[str, Any]) -> Markup | None:
    if not code.get("linked_from"):
        return None
    overlap = percent(code["overlap"], digits=0)
    return tag("p", f"Continues {code['linked_from']} of {code['linked_result']}: {overlap} overlap.", class_="soft")


def _advice(issue: dict[str, Any]) -> Markup | None:
    method = find_method(issue["recommended_method"])
    if method is None:
        return None
    verify = issue.get("how_to_verify") or method.verify
    return tag(
        "details",
        tag("summary", "What to do: ", method.title[0].lower() + method.title[1:]),
        tag("ol", [tag("li", action) for action in method.actions]),
        tag("p", tag("strong", "How to verify: "), verify),
        _items("What speaks for it", issue.get("evidence") or []),
    )


def _all_codes(issues: pl.DataFrame) -> Markup | None:
    rows = issues.filter(pl.col("counts") > 0).head(_LISTED).to_dicts()
    if not rows:
        return None
    has_kinds = any(row["unit_kind"] != "input" for row in rows)
    kinds = [[_KINDS[row["unit_kind"]].units] if has_kinds else [] for row in rows]
    lines = [
        [
            row["error_code"], *kind, chip(row["category"]), row["reason"].replace("_", " "), f"{row['counts']:,}",
            f"{row['errors']:,}", percent(row["error_rate"]),
            range_of(row["error_rate_low"], row["error_rate_high"]), percent(row["q_value"]),
        ]
        for row, kind in zip(rows, kinds, strict=True)
    ]  # fmt: skip
    of_kind = ["of"] if has_kinds else []
    header = ["code", *of_kind, "category", "reason", "units", "wrong", "error rate", "95 % interval", "q"]
    title = f"{len(rows)} codes of the deciding dataset, {_ORDER}"
    return tag("details", tag("summary", title), table(header, lines))
