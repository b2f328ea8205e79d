"""The stress map: error rate of a window as learned from corrupted copies, blended with the default estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis import _badges
from mld_pipelines.diagnosis._artifact import load_artifact, pack_artifact
from mld_pipelines.diagnosis._monolr import ScoreModel
from mld_pipelines.diagnosis._window_estimate import (
    MIN_UNITS_FOR_ALERT,
    MIN_UNITS_FOR_ATC,
    combine_opinions,
    estimate_window,
    window_interval,
)
from mld_pipelines.diagnosis.stress._columns import COLUMNS, clipped_logit, expit, window_columns
from mld_pipelines.diagnosis.stress._ridge import WindowRidge
from mld_pipelines.diagnosis.stress._state import StressWindowState, WindowBaseline, stress_window_state
from mld_pipelines.diagnosis.stress._windows import CLEAN
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._window import WindowReference, WindowState
    from mld_pipelines.diagnosis._window_estimate import WindowEstimate
    from mld_pipelines.diagnosis.stress._units import WindowUnits

__all__ = ["BLENDS", "RUN_AGAIN", "FamilyError", "WindowMap", "blend", "estimate_stressed_window"]

KIND = "window_map"
FORMAT_VERSION = 1
RUN_AGAIN = "Run the stress pass again."
"""What to do where a map cannot be read."""

#: Weights of the map that a fit chooses from.
BLENDS = (0.0, 0.5, 1.0)
#: Share of a family's windows that the interval must hold before the family counts as verified. The interval holds 90 %
#: of all families together; 22 or fewer of 30 windows would then be chance in one family of a hundred.
VERIFIED_COVERAGE = 0.75


@dataclass(frozen=True, slots=True)
class FamilyError:
    """Mean absolute error on windows of a family that the fit had not seen.

    Attributes:
        default: Of the default estimate.
        half: Of the mean, in logits, of default and map.
        map: Of the map.
        n_windows: Windows behind them.
        covered: Share of these windows whose error rate lay in the 90 % interval of the published estimate; None in
            maps of earlier versions.
    """

    default: float
    half: float
    map: float
    n_windows: int
    covered: float | None = None

    @property
    def is_verified(self) -> bool:
        """Whether the interval held on this family."""
        return self.covered is None or self.covered >= VERIFIED_COVERAGE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowMap:
    """What a stress pass taught about windows of one result.

    Attributes:
        ridge: Map from the 32 columns to the logit of the error rate.
        stressed_model: Error probability of a unit, fitted on stressed copies as well (EPv).
        baseline: Scores and features of the reference.
        blend_weight: β, weight of the map in the published estimate: 0, ½ or 1.
        width_factor: q at 90 %, at least 2.
        family_errors: Verification by family left out, `"clean"` among them.
        stress_version: Version of the stress pass.
        n_sets: Corrupted sets it was fitted on.
        temperature: Of the window reference it belongs to.
        threshold_ep: The same.
        threshold_mc: The same.
    """

    ridge: WindowRidge
    stressed_model: ScoreModel
    baseline: WindowBaseline
    blend_weight: float
    width_factor: float
    family_errors: Mapping[str, FamilyError]
    stress_version: str
    n_sets: int
    temperature: float
    threshold_ep: float
    threshold_mc: float

    @property
    def verified_families(self) -> tuple[str, ...]:
        """Families on which the interval held when they were left out, sorted."""
        return tuple(sorted(name for name, error in self.family_errors.items() if name != CLEAN and error.is_verified))

    @property
    def missed_families(self) -> tuple[str, ...]:
        """Families on which it did not, sorted."""
        return tuple(sorted(set(self.family_errors) - {CLEAN, *self.verified_families}))

    def state(self, units: WindowUnits) -> StressWindowState:
        """Sums of a window's units, to be added to those of other windows of this result."""
        proba = self.stressed_model.probability(units.risk_scores)
        return stress_window_state(self.baseline, units, stressed_proba=proba)

    def verify(self, reference: WindowReference) -> WindowReference:
        """The window reference with this map's q, and with its stress version if it verified any family.

        Raises:
            InvalidInputError: The map was fitted for another result.
        """
        own = (self.temperature, self.threshold_ep, self.threshold_mc)
        if own != (reference.temperature, reference.threshold_ep, reference.threshold_mc):
            raise InvalidInputError(
                "the stress map and the window reference belong to different results; nothing was estimated. Load "
                "both from one result."
            )
        version = self.stress_version if self.verified_families else None
        return replace(reference, width_factor=self.width_factor, stress_version=version)

    def to_bytes(self) -> bytes:
        """The map as safetensors bytes; equal state gives equal bytes."""
        names = (
            "blend_weight", "width_factor", "stress_version", "n_sets", "temperature", "threshold_ep", "threshold_mc",
        )  # fmt: skip
        errors = {
            family: [error.default, error.half, error.map, error.n_windows, error.covered]
            for family, error in self.family_errors.items()
        }
        parameters = {
            **{name: getattr(self, name) for name in names},
            "columns": list(COLUMNS),
            "n_classes": self.baseline.n_classes,
            "family_errors": errors,
        }
        tensors = {**self.ridge.to_arrays(), **self.stressed_model.to_arrays(), **self.baseline.to_arrays()}
        return pack_artifact(KIND, FORMAT_VERSION, tensors=tensors, parameters=parameters)

    @classmethod
    def from_bytes(cls, data: bytes) -> WindowMap:
        """The map that `to_bytes` wrote, bit for bit.

        Raises:
            CorruptArtifactError: The bytes are damaged, foreign or newer than this code.
        """
        return load_artifact(data, kind=KIND, version=FORMAT_VERSION, build=cls._from_state, remedy=RUN_AGAIN)

    @classmethod
    def _from_state(cls, tensors: Mapping[str, NDArray[Any]], values: dict[str, Any]) -> WindowMap:
        if tuple(values.pop("columns")) != COLUMNS:
            raise ValueError("other window columns")
        return cls(
            ridge=WindowRidge.from_arrays(tensors),
            stressed_model=ScoreModel.from_arrays(tensors),
            baseline=WindowBaseline.from_arrays(tensors, n_classes=values.pop("n_classes")),
            family_errors={name: FamilyError(*error) for name, error in values.pop("family_errors").items()},
            **values,
        )


