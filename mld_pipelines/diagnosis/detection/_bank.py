"""Reference predictions as neighbours: how far a box's feature is from any known one, and how those turned out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from mld_pipelines.diagnosis._bank import hash_keys
from mld_pipelines.diagnosis._monolr import MIN_SPREAD
from mld_pipelines.diagnosis._neighbours import (
    LOG_OFFSET,
    NEAR,
    SCREEN_ROWS,
    _by_row,
    _Screen,
    _squared_distances,
)
from mld_pipelines.diagnosis._projection import Projection, fit_projection
from mld_pipelines.diagnosis.detection._frames import prediction_features
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._frames import DetectedFrames

__all__ = ["DETECTION_BANK_LIMIT", "DetectionBank", "DetectionNeighbours", "select_detection_bank"]

#: Rows of a detector's bank. A frame brings a hundred boxes, so a neighbour search may cost a hundredth of what it may
#: cost an image; below 1,000 rows the scores lose (docs/method.md#bank).
DETECTION_BANK_LIMIT = 1_024
#: Columns that neighbours are compared in, for the same reason.
FEATURE_LIMIT = 32
#: Weight of the class beside the context of a box, where the detector gives no feature: neighbours are of the class.
CLASS_WEIGHT = 4.0
#: Mark of a query whose frame is not in the bank; as a hash it has the same negligible chance as any collision.
_ELSEWHERE = 0


@dataclass(frozen=True, slots=True, eq=False)
class DetectionBank:
    """Reference predictions whose outcome is known.

    Attributes:
        features: (B, d) float32.
        labels: (B,) predicted classes.
        is_error: (B,) whether the prediction is not a true positive.
        keys: B content keys of their frames; boxes of one frame are no neighbours of each other.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_error: NDArray[np.bool_]
    keys: Sequence[str]

    def __post_init__(self) -> None:
        rows = len(self.features)
        if self.features.ndim != 2 or not rows == len(self.labels) == len(self.is_error) == len(self.keys):
            raise InvalidInputError(
                f"a bank of features {self.features.shape} has {len(self.labels)} labels, {len(self.is_error)} "
                f"outcomes and {len(self.keys)} keys; nothing was fitted. Pass one of each per prediction."
            )
        if not np.isfinite(self.features).all():
            raise InvalidInputError("features of the bank hold NaN or infinity; nothing was fitted. Leave those out.")

    def __len__(self) -> int:
        return len(self.features)


def select_detection_bank(
    frames: DetectedFrames,
    *,
    is_error: NDArray[np.bool_],
    keys: Sequence[str],
    limit: int = DETECTION_BANK_LIMIT,
    seed: int = 0,
) -> DetectionBank:
    """Draw a bank from kept predictions: of right and wrong ones of each class in turn the next by a seeded hash.

    So rare classes and rare errors have neighbours, too; what they leave goes to the others.

    Args:
        frames: Of the training set if it was traced, otherwise the reference itself.
        is_error: (N,) outcome of each kept prediction.
        keys: Content key of each frame.
        limit: Most predictions to keep.
        seed: Chooses the sample.

    Raises:
        InvalidInputError: Lengths differ, or features are not finite.
    """
    frame = frames.kept.frame_index
    place = np.arange(len(frames)) - frames.kept.offsets[frame]
    names = [f"{keys[at]}/{row}" for at, row in zip(frame.tolist(), place.tolist(), strict=True)]
    rows = np.argsort(hash_keys(names, seed=seed), kind="stable")
    wrong = np.asarray(is_error, dtype=np.bool_)
    kinds = 2 * frames.kept.labels[rows] + wrong[rows]
    rows = rows[np.argsort(_rank_in_kind(kinds), kind="stable")][:limit]
    return DetectionBank(
        features=prediction_features(frames)[rows],
        labels=frames.kept.labels[rows],
        is_error=wrong[rows],
        keys=[keys[at] for at in frame[rows].tolist()],
    )


