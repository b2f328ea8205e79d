"""What a stress pass verified, in a report: how far off estimates were on each corruption when it was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.evaluator._html import tag
from mld_pipelines.evaluator._report_words import percent, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.evaluator._html import Markup

__all__ = ["verification"]

_WAYS = {0.0: "default", 0.5: "half", 1.0: "map"}
"""Estimate that is published at each weight of the map."""

_CLEAN = "clean"


def verification(facts: Mapping[str, Any] | None) -> Markup:
    """Return whether estimates were verified under shift, on what, and on what they failed.

    Args:
        facts: Of `StoredResult.verifications`, of the epoch shown; None or nothing without a stress pass.
    """
    title = tag("h3", "Under shift")
    if not facts:
        said = "No stress pass was used: how far the estimates may be off when inputs change is not known."
        return tag("div", title, tag("p", said))
    missed = facts.get("missed_families", [])
    lines = [
        [
            family,
            rate,
            f"{100 * error[_WAYS[weight]]:.1f} points",
            percent(error.get("covered")),
            _verdict(family, missed),
        ]
        for family, rate, error, weight in _by_rate(facts)
    ]
    held = ", ".join(facts.get("verified_families", [])) or "none"
    said = (
        f"A stress pass ran the model on {facts['n_copies']:,} corrupted copies of {facts['n_originals']:,} inputs. "
        f"Each family of corruptions was left out in turn and then estimated. Verified: {held}."
    )
    more = f" The interval did not hold on: {', '.join(missed)}." if missed else ""
    head = ["family left out", "estimate of", "off by, on average", "interval held", ""]
    return tag("div", title, tag("p", said + more), table(head, lines, caption="Windows of copies, labels known."))


def _by_rate(facts: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any], float]]:
    """Return (family, rate, errors, weight of the map); a classifier has one rate, a detector two."""
    weights = facts["blend_weight"]
    if not isinstance(weights, dict):
        return [(family, "error rate", error, weights) for family, error in facts["families"].items()]
    return [
        (family, rate, errors[rate], weight)
        for family, errors in facts["families"].items()
        for rate, weight in weights.items()
        if rate in errors
    ]


def _verdict(family: str, missed: list[str]) -> str:
    if family == _CLEAN:
        return "no shift"
    return "not verified" if family in missed else "verified"
