"""Fitting the estimator of missed objects on labelled frames, cross-fitted by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis._fit import CrossFit, cross_fit
from mld_pipelines.diagnosis._monolr import PRIOR_CLIP, ScoreModel
from mld_pipelines.diagnosis._scores import CodeRates, as_stored
from mld_pipelines.diagnosis.detection._misses import (
    MISS_SCORE_NAMES,
    Clusters,
    ExpectedMisses,
    MissEstimator,
    claimed_truths,
    miss_scores,
)
from mld_pipelines.diagnosis.detection._reference import fit_rates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.diagnosis.detection._reference import DetectionReference
    from mld_pipelines.diagnosis.detection._scores import BoxNorms

__all__ = ["MissFit", "fit_by_frame", "fit_misses", "score_as_chance"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MissFit:
    """What clusters of the reference are, and the models that say so without labels.

    Attributes:
        clusters: Clusters of candidates on no kept box.
        scores: (Q, S) of them, with the outcomes of their own frame left out.
        is_real: (Q,) whether each is a missed object.
        fits: Models by mode, all cross-fitted; empty without a cluster.
        rates: Shares of real ones per class.
        unseen: (F, C) missed objects that no cluster shows.
        without_candidate: (F,) their number per frame, from the other folds.
    """

    clusters: Clusters
    scores: NDArray[np.float64]
    is_real: NDArray[np.bool_]
    fits: dict[str, CrossFit]
    rates: CodeRates
    unseen: NDArray[np.int64]
    without_candidate: NDArray[np.float64]

    def estimator(self, mode: str) -> MissEstimator:
        """The estimator of this mode, for frames outside the reference."""
        model = self.fits[mode].model if mode in self.fits else score_as_chance(len(MISS_SCORE_NAMES))
        return MissEstimator(
            mode=mode,
            model=model,
            class_scores=self.rates.scores(np.arange(len(self.rates.counts))),
            without_candidate=self.unseen.mean(axis=0),
        )

    def expected(self, mode: str) -> ExpectedMisses:
        """The cross-fitted expected misses of the reference."""
        peaks = self.clusters.peaks
        return ExpectedMisses(
            offsets=peaks.offsets,
            boxes=peaks.boxes,
            labels=peaks.labels,
            proba=self.fits[mode].error_proba if mode in self.fits else np.empty(0),
            without_candidate=self.without_candidate,
        )


def fit_misses(
    reference: DetectionReference,
    clusters: Clusters,
    *,
    thresholds: NDArray[np.float64],
    norms: BoxNorms,
    match_distance: float,
) -> MissFit:
    """Fit every mode that the clusters of a reference allow.

    Args:
        reference: Labelled frames.
        clusters: Of their candidates.
        thresholds: (C,) operating point.
        norms: Usual boxes by class.
        match_distance: Centre distance up to which a cluster is a missed object, metres.
    """
    truths = reference.truths
    peaks = clusters.peaks
    target = claimed_truths(peaks, truths, reference.is_missed, match_distance=match_distance)
    is_real = target >= 0
    groups = reference.groups[peaks.frame_index]
    rates, own = fit_rates(peaks.labels, is_real, groups, n_cells=len(thresholds))
    scores = miss_scores(reference.frames, clusters, thresholds=thresholds, norms=norms, match_distance=match_distance)
    scores[:, MISS_SCORE_NAMES.index("class")] = as_stored(own)
    hidden = reference.is_missed.copy()
    hidden[target[is_real]] = False
    unseen = np.zeros((truths.frames, len(thresholds)), np.int64)
    np.add.at(unseen, (truths.frame_index[hidden], truths.labels[hidden]), 1)
    fits = {}
    if len(peaks):
        has_both = is_real.any() and not is_real.all()
        for mode in ("monotone", "platt") if has_both else ("prior",):
            fits[mode] = fit_by_frame(mode, scores, is_real, groups, reference.folds[peaks.frame_index])
    return MissFit(
        clusters=clusters,
        scores=scores,
        is_real=is_real,
        fits=fits,
        rates=rates,
        unseen=unseen,
        without_candidate=_rate_elsewhere(unseen.sum(axis=1), reference.folds),
    )


def fit_by_frame(
    mode: str,
    scores: NDArray[np.float64],
    outcomes: NDArray[np.bool_],
    groups: NDArray[np.int64],
    folds: NDArray[np.int64],
) -> CrossFit:
    """Cross-fit one mode; rows are taken in the order of their frames' content, so that sums do not vary.

    Args:
        mode: `monotone`, `platt` or `prior`.
        scores: (N, S).
        outcomes: (N,).
        groups: (N,) number of the content of each row's frame.
        folds: (N,) fold of each row's frame.
    """
    order = np.argsort(groups, kind="stable")
    fitted = cross_fit(mode, scores[order], outcomes[order], folds[order])
    proba = np.empty(len(order))
    proba[order] = fitted.error_proba
    return CrossFit(mode, fitted.model, fitted.fold_models, proba)


def score_as_chance(columns: int) -> ScoreModel:
    """The model of a reference that says nothing: σ of the first column, the log-odds of the score."""
    weights = np.zeros(columns)
    weights[0] = 1.0
    return ScoreModel(0.0, weights, np.zeros(columns), np.ones(columns), PRIOR_CLIP)


def _rate_elsewhere(counts: NDArray[np.int64], folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean count of the frames of all other folds, (F,); of all frames where there is but one fold."""
    rate = np.full(len(counts), counts.mean())
    for fold in np.unique(folds):
        others = folds != fold
        if others.any():
            rate[~others] = counts[others].mean()
    return rate
