"""What a stress pass taught about windows of a detector: how both rates err under shift, and the width it takes.

The default rates of a window are blended, in logits, with those of a map that was fitted on windows of corrupted
frames, as for classifiers (docs/method.md#stress). Its columns are made of sums that every window has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis._artifact import load_artifact, pack_artifact
from mld_pipelines.diagnosis._window_estimate import MIN_UNITS_FOR_ATC
from mld_pipelines.diagnosis.stress._columns import clipped_logit
from mld_pipelines.diagnosis.stress._map import RUN_AGAIN, FamilyError, blend
from mld_pipelines.diagnosis.stress._ridge import WindowRidge
from mld_pipelines.diagnosis.stress._windows import CLEAN
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._rates import WindowRates
    from mld_pipelines.diagnosis.detection._window import DetectionWindowReference, DetectionWindowState

__all__ = ["MONOTONE_SHIFT_COLUMNS", "SHIFT_COLUMNS", "DetectionShiftMap", "RateMap", "is_corrected", "shift_columns"]

KIND = "detection_shift_map"
FORMAT_VERSION = 1
#: Names in the order of every column matrix. The first is the rate that is corrected, the second the other one.
SHIFT_COLUMNS = (
    "own_rate",
    "other_rate",
    "tail_errors",
    "tail_misses",
    "unseen",
    "boxes_per_frame",
    "candidates_per_frame",
)
#: Columns whose weight may not be negative: both rates rise with each. Boxes and candidates may count either way: a
#: detector loses boxes in fog and gains them in clutter.
MONOTONE_SHIFT_COLUMNS = 5
#: Added to counts per frame before their logarithm.
COUNT_FLOOR = 0.05


def shift_columns(
    rates: WindowRates, state: DetectionWindowState, reference: DetectionWindowReference
) -> NDArray[np.float64]:
    """The statistics of a window for both rates, (2, C): of false positives, then of objects not found.

    Args:
        rates: What the default rules say.
        state: The window, with at least one frame.
        reference: The result's window reference.
    """
    own = [np.nan if rate is None else rate for rate in (rates.worse.false_positive, rates.worse.miss)]
    tails = [
        np.nan if rates.tail.false_positive is None else rates.tail.false_positive,
        state.n_candidates_above / state.candidates if state.candidates else 0.0,
    ]
    unseen = np.sqrt(state.n_unseen / state.boxes) if state.boxes and reference.unseen_ref is not None else np.nan
    counts = [
        np.log((now / state.frames + COUNT_FLOOR) / (usual / reference.frames + COUNT_FLOOR))
        for now, usual in ((state.boxes, reference.boxes), (state.candidates, reference.clusters))
    ]
    both = [*clipped_logit([own, own[::-1]]).T]
    common = np.array([*clipped_logit(tails), unseen, *counts])
    return np.column_stack([*both, np.tile(common, (2, 1))])


def is_corrected(state: DetectionWindowState, reference: DetectionWindowReference) -> bool:
    """Whether a map says anything about a window: it has 50 boxes, and candidates where the reference had them.

    Args:
        state: The window.
        reference: The result's window reference.
    """
    return state.boxes >= MIN_UNITS_FOR_ATC and (state.candidates > 0 or not reference.clusters)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RateMap:
    """What was learned about one rate.

    Attributes:
        ridge: From the columns to the logit of the rate.
        blend_weight: β, weight of the map in the published rate: 0, ½ or 1.
        width_factor: q at 90 %, at least 2.
        family_errors: Verification by family left out, `"clean"` among them.
    """

    ridge: WindowRidge
    blend_weight: float
    width_factor: float
    family_errors: Mapping[str, FamilyError]

    def rate(self, default: float, columns: NDArray[np.float64]) -> float:
        """The published rate; the default where the map cannot speak.

        Args:
            default: By the default rule.
            columns: (C,) of the window.
        """
        used = self.ridge.weights != 0.0
        if self.blend_weight == 0.0 or not np.isfinite(columns[used]).all():
            return default
        log_odds = self.ridge.log_odds(columns[np.newaxis], names=SHIFT_COLUMNS)
        return float(blend(np.array([default]), log_odds, self.blend_weight)[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionShiftMap:
    """What a stress pass taught about windows of one result.

    Attributes:
        false_positives: Of the rate whose complement is precision.
        lost: Of the rate whose complement is recall.
        stress_version: Version of the stress pass.
        n_sets: Corrupted sets it was fitted on.
        threshold_ep: Of the window reference it belongs to.
        threshold_miss: The same.
    """

    false_positives: RateMap
    lost: RateMap
    stress_version: str
    n_sets: int
    threshold_ep: float
    threshold_miss: float

    @property
    def width_factors(self) -> tuple[float, float]:
        """Q of precision and of recall."""
        return self.false_positives.width_factor, self.lost.width_factor

    @property
    def verified_families(self) -> tuple[str, ...]:
        """Families on which both intervals held when they were left out, sorted."""
        parts = (self.false_positives.family_errors, self.lost.family_errors)
        held = [{name for name, error in part.items() if error.is_verified} for part in parts]
        return tuple(sorted(set.intersection(*held) - {CLEAN}))

    @property
    def missed_families(self) -> tuple[str, ...]:
        """Families on which one of them did not, sorted."""
        known = {*self.false_positives.family_errors, *self.lost.family_errors}
        return tuple(sorted(known - {CLEAN, *self.verified_families}))

    def check(self, reference: DetectionWindowReference) -> None:
        """Refuse the window reference of another result.

        Raises:
            InvalidInputError: The map was fitted for another result.
        """
        if (self.threshold_ep, self.threshold_miss) != (reference.threshold_ep, reference.threshold_miss):
            raise InvalidInputError(
                "the stress map and the window reference belong to different results; nothing was estimated. Load "
                "both from one result."
            )

    def published(
        self, rates: WindowRates, state: DetectionWindowState, reference: DetectionWindowReference
    ) -> tuple[float | None, float | None]:
        """Rates of false positives and of lost objects with what was learned; below 50 boxes the default ones.

        Those, too, where candidates cannot be seen that the reference had: the copies had them.

        Args:
            rates: What the default rules say.
            state: The window.
            reference: The result's window reference.
        """
        default = rates.worse.false_positive, rates.worse.miss
        if not is_corrected(state, reference):
            return default
        columns = shift_columns(rates, state, reference)
        one, other = (
            None if rate is None else part.rate(rate, own)
            for rate, part, own in zip(default, (self.false_positives, self.lost), columns, strict=True)
        )
        return one, other

    def to_bytes(self) -> bytes:
        """The map as safetensors bytes; equal state gives equal bytes."""
        parts = {"false_positives": self.false_positives, "lost": self.lost}
        tensors = {
            f"{name}.{key}": value for name, part in parts.items() for key, value in part.ridge.to_arrays().items()
        }
        parameters: dict[str, Any] = {
            "columns": list(SHIFT_COLUMNS),
            **{name: getattr(self, name) for name in ("stress_version", "n_sets", "threshold_ep", "threshold_miss")},
            **{name: _parameters(part) for name, part in parts.items()},
        }
        return pack_artifact(KIND, FORMAT_VERSION, tensors=tensors, parameters=parameters)

    @classmethod
    def from_bytes(cls, data: bytes) -> DetectionShiftMap:
        """The map that `to_bytes` wrote, bit for bit.

        Raises:
            CorruptArtifactError: The bytes are damaged, foreign or newer than this code.
        """
        return load_artifact(data, kind=KIND, version=FORMAT_VERSION, build=cls._from_state, remedy=RUN_AGAIN)

    @classmethod
    def _from_state(cls, tensors: Mapping[str, NDArray[Any]], values: dict[str, Any]) -> DetectionShiftMap:
        if tuple(values.pop("columns")) != SHIFT_COLUMNS:
            raise ValueError("other window columns")
        return cls(
            false_positives=_rate_map("false_positives", values.pop("false_positives"), tensors),
            lost=_rate_map("lost", values.pop("lost"), tensors),
            **values,
        )


def _parameters(part: RateMap) -> dict[str, Any]:
    errors = {
        family: [error.default, error.half, error.map, error.n_windows, error.covered]
        for family, error in part.family_errors.items()
    }
    return {"blend_weight": part.blend_weight, "width_factor": part.width_factor, "family_errors": errors}


def _rate_map(name: str, values: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> RateMap:
    own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    return RateMap(
        ridge=WindowRidge.from_arrays(own),
        blend_weight=values["blend_weight"],
        width_factor=values["width_factor"],
        family_errors={family: FamilyError(*error) for family, error in values["family_errors"].items()},
    )
