"""Fitting the estimators of a detector on labelled frames, cross-fitted by frame (docs/method.md#detection)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mld_pipelines.diagnosis import _badges
from mld_pipelines.diagnosis._bank import hash_keys
from mld_pipelines.diagnosis._fit import FOLDS, CrossFit
from mld_pipelines.diagnosis._monolr import has_more_than_confidence
from mld_pipelines.diagnosis._policy import Policy
from mld_pipelines.diagnosis._threads import one_thread
from mld_pipelines.diagnosis.detection._bank import DETECTION_BANK_LIMIT, select_detection_bank
from mld_pipelines.diagnosis.detection._choice import (
    DetectionMaterial,
    choose_miss_mode,
    choose_mode,
    mistaken_objects,
)
from mld_pipelines.diagnosis.detection._compare import MIN_FRAMES_TO_COMPARE, FrameSums, WindowErrors, draw_windows
from mld_pipelines.diagnosis.detection._estimator import DetectionEstimator
from mld_pipelines.diagnosis.detection._frames import check_thresholds
from mld_pipelines.diagnosis.detection._miss_fit import MissFit, fit_by_frame, fit_misses, score_as_chance
from mld_pipelines.diagnosis.detection._misses import MISS_SCORE_NAMES, find_clusters
from mld_pipelines.diagnosis.detection._reference import DetectionReference, fit_rates
from mld_pipelines.diagnosis.detection._scores import DETECTION_SCORE_NAMES, BoxNorms, DetectionRiskScorer
from mld_pipelines.diagnosis.detection._window import (
    DetectionWindowReference,
    tail_threshold,
    within_frame_correlation,
)
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import average_precision, roc_auc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from mld_pipelines.diagnosis.detection._bank import DetectionBank
    from mld_pipelines.diagnosis.detection._frames import DetectedFrames
    from mld_pipelines.diagnosis.detection._misses import ExpectedMisses
    from mld_pipelines.records import Truths3D

__all__ = ["DetectionFit", "fit_detection_estimator"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionFit:
    """An estimator together with what fitting it tells about the reference.

    Attributes:
        estimator: Fitted on all frames; for every frame outside the reference.
        error_proba: (N,) float64, P(error) of the kept boxes, cross-fitted by frame.
        risk_scores: (N, S), their scores with the outcomes of their own frame left out.
        misses: Expected misses, cross-fitted by frame.
        window_reference: What `estimate_detection_window` needs.
        diagnostics: JSON values: modes, ranking out of fold beside that of the score, errors on windows of reference
            frames beside those of the mean score, weights.
    """

    estimator: DetectionEstimator
    error_proba: NDArray[np.float64]
    risk_scores: NDArray[np.float64]
    misses: ExpectedMisses
    window_reference: DetectionWindowReference
    diagnostics: dict[str, Any]


def fit_detection_estimator(
    frames: DetectedFrames,
    *,
    is_error: NDArray[np.bool_],
    truths: Truths3D,
    is_missed: NDArray[np.bool_],
    thresholds: ArrayLike,
    n_classes: int,
    keys: Sequence[str],
    match_distance: float = 2.0,
    codes: NDArray[np.int64] | None = None,
    n_codes: int = 0,
    unseen_ref: float | None = None,
    bank: DetectionBank | None = None,
    policy: Policy | None = None,
) -> DetectionFit:
    """Fit error probability and expected misses on a labelled reference.

    MonoLR is shown where, out of fold, it ranks errors better than the score by 0.02 AUROC and windows of reference
    frames come out nearer than with the mean score; otherwise Platt scaling of the score. The result depends on the
    content of the frames, not on their order.

    Args:
        frames: Frames of the decision dataset, cut at the operating point.
        is_error: (N,) whether each kept box is no true positive.
        truths: What is really there, as many frames.
        is_missed: (T,) which truths are missed objects: nothing found them and nothing is mistaken about them.
        thresholds: (C,) operating point.
        n_classes: Classes of the model.
        keys: Content key of each frame.
        match_distance: Centre distance up to which a box is an object, metres.
        codes: (N,) code index of each kept box, −1 for UNSEEN; None without a codebook.
        n_codes: Codes of the codebook.
        unseen_ref: Cross-fitted UNSEEN share of kept boxes; None without a codebook.
        bank: Neighbours; None takes the reference itself, a box's own frame left out.
        policy: Conventions; None takes the defaults.

    Raises:
        InvalidInputError: The reference has no frames, or lengths or labels disagree.
    """
    policy = policy or Policy()
    limits = check_thresholds(thresholds)
    _check_classes(frames, truths, codes, n_thresholds=len(limits), n_classes=n_classes)
    reference = DetectionReference.of(frames, is_error, truths, is_missed, keys=keys, n_folds=FOLDS, seed=policy.seed)
    if bank is None:
        limit = min(policy.bank_limit, DETECTION_BANK_LIMIT)
        bank = select_detection_bank(frames, is_error=reference.is_error, keys=keys, limit=limit, seed=policy.seed)
    with one_thread("scipy.optimize"):
        norms = _norms(reference, n_classes=n_classes)
        scorer = DetectionRiskScorer.fit(frames, thresholds=limits, norms=norms, bank=bank, seed=policy.seed)
        groups = reference.box_groups
        classes = fit_rates(frames.kept.labels, reference.is_error, groups, n_cells=n_classes)
        coded = None if codes is None else fit_rates(np.asarray(codes), reference.is_error, groups, n_cells=n_codes)
        clusters = find_clusters(frames, match_distance=match_distance)
        scores = scorer.score(
            frames,
            clusters.peaks,
            match_distance=match_distance,
            hashes=hash_keys(keys),
            class_scores=classes[1],
            code_scores=None if coded is None else coded[1],
        )
        prior_badges = _prior_badges(reference.is_error, policy=policy)
        material = DetectionMaterial(
            reference=reference,
            scorer=scorer,
            scores=scores,
            fits=_fit_modes(scores, reference, is_prior=bool(prior_badges)),
            misses=fit_misses(reference, clusters, thresholds=limits, norms=norms, match_distance=match_distance),
            class_rates=classes[0],
            code_rates=None if coded is None else coded[0],
            match_distance=match_distance,
            unseen_ref=unseen_ref,
            windows=_windows(reference, seed=policy.seed),
            order=np.argsort(reference.groups, kind="stable"),
            prior_badges=prior_badges,
        )
        return _finish(material)


def _norms(reference: DetectionReference, *, n_classes: int) -> BoxNorms:
    """Usual boxes of each class: those that were kept, right or wrong, so that no outcome enters a score."""
    order = np.argsort(reference.box_groups, kind="stable")
    kept = reference.frames.kept
    return BoxNorms.fit(kept.boxes[order], kept.labels[order], n_classes=n_classes)


def _prior_badges(errors: NDArray[np.bool_], *, policy: Policy) -> tuple[str, ...]:
    """Why this reference allows the prior mode only; empty if it allows more."""
    causes = {
        _badges.NO_ERRORS: not errors.any(),
        _badges.NO_SUCCESSES: bool(errors.all()),
        _badges.FEW_UNITS: len(errors) < policy.n_ref_min,
    }
    return tuple(badge for badge, holds in causes.items() if holds)


def _fit_modes(scores: NDArray[np.float64], reference: DetectionReference, *, is_prior: bool) -> dict[str, CrossFit]:
    """Every mode that the kept boxes of the reference allow."""
    errors, groups = reference.is_error, reference.box_groups
    folds = reference.folds[reference.frames.kept.frame_index]
    if not len(errors):
        constant = score_as_chance(len(DETECTION_SCORE_NAMES))
        return {"prior": CrossFit("prior", constant, (constant,) * FOLDS, np.empty(0))}
    modes = ("prior",) if is_prior else ("platt", "monotone")
    if "monotone" in modes and not has_more_than_confidence(scores):
        modes = ("platt",)
    return {mode: fit_by_frame(mode, scores, errors, groups, folds) for mode in modes}


def _windows(reference: DetectionReference, *, seed: int) -> WindowErrors | None:
    """Windows of reference frames; None where there are too few."""
    frames = reference.frames.frames
    if frames < MIN_FRAMES_TO_COMPARE:
        return None
    order = np.argsort(reference.groups, kind="stable")
    known = reference.truths.labels >= 0
    sums = FrameSums(
        reference.frames.kept.counts[order].astype(np.float64),
        np.bincount(reference.frames.kept.frame_index[reference.is_error], minlength=frames)[order].astype(np.float64),
        np.bincount(reference.truths.frame_index[known], minlength=frames)[order].astype(np.float64),
    )
    return draw_windows(sums, seed=seed)


def _finish(material: DetectionMaterial) -> DetectionFit:
    """Choose the modes and put everything together."""
    mode, badges, precision_errors = choose_mode(material)
    fitted = material.fits[mode]
    miss_mode, recall_errors = choose_miss_mode(material, fitted)
    reference, misses = material.reference, material.misses
    estimator = DetectionEstimator(
        mode=mode,
        badges=badges,
        scorer=material.scorer,
        model=fitted.model,
        class_rates=material.class_rates,
        code_rates=material.code_rates,
        misses=misses.estimator(miss_mode),
        match_distance=material.match_distance,
        n_ref=len(reference.is_error),
        n_errors=int(reference.is_error.sum()),
    )
    return DetectionFit(
        estimator=estimator,
        error_proba=fitted.error_proba,
        risk_scores=material.scores,
        misses=misses.expected(miss_mode),
        window_reference=_window_reference(material, fitted, estimator),
        diagnostics={
            **_diagnose(material, fitted, badges),
            **_diagnose_misses(misses, miss_mode),
            "precision_mae": precision_errors,
            "recall_mae": recall_errors,
        },
    )


def _window_reference(
    material: DetectionMaterial, fitted: CrossFit, estimator: DetectionEstimator
) -> DetectionWindowReference:
    reference, misses = material.reference, material.misses
    threshold, is_tied = tail_threshold(
        fitted.error_proba, fitted.model.probability(material.scores), share=_share(reference.is_error)
    )
    peaks = misses.clusters.peaks
    threshold_miss, is_miss_tied = tail_threshold(
        misses.expected(estimator.misses.mode).proba,
        estimator.misses.proba(misses.scores, peaks.labels),
        share=_share(misses.is_real),
    )
    known = reference.truths.labels >= 0
    return DetectionWindowReference(
        frames=reference.frames.frames,
        boxes=len(reference.is_error),
        n_errors=int(reference.is_error.sum()),
        objects=int(known.sum()),
        n_missed=int(reference.is_missed.sum()),
        n_mistaken=mistaken_objects(reference),
        clusters=len(peaks),
        n_shown=int(misses.is_real.sum()),
        without_candidate=float(estimator.misses.without_candidate.sum()),
        threshold_ep=threshold,
        threshold_miss=threshold_miss,
        is_tied=is_tied,
        is_miss_tied=is_miss_tied,
        error_correlation=within_frame_correlation(reference.is_error, reference.box_groups),
        miss_correlation=within_frame_correlation(reference.is_missed[known], reference.truth_groups[known]),
        unseen_ref=material.unseen_ref,
    )


def _share(outcomes: NDArray[np.bool_]) -> float:
    return float(outcomes.mean()) if len(outcomes) else 0.0


def _diagnose(material: DetectionMaterial, fitted: CrossFit, badges: tuple[str, ...]) -> dict[str, Any]:
    errors = material.reference.is_error
    best = material.fits.get("monotone", fitted)
    both = len(errors) > 0 and errors.any() and not errors.all()
    return {
        "mode": fitted.mode,
        "badges": list(badges),
        "n_frames": material.reference.frames.frames,
        "n_ref": len(errors),
        "n_errors": int(errors.sum()),
        "error_proba_auroc": roc_auc(fitted.error_proba, errors) if both else None,
        "error_proba_auprc": average_precision(fitted.error_proba, errors) if both else None,
        "error_proba_auprc_success": average_precision(-fitted.error_proba, ~errors) if both else None,
        "confidence_auroc": roc_auc(material.scores[:, 0], errors) if both else None,
        "monotone_auroc": roc_auc(best.error_proba, errors) if both else None,
        "weights": dict(zip(DETECTION_SCORE_NAMES, fitted.model.weights.tolist(), strict=True)),
        "intercept": fitted.model.intercept,
    }


def _diagnose_misses(misses: MissFit, mode: str) -> dict[str, Any]:
    real, fits = misses.is_real, misses.fits
    both = len(real) > 0 and real.any() and not real.all()
    weights = misses.estimator(mode).model.weights
    return {
        "miss_mode": mode,
        "n_clusters": len(real),
        "n_shown": int(real.sum()),
        "n_without_candidate": int(misses.unseen.sum()),
        "miss_auroc": roc_auc(fits[mode].error_proba, real) if both else None,
        "miss_confidence_auroc": roc_auc(misses.scores[:, 0], real) if both else None,
        "miss_weights": dict(zip(MISS_SCORE_NAMES, weights.tolist(), strict=True)),
    }


def _check_classes(
    frames: DetectedFrames,
    truths: Truths3D,
    codes: NDArray[np.int64] | None,
    *,
    n_thresholds: int,
    n_classes: int,
) -> None:
    if n_thresholds != n_classes:
        raise InvalidInputError(
            f"there are {n_thresholds} thresholds for {n_classes} classes; nothing was fitted. Pass one per class."
        )
    if len(truths) and truths.labels.max() >= n_classes:
        raise InvalidInputError(
            f"a truth has label {truths.labels.max()}, but there are {n_classes} classes; nothing was fitted. "
            "A class that the model does not know is −1."
        )
    if codes is not None and np.shape(codes) != (len(frames),):
        raise InvalidInputError(
            f"codes have shape {np.shape(codes)}, expected ({len(frames)},); nothing was fitted. Pass one per box."
        )
