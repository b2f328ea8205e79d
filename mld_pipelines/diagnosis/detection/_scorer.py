"""Scoring of production frames by a stored result: one function for the Logger, the asset and the SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._categories import RECESSIVE
from mld_pipelines.diagnosis._codebook import UNCODED, UNSEEN
from mld_pipelines.diagnosis.detection._frames import (
    DetectedFrames,
    object_context,
    prediction_features,
    prediction_probabilities,
    split_detections,
    sum_by_frame,
)
from mld_pipelines.diagnosis.detection._misses import ExpectedMisses
from mld_pipelines.diagnosis.detection._unseen_candidates import assumed_misses
from mld_pipelines.diagnosis.detection._window import detection_window_state
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._codebook import Codebook
    from mld_pipelines.diagnosis.detection._estimator import DetectionEstimator
    from mld_pipelines.diagnosis.detection._misses import Clusters
    from mld_pipelines.diagnosis.detection._window import DetectionWindowReference, DetectionWindowState
    from mld_pipelines.records import Detections3D

__all__ = ["DetectionScorer", "ScoredFrames"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredFrames:
    """Score columns of F frames with R recorded boxes, as tables hold them.

    Attributes:
        offsets: (F + 1,) int64, recorded boxes of each frame.
        box_error_proba: (R,) float32, P(the box is no true positive); NaN below the operating point, or where the
            class scores or the feature of the box are not finite.
        box_error_codes: R names of error codes; None where there is no error probability.
        box_categories: R issue categories of those codes.
        misses: Expected misses; probabilities as float32 holds them.
        miss_codes: Q names of the codes of their places.
        miss_categories: Q issue categories.
        error_proba: (F,) float32, P(any error in the frame), errors taken as independent.
        error_code: F names of codes, that of the most doubtful box or expected miss; None for a frame with neither.
        category: F issue categories of those codes.
        expected_errors: (F,) float64, Σ P over the boxes of the frame.
        expected_misses: (F,) float64, Σ P over its expected misses and those that no candidate shows.
        risk_scores: (N, S) of the kept boxes, for reasons; `rows` says which recorded boxes those are.
        rows: (N,) int64.
    """

    offsets: NDArray[np.int64]
    box_error_proba: NDArray[np.float32]
    box_error_codes: list[str | None]
    box_categories: list[str | None]
    misses: ExpectedMisses
    miss_codes: list[str]
    miss_categories: list[str]
    error_proba: NDArray[np.float32]
    error_code: list[str | None]
    category: list[str | None]
    expected_errors: NDArray[np.float64]
    expected_misses: NDArray[np.float64]
    risk_scores: NDArray[np.float64]
    rows: NDArray[np.int64]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True, eq=False)
class _ScoredBoxes:
    """Kept boxes with their risk scores, error probabilities and codes."""

    frames: DetectedFrames
    scores: NDArray[np.float64]
    error_proba: NDArray[np.float32]
    codes: list[str | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionScorer:
    """Everything a result needs to score frames without their labels.

    Attributes:
        result_name: The result.
        estimator_version: Identifies the stored estimator.
        fingerprint: Weights the estimator belongs to.
        codebook: Codes of predictions; None while the reference was too small for one.
        object_codebook: Codes of objects; None likewise.
        estimator: Error probability and expected misses.
        issues: `error_code → (category, is_aleatoric)`, of predictions and of objects.
        window_reference: What windows are compared with.
    """

    result_name: str
    estimator_version: str
    fingerprint: str
    codebook: Codebook | None
    object_codebook: Codebook | None
    estimator: DetectionEstimator
    issues: Mapping[str, tuple[str, bool]]
    window_reference: DetectionWindowReference

    @property
    def scored_by(self) -> str:
        """`{result}#{estimator_version}`, stored beside every score."""
        return f"{self.result_name}#{self.estimator_version}"

    def score(
        self,
        recorded: Detections3D,
        suppressed: Detections3D | None = None,
        *,
        class_scores: NDArray[np.floating] | None = None,
        class_space: str | None = None,
        features: NDArray[np.floating] | None = None,
        keys: Sequence[str] | None = None,
    ) -> ScoredFrames:
        """Score frames; each one's columns are the same whatever frames it arrives with.

        Args:
            recorded: R boxes as they are stored.
            suppressed: What the detector did not return; None where it cannot be seen. Where the reference had it, risk
                scores of candidates contribute nothing then, and misses are assumed as in the reference.
            class_scores: (R, K).
            class_space: What they are.
            features: (R, d).
            keys: Content key of each frame, so that boxes of the bank's own frames are no neighbours.

        Raises:
            InvalidInputError: A width, a length or a label differs from what the estimator was fitted on.
        """
        split = split_detections(
            recorded,
            None if self.estimator.scorer.has_suppressed is False else suppressed,
            thresholds=self.estimator.thresholds,
            # what the reference did not have is left out here too: other distributions have other codes
            class_scores=class_scores if self.estimator.scorer.has_class_scores else None,
            class_space=class_space,
            features=features if self.estimator.feature_dim else None,
        )
        frames, is_finite = _without_nan(split)
        codes = self._codes_of_boxes(frames)
        clusters = self.estimator.clusters(frames)
        scores = self.estimator.risk_scores(frames, codes=codes[0], keys=keys, clusters=clusters)
        proba = self.estimator.error_proba(scores).astype(np.float32)
        proba[~is_finite] = np.nan
        names: list[str | None] = [
            name if finite else None for name, finite in zip(codes[1], is_finite.tolist(), strict=True)
        ]
        misses = self._misses(frames, clusters)
        return self._collect(recorded, _ScoredBoxes(frames, scores, proba, names), misses)

    def window_state(self, scored: ScoredFrames) -> DetectionWindowState:
        """Sums of scored frames, for `estimate_detection_window`."""
        is_unseen = np.array([code == UNSEEN for code in scored.box_error_codes], dtype=np.bool_)
        return detection_window_state(self.window_reference, scored.box_error_proba, scored.misses, is_unseen=is_unseen)

    def _misses(self, frames: DetectedFrames, clusters: Clusters) -> ExpectedMisses:
        if self.estimator.lacks_candidates(frames):
            return assumed_misses(self.window_reference, frames=frames.frames)
        return _as_stored(self.estimator.expected_misses(frames, clusters=clusters))

    def _codes_of_boxes(self, frames: DetectedFrames) -> tuple[NDArray[np.int64] | None, list[str]]:
        """Code index and name of each kept box."""
        if self.codebook is None:
            return None, [UNCODED] * len(frames)
        features = prediction_features(frames)
        if features.shape[1] != self.codebook.identity.feature_dim and len(frames):
            raise InvalidInputError(
                f"features have {features.shape[1]} columns, result {self.result_name!r} needs "
                f"{self.codebook.identity.feature_dim}; nothing was scored. Use the result of this model."
            )
        if not len(frames):
            return np.empty(0, np.int64), []
        probabilities = prediction_probabilities(frames, n_classes=self.estimator.n_classes)
        assigned = self.codebook.assign(features, probabilities)
        return assigned.index, self.codebook.code_names(assigned.index).tolist()

    def _codes_of_misses(self, misses: ExpectedMisses) -> list[str]:
        """Code name of the place of each expected miss."""
        if self.object_codebook is None:
            return [UNCODED] * len(misses)
        features, classes = object_context(misses.boxes, misses.labels, n_classes=self.estimator.n_classes)
        names: list[str] = self.object_codebook.code_names(
            self.object_codebook.assign(features, classes).index
        ).tolist()
        return names

    def _collect(self, recorded: Detections3D, boxes: _ScoredBoxes, misses: ExpectedMisses) -> ScoredFrames:
        frames, names = boxes.frames, boxes.codes
        spread = np.full(len(recorded), np.nan, dtype=np.float32)
        spread[frames.rows] = boxes.error_proba
        miss_names = self._codes_of_misses(misses)
        known = np.isfinite(boxes.error_proba)
        frame, proba = frames.kept.frame_index[known], boxes.error_proba[known].astype(np.float64)
        worst = _most_doubtful(frame, proba, misses)
        units = [name for name in names if name is not None] + miss_names
        codes = [units[unit] if unit >= 0 else None for unit in worst.tolist()]
        box_codes = _spread(names, frames.rows, len(recorded))
        return ScoredFrames(
            offsets=recorded.offsets,
            box_error_proba=spread,
            box_error_codes=box_codes,
            box_categories=self._categories(box_codes),
            misses=misses,
            miss_codes=miss_names,
            miss_categories=[one for one in self._categories(miss_names) if one is not None],
            error_proba=_any_error(frame, proba, misses),
            error_code=codes,
            category=self._categories(codes),
            expected_errors=sum_by_frame(frame, proba, frames=recorded.frames),
            expected_misses=misses.expected,
            risk_scores=boxes.scores,
            rows=frames.rows,
        )

    def _categories(self, names: Sequence[str | None]) -> list[str | None]:
        known = {name: None if name is None else self._category(name) for name in set(names)}
        return [known[name] for name in names]

    def _category(self, name: str) -> str:
        """Category of a code; without a verdict of its own (UNSEEN, UNCODED) it is recessive."""
        return self.issues.get(name, (RECESSIVE, False))[0]


#: Largest double below 1: a certain error still has a logarithm.
_NEARLY_ONE = float(np.nextafter(1.0, 0.0))


def _any_error(frame: NDArray[np.int64], proba: NDArray[np.float64], misses: ExpectedMisses) -> NDArray[np.float32]:
    """P(any error) of each frame, errors taken as independent, (F,) float32."""
    frames = len(misses.offsets) - 1
    right = sum_by_frame(frame, np.log1p(-np.minimum(proba, _NEARLY_ONE)), frames=frames)
    empty = sum_by_frame(misses.frame_index, np.log1p(-np.minimum(misses.proba, _NEARLY_ONE)), frames=frames)
    # Misses without a candidate are a Poisson number: none of them with probability exp(−rate).
    return (-np.expm1(right + empty - misses.without_candidate)).astype(np.float32)


def _without_nan(frames: DetectedFrames) -> tuple[DetectedFrames, NDArray[np.bool_]]:
    """The frames with zeros for values that are not finite, and which boxes had none of those, (N,)."""
    is_finite = np.ones(len(frames), np.bool_)
    mended = {}
    for name in ("class_scores", "features"):
        values: NDArray[np.float32] | None = getattr(frames, name)
        if values is not None:
            is_finite &= np.isfinite(values).all(axis=1)
        mended[name] = values
    if is_finite.all():
        return frames, is_finite
    whole = {
        name: None if values is None else np.where(is_finite[:, None], values, np.float32(0.0))
        for name, values in mended.items()
    }
    return (
        DetectedFrames(
            kept=frames.kept,
            rows=frames.rows,
            class_space=frames.class_space,
            candidates=frames.candidates,
            has_suppressed=frames.has_suppressed,
            class_scores=whole["class_scores"],
            features=whole["features"],
        ),
        is_finite,
    )


def _as_stored(misses: ExpectedMisses) -> ExpectedMisses:
    """Probabilities rounded to float32, so that sums of stored ones are the same."""
    return ExpectedMisses(
        offsets=misses.offsets,
        boxes=misses.boxes,
        labels=misses.labels,
        proba=misses.proba.astype(np.float32).astype(np.float64),
        without_candidate=misses.without_candidate,
    )


def _most_doubtful(frame: NDArray[np.int64], proba: NDArray[np.float64], misses: ExpectedMisses) -> NDArray[np.int64]:
    """Position of each frame's most doubtful unit among scored boxes, then expected misses; −1 without one."""
    frames = np.concatenate([frame, misses.frame_index])
    values = np.concatenate([proba, misses.proba])
    order = np.lexsort((np.arange(len(frames)), -values, frames))
    found = np.full(len(misses.offsets) - 1, -1, np.int64)
    first = np.flatnonzero(np.diff(frames[order], prepend=-1))
    found[frames[order][first]] = order[first]
    return found


def _spread(values: Sequence[str | None], rows: NDArray[np.int64], total: int) -> list[str | None]:
    spread: list[str | None] = [None] * total
    for row, value in zip(rows.tolist(), values, strict=True):
        spread[row] = value
    return spread
