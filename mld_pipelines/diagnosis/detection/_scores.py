"""Risk scores of a kept prediction: what tells, without its label, that it is not a true positive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mld_pipelines.diagnosis._scores import as_stored
from mld_pipelines.diagnosis.detection._bank import DetectionNeighbours
from mld_pipelines.diagnosis.detection._frames import class_distribution, prediction_features, sum_by_frame
from mld_pipelines.diagnosis.detection._pairs import half_diagonals, near_pairs, overlaps, pairs_within
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._bank import DetectionBank
    from mld_pipelines.diagnosis.detection._frames import DetectedFrames
    from mld_pipelines.records import Detections3D

__all__ = [
    "CANDIDATE_COLUMNS",
    "DETECTION_SCORE_MEANINGS",
    "DETECTION_SCORE_NAMES",
    "BoxNorms",
    "DetectionRiskScorer",
    "box_gaps",
    "clutter",
    "doubt_of_others",
    "logit",
]

#: What a high value says about a prediction, in the words shown to a user.
DETECTION_SCORE_MEANINGS = {
    "score": "the detector is not confident",
    "above": "barely above the operating point of its class",
    "margin": "a second class scores nearly as high",
    "entropy": "the class score is spread over several classes",
    "support": "few candidates stand on the same object",
    "support_score": "the candidates on it are weak",
    "support_spread": "the candidates on it disagree about the box",
    "support_class": "the candidates on it disagree about the class",
    "overlap": "overlaps another detection",
    "size": "unusual size for its class",
    "aspect": "unusual shape for its class",
    "range": "at an unusual range for its class",
    "frame": "the other detections of the frame are doubtful",
    "clutter": "doubtful candidates stand around it",
    "knn": "unlike any reference prediction",
    "dis": "reference predictions like it were wrong or of another class",
    "class": "of a class that is often wrong",
    "code": "in a region where the detector often errs",
}
#: Column order of every score matrix; the confidence comes first.
DETECTION_SCORE_NAMES = tuple(DETECTION_SCORE_MEANINGS)
_COLUMN = {name: column for column, name in enumerate(DETECTION_SCORE_NAMES)}
#: Columns that are made of candidates: without what the detector suppressed they mean something else.
CANDIDATE_COLUMNS = tuple(
    _COLUMN[name] for name in ("support", "support_score", "support_spread", "support_class", "clutter")
)
#: BEV IoU from which a candidate stands on the same object as a box (docs/method.md#detection).
SAME_OBJECT = 0.5
#: Scores are cut here before a logit: the largest float32 below 1.
SCORE_FLOOR = 2.0**-24
#: Boxes of a class that its own mean and spread of size and range need; below, those of all classes serve.
MIN_FOR_NORMS = 10
#: Squared relative gap of one candidate that every box is given, so that a box without any has no claim to agreement:
#: rms 0.3 of the half diagonal, as usual among candidates with an IoU above 0.5.
USUAL_GAP = 0.09
#: Reach of clutter in match distances.
CLUTTER_REACH = 3.0
#: Least spreads of ln size, ln aspect and range (metres): a class of one single size is not a law.
SPREAD_FLOORS = np.array([0.02, 0.02, 1.0])


def logit(chances: NDArray[np.floating]) -> NDArray[np.float64]:
    """`ln p − ln(1 − p)` of numbers cut to [2⁻²⁴, 1 − 2⁻²⁴]."""
    p = np.clip(np.asarray(chances, dtype=np.float64), SCORE_FLOOR, 1.0 - SCORE_FLOOR)
    odds: NDArray[np.float64] = np.log(p) - np.log1p(-p)
    return odds


@dataclass(frozen=True, slots=True, eq=False)
class BoxNorms:
    """Usual size, shape and range of each class.

    Attributes:
        mean: (C, 3) of ln size (a third of ln volume), ln aspect (ln l − ln w), range (metres).
        spread: (C, 3) standard deviations, with floors.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def fit(cls, boxes: NDArray[np.float64], labels: NDArray[np.int64], *, n_classes: int) -> Self:
        """Take mean and standard deviation by class; a class with fewer than 10 boxes gets those of all."""
        values = _measures(boxes)
        mean, spread = np.zeros((n_classes, 3)), np.ones((n_classes, 3))
        if len(values):
            mean[:], spread[:] = values.mean(axis=0), values.std(axis=0)
        for label in range(n_classes):
            own = values[labels == label]
            if len(own) >= MIN_FOR_NORMS:
                mean[label], spread[label] = own.mean(axis=0), own.std(axis=0)
        # As float32: in numpy 1.26 the last digit depends on where in memory the values lie; an artifact may not.
        kept = (mean, np.maximum(spread, SPREAD_FLOORS))
        return cls(*(values.astype(np.float32).astype(np.float64) for values in kept))

    def deviations(self, boxes: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return z of ln size, ln aspect and range within the class, (N, 3)."""
        standardised: NDArray[np.float64] = (_measures(boxes) - self.mean[labels]) / self.spread[labels]
        return standardised


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionRiskScorer:
    """State of the label-free scores of kept predictions.

    The points inside a box are not among the scores: no capture reads the point cloud of a production frame.

    Attributes:
        thresholds: (C,) operating point.
        norms: Usual boxes by class.
        feature_dim: Width of the detector's feature; 0 without one, then the context of the box takes its place.
        has_class_scores: Whether the reference had class scores.
        has_suppressed: Whether the reference showed what the detector suppressed; None of older results, which do not
            say.
        neighbours: Reference predictions; None below two of them.
    """

    thresholds: NDArray[np.float64]
    norms: BoxNorms
    feature_dim: int
    has_class_scores: bool
    has_suppressed: bool | None
    neighbours: DetectionNeighbours | None

    @property
    def n_classes(self) -> int:
        """Classes of the model."""
        return len(self.thresholds)

    @classmethod
    def fit(
        cls,
        frames: DetectedFrames,
        *,
        thresholds: NDArray[np.float64],
        norms: BoxNorms,
        bank: DetectionBank,
        seed: int,
    ) -> Self:
        """Fit on a reference and a bank, whose features must be of one kind.

        Raises:
            InvalidInputError: The widths of the features differ.
        """
        width = prediction_features(frames).shape[1]
        if len(bank) and bank.features.shape[1] != width:
            raise InvalidInputError(
                f"features of the bank have {bank.features.shape[1]} columns, those of the reference {width}; nothing "
                "was fitted. Take both from the same layer."
            )
        neighbours = None
        if len(bank) > 1:
            is_context = frames.features is None
            neighbours = DetectionNeighbours.fit(bank, n_classes=len(thresholds), is_context=is_context, seed=seed)
        return cls(
            thresholds=thresholds,
            norms=norms,
            feature_dim=0 if frames.features is None else width,
            has_class_scores=frames.class_scores is not None,
            has_suppressed=frames.has_suppressed,
            neighbours=neighbours,
        )

    def score(
        self,
        frames: DetectedFrames,
        clusters: Detections3D,
        *,
        match_distance: float,
        hashes: NDArray[np.int64] | None = None,
        class_scores: NDArray[np.float64] | None = None,
        code_scores: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """The scores of each kept box, (N, S) in the order of `DETECTION_SCORE_NAMES`, NaN where undefined.

        Computed in float64 and rounded to float32 as a table holds them.

        Args:
            frames: The frames.
            clusters: The best candidates on no kept box (`find_clusters`).
            match_distance: Centre distance up to which a box is an object, metres.
            hashes: (F,) hashes of the frames' content keys; predictions of the same frame are no neighbours.
            class_scores: (N,) column `class`.
            code_scores: (N,) column `code`.

        Raises:
            InvalidInputError: Class scores or features differ from those of the reference.
        """
        self._check(frames)
        scores = np.full((len(frames), len(DETECTION_SCORE_NAMES)), np.nan)
        columns = {**self._outputs(frames), **_supports(frames), **self._shapes(frames.kept)}
        reach = CLUTTER_REACH * match_distance
        columns |= {"frame": doubt_of_others(frames.kept), "clutter": clutter(frames.kept, clusters, reach=reach)}
        if self.neighbours is not None:
            own = None if hashes is None else hashes[frames.kept.frame_index]
            features = prediction_features(frames)
            near = self.neighbours.scores(features, frames.kept.labels, hashes=own)
            columns |= dict(zip(("knn", "dis"), near, strict=True))
        for name, values in (("class", class_scores), ("code", code_scores)):
            if values is not None:
                columns[name] = values
        for name, values in columns.items():
            scores[:, _COLUMN[name]] = values
        return as_stored(scores)

    def _outputs(self, frames: DetectedFrames) -> dict[str, NDArray[np.float64]]:
        """Columns that need the scores only."""
        odds = logit(frames.kept.scores)
        columns = {"score": -odds, "above": logit(self.thresholds)[frames.kept.labels] - odds}
        classes = class_distribution(frames, n_classes=self.n_classes)
        if classes is not None and self.n_classes > 1:
            top = np.partition(classes, -2, axis=1)[:, -2:]
            columns["margin"] = top[:, 0] - top[:, 1]
            shares = classes / np.maximum(classes.sum(axis=1), SCORE_FLOOR)[:, None]
            columns["entropy"] = -(shares * np.log(np.maximum(shares, SCORE_FLOOR))).sum(axis=1)
        return columns

    def _shapes(self, kept: Detections3D) -> dict[str, NDArray[np.float64]]:
        """Columns that need the boxes only."""
        size, aspect, distance = np.abs(self.norms.deviations(kept.boxes, kept.labels)).T
        return {"size": size, "aspect": aspect, "range": distance}

    def _check(self, frames: DetectedFrames) -> None:
        if self.has_class_scores and frames.class_scores is None and len(frames):
            raise InvalidInputError(
                "the estimator was fitted with class scores, but none were given; nothing was scored. Capture them."
            )
        width = 0 if frames.features is None else frames.features.shape[1]
        if self.feature_dim and width != self.feature_dim and len(frames):
            raise InvalidInputError(
                f"features with {self.feature_dim} columns are needed, got {width or 'none'}; nothing was scored. "
                "Capture the layer that was traced, or use the result of this model."
            )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state for an artifact."""
        arrays = {"thresholds": self.thresholds, "norms.mean": self.norms.mean, "norms.spread": self.norms.spread}
        return arrays if self.neighbours is None else {**arrays, **self.neighbours.to_arrays()}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        *,
        feature_dim: int,
        has_class_scores: bool,
        has_suppressed: bool | None = None,
    ) -> Self:
        """The scorer whose state `to_arrays` gave."""
        neighbours = None
        if "bank.vectors" in arrays:
            neighbours = DetectionNeighbours.from_arrays(
                arrays,
                feature_dim=feature_dim or arrays["bank.vectors"].shape[1] - len(arrays["thresholds"]),
                n_classes=len(arrays["thresholds"]),
                is_context=not feature_dim,
            )
        return cls(
            thresholds=arrays["thresholds"],
            norms=BoxNorms(arrays["norms.mean"], arrays["norms.spread"]),
            feature_dim=feature_dim,
            has_class_scores=has_class_scores,
            has_suppressed=has_suppressed,
            neighbours=neighbours,
        )


