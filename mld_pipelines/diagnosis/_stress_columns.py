"""The 29 statistics by which the stress map judges a window, all rising with its error rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._stress_state import SHIFT_SCORES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.diagnosis._stress_state import StressWindowState, WindowBaseline
    from mld_pipelines.diagnosis._window import WindowState
    from mld_pipelines.diagnosis._window_estimate import Opinions

__all__ = ["COLUMNS", "clipped_logit", "expit", "window_columns"]

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
)
#: Rates are clipped here before their logit: a window of 500 cannot tell 0 from 0.002.
RATE_FLOOR = 0.002
#: Added before a logarithm of a shift: below, differences are sampling noise.
SHIFT_FLOOR = 0.02
#: Added to a ratio of standard deviations before its logarithm.
RATIO_FLOOR = 1e-3


def window_columns(
    state: WindowState, stress: StressWindowState, opinions: Opinions, baseline: WindowBaseline
) -> NDArray[np.float64]:
    """The statistics of a window that is not empty, `(29,)`; NaN where its result has no such statistic.

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
    shapes = [-_nuclear_norm(stress), histogram, *_feature_shift(stress, baseline), unseen]
    tails = np.where(np.isfinite(baseline.score_tail), np.sqrt(stress.n_tail / n), np.nan)
    return np.concatenate([clipped_logit(rates), shapes, stress.sum_scores / n, tails])


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


def _feature_shift(stress: StressWindowState, baseline: WindowBaseline) -> tuple[float, float]:
    """How far feature means moved (rms z) and standard deviations changed (mean |ln ratio|), as logarithms."""
    lives = baseline.feature_scale > 0.0
    if not stress.sum_features.size or not lives.any():
        return float("nan"), float("nan")
    means = stress.sum_features[lives] / stress.n
    variances = np.maximum(stress.sum_squares[lives] / stress.n - means**2, 0.0)
    spread = np.abs(np.log(np.sqrt(variances) + RATIO_FLOOR)).mean()
    return float(np.log(np.sqrt(np.mean(means**2)) + SHIFT_FLOOR)), float(np.log(spread + SHIFT_FLOOR))
