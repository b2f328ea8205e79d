"""What a stress pass verified, rate by rate: a classifier has one rate, a detector precision and recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["VerifiedRate", "verified_rates"]

_PUBLISHED = {0.0: "default", 0.5: "half", 1.0: "map"}
"""Estimate that is published at each weight of the map."""

_CLEAN = "clean"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRate:
    """How far one estimate was off on one family of corruptions when it was left out.

    Attributes:
        family: The family, `clean` for windows without a corruption.
        rate: `error rate`, `precision` or `recall`.
        error: Mean absolute error of the published estimate.
        covered: Share of the windows that the interval held; None in results of earlier versions.
        is_held: Whether the family counts as verified; None for clean windows, which show no shift.
        map_weight: β of that rate.
        width_factor: q of that rate.
    """

    family: str
    rate: str
    error: float
    covered: float | None
    is_held: bool | None
    map_weight: float
    width_factor: float


def verified_rates(facts: Mapping[str, Any]) -> Iterator[VerifiedRate]:
    """Yield what was verified, family by family.

    Args:
        facts: Of one epoch, from `StoredResult.verifications`.
    """
    weights, factors = facts["blend_weight"], facts["width_factor"]
    missed = facts.get("missed_families", [])
    for family, errors in facts["families"].items():
        by_rate = errors if isinstance(weights, dict) else {"error rate": errors}
        for rate, error in by_rate.items():
            weight = weights[rate] if isinstance(weights, dict) else weights
            yield VerifiedRate(
                family=family,
                rate=rate,
                error=error[_PUBLISHED[weight]],
                covered=error.get("covered"),
                is_held=None if family == _CLEAN else family not in missed,
                map_weight=weight,
                width_factor=factors[rate] if isinstance(factors, dict) else factors,
            )
