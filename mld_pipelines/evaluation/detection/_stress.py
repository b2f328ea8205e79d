"""What an evaluation makes of stressed copies of frames: the shift map, and nothing else (docs/method.md#stress)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import (
    UNSEEN,
    UNSEEN_INDEX,
    FrameTallies,
    fit_detection_shift,
    prediction_features,
    prediction_probabilities,
    split_detections,
)
from mld_pipelines.evaluation._duplicates import content_keys
from mld_pipelines.evaluation._stress import STRESS_SET, Verification, version_of
from mld_pipelines.evaluation._stress_promotion import STRESS_WARNING
from mld_pipelines.evaluation.detection._estimation import banked_frames
from mld_pipelines.evaluation.detection._frame_boxes import BOX_COLUMNS, frame_boxes, frame_truths
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import OUTCOMES, match_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from mld_pipelines.diagnosis import DetectedFrames, DetectionShiftMap
    from mld_pipelines.evaluation._coding import Coding
    from mld_pipelines.evaluation.detection._estimation import DetectionEstimation
    from mld_pipelines.evaluation.detection._frame_boxes import FrameBoxes
    from mld_pipelines.evaluation.detection._population import DetectionPopulation
    from mld_pipelines.evaluation.detection._units import DetectionUnits

__all__ = ["DetectionPool", "verify_detection_windows"]

MIN_ORIGINALS = 50
"""Originals that a map needs: windows of 50 frames are the smallest that it is fitted on."""

_READ_COPIES = 4096
"""Copies read at a time: 100 MB for the example detector (25 kB a frame), and a table is decoded whole each time."""

_SCORED_COPIES = 512
"""Copies scored at a time; larger blocks are no faster."""

_FN, _TP = OUTCOMES.index("fn"), OUTCOMES.index("tp")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DetectionPool:
    """What an epoch was evaluated to, as far as its windows are concerned.

    Attributes:
        population: The frames.
        units: What became of predictions and objects.
        coding: Codes of the predictions.
        estimation: The fit of the error estimator.
        reference: (F,) frames of the dataset that decides.
        decision_dataset: Its name.
    """

    population: DetectionPopulation
    units: DetectionUnits
    coding: Coding
    estimation: DetectionEstimation
    reference: npt.NDArray[np.bool_]
    decision_dataset: str


def verify_detection_windows(copies: pl.LazyFrame | None, pool: DetectionPool, *, seed: int) -> Verification:
    """Fit and verify the shift map of one epoch; a pass it cannot be fitted on leaves a warning.

    Args:
        copies: Rows of `scan_copies`; None or no rows without a stress pass.
        pool: The epoch.
        seed: Of the training windows.
    """
    if copies is None:
        return Verification()
    known = copies.select("input_id", *STRESS_SET, "seed", "family_version").collect()
    if known.is_empty():
        return Verification()
    try:
        fitted, originals = _fit(copies, known, pool, seed=seed)
    except InvalidInputError as error:
        return Verification(warnings=(f"{STRESS_WARNING}{error}",))
    return Verification.of(fitted.to_bytes(), _facts(known, fitted, originals))


def _fit(copies: pl.LazyFrame, known: pl.DataFrame, pool: DetectionPool, *, seed: int) -> tuple[DetectionShiftMap, int]:
    """Return the map and the number of originals behind it.

    Raises:
        InvalidInputError: Too few originals are left, or the copies are of another make than the traced frames.
    """
    frames = pool.population.frame.with_row_index("origin").filter(pl.Series(pool.reference))
    sets = known.select(STRESS_SET).unique().sort(STRESS_SET).with_row_index("set_index")
    named = known.select("input_id", *STRESS_SET).join(sets, on=STRESS_SET)
    present = named.join(frames.select("input_id", "origin"), on="input_id").sort("origin", "set_index")
    originals = present["input_id"].n_unique()
    if originals < MIN_ORIGINALS:
        raise InvalidInputError(
            f"it holds copies of {originals} reference frames, {MIN_ORIGINALS} are needed. The estimate stays as "
            "without a stress pass; label more frames and run the pass again."
        )
    tallies = FrameTallies.concat(list(_tallied(copies, present, pool)))
    by_set = np.argsort(present["set_index"].to_numpy(), kind="stable")
    fitted = fit_detection_shift(
        pool.estimation.fit.window_reference,
        _clean_tallies(pool),
        tallies.take(by_set),
        set_index=present["set_index"].to_numpy()[by_set].astype(np.int64),
        families=sets["family"].to_list(),
        stress_version=version_of(known),
        seed=seed,
    )
    return fitted, originals


def _tallied(copies: pl.LazyFrame, present: pl.DataFrame, pool: DetectionPool) -> Iterator[FrameTallies]:
    """Yield the tallies of copies in the order of `present`, block by block."""
    banked = banked_frames(pool.population, pool.decision_dataset)
    keys = content_keys(pool.population.frame, banked=pl.Series(banked))
    per_original = max(present["origin"].value_counts()["count"].to_list())
    names = present["input_id"].unique(maintain_order=True).to_list()
    step = max(1, _READ_COPIES // per_original)
    for start in range(0, len(names), step):
        block = present.filter(pl.col("input_id").is_in(names[start : start + step]))
        rows = copies.filter(pl.col("input_id").is_in(names[start : start + step])).select(
            "input_id", *STRESS_SET, *BOX_COLUMNS
        )
        read = block.join(rows.collect(), on=["input_id", *STRESS_SET], maintain_order="left")
        for part in read.iter_slices(_SCORED_COPIES):
            yield _copy_tallies(part, pool, keys)


def _clean_tallies(pool: DetectionPool) -> FrameTallies:
    """Tallies of the reference frames with what was cross-fitted."""
    population, units, reference = pool.population, pool.units, pool.reference
    kept = units.frames.kept.frame_index
    is_reference = reference[kept]
    number = np.cumsum(reference) - 1
    names = pool.coding.reference_names
    return FrameTallies.of(
        pool.estimation.fit.window_reference,
        frame_index=number[kept[is_reference]],
        error_proba=pool.estimation.fit.error_proba,
        is_error=units.is_error[is_reference],
        is_unseen=names == UNSEEN if pool.coding.codebook else np.zeros(int(is_reference.sum()), np.bool_),
        misses=pool.estimation.fit.misses,
        objects=_known_objects(population.truths.labels, population.truths.frame_index, len(reference))[reference],
    )


def _copy_tallies(rows: pl.DataFrame, pool: DetectionPool, keys: list[str]) -> FrameTallies:
    """Tallies of copies, scored as production is; none has a neighbour among the boxes of its original.

    Counts of classes and codes hold the original, one frame among those of the reference (AUROC of copies that are
    their originals: 0.992 with 400 frames, of the cross-fitted originals 0.989).

    Args:
        rows: Copies, with the frame (`origin`) of each.
        pool: The epoch.
        keys: Content key of each frame of the population.
    """
    origins = rows["origin"].to_numpy()
    boxes, truths = frame_boxes(rows), frame_truths(pool.population.rows[origins])
    frames = _split(boxes, pool)
    units, n_classes = pool.units, pool.population.n_classes
    matches = match_frames(boxes.recorded, truths, n_classes=n_classes, thresholds=units.thresholds, rule=units.rule)
    outcome = matches.outcome[matches.outcome != _FN]  # of the kept boxes, in their order
    codes = _codes(frames, pool)
    estimator = pool.estimation.fit.estimator
    clusters = estimator.clusters(frames)
    scores = estimator.risk_scores(frames, codes=codes, keys=[keys[origin] for origin in origins], clusters=clusters)
    return FrameTallies.of(
        pool.estimation.fit.window_reference,
        frame_index=frames.kept.frame_index,
        error_proba=estimator.error_proba(scores),
        is_error=outcome != _TP,
        is_unseen=np.zeros(len(frames), np.bool_) if codes is None else codes == UNSEEN_INDEX,
        misses=estimator.expected_misses(frames, clusters=clusters),
        objects=_known_objects(truths.labels, truths.frame_index, rows.height),
    )


def _split(boxes: FrameBoxes, pool: DetectionPool) -> DetectedFrames:
    """Cut copies at the operating point, with what the traced frames have.

    Raises:
        InvalidInputError: They lack it, or have it in another width.
    """
    traced = pool.population.boxes
    for name in ("class_scores", "features"):
        wanted, given = getattr(traced, name), getattr(boxes, name)
        if wanted is not None and len(boxes.recorded) and (given is None or given.shape[1] != wanted.shape[1]):
            raise InvalidInputError(
                f"its {name.replace('_', ' ')} differ in width from those of the traced frames, or are missing. Run "
                "the stress pass with the model that was traced."
            )
    return split_detections(
        boxes.recorded,
        boxes.suppressed if pool.estimation.fit.estimator.scorer.has_suppressed else None,
        thresholds=pool.units.thresholds,
        class_scores=None if traced.class_scores is None else boxes.class_scores,
        class_space=traced.class_space,
        features=None if traced.features is None else boxes.features,
    )


def _codes(frames: DetectedFrames, pool: DetectionPool) -> npt.NDArray[np.int64] | None:
    codebook = pool.coding.codebook
    if codebook is None:
        return None
    if not len(frames):
        return np.empty(0, np.int64)
    probabilities = prediction_probabilities(frames, n_classes=pool.population.n_classes)
    return codebook.assign(prediction_features(frames), probabilities).index


def _known_objects(
    labels: npt.NDArray[np.int64], frame_index: npt.NDArray[np.int64], frames: int
) -> npt.NDArray[np.int64]:
    """(F,) true objects of known classes."""
    return np.bincount(frame_index[labels >= 0], minlength=frames)


def _facts(known: pl.DataFrame, fitted: DetectionShiftMap, originals: int) -> dict[str, Any]:
    """What was verified, for people: both rates by family left out, weights of the map, interval factors."""
    names = ("default", "half", "map", "n_windows", "covered")
    parts = {"precision": fitted.false_positives, "recall": fitted.lost}
    families = sorted({family for part in parts.values() for family in part.family_errors})
    return {
        "blend_weight": {name: part.blend_weight for name, part in parts.items()},
        "families": {
            family: {
                rate: {name: getattr(part.family_errors[family], name) for name in names}
                for rate, part in parts.items()
                if family in part.family_errors
            }
            for family in families
        },
        "missed_families": fitted.missed_families,
        "n_copies": known.height,
        "n_originals": originals,
        "n_sets": fitted.n_sets,
        "stress_version": fitted.stress_version,
        "verified_families": fitted.verified_families,
        "width_factor": {name: part.width_factor for name, part in parts.items()},
    }
