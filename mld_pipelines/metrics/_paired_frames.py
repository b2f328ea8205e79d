"""Two detectors on the same frames: a paired bootstrap over frames, for boxes of a frame err together.

Formulas and their sources: docs/results.md#compare-detectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics._paired import McNemar, PairedDifference, bootstrapped, check_resampling
from mld_pipelines.metrics._resampling import resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FRAME_METRICS", "FrameSums", "compare_frames", "mcnemar_frames"]

#: Metrics in the order they are reported; +1 where more is better, −1 where less is, 0 where neither.
FRAME_METRICS = {"accuracy": 1, "precision": 1, "recall": 1, "f1": 1, "ate": -1, "mean_error_proba": 0}
_TEST = "paired bootstrap over frames"
_MAX_EXACT_CELLS = 20_000_000
"""Frames times objects up to which the exact test is computed, a fraction of a second; beyond, its limit serves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameSums:
    """What one detector made of F frames; all `(F,)`.

    Attributes:
        predictions: Kept predictions.
        hits: True positives among them, which is also the number of objects found.
        missed: Objects that no prediction found and none is mistaken about.
        objects: True objects.
        ate: Sum of the translation errors of the true positives, metres.
        scored: Predictions with an error probability.
        error_proba: Sum of their error probabilities.
    """

    predictions: NDArray[np.float64]
    hits: NDArray[np.float64]
    missed: NDArray[np.float64]
    objects: NDArray[np.float64]
    ate: NDArray[np.float64]
    scored: NDArray[np.float64]
    error_proba: NDArray[np.float64]

    def fractions(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return summands of numerator and denominator of every metric, in the order of `FRAME_METRICS`."""
        return {
            "accuracy": (self.hits, self.predictions + self.missed),
            "precision": (self.hits, self.predictions),
            "recall": (self.hits, self.objects),
            "f1": (2 * self.hits, self.predictions + self.objects),
            "ate": (self.ate, self.hits),
            "mean_error_proba": (self.error_proba, self.scored),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Fractions:
    """Fractions of sums over frames of both models.

    Attributes:
        names: Metrics.
        above: Summands of the numerators, `(F, 2 · metrics)`, the models side by side.
        below: Summands of the denominators.
    """

    names: tuple[str, ...]
    above: NDArray[np.float64]
    below: NDArray[np.float64]

    def points(self) -> NDArray[np.float64]:
        """Values on the frames themselves."""
        (values,) = self.evaluate(np.ones((1, len(self.above))))
        return np.asarray(values)

    def evaluate(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values under counts; NaN where there is nothing to divide by."""
        drawn = counts.astype(np.float64)
        above, below = drawn @ self.above, drawn @ self.below
        values = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
        return values.reshape(len(drawn), len(self.names), 2)


def compare_frames(
    before: FrameSums, after: FrameSums, *, n_boot: int = 1000, seed: int = 0, level: float = 0.95
) -> list[PairedDifference]:
    """Compare two detectors on F ≥ 1 labelled frames; no interval below 30 frames.

    Whole frames are drawn with replacement, the same for both detectors, and every metric is a fraction of sums.

    Args:
        before: The first detector.
        after: The second, on the same frames in the same order.
        n_boot: Resamples, at least 100.
        seed: Their seed.
        level: Level of the intervals.

    Raises:
        InvalidInputError: No frame, other frames, too few resamples or a level outside (0.5, 1).
    """
    n = len(before.predictions)
    if len(after.predictions) != n:
        raise InvalidInputError(f"{n} and {len(after.predictions)} frames cannot be compared; they must be the same.")
    draws = check_resampling(n, n_boot=n_boot, seed=seed, level=level)
    pairs = [(one, other) for one, other in zip(before.fractions().values(), after.fractions().values(), strict=True)]
    statistic = _Fractions(
        tuple(FRAME_METRICS),
        np.stack([side[0] for pair in pairs for side in pair], axis=1),
        np.stack([side[1] for pair in pairs for side in pair], axis=1),
    )
    values = resample([statistic], n, n_boot=draws, seed=seed)
    return [bootstrapped(name, n, *values[name], level=level, test=_TEST) for name in FRAME_METRICS]


def mcnemar_frames(fixed: NDArray[np.int64], broken: NDArray[np.int64]) -> McNemar:
    """McNemar's test of objects that come in frames: were the two detectors exchangeable, frame by frame?

    Exact: in each frame the difference fixed − broken is as likely as its negative, so that the sum of all differences
    has a known distribution. Where no frame holds more than one discordant object, that is McNemar's exact test. For
    very many frames χ² = (Σd)² / Σd² with one degree of freedom (Obuchowski 1998).

    Args:
        fixed: (F,) objects of each frame that only the second detector found.
        broken: (F,) those that only the first found.

    Raises:
        InvalidInputError: The lengths differ or a count is negative.

    Example:
        >>> mcnemar_frames(np.array([4, 4, 0]), np.array([0, 0, 1])).p_value
        0.5
    """
    gained, lost = np.asarray(fixed, np.int64), np.asarray(broken, np.int64)
    if gained.shape != lost.shape or gained.ndim != 1 or (gained < 0).any() or (lost < 0).any():
        raise InvalidInputError(
            f"fixed {gained.shape} and broken {lost.shape} must be counts of the same frames, none negative."
        )
    counts = int(gained.sum()), int(lost.sum())
    difference = gained - lost
    sizes = np.abs(difference[difference != 0])
    total = int(difference.sum())
    if len(sizes) * int(sizes.sum()) <= _MAX_EXACT_CELLS:
        p = _sign_flip(sizes, abs(total))
        return McNemar(fixed=counts[0], broken=counts[1], statistic=float(abs(total)), p_value=p,
                       method="mcnemar by frames exact")  # fmt: skip
    from scipy.special import chdtrc

    statistic = total**2 / float((sizes.astype(np.float64) ** 2).sum())
    return McNemar(fixed=counts[0], broken=counts[1], statistic=statistic, p_value=float(chdtrc(1.0, statistic)),
                   method="mcnemar by frames chi2")  # fmt: skip


def _sign_flip(sizes: NDArray[np.int64], observed: int) -> float:
    """Return P(|Σ ± size| ≥ observed) with signs that fall like fair coins."""
    if observed == 0:
        return 1.0
    reach = int(sizes.sum())
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1.0
    for size in sizes.tolist():
        chances = 0.5 * (np.roll(chances, size) + np.roll(chances, -size))
    tail = float(chances[reach + observed :].sum())
    return min(1.0, 2.0 * tail)
