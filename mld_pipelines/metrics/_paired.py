"""Two models on the same units: paired tests of accuracy and a paired bootstrap of everything else.

Formulas and their sources: docs/results.md#compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._resampling import LinearStatistics, MacroF1, RankStatistic, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.metrics._resampling import Statistic

__all__ = [
    "PAIRED_METRICS",
    "McNemar",
    "ModelOutcomes",
    "PairedDifference",
    "bootstrapped",
    "check_resampling",
    "compare_paired",
    "mcnemar",
]

#: Discordant pairs from which McNemar's test uses chi-squared: from 25 to 200 pairs the two p-values then differ by at
#: most 0.0023 wherever p < 0.2 (computed for every split), and by 0.0054 below.
MIN_DISCORDANT_FOR_CHI2 = 25
#: Units from which a bootstrap interval is given: below, resamples hardly differ from the sample.
MIN_UNITS_FOR_BOOTSTRAP = 30
#: Share of resamples in which a statistic must exist for its interval to be given.
MIN_DEFINED_SHARE = 0.95

#: Metrics in the order they are reported; +1 where more is better, −1 where less is, 0 where neither.
PAIRED_METRICS = {
    "accuracy": 1,
    "macro_f1": 1,
    "mean_loss": -1,
    "mean_entropy": 0,
    "ece": -1,
    "confidence_auroc": 1,
    "mean_error_proba": 0,
    "error_proba_ece": -1,
    "error_proba_auroc": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """McNemar's test of equal error rates on the same units.

    Attributes:
        fixed: Units wrong before and right after.
        broken: Units right before and wrong after.
        statistic: The smaller count (exact) or chi-squared with one degree of freedom.
        p_value: Two-sided.
        method: `"mcnemar exact"` or `"mcnemar chi2"`.
    """

    fixed: int
    broken: int
    statistic: float
    p_value: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelOutcomes:
    """What one model made of N units.

    Attributes:
        prediction: Class index, `(N,)`.
        confidence: Largest probability, `(N,)`.
        entropy: Nats, `(N,)`.
        loss: Nats, `(N,)`.
        error_proba: P(wrong), `(N,)`; NaN where there is none.
    """

    prediction: NDArray[np.int64]
    confidence: NDArray[np.float64]
    entropy: NDArray[np.float64]
    loss: NDArray[np.float64]
    error_proba: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """One metric of two models on the same units; None where it is undefined or there is too little evidence.

    Attributes:
        metric: Name, a key of `PAIRED_METRICS`.
        n: Units.
        before: Value of the first model.
        after: Value of the second.
        delta: `after − before`.
        low: Lower end of the interval of `delta`.
        high: Upper end.
        p_value: Two-sided p of "no difference", not adjusted for the number of metrics.
        test: What the p-value is of.
    """

    metric: str
    n: int
    before: float | None
    after: float | None
    delta: float | None
    low: float | None
    high: float | None
    p_value: float | None
    test: str


def mcnemar(fixed: int, broken: int) -> McNemar:
    """McNemar's test: exact binomial below 25 discordant pairs, else chi-squared with continuity correction.

    Args:
        fixed: Pairs wrong before and right after.
        broken: Pairs right before and wrong after.

    Raises:
        InvalidInputError: A count is negative.

    Example:
        >>> mcnemar(8, 1).p_value
        0.0390625
    """
    if fixed < 0 or broken < 0:
        raise InvalidInputError(f"counts of discordant pairs must not be negative, got {fixed} and {broken}.")
    from scipy.special import bdtr, chdtrc

    total, smaller = fixed + broken, min(fixed, broken)
    if total < MIN_DISCORDANT_FOR_CHI2:
        p = min(1.0, 2.0 * float(bdtr(smaller, total, 0.5))) if total else 1.0
        return McNemar(fixed=fixed, broken=broken, statistic=float(smaller), p_value=p, method="mcnemar exact")
    statistic = max(abs(fixed - broken) - 1.0, 0.0) ** 2 / total
    p = float(chdtrc(1.0, statistic))
    return McNemar(fixed=fixed, broken=broken, statistic=statistic, p_value=p, method="mcnemar chi2")


def compare_paired(
    labels: NDArray[np.int64],
    before: ModelOutcomes,
    after: ModelOutcomes,
    *,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[PairedDifference]:
    """Compare two models on N ≥ 1 labelled units.

    Accuracy: McNemar's p and the interval of Bonett and Price (2012). Everything else: percentiles of a paired
    bootstrap over units, p = twice the smaller tail beyond 0 (never below `2 / (n_boot + 1)`); none below 30 units.

    Args:
        labels: Class indices, `(N,)`.
        before: The first model.
        after: The second, on the same units in the same order.
        n_boot: Resamples, at least 100.
        seed: Seed of the resamples.
        level: Level of the intervals.

    Raises:
        InvalidInputError: No unit, too few resamples or a level outside (0.5, 1).
    """
    n = len(labels)
    draws = check_resampling(n, n_boot=n_boot, seed=seed, level=level)
    values = resample(_statistics(labels, before, after), n, n_boot=draws, seed=seed)
    rest = [bootstrapped(name, n, *values[name], level=level) for name in PAIRED_METRICS if name in values]
    return [_accuracy(labels, before, after, level), *rest]


def check_resampling(n: int, *, n_boot: int, seed: int, level: float) -> int:
    """Return how many resamples are drawn of n units: none of too few.

    Args:
        n: Units.
        n_boot: Resamples wanted.
        seed: Their seed.
        level: Level of the intervals.

    Raises:
        InvalidInputError: No unit, too few resamples, a seed that is none, or a level outside (0.5, 1).
    """
    if not n:
        raise InvalidInputError("two models cannot be compared on no unit.")
    if not isinstance(n_boot, Integral) or n_boot < 100:
        raise InvalidInputError(f"n_boot is {n_boot!r}; percentiles need a whole number of at least 100 resamples.")
    if not isinstance(seed, Integral) or seed < 0:
        raise InvalidInputError(f"seed is {seed!r}; it must be a whole number of at least 0.")
    if not isinstance(level, Real) or not 0.5 < level < 1.0:
        raise InvalidInputError(f"level is {level!r}; it must lie between 0.5 and 1.")
    return int(n_boot) if n >= MIN_UNITS_FOR_BOOTSTRAP else 0


def _accuracy(labels: NDArray[np.int64], before: ModelOutcomes, after: ModelOutcomes, level: float) -> PairedDifference:
    from scipy.special import ndtri

    n = len(labels)
    right_before, right_after = before.prediction == labels, after.prediction == labels
    fixed, broken = int((~right_before & right_after).sum()), int((right_before & ~right_after).sum())
    test = mcnemar(fixed, broken)
    # Bonett & Price: one pair is added to each discordant cell.
    gained, lost = (fixed + 1.0) / (n + 2.0), (broken + 1.0) / (n + 2.0)
    half = float(ndtri((1.0 + level) / 2.0)) * math.sqrt((gained + lost - (gained - lost) ** 2) / (n + 2.0))
    return PairedDifference(
        metric="accuracy",
        n=n,
        before=float(right_before.mean()),
        after=float(right_after.mean()),
        delta=(fixed - broken) / n,
        low=max(-1.0, gained - lost - half),
        high=min(1.0, gained - lost + half),
        p_value=test.p_value,
        test=test.method,
    )


def _statistics(labels: NDArray[np.int64], before: ModelOutcomes, after: ModelOutcomes) -> list[Statistic]:
    pair = (before, after)
    wrong = [model.prediction != labels for model in pair]
    means = {"mean_loss": [model.loss for model in pair], "mean_entropy": [model.entropy for model in pair]}
    calibrations = {"ece": [(model.confidence, ~errors) for model, errors in zip(pair, wrong, strict=True)]}
    ranks = [RankStatistic.of("confidence_auroc", [-model.confidence for model in pair], wrong)]
    if all(np.isfinite(model.error_proba).all() for model in pair):
        proba = [model.error_proba for model in pair]
        means["mean_error_proba"] = proba
        calibrations["error_proba_ece"] = list(zip(proba, wrong, strict=True))
        ranks.append(RankStatistic.of("error_proba_auroc", proba, wrong))
    f1 = MacroF1.of(labels, [model.prediction for model in pair])
    return [f1, LinearStatistics.of(means, calibrations), *ranks]


def bootstrapped(
    metric: str,
    n: int,
    points: NDArray[np.float64],
    samples: NDArray[np.float64],
    *,
    level: float,
    test: str = "paired bootstrap",
) -> PairedDifference:
    """Return percentile interval and p of one metric.

    Args:
        metric: Its name.
        n: Units that were resampled.
        points: Values of both models, `(2,)`.
        samples: Values under resamples, `(B, 2)`.
        level: Level of the interval.
        test: What the p-value is of.
    """
    before, after = (float(point) if np.isfinite(point) else None for point in points)
    delta = None if before is None or after is None else after - before
    deltas = samples[:, 1] - samples[:, 0]
    deltas = deltas[np.isfinite(deltas)]
    low = high = p_value = None
    if delta is not None and len(deltas) and len(deltas) >= MIN_DEFINED_SHARE * len(samples):
        low, high = (float(bound) for bound in np.quantile(deltas, [(1.0 - level) / 2.0, (1.0 + level) / 2.0]))
        tail = min(int((deltas <= 0.0).sum()), int((deltas >= 0.0).sum()))
        p_value = min(1.0, 2.0 * (tail + 1.0) / (len(deltas) + 1.0))
    return PairedDifference(
        metric=metric, n=n, before=before, after=after, delta=delta, low=low, high=high, p_value=p_value,
        test=test,
    )  # fmt: skip
