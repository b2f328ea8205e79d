"""The error rate of any units by a stored result, as monitoring states it for a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mld_pipelines.diagnosis import estimate_stressed_window, estimate_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from mld_pipelines.diagnosis import ProductionScorer, WindowEstimate

__all__ = ["estimate_units"]


def estimate_units(
    scorer: ProductionScorer,
    *,
    logits: npt.NDArray[np.floating] | None = None,
    probabilities: npt.NDArray[np.floating] | None = None,
    features: npt.NDArray[np.floating] | None = None,
    keys: Sequence[str] | None = None,
    level: float = 0.9,
) -> WindowEstimate:
    """Estimate the error rate of units without their labels, with the stress map where the result has one.

    Units whose outputs or features are not finite are left out, and so is every unit if features are missing that the
    estimator needs: `n` says how many remain.

    Args:
        scorer: `load_scorer` of the result.
        logits: `(N, K)`.
        probabilities: `(N, K)`, used where the model gives no logits.
        features: `(N, d)`.
        keys: Unit keys, so that units of the bank are not their own neighbours.
        level: 0.8, 0.9 or 0.95.

    Raises:
        InvalidInputError: A width differs from what the result was fitted on, or another level was asked for.
    """
    outputs = {"logits": logits} if logits is not None else {"probabilities": probabilities}
    scored = scorer.score(**outputs, features=features, keys=keys)
    state = scorer.window_state(scored)
    if scorer.window_map is None:
        return estimate_window(state, scorer.window_reference, level=level)
    stress = scorer.stress_state(
        error_proba=scored.error_proba, risk_scores=scored.risk_scores, **outputs, features=features
    )
    return estimate_stressed_window(
        state, stress, reference=scorer.window_reference, window_map=scorer.window_map, level=level
    )
