"""The window estimate of the diagnosis room, fed from a stored state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mld_pipelines.diagnosis import WindowState, estimate_stressed_window, estimate_window
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.windows._shift import shift_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.diagnosis import WindowEstimate, WindowMap, WindowReference

__all__ = ["estimate_state"]


def estimate_state(
    state: dict[str, Any],
    reference: WindowReference,
    *,
    code_names: Sequence[str] | None = None,
    window_map: WindowMap | None = None,
) -> dict[str, Any]:
    """Return estimate, 90 % interval and badges of one state; nulls for a window without scored units.

    A window whose sums for the map are missing or incomplete keeps the default estimate and its badge.

    Args:
        state: A window state as a mapping of columns.
        reference: Window reference of the same result.
        code_names: Names of the codebook in its order, for the code-wise opinion; left out when None.
        window_map: What a stress pass taught about windows of the result.
    """
    estimate = _estimate(state, _sums(state, code_names), reference, window_map)
    opinions = estimate.opinions
    return {
        "error_rate_reference": reference.base_rate,
        "error_rate_estimated": estimate.error_rate,
        "error_rate_low": estimate.low,
        "error_rate_high": estimate.high,
        "error_rate_codes": opinions.codes if opinions is not None else None,
        "badges": list(estimate.badges),
    }


def _estimate(
    state: dict[str, Any], sums: WindowState, reference: WindowReference, window_map: WindowMap | None
) -> WindowEstimate:
    stress = None if window_map is None else shift_state(state)
    if window_map is not None and stress is not None:
        try:
            return estimate_stressed_window(sums, stress, reference=reference, window_map=window_map)
        except InvalidInputError:  # a column that the map uses is not there: no codes were stored for these units
            return estimate_window(sums, reference)
    return estimate_window(sums, reference)


def _sums(state: dict[str, Any], code_names: Sequence[str] | None) -> WindowState:
    by_name = dict(zip(state["codes"], state["code_counts"], strict=True))
    return WindowState(
        n=state["n_scored"],
        sum_error_proba=state["error_proba_sum"],
        n_above_ep=state["n_over_threshold"],
        sum_confidence=state["confidence_t_sum"],
        n_below_mc=state["n_below_confidence"],
        n_unseen=state["n_unseen"],
        n_invalid=state["n_invalid"],
        code_counts=tuple(by_name.get(name, 0) for name in code_names) if code_names and by_name else (),
    )