def _supports(frames: DetectedFrames) -> dict[str, NDArray[np.float64]]:
    """Columns that need the other boxes of the frame: candidates on the same object, overlap with kept boxes."""
    kept, candidates = frames.kept, frames.candidates
    radii = half_diagonals(kept.boxes)
    offsets = kept.offsets, candidates.offsets
    # A convex overlap of more than half of either box holds both centres: farther apart, no IoU exceeds 0.5.
    pairs = near_pairs(kept.boxes, candidates.boxes, offsets, reach=radii)
    reachable = pairs.distance <= half_diagonals(candidates.boxes)[pairs.second]
    iou = overlaps(pairs, kept.boxes, candidates.boxes, needed=reachable)
    pairs = pairs.where(iou > SAME_OBJECT)
    is_same = candidates.labels[pairs.second] == kept.labels[pairs.first]
    on_any = np.bincount(pairs.first, minlength=len(kept))
    own = pairs.where(is_same)
    count = np.bincount(own.first, minlength=len(kept))
    total = np.bincount(own.first, candidates.scores[own.second].astype(np.float64), minlength=len(kept))
    apart = np.bincount(own.first, box_gaps(kept, candidates, own.first, own.second), minlength=len(kept))
    return {
        "support": -np.log1p(count),
        "support_score": -total / np.maximum(count, 1),
        "support_spread": np.sqrt((apart + USUAL_GAP) / (count + 1)),
        "support_class": 1.0 - (count + 1.0) / (on_any + 1.0),
        "overlap": _largest_overlap(kept),
    }


