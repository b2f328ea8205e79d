"""The acceptance rule of a detector's estimators: what is shown is what held out of fold (docs/method.md#detection)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mld_pipelines.diagnosis import _badges
from mld_pipelines.diagnosis._fit import COMPARISON_MARGIN, MIN_FOR_COMPARISON
from mld_pipelines.diagnosis.detection._frames import sum_by_frame
from mld_pipelines.metrics import roc_auc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.diagnosis._fit import CrossFit
    from mld_pipelines.diagnosis._scores import CodeRates
    from mld_pipelines.diagnosis.detection._compare import WindowErrors
    from mld_pipelines.diagnosis.detection._miss_fit import MissFit
    from mld_pipelines.diagnosis.detection._reference import DetectionReference
    from mld_pipelines.diagnosis.detection._scores import DetectionRiskScorer

__all__ = ["DetectionMaterial", "choose_miss_mode", "choose_mode", "mistaken_objects"]

#: AUROC by which MonoLR must beat the score out of fold before it is shown, or this share of what the score leaves to
#: 1, if that is less: above 0.92, 0.02 are more than a quarter of all remaining mistakes (docs/method.md#detection).
REQUIRED_GAIN, REQUIRED_SHARE = 0.02, 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionMaterial:
    """Everything that the choice of modes needs."""

    reference: DetectionReference
    scorer: DetectionRiskScorer
    scores: NDArray[np.float64]
    fits: dict[str, CrossFit]
    misses: MissFit
    class_rates: CodeRates
    code_rates: CodeRates | None
    match_distance: float
    unseen_ref: float | None
    windows: WindowErrors | None
    order: NDArray[np.intp]
    prior_badges: tuple[str, ...]


def choose_mode(material: DetectionMaterial) -> tuple[str, tuple[str, ...], dict[str, float]]:
    """The acceptance rule (docs/method.md#detection): mode, badges, error of precision by method."""
    errors, fits = material.reference.is_error, material.fits
    apart: dict[str, float] = {}
    if material.windows is not None:
        chances = {"mean_score": _unlikely(material), **{mode: fit.error_proba for mode, fit in fits.items()}}
        apart = {name: material.windows.of_precision(_per_frame(material, values)) for name, values in chances.items()}
    if "prior" in fits:
        return "prior", material.prior_badges, apart
    if "monotone" not in fits:
        return "platt", (_badges.ONLY_CONFIDENCE,), apart
    if min(errors.sum(), (~errors).sum()) < MIN_FOR_COMPARISON or not apart:
        return "platt", (_badges.FEW_ERRORS,), apart
    score = roc_auc(material.scores[:, 0], errors) or 0.0
    gain = (roc_auc(fits["monotone"].error_proba, errors) or 0.0) - score
    is_nearer = apart["monotone"] < apart["mean_score"] and apart["monotone"] <= apart["platt"]
    if gain < min(REQUIRED_GAIN, REQUIRED_SHARE * (1.0 - score)) or not is_nearer:
        return "platt", (_badges.CONFIDENCE_IS_BETTER,), apart
    return "monotone", (), apart


def choose_miss_mode(material: DetectionMaterial, fitted: CrossFit) -> tuple[str, dict[str, float]]:
    """The same for expected misses: mode, error of recall by method."""
    misses, fits = material.misses, material.misses.fits
    apart: dict[str, float] = {}
    if material.windows is not None:
        apart["mean_score"] = material.windows.of_recall(
            _per_frame(material, _unlikely(material)),
            _clusters_per_frame(material, np.clip(misses.clusters.peaks.scores.astype(np.float64), 0.0, 1.0)),
        )
        errors = _per_frame(material, fitted.error_proba)
        for mode, fit in fits.items():
            shown = _clusters_per_frame(material, fit.error_proba) + misses.without_candidate[material.order]
            apart[mode] = material.windows.of_recall(errors, shown + _mistaken_share(material) * errors)
    if "monotone" not in fits:
        return next(iter(fits), "none"), apart
    real = misses.is_real
    if min(real.sum(), (~real).sum()) < MIN_FOR_COMPARISON or not apart:
        return "platt", apart
    gain = (roc_auc(fits["monotone"].error_proba, real) or 0.0) - (roc_auc(misses.scores[:, 0], real) or 0.0)
    is_better = gain >= -COMPARISON_MARGIN and apart["monotone"] < apart["mean_score"]
    return ("monotone" if is_better else "platt"), apart


def _unlikely(material: DetectionMaterial) -> NDArray[np.float64]:
    """What the score alone says about an error, (N,): 1 − score."""
    scores = material.reference.frames.kept.scores.astype(np.float64)
    return 1.0 - np.clip(scores, 0.0, 1.0)


def _per_frame(material: DetectionMaterial, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over kept boxes by frame, in the order of content."""
    kept = material.reference.frames.kept
    return sum_by_frame(kept.frame_index, values, frames=kept.frames)[material.order]


def _clusters_per_frame(material: DetectionMaterial, values: NDArray[np.float64]) -> NDArray[np.float64]:
    peaks = material.misses.clusters.peaks
    return sum_by_frame(peaks.frame_index, values, frames=peaks.frames)[material.order]


def _mistaken_share(material: DetectionMaterial) -> float:
    """Objects that a kept box is mistaken about, per error."""
    return mistaken_objects(material.reference) / max(int(material.reference.is_error.sum()), 1)


def mistaken_objects(reference: DetectionReference) -> int:
    """Objects that were neither found nor missed: a kept box is mistaken about them."""
    found = int((~reference.is_error).sum())
    return max(int((reference.truths.labels >= 0).sum()) - found - int(reference.is_missed.sum()), 0)
