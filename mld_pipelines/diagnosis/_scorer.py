"""Scoring of production units by a stored result: one function for the Logger, the asset and the SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mld_pipelines.diagnosis._categories import RECESSIVE
from mld_pipelines.diagnosis._codebook import UNCODED, UNSEEN_INDEX
from mld_pipelines.diagnosis._temperature import tempered_confidence
from mld_pipelines.diagnosis._window import window_state
from mld_pipelines.diagnosis.stress._state import StressWindowState
from mld_pipelines.diagnosis.stress._units import window_units
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import unit_statistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._codebook import CodeAssignment, Codebook
    from mld_pipelines.diagnosis._estimator import ErrorEstimator
    from mld_pipelines.diagnosis._window import WindowReference, WindowState
    from mld_pipelines.diagnosis.stress._map import WindowMap

__all__ = ["ProductionScorer", "ScoredUnits"]

T = TypeVar("T")
_LARGEST = float(np.finfo(np.float32).max)
#: Units of a stress state at once: their tempered outputs and projected features are float64 matrices.
CHUNK_UNITS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredUnits:
    """Score columns of N units; a unit that could not be scored has NaN and None everywhere.

    Attributes:
        error_proba: P(the prediction is wrong), `(N,)` float32.
        error_code: Name of the error code, N entries.
        category: Issue category of that code, N entries.
        is_aleatoric: Whether the code is an aleatoric hotspot, N entries.
        support_distance: Distance to the code's centroid, `(N,)` float32; NaN without a codebook.
        risk_scores: The ten scores, `(N, 10)` float32; NaN where one cannot be computed.
        confidence_t: Largest probability at the result's temperature, `(N,)` float32.
        is_invalid: Units whose outputs or features hold NaN or infinity, `(N,)`.
    """

    error_proba: NDArray[np.float32]
    error_code: list[str | None]
    category: list[str | None]
    is_aleatoric: list[bool | None]
    support_distance: NDArray[np.float32]
    risk_scores: NDArray[np.float32]
    confidence_t: NDArray[np.float32]
    is_invalid: NDArray[np.bool_]

    @property
    def n_invalid(self) -> int:
        """Units that no estimate includes because they are not finite."""
        return int(self.is_invalid.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProductionScorer:
    """Everything a result needs to score a unit without its label.

    Attributes:
        result_name: The result.
        estimator_version: Identifies the stored estimator.
        fingerprint: Weights the estimator belongs to.
        codebook: None while the reference was too small for one.
        estimator: Error estimator.
        issues: `error_code → (category, is_aleatoric)`.
        window_reference: Thresholds and temperature of the result.
        window_map: What a stress pass taught about its windows; None without one.
    """

    result_name: str
    estimator_version: str
    fingerprint: str
    codebook: Codebook | None
    estimator: ErrorEstimator
    issues: Mapping[str, tuple[str, bool]]
    window_reference: WindowReference
    window_map: WindowMap | None = None

    @property
    def scored_by(self) -> str:
        """`result_name#estimator_version`, stored beside every score."""
        return f"{self.result_name}#{self.estimator_version}"

    def score(
        self,
        *,
        logits: NDArray[np.floating] | None = None,
        probabilities: NDArray[np.floating] | None = None,
        features: NDArray[np.floating] | None = None,
        keys: Sequence[str] | None = None,
    ) -> ScoredUnits:
        """Score units; each one's columns are the same whatever batch it arrives in.

        Values are rounded to float32 first, as they are stored. A unit with NaN or infinity is not scored but
        counted; without the features that the estimator needs, none is.

        Args:
            logits: `(N, K)`.
            probabilities: `(N, K)`, used where the model gives no logits.
            features: `(N, d)`.
            keys: Unit keys as in `ReferenceUnits`, so that units of the bank are not their own neighbours.

        Raises:
            InvalidInputError: A width or length differs from what the estimator was fitted on.
        """
        given = logits if logits is not None else probabilities
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as it would be stored
            outputs = np.asarray([] if given is None else given, dtype=np.float32)
            stored = None if features is None else np.asarray(features, dtype=np.float32)
        self._check(outputs, stored, keys)
        finite = np.asarray(np.isfinite(outputs).all(axis=1))
        if stored is not None:
            finite &= np.isfinite(stored).all(axis=1)
        rows = np.flatnonzero(finite)
        width = self.estimator.scorer.feature_dim
        if stored is None and width:
            rows, stored = rows[:0], np.empty((len(outputs), width), dtype=np.float32)
        values = outputs[rows]
        named = {"logits": values} if logits is not None else {"probabilities": values}
        chosen = None if stored is None else stored[rows]
        chosen_keys = None if keys is None else [keys[row] for row in rows.tolist()]
        return self._spread(rows, np.logical_not(finite), named, chosen, chosen_keys)

    def window_state(self, scored: ScoredUnits) -> WindowState:
        """Sums of scored units, for `estimate_window`."""
        return window_state(
            self.window_reference,
            error_proba=scored.error_proba,
            confidence=scored.confidence_t,
            codes=self._code_indices(scored.error_code),
        )

    def stress_state(
        self,
        *,
        error_proba: NDArray[np.floating],
        risk_scores: NDArray[np.floating],
        logits: NDArray[np.floating] | None = None,
        probabilities: NDArray[np.floating] | None = None,
        features: NDArray[np.floating] | None = None,
    ) -> StressWindowState:
        """Sums of scored units that the stress map judges a window by; empty without a map.

        Args:
            error_proba: `(N,)` as scored; units with NaN are left out.
            risk_scores: `(N, 10)` as scored.
            logits: `(N, K)` as they were scored.
            probabilities: `(N, K)`, used where the model gives no logits.
            features: `(N, d)` as they were scored.
        """
        state = StressWindowState()
        if self.window_map is None:
            return state
        known = np.flatnonzero(np.isfinite(error_proba))
        stored = features if self.estimator.scorer.feature_dim else None
        for start in range(0, len(known), CHUNK_UNITS):
            rows = known[start : start + CHUNK_UNITS]
            units = window_units(
                self.estimator,
                temperature=self.window_reference.temperature,
                risk_scores=np.asarray(risk_scores[rows], dtype=np.float64),
                error_proba=np.asarray(error_proba[rows], dtype=np.float64),
                logits=None if logits is None else logits[rows].astype(np.float32, copy=False),
                probabilities=None if probabilities is None else probabilities[rows].astype(np.float32, copy=False),
                features=None if stored is None else stored[rows].astype(np.float32, copy=False),
            )
            state += self.window_map.state(units)
        return state

    def _code_indices(self, names: list[str | None]) -> NDArray[np.int64] | None:
        """Positions of codes in the codebook, -1 for UNSEEN; None where the window reference has no codes."""
        if self.codebook is None or len(self.window_reference.code_rates) != self.codebook.n_codes:
            return None
        places = {str(name): index for index, name in enumerate(self.codebook.names)}
        return np.array([places.get(name or "", UNSEEN_INDEX) for name in names], dtype=np.int64)

    def _spread(
        self,
        rows: NDArray[np.intp],
        is_invalid: NDArray[np.bool_],
        outputs: dict[str, NDArray[np.float32]],
        features: NDArray[np.float32] | None,
        keys: Sequence[str] | None,
    ) -> ScoredUnits:
        """Score the units of `rows` and put them back among the others."""
        assignment = self._assign(outputs, features)
        if not self.estimator.scorer.feature_dim:
            features = None
        scores = self.estimator.risk_scores(
            **outputs, features=features, codes=None if assignment is None else assignment.index, keys=keys
        )
        # Without a verdict of its own (UNSEEN, or UNCODED while there is no codebook) a code is recessive.
        names = [UNCODED] * len(rows)
        if assignment is not None and self.codebook is not None:
            names = self.codebook.code_names(assignment.index).tolist()
        issues = [self.issues.get(name, (RECESSIVE, False)) for name in names]
        total = len(is_invalid)
        distance = np.full(len(rows), np.nan) if assignment is None else assignment.distance
        temperature = self.window_reference.temperature
        return ScoredUnits(
            error_proba=_scatter(self.estimator.error_proba(scores), rows, total),
            error_code=_scatter_list(names, rows, total),
            category=_scatter_list([category for category, _ in issues], rows, total),
            is_aleatoric=_scatter_list([aleatoric for _, aleatoric in issues], rows, total),
            support_distance=_scatter(distance, rows, total),
            risk_scores=_scatter(scores, rows, total),
            confidence_t=_scatter(tempered_confidence(temperature, **outputs), rows, total),
            is_invalid=is_invalid,
        )

    def _assign(
        self, outputs: dict[str, NDArray[np.float32]], features: NDArray[np.float32] | None
    ) -> CodeAssignment | None:
        if self.codebook is None or features is None:
            return None
        return self.codebook.assign(features, unit_statistics(**outputs).probabilities)

    def _check(
        self, outputs: NDArray[np.float32], features: NDArray[np.float32] | None, keys: Sequence[str] | None
    ) -> None:
        scorer = self.estimator.scorer
        if outputs.ndim != 2 or outputs.shape[1] != scorer.n_classes:
            raise InvalidInputError(
                f"outputs have shape {outputs.shape}, result {self.result_name!r} was "
                f"fitted on (units, {scorer.n_classes}); nothing was scored. Use the result of this model."
            )
        wanted = (len(outputs), scorer.feature_dim)
        if scorer.feature_dim and features is not None and features.shape != wanted:
            raise InvalidInputError(
                f"features have shape {features.shape}, result {self.result_name!r} needs {wanted}; nothing was "
                "scored. Use the result of this model and the layer that was traced."
            )
        if keys is not None and len(keys) != len(outputs):
            raise InvalidInputError(
                f"{len(keys)} keys were given for {len(outputs)} units; nothing was scored. Pass one key per unit."
            )


def _scatter(values: NDArray[np.float64], rows: NDArray[np.intp], total: int) -> NDArray[np.float32]:
    spread = np.full((total, *values.shape[1:]), np.nan, dtype=np.float32)
    spread[rows] = np.clip(values, -_LARGEST, _LARGEST)  # a distance may exceed float32
    return spread


def _scatter_list(values: list[T], rows: NDArray[np.intp], total: int) -> list[T | None]:
    spread: list[T | None] = [None] * total
    for row, value in zip(rows.tolist(), values, strict=True):
        spread[row] = value
    return spread