def box_gaps(
    first: Detections3D, second: Detections3D, rows: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean squared ground-plane distance of the corners of pairs, relative to the first box's half diagonal, (P,).

    Corners at ±(l/2)·u ± (w/2)·n, with u along and n across the heading: the mean over the four is
    `|Δc|² + |Δ(l/2·u)|² + |Δ(w/2·n)|²`. A box turned by half a turn has the same corners.
    """
    a, b = first.boxes[rows], second.boxes[others]
    turn = np.cos(a[:, 6] - b[:, 6])  # of the headings; |cos|: half a turn changes no corner
    along = a[:, 4] ** 2 + b[:, 4] ** 2 - 2.0 * a[:, 4] * b[:, 4] * np.abs(turn)
    across = a[:, 3] ** 2 + b[:, 3] ** 2 - 2.0 * a[:, 3] * b[:, 3] * np.abs(turn)
    centre = (a[:, 0] - b[:, 0]) ** 2 + (a[:, 1] - b[:, 1]) ** 2
    squared: NDArray[np.float64] = (centre + 0.25 * (along + across)) / half_diagonals(a) ** 2
    return squared


def doubt_of_others(kept: Detections3D) -> NDArray[np.float64]:
    """Minus the mean log-odds of the scores of the frame's other boxes and one of score ½, (N,)."""
    frame, odds = kept.frame_index, logit(kept.scores)
    total = sum_by_frame(frame, odds, frames=kept.frames)
    doubt: NDArray[np.float64] = -(total[frame] - odds) / kept.counts[frame]
    return doubt


def clutter(boxes: Detections3D, clusters: Detections3D, *, reach: float) -> NDArray[np.float64]:
    """Sum of the scores of clusters within reach, (N,)."""
    pairs = near_pairs(boxes.boxes, clusters.boxes, (boxes.offsets, clusters.offsets), reach=np.full(len(boxes), reach))
    return sum_by_frame(pairs.first, clusters.scores[pairs.second].astype(np.float64), frames=len(boxes))


def _largest_overlap(kept: Detections3D) -> NDArray[np.float64]:
    """Largest IoU of each box with another one of its frame, (N,)."""
    radii = half_diagonals(kept.boxes)
    widest = np.zeros(kept.frames)
    np.maximum.at(widest, kept.frame_index, radii)
    reach = radii + widest[kept.frame_index]
    pairs = pairs_within(kept.boxes, kept.offsets, reach=reach)
    touching = pairs.distance < radii[pairs.first] + radii[pairs.second]
    iou = overlaps(pairs, kept.boxes, kept.boxes, needed=touching)
    largest = np.zeros(len(kept))
    np.maximum.at(largest, pairs.first, iou)
    np.maximum.at(largest, pairs.second, iou)
    return largest


def _measures(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln size, ln aspect and range of boxes, (N, 3)."""
    w, l, h = np.log(boxes[:, 3]), np.log(boxes[:, 4]), np.log(boxes[:, 5])  # noqa: E741
    return np.column_stack([(w + l + h) / 3.0, l - w, np.hypot(boxes[:, 0], boxes[:, 1])])
