"""Expected misses: clusters of candidates on no kept box, each with its chance of being a real, missed object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mld_pipelines.diagnosis._monolr import ScoreModel
from mld_pipelines.diagnosis._scores import as_stored
from mld_pipelines.diagnosis.detection._frames import sum_by_frame
from mld_pipelines.diagnosis.detection._pairs import NearPairs, half_diagonals, near_pairs, overlaps, pairs_within
from mld_pipelines.diagnosis.detection._scores import CLUTTER_REACH, SAME_OBJECT, BoxNorms, box_gaps, clutter, logit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._frames import DetectedFrames
    from mld_pipelines.records import Detections3D, Truths3D

__all__ = [
    "MISS_SCORE_NAMES",
    "Clusters",
    "ExpectedMisses",
    "MissEstimator",
    "claimed_truths",
    "find_clusters",
    "miss_scores",
]

#: Columns of a cluster's scores, all "higher = more likely a real, missed object"; the confidence comes first.
MISS_SCORE_NAMES = (
    "score", "above", "merged", "merged_score", "merged_spread", "merged_class", "size", "aspect", "range", "frame",
    "clutter", "class",
)  # fmt: skip
_CLASS = MISS_SCORE_NAMES.index("class")
#: BEV IoU from which two candidates are one object (docs/method.md#detection).
MERGE_OVERLAP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpectedMisses:
    """What was probably missed in each frame.

    Attributes:
        offsets: (F + 1,) int64, clusters of each frame.
        boxes: (Q, 7) float64, the best candidate of each cluster.
        labels: (Q,) int64, its class.
        proba: (Q,) float64, P(it is a real object that was missed).
        without_candidate: (F,) float64, misses that no candidate shows: their rate per frame on the reference, an
            assumption about other frames.
    """

    offsets: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    proba: NDArray[np.float64]
    without_candidate: NDArray[np.float64]

    @property
    def frame_index(self) -> NDArray[np.int64]:
        """(Q,) number of the frame of each cluster."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), np.diff(self.offsets))

    @property
    def expected(self) -> NDArray[np.float64]:
        """(F,) expected number of misses: Σ P + what no candidate shows."""
        shown = sum_by_frame(self.frame_index, self.proba, frames=len(self.offsets) - 1)
        total: NDArray[np.float64] = shown + self.without_candidate
        return total

    def __len__(self) -> int:
        """Number of clusters."""
        return len(self.proba)


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Clusters of candidates on no kept box.

    Attributes:
        peaks: The best candidate of each, Q of them.
        members: The candidates behind them, P of them.
        owner: (P,) cluster of each member; peaks are members of their own.
    """

    peaks: Detections3D
    members: Detections3D
    owner: NDArray[np.int64]


def find_clusters(frames: DetectedFrames, *, match_distance: float) -> Clusters:
    """Merge candidates on no kept box, greedily by score: what overlaps a better one or stands near it belongs to it.

    A candidate is on a kept box that has its class and is at most `match_distance` away, or that overlaps it by an IoU
    of 0.5 or more. Two candidates merge within `match_distance` or from an IoU of 0.1.
    """
    free = _free_candidates(frames, match_distance)
    edges = _merging(free, match_distance)
    is_peak = _local_maxima(len(free), edges)
    peaks = np.flatnonzero(is_peak)
    place = np.full(len(free), -1)
    place[peaks] = np.arange(len(peaks))
    owner = np.full(len(free), len(free))
    chosen = is_peak[edges.first]
    np.minimum.at(owner, edges.second[chosen], edges.first[chosen])  # the best of several
    owner[peaks] = peaks
    return Clusters(peaks=free.take(peaks), members=free, owner=place[owner])


def miss_scores(
    frames: DetectedFrames,
    clusters: Clusters,
    *,
    thresholds: NDArray[np.float64],
    norms: BoxNorms,
    match_distance: float,
) -> NDArray[np.float64]:
    """The scores of each cluster, (Q, S) in the order of `MISS_SCORE_NAMES`; `class` is NaN until it is known."""
    peaks, members, owner = clusters.peaks, clusters.members, clusters.owner
    total = np.bincount(owner, minlength=len(peaks))
    is_same = members.labels == peaks.labels[owner]
    same, rows = owner[is_same], np.flatnonzero(is_same)
    count = np.bincount(same, minlength=len(peaks))  # ≥ 1: the peak itself
    chances = np.bincount(same, members.scores[rows].astype(np.float64), minlength=len(peaks))
    gaps = np.bincount(same, box_gaps(peaks, members, same, rows), minlength=len(peaks))
    odds = logit(peaks.scores)
    z = np.abs(norms.deviations(peaks.boxes, peaks.labels))
    columns = (
        odds,
        odds - logit(thresholds)[peaks.labels],
        np.log(count),
        chances / count,
        -np.sqrt(gaps / count),
        count / total - 1.0,
        *(-z.T),
        _confidence_of_frame(frames.kept)[peaks.frame_index],
        peaks.scores - clutter(peaks, peaks, reach=CLUTTER_REACH * match_distance),  # all but itself
        np.full(len(peaks), np.nan),
    )
    return as_stored(np.column_stack(columns)) if len(peaks) else np.empty((0, len(MISS_SCORE_NAMES)))


def _confidence_of_frame(kept: Detections3D) -> NDArray[np.float64]:
    """Mean log-odds of the scores of each frame's kept boxes and one of score ½, (F,)."""
    odds: NDArray[np.float64] = sum_by_frame(kept.frame_index, logit(kept.scores), frames=kept.frames)
    return odds / (kept.counts + 1)


