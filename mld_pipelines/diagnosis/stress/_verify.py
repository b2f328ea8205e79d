"""What a map is worth on windows of corruptions that it has not seen: errors, weight, and width of the interval."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._window import WIDTH_FACTOR
from mld_pipelines.diagnosis.stress._map import BLENDS, FamilyError, blend
from mld_pipelines.diagnosis.stress._windows import CLEAN

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["choose_blend", "family_errors", "held_out_clean", "width_factor", "with_coverage"]

#: ½ is taken when its error is within 3 % of the smallest: on small models the best weight is decided by noise.
TIE = 1.03
#: Share of the verification's residuals that the interval must cover.
COVERED = 0.9


def held_out_clean(families: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Which of the clean windows are left out together and predicted by the others: every other one.

    Args:
        families: Family of each window, (W,).
    """
    half = np.zeros(len(families), dtype=np.bool_)
    half[np.flatnonzero(families == CLEAN)[::2]] = True
    return half


def family_errors(
    families: NDArray[np.str_],
    log_odds: NDArray[np.float64],
    *,
    defaults: NDArray[np.float64],
    truths: NDArray[np.float64],
) -> dict[str, FamilyError]:
    """Mean absolute errors of every weight on the windows of each family, sorted by name.

    Args:
        families: Family of each window, (W,).
        log_odds: Under a map that has not seen it; NaN where none was made.
        defaults: Its default estimate.
        truths: Its true rate.
    """
    errors = {}
    for family in sorted(set(families.tolist())):
        rows = np.isfinite(log_odds) & (families == family)
        default, half, full = (
            float(np.abs(blend(defaults[rows], log_odds[rows], weight) - truths[rows]).mean()) for weight in BLENDS
        )
        errors[family] = FamilyError(default, half, full, int(rows.sum()))
    return errors


def choose_blend(errors: dict[str, FamilyError]) -> float:
    """β ∈ {0, ½, 1} with the smallest error, families and clean windows counting one each; within 3 % ½."""
    table = np.array([[error.default, error.half, error.map] for error in errors.values()])
    means = table.mean(axis=0)
    return 0.5 if means[1] <= TIE * means.min() else BLENDS[int(means.argmin())]


def width_factor(residuals: NDArray[np.float64]) -> float:
    """The factor q = max(2, 90 % quantile of |p − B|/s over windows whose family was left out)."""
    return max(WIDTH_FACTOR, float(np.quantile(residuals[np.isfinite(residuals)], COVERED)))


def with_coverage(
    errors: dict[str, FamilyError], families: NDArray[np.str_], residuals: NDArray[np.float64], factor: float
) -> dict[str, FamilyError]:
    """Add the share of each family's windows that the interval held; the factor is one for all families together."""
    judged = np.isfinite(residuals)
    return {
        family: replace(error, covered=float((residuals[judged & (families == family)] <= factor).mean()))
        for family, error in errors.items()
    }
