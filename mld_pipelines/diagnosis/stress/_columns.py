"""The 32 statistics by which the stress map judges a window.

The first 29 rise with its error rate. The last three tell where features moved to, and may count either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis.stress._state import SHIFT_SCORES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.diagnosis._window import WindowState
    from mld_pipelines.diagnosis._window_estimate import Opinions
    from mld_pipelines.diagnosis.stress._state import StressWindowState, WindowBaseline

__all__ = ["COLUMNS", "MONOTONE_COLUMNS", "clipped_logit", "expit", "window_columns"]

#: Names in the order of every column matrix. The first is the base that the map's ridge pulls to.
COLUMNS = (
    "stressed_ep",
    "mean_ep",
    "atc_ep",
    "atc_mc",
    "msp_t",
    "codes",
    "nuclear_norm",
    "class_histogram",
    "feature_shift",
    "feature_spread",
    "unseen",
    *(f"z_{name}" for name in SHIFT_SCORES),
    *(f"tail_{name}" for name in SHIFT_SCORES),
    "feature_mean",
    "feature_gain",
    "feature_energy",
)
#: Columns whose weight may not be negative; the others are signed. (Window error over the best peer's on photographs,
#: tested family left out, two seeds: 0.68 without signed columns, 0.64 with them; on seven small models unchanged.)
MONOTONE_COLUMNS = len(COLUMNS) - 3
#: Rates are clipped here before their logit: a window of 500 cannot tell 0 from 0.002.
RATE_FLOOR = 0.002
#: Added before a logarithm of a shift: below, differences are sampling noise.
SHIFT_FLOOR = 0.02
#: Added to a ratio of standard deviations, and to a mean square, before its logarithm.
RATIO_FLOOR = 1e-3


def window_columns(
    state: WindowState, stress: StressWindowState, opinions: Opinions, baseline: WindowBaseline
) -> NDArray[np.float64]:
    """The statistics of a window that is not empty, `(32,)`; NaN where its result has no such statistic.

    Args:
        state: The window.
        stress: Further sums of the same units.
        opinions: The single estimates of the window.
        baseline: The result's.
    """
    n = stress.n
    rates = [
        stress.sum_stressed_proba / n,
        opinions.mean_ep,
        opinions.atc_ep,
        opinions.atc_mc,
        opinions.msp_t,
        np.nan if opinions.codes is None else opinions.codes,
    ]
    histogram = 0.5 * np.abs(stress.predicted_counts / n - stress.sum_probabilities / n).sum()
    unseen = np.nan if opinions.unseen_share is None else np.sqrt(state.n_unseen / state.n)
    shift, direction = _feature_shift(stress, baseline)
    shapes = [-_nuclear_norm(stress), histogram, *shift, unseen]
    tails = np.where(np.isfinite(baseline.score_tail), np.sqrt(stress.n_tail / n), np.nan)
    return np.concatenate([clipped_logit(rates), shapes, stress.sum_scores / n, tails, direction])


def clipped_logit(rate: ArrayLike) -> NDArray[np.float64]:
    """`logit(clip(p, .002, .998))`, NaN kept."""
    clipped = np.clip(np.asarray(rate, dtype=np.float64), RATE_FLOOR, 1.0 - RATE_FLOOR)
    return np.log(clipped) - np.log1p(-clipped)


def expit(log_odds: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + e^−x) without overflow."""
    values = np.asarray(log_odds, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0.0, 1.0, small) / (1.0 + small)


def _nuclear_norm(stress: StressWindowState) -> float:
    """Σ of the singular values of P over √(n·min(n, K)) (Cui et al. 2020); NaN above 64 classes."""
    if not stress.sum_products.size:
        return float("nan")
    width = len(stress.sum_probabilities)
    products = np.zeros((width, width))
    upper = np.triu_indices(width)
    products[upper] = stress.sum_products
    # `eigvalsh` reads one triangle only.
    values = np.linalg.eigvalsh(products, UPLO="U")
    return float(np.sqrt(np.maximum(values, 0.0)).sum() / np.sqrt(stress.n * min(stress.n, width)))


def _feature_shift(
    stress: StressWindowState, baseline: WindowBaseline
) -> tuple[tuple[float, float], tuple[float, float, float]]:
    """How far features moved, and in which direction, over those that live.

    Returns:
        Logarithms of the rms z-shift of their means and of the mean |ln ratio| of their standard deviations; then the
        mean z-shift, the mean ln ratio, and the logarithm of the mean squared z.
    """
    lives = baseline.feature_scale > 0.0
    if not stress.sum_features.size or not lives.any():
        return (np.nan, np.nan), (np.nan, np.nan, np.nan)
    means = stress.sum_features[lives] / stress.n
    squares = stress.sum_squares[lives] / stress.n
    gains = np.log(np.sqrt(np.maximum(squares - means**2, 0.0)) + RATIO_FLOOR)
    distance = float(np.log(np.sqrt(np.mean(means**2)) + SHIFT_FLOOR))
    energy = float(np.log(squares.mean() + RATIO_FLOOR))
    return (
        (distance, float(np.log(np.abs(gains).mean() + SHIFT_FLOOR))),
        (float(means.mean()), float(gains.mean()), energy),
    )
