"""Find the rows of a raw head output that a model's own detections came from, and put a frame together.

Every detector here returns a subset of what its head proposed. The decoders of the families write all proposals of a
frame down as candidates; a detection belongs to the candidate with the same label, the same score and the same box,
all three at once, since scores alone tie. If one detection of a frame has no such candidate, the decoding was not
the model's, and the frame's features are the ones sampled at the box centres instead, or none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.adapters.detection3d._contract import Candidates3D, Frame3D
from mld_pipelines.adapters.detection3d._matching import nearest_candidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_CANDIDATES", "Boxes", "Features", "Proposals", "frame_of", "match_rows"]

_log = logging.getLogger("mld_pipelines.adapters")
_told: set[str | None] = set()
"""Heads whose rows were not recovered; each is told once per process."""

MAX_CANDIDATES = 512
"""Suppressed boxes kept in a frame: more than any of the families' own final limits (50 to 500)."""


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of one frame in canonical conventions.

    Attributes:
        boxes: (N, 7) float64, canonical.
        velocities: (N, 2) float64, NaN where unknown.
        scores: (N,) float32.
        labels: (N,) int64, 0-based.
    """

    boxes: NDArray[np.float64]
    velocities: NDArray[np.float64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """What a head proposed for one frame, before suppression.

    Attributes:
        found: The boxes.
        index: (M,) int64, row in the raw head output.
        features: (M, D) exact features, or None.
        class_scores: (M, C) scores of all classes, or None.
    """

    found: Boxes
    index: NDArray[np.int64]
    features: NDArray[np.float32] | None = None
    class_scores: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Where features of a frame can come from.

    Attributes:
        exact: Module path behind `Proposals.features`.
        sampled: (N, D) features at the centres of the detections, or None.
        sampled_from: Module path of the map.
        class_space: Of `Proposals.class_scores`.
    """

    exact: str | None = None
    sampled: NDArray[np.float32] | None = None
    sampled_from: str | None = None
    class_space: str | None = "sigmoid"


def frame_of(found: Boxes, proposals: Proposals | None, features: Features) -> Frame3D:
    """Return one frame: the detections in their order, with what their rows in the head's output say.

    Args:
        found: What the model returned.
        proposals: What its head proposed, as the family decodes it; None where that cannot be seen.
        features: Sources.
    """
    rows = np.full(len(found.scores), -1, np.int64) if proposals is None else match_rows(found, proposals.found)
    if proposals is None or (rows < 0).any():
        return _unmatched(found, proposals, rows, features)
    exact = None if proposals.features is None else proposals.features[rows]
    classes = None if proposals.class_scores is None else proposals.class_scores[rows]
    values, source = (exact, features.exact) if exact is not None else _sampled(features)
    return Frame3D(
        boxes=found.boxes,
        velocities=found.velocities,
        scores=found.scores,
        labels=found.labels,
        class_scores=classes,
        class_space=None if classes is None else features.class_space,
        features=values,
        feature_source=source,
        candidate_index=proposals.index[rows],
        candidates=_suppressed(proposals, rows),
    )


def match_rows(found: Boxes, proposed: Boxes) -> NDArray[np.int64]:
    """Return the position of each detection among the proposals; −1 where none has its box, score and label.

    Args:
        found: N detections.
        proposed: M proposals.

    Returns:
        (N,) int64.
    """
    return nearest_candidates(
        found.boxes,
        found.scores,
        found.labels,
        candidate_boxes=proposed.boxes,
        candidate_scores=proposed.scores,
        candidate_labels=proposed.labels,
    )


def _unmatched(found: Boxes, proposals: Proposals | None, rows: NDArray[np.int64], features: Features) -> Frame3D:
    """Return a frame whose rows are not all known: sampled features, no class scores, no candidates."""
    values, source = _sampled(features)
    index = rows.copy()
    if proposals is not None:
        index[rows >= 0] = proposals.index[rows[rows >= 0]]
        _tell(features, int((rows < 0).sum()), len(rows), source)
    return Frame3D(
        boxes=found.boxes,
        velocities=found.velocities,
        scores=found.scores,
        labels=found.labels,
        class_scores=None,
        class_space=None,
        features=values,
        feature_source=source,
        candidate_index=index,
        candidates=None,
    )


def _tell(features: Features, missing: int, found: int, source: str | None) -> None:
    """Log once per head that features are not exact."""
    if features.exact in _told:
        return
    _told.add(features.exact)
    _log.warning(
        "%d of %d detections of a frame are no row of the head that decodes to them (%s); such frames get %s features "
        "and no class vectors or candidates. Half-precision heads and changed post-processing do this. Said once.",
        missing,
        found,
        features.exact,
        "no" if source is None else source,
    )


def _sampled(features: Features) -> tuple[Any, str | None]:
    if features.sampled is None:
        return None, None
    return features.sampled.astype(np.float32, copy=False), f"sampled:{features.sampled_from}"


def _suppressed(proposals: Proposals, kept: NDArray[np.int64]) -> Candidates3D:
    """Return the best proposals that are no detections."""
    is_left: NDArray[np.bool_] = np.array(np.isfinite(proposals.found.boxes).all(axis=1))
    is_left[kept] = False
    left = np.flatnonzero(is_left)
    best = left[np.argsort(-proposals.found.scores[left], kind="stable")][:MAX_CANDIDATES]
    return Candidates3D(
        boxes=proposals.found.boxes[best],
        scores=proposals.found.scores[best],
        labels=proposals.found.labels[best],
        index=proposals.index[best],
        features=None if proposals.features is None else proposals.features[best],
    )
