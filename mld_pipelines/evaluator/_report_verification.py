"""What a stress pass verified, in a report: how far off estimates were on each corruption when it was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.evaluation import verified_rates
from mld_pipelines.evaluator._html import tag
from mld_pipelines.evaluator._report_words import percent, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.evaluator._html import Markup

__all__ = ["verification"]

_VERDICTS = {None: "no shift", False: "not verified", True: "verified"}


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
        [one.family, one.rate, f"{100 * one.error:.1f} points", percent(one.covered), _VERDICTS[one.is_held]]
        for one in verified_rates(facts)
    ]
    held = ", ".join(facts.get("verified_families", [])) or "none"
    said = (
        f"A stress pass ran the model on {facts['n_copies']:,} corrupted copies of {facts['n_originals']:,} inputs. "
        f"Each family of corruptions was left out in turn and then estimated. Verified: {held}."
    )
    more = f" The interval did not hold on: {', '.join(missed)}." if missed else ""
    head = ["family left out", "estimate of", "off by, on average", "interval held", ""]
    return tag("div", title, tag("p", said + more), table(head, lines, caption="Windows of copies, labels known."))