def blend(default: NDArray[np.float64], log_odds: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """`σ((1 − β) lg(default) + β lg(map))`; the default itself for β = 0."""
    if weight == 0.0:
        return default
    return expit((1.0 - weight) * clipped_logit(default) + weight * clipped_logit(expit(log_odds)))


def estimate_stressed_window(
    state: WindowState,
    stress: StressWindowState,
    *,
    reference: WindowReference,
    window_map: WindowMap,
    level: float = 0.9,
) -> WindowEstimate:
    """Estimate a window's error rate with what a stress pass taught (docs/method.md#window).

    Below 50 units the default estimate stands alone, with the map's wider interval.

    Args:
        state: The window, or the sum of several.
        stress: Further sums of the same units.
        reference: The result's window reference.
        window_map: The result's stress map.
        level: 0.8, 0.9 or 0.95.

    Raises:
        InvalidInputError: Level, result or units do not fit together.
    """
    verified = window_map.verify(reference)
    plain = estimate_window(state, verified, level=level)
    if window_map.verified_families and window_map.missed_families:
        plain = replace(plain, badges=(*plain.badges, _badges.PARTLY_VERIFIED))
    if state.n != stress.n:
        raise InvalidInputError(
            f"the window's states count {state.n} and {stress.n} units; nothing was estimated. Pass sums of the same "
            "units."
        )
    if plain.opinions is None or state.n < MIN_UNITS_FOR_ATC or window_map.blend_weight == 0.0:
        return plain
    columns = window_columns(state, stress, plain.opinions, window_map.baseline)
    default, spread = combine_opinions(plain.opinions, state, verified)
    log_odds = window_map.ridge.log_odds(columns[np.newaxis])
    rate = float(blend(np.array([default]), log_odds, window_map.blend_weight)[0])
    low, high = window_interval(rate, spread, state, verified, level=level)
    is_alert = state.n >= MIN_UNITS_FOR_ALERT and low > verified.base_rate
    return replace(plain, error_rate=rate, low=low, high=high, is_alert=is_alert)