def claimed_truths(
    peaks: Detections3D, truths: Truths3D, is_missed: NDArray[np.bool_], *, match_distance: float
) -> NDArray[np.int64]:
    """The missed truth of its class that each cluster is, (Q,) int64, −1 for none.

    Clusters choose by falling score the nearest within `match_distance`; each truth is claimed once.
    """
    missed = np.flatnonzero(is_missed & (truths.labels >= 0))
    counts = np.bincount(truths.frame_index[missed], minlength=truths.frames)
    edges = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    reach = np.full(len(peaks), match_distance)
    pairs = near_pairs(peaks.boxes, truths.boxes[missed], (peaks.offsets, edges), reach=reach)
    pairs = pairs.where(peaks.labels[pairs.first] == truths.labels[missed][pairs.second])
    target = np.full(len(peaks), -1, np.int64)
    is_claimed = np.zeros(len(missed), np.bool_)
    # Few pairs, once per fit: clusters of a frame come by falling score, each takes the nearest that is left.
    for row in np.lexsort((pairs.distance, pairs.first)).tolist():
        cluster, truth = pairs.first[row], pairs.second[row]
        if target[cluster] < 0 and not is_claimed[truth]:
            target[cluster], is_claimed[truth] = missed[truth], True
    return target


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MissEstimator:
    """Turns clusters into expected misses.

    Attributes:
        mode: `monotone`, `platt`, `prior`, or `none` where the reference has no cluster.
        model: Linear model on the scores of a cluster; its probability is that of a real, missed object.
        class_scores: (C,) column `class`: log-odds of the share of real ones among clusters of the class.
        without_candidate: (C,) missed objects of each class per frame that no cluster shows.
    """

    mode: str
    model: ScoreModel
    class_scores: NDArray[np.float64]
    without_candidate: NDArray[np.float64]

    def proba(self, scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """P(real, missed object) of each cluster, (Q,), from `miss_scores`."""
        given = scores.copy()
        given[:, _CLASS] = as_stored(self.class_scores)[labels]
        return self.model.probability(given)

    def expect(self, clusters: Clusters, scores: NDArray[np.float64]) -> ExpectedMisses:
        """The expected misses of frames that the estimator was not fitted on."""
        peaks = clusters.peaks
        return ExpectedMisses(
            offsets=peaks.offsets,
            boxes=peaks.boxes,
            labels=peaks.labels,
            proba=self.proba(scores, peaks.labels),
            without_candidate=np.full(peaks.frames, float(self.without_candidate.sum())),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state for an artifact."""
        arrays = {f"misses.{name}": array for name, array in self.model.to_arrays().items()}
        return arrays | {
            "misses.class_scores": self.class_scores,
            "misses.without_candidate": self.without_candidate,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, mode: str) -> Self:
        """The estimator whose state `to_arrays` gave."""
        own = {name.removeprefix("misses."): array for name, array in arrays.items() if name.startswith("misses.")}
        return cls(
            mode=mode,
            model=ScoreModel.from_arrays(own),
            class_scores=own["class_scores"],
            without_candidate=own["without_candidate"],
        )


def _free_candidates(frames: DetectedFrames, match_distance: float) -> Detections3D:
    """The candidates on no kept box."""
    kept, candidates = frames.kept, frames.candidates
    radii = half_diagonals(kept.boxes)
    reach = np.maximum(radii, match_distance)
    pairs = near_pairs(kept.boxes, candidates.boxes, (kept.offsets, candidates.offsets), reach=reach)
    is_on = (pairs.distance <= match_distance) & (kept.labels[pairs.first] == candidates.labels[pairs.second])
    # An overlap of at least half of either box reaches both centres.
    limit = np.minimum(radii[pairs.first], half_diagonals(candidates.boxes)[pairs.second])
    iou = overlaps(pairs, kept.boxes, candidates.boxes, needed=~is_on & (pairs.distance <= limit))
    taken = np.zeros(len(candidates), np.bool_)
    taken[pairs.second[is_on | (iou >= SAME_OBJECT)]] = True
    return candidates.take(~taken)


def _merging(free: Detections3D, match_distance: float) -> NearPairs:
    """Pairs of candidates that are one object; the first is the better one."""
    radii = half_diagonals(free.boxes)
    widest = np.zeros(free.frames)
    np.maximum.at(widest, free.frame_index, radii)
    reach = np.maximum(radii + widest[free.frame_index], match_distance)
    pairs = pairs_within(free.boxes, free.offsets, reach=reach)  # candidates come by falling score
    touching = pairs.distance < radii[pairs.first] + radii[pairs.second]
    is_near = pairs.distance <= match_distance
    iou = overlaps(pairs, free.boxes, free.boxes, needed=touching & ~is_near)
    return pairs.where(is_near | (iou >= MERGE_OVERLAP))


def _local_maxima(count: int, edges: NearPairs) -> NDArray[np.bool_]:
    """What a greedy pass by falling score keeps, (N,): those that merge with no better one that is kept.

    All whose better partners are decided are decided at once; the rounds are as many as the longest such chain.
    """
    is_peak, is_open = np.zeros(count, np.bool_), np.ones(count, np.bool_)
    first, second = edges.first, edges.second
    while is_open.any():
        waits = np.zeros(count, np.bool_)
        waits[second] = True
        new = is_open & ~waits
        is_peak |= new
        is_open &= waits
        is_open[second[new[first]]] = False
        live = is_open[first] & is_open[second]
        first, second = first[live], second[live]
    return is_peak
