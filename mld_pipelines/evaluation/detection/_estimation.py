"""Error probability of every kept prediction of a detector: cross-fitted on the reference, the full fit elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import (
    DETECTION_BANK_LIMIT,
    fit_detection_estimator,
    select_detection_bank,
    split_detections,
)
from mld_pipelines.evaluation._datasets import TRAIN
from mld_pipelines.evaluation._duplicates import content_keys

if TYPE_CHECKING:
    import numpy.typing as npt

    from mld_pipelines.diagnosis import DetectedFrames, DetectionBank, DetectionFit, Policy
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation.detection._population import DetectionPopulation
    from mld_pipelines.evaluation.detection._units import DetectionUnits

__all__ = ["DetectionEstimation", "banked_frames", "estimate_detections"]


@dataclass(frozen=True, slots=True, eq=False)
class DetectionEstimation:
    """Fit and values of the error estimator of a detector.

    Attributes:
        fit: The fit on the reference.
        error_proba: P(the prediction is no true positive), (N,) float64; cross-fitted for reference frames.
        risk_scores: (N, S); NaN where one cannot be computed.
    """

    fit: DetectionFit
    error_proba: npt.NDArray[np.float64]
    risk_scores: npt.NDArray[np.float64]


def estimate_detections(
    population: DetectionPopulation,
    units: DetectionUnits,
    coding: Coding,
    reference: npt.NDArray[np.bool_],
    *,
    decision_dataset: str,
    policy: Policy,
) -> DetectionEstimation:
    """Fit the estimator on the reference and score every kept prediction.

    Args:
        population: The frames.
        units: What became of predictions and objects.
        coding: Codes of the predictions.
        reference: (F,) frames of the dataset that decides.
        decision_dataset: Its name.
        policy: Bounds and seed.
    """
    banked = banked_frames(population, decision_dataset)
    keys = content_keys(population.frame, banked=pl.Series(banked))
    is_reference = reference[units.frames.kept.frame_index]
    in_reference = reference[population.truths.frame_index[units.objects]]
    _, truths = population.part(reference)
    codebook = coding.codebook
    fit = fit_detection_estimator(
        _split(population, reference, units),
        is_error=units.is_error[is_reference],
        truths=truths.take(truths.labels >= 0),
        is_missed=units.is_missed[in_reference],
        thresholds=units.thresholds,
        n_classes=population.n_classes,
        codes=coding.index[is_reference] if codebook else None,
        n_codes=codebook.n_codes if codebook else 0,
        unseen_ref=codebook.unseen_ref if codebook else None,
        keys=[key for key, chosen in zip(keys, reference.tolist(), strict=True) if chosen],
        bank=_bank(population, units, banked, keys, policy=policy),
        policy=policy,
    )
    error_proba = np.empty(len(is_reference))
    risk_scores = np.empty((len(is_reference), fit.risk_scores.shape[1]))
    error_proba[is_reference], risk_scores[is_reference] = fit.error_proba, fit.risk_scores
    if not is_reference.all():
        scores = fit.estimator.risk_scores(
            _split(population, ~reference, units),
            codes=coding.index[~is_reference] if codebook else None,
            keys=[key for key, chosen in zip(keys, reference.tolist(), strict=True) if not chosen],
        )
        risk_scores[~is_reference], error_proba[~is_reference] = scores, fit.estimator.error_proba(scores)
    return DetectionEstimation(fit, error_proba, risk_scores)


def _split(population: DetectionPopulation, chosen: npt.NDArray[np.bool_], units: DetectionUnits) -> DetectedFrames:
    boxes, _ = population.part(chosen)
    has_all = population.boxes  # a part may have features where the whole has not
    return split_detections(
        boxes.recorded,
        boxes.suppressed if has_all.suppressed is not None else None,
        thresholds=units.thresholds,
        class_scores=boxes.class_scores if has_all.class_scores is not None else None,
        class_space=has_all.class_space,
        features=boxes.features if has_all.features is not None else None,
    )


def banked_frames(population: DetectionPopulation, decision_dataset: str) -> npt.NDArray[np.bool_]:
    """Return which frames are neighbours: the training data; without them the reference is its own bank."""
    datasets = population.frame["dataset_type"]
    training = datasets.str.to_lowercase() == TRAIN
    chosen = datasets == decision_dataset if decision_dataset.lower() == TRAIN or not training.any() else training
    return chosen.to_numpy()


def _bank(
    population: DetectionPopulation,
    units: DetectionUnits,
    banked: npt.NDArray[np.bool_],
    keys: list[str],
    *,
    policy: Policy,
) -> DetectionBank:
    """Return the predictions that neighbours come from, those of one content once."""
    _, first = np.unique(np.array(keys), return_index=True)
    chosen = np.zeros(len(keys), np.bool_)
    chosen[first] = True
    chosen &= banked
    return select_detection_bank(
        _split(population, chosen, units),
        is_error=units.is_error[chosen[units.frames.kept.frame_index]],
        keys=[keys[place] for place in np.flatnonzero(chosen).tolist()],
        limit=min(policy.bank_limit, DETECTION_BANK_LIMIT),
        seed=policy.seed,
    )