def _rank_in_kind(kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same kind come before each, (N,)."""
    order = np.argsort(kinds, kind="stable")
    counts = np.bincount(kinds)
    ranks = np.empty(len(kinds), np.int64)
    ranks[order] = np.arange(len(kinds)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


@dataclass(frozen=True, slots=True, eq=False)
class _FrameScreen(_Screen):
    """A screen that leaves out all bank rows of the query's frame.

    Attributes:
        groups: Frame hash of each real column.
    """

    groups: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def _leave_out(self, screened: NDArray[np.float32], own_rows: NDArray[np.intp]) -> None:
        """Put the rows of each query's own frame, given by its hash, infinitely far."""
        known = np.flatnonzero(own_rows != _ELSEWHERE)
        rows, places = np.nonzero(own_rows[known][:, None] == self.groups[None, :])
        screened[known[rows], places] = np.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionNeighbours:
    """Exact search among the predictions of a bank.

    Attributes:
        projection: Map of the feature to a direction in at most 32 columns.
        is_context: Whether the feature is the context of the box, for lack of one of the detector.
        n_classes: Classes of the model.
        vectors: (B, w) float32, what is compared.
        labels: (B,) predicted classes.
        is_error: (B,) outcomes.
        hashes: (B,) int64 hashes of the frames' keys.
    """

    projection: Projection
    is_context: bool
    n_classes: int
    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_error: NDArray[np.bool_]
    hashes: NDArray[np.int64]
    _screen: _FrameScreen = field(init=False, repr=False)

    def __post_init__(self) -> None:
        plain = _Screen.of(self.vectors)
        groups = self.hashes[plain.columns]
        object.__setattr__(self, "_screen", _FrameScreen(plain.centre, plain.table, plain.columns, plain.reach, groups))

    @classmethod
    def fit(cls, bank: DetectionBank, *, n_classes: int, is_context: bool, seed: int) -> Self:
        """Index a bank of at least two predictions."""
        projection = _fit_projection(bank.features, is_context=is_context, seed=seed)
        labels = np.asarray(bank.labels, dtype=np.int64)
        vectors = _embed(projection, bank.features, labels, n_classes=n_classes, is_context=is_context)
        return cls(
            projection=projection,
            is_context=is_context,
            n_classes=n_classes,
            vectors=vectors.astype(np.float32),
            labels=labels,
            is_error=np.asarray(bank.is_error, dtype=np.bool_),
            hashes=hash_keys(bank.keys),
        )

    def scores(
        self, features: NDArray[np.float32], labels: NDArray[np.int64], *, hashes: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`knn` and `dis` of each box, (N,) each.

        Args:
            features: (N, d) float32.
            labels: (N,) predicted classes.
            hashes: (N,) key hash of each box's frame; None where none can be in the bank.
        """
        queries = _embed(self.projection, features, labels, n_classes=self.n_classes, is_context=self.is_context)
        own = np.full(len(queries), _ELSEWHERE)
        if hashes is not None:
            own = np.where(np.isin(hashes, self.hashes), hashes, _ELSEWHERE)
        found = np.empty((2, len(queries)))
        for start in range(0, len(queries), SCREEN_ROWS):
            part = slice(start, start + SCREEN_ROWS)
            found[:, part] = self._nearest(queries[part], labels[part], own[part])
        return found[0], found[1]

    def _nearest(
        self, queries: NDArray[np.float64], labels: NDArray[np.int64], own: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        count = max(1, min(NEAR, len(self.vectors) - 1))
        squared, places, _ = self._screen.survivors(queries, own, count)
        rows, columns = np.nonzero(np.isfinite(squared))
        exact = _squared_distances(queries, self.vectors, rows, places[rows, columns])
        # Beyond the survivors' own order (that of the bank), so that ties break the same way in every batch.
        distances, at = _by_row(rows, exact, places[rows, columns], len(queries))
        ranks = np.argsort(distances, axis=1, kind="stable")[:, :count]
        near, chosen = np.take_along_axis(distances, ranks, axis=1), np.take_along_axis(at, ranks, axis=1)
        known = np.isfinite(near)
        confirms = known & (self.labels[chosen] == labels[:, None]) & ~self.is_error[chosen]
        farthest = np.where(known, near, 0.0).max(axis=1, initial=0.0)
        return np.log(np.sqrt(farthest) + LOG_OFFSET), 1.0 - confirms.sum(axis=1) / np.maximum(known.sum(axis=1), 1)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state for an artifact."""
        return {
            **self.projection.to_arrays(),
            "bank.vectors": self.vectors,
            "bank.labels": self.labels,
            "bank.is_error": self.is_error,
            "bank.hashes": self.hashes,
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], *, feature_dim: int, n_classes: int, is_context: bool
    ) -> Self:
        """The index whose state `to_arrays` gave."""
        return cls(
            projection=Projection.from_arrays(arrays, feature_dim=feature_dim),
            is_context=is_context,
            n_classes=n_classes,
            vectors=arrays["bank.vectors"],
            labels=arrays["bank.labels"],
            is_error=arrays["bank.is_error"],
            hashes=arrays["bank.hashes"],
        )


def _fit_projection(features: NDArray[np.float32], *, is_context: bool, seed: int) -> Projection:
    """Standardised columns of a narrow feature, principal axes of a wide one, a context as it is."""
    width = features.shape[1]
    if is_context or width > FEATURE_LIMIT:
        return fit_projection(features, limit=width if is_context else FEATURE_LIMIT, seed=seed)
    spread = features.std(axis=0, dtype=np.float64)
    scale = np.where(spread > MIN_SPREAD, 1.0 / np.maximum(spread, MIN_SPREAD), 0.0)
    return Projection(feature_dim=width, mean=features.mean(axis=0, dtype=np.float64), components=np.diag(scale))


def _embed(
    projection: Projection,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    n_classes: int,
    is_context: bool,
) -> NDArray[np.float64]:
    """What neighbours are compared in: the direction of a standardised feature, or context and class."""
    if is_context:
        is_class = (labels[:, None] == np.arange(n_classes)).astype(np.float64)
        return np.concatenate([features.astype(np.float64), CLASS_WEIGHT * is_class], axis=1)
    embedded: NDArray[np.float64] = projection.embed(features)
    return embedded
