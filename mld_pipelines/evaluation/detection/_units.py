"""Units of a detector: every kept prediction and every true object, with what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import split_detections
from mld_pipelines.evaluation.detection._candidates import candidate_scores
from mld_pipelines.exceptions import MldError
from mld_pipelines.metrics import CENTRE_DISTANCE, ERROR_TYPES, OUTCOMES, SUB_TYPES, match_frames, operating_point

if TYPE_CHECKING:
    import numpy.typing as npt

    from mld_pipelines.diagnosis import DetectedFrames
    from mld_pipelines.evaluation.detection._population import DetectionPopulation
    from mld_pipelines.metrics import Matches, MatchRule

__all__ = ["DetectionUnits", "detection_units", "unit_rows"]

_FN, _TP = OUTCOMES.index("fn"), OUTCOMES.index("tp")
_MISS = ERROR_TYPES.index("miss")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DetectionUnits:
    """What the matching says about predictions and objects.

    Attributes:
        thresholds: (C,) operating point, chosen on the reference unless it was given.
        rule: When a prediction is right.
        frames: Kept predictions and candidates of all frames.
        prediction_rows: (N,) rows of the matches that are kept predictions, in the order of `frames.kept`.
        matches: One row per prediction and per truth that was not found.
        objects: (T,) rows of the true boxes whose class the detector knows.
        is_missed: (T,) whether no prediction found the object and none is mistaken about it: an error of its own.
        is_not_found: (T,) whether no prediction found it: what recall counts.
        best_score: (T,) score of the prediction that found it; of a missed object that of the best candidate on it,
            0 where nothing shows it.
    """

    thresholds: npt.NDArray[np.float64]
    rule: MatchRule
    frames: DetectedFrames
    prediction_rows: npt.NDArray[np.int64]
    matches: Matches
    objects: npt.NDArray[np.int64]
    is_missed: npt.NDArray[np.bool_]
    is_not_found: npt.NDArray[np.bool_]
    best_score: npt.NDArray[np.float64]

    @property
    def is_error(self) -> npt.NDArray[np.bool_]:
        """(N,) whether a kept prediction is no true positive."""
        return self.matches.is_error[self.prediction_rows]

    @property
    def true_labels(self) -> npt.NDArray[np.int64]:
        """(N,) class of the truth a prediction matched or is mistaken about; −1 where nothing is there."""
        return self.matches.truth_label[self.prediction_rows]


def detection_units(
    population: DetectionPopulation,
    reference: npt.NDArray[np.bool_],
    *,
    threshold: float | None = None,
    rule: MatchRule = CENTRE_DISTANCE,
) -> DetectionUnits:
    """Choose the operating point on the reference and match all frames at it.

    Args:
        population: The frames.
        reference: (F,) frames of the dataset that decides.
        threshold: Operating threshold of all classes; None takes the best F1 of each.
        rule: When a prediction is right.
    """
    n_classes = population.n_classes
    if threshold is None:
        boxes, truths = population.part(reference)
        thresholds = operating_point(
            match_frames(boxes.recorded, truths, n_classes=n_classes, rule=rule), n_classes=n_classes
        ).thresholds
    else:
        thresholds = np.full(n_classes, threshold)
    recorded = population.boxes.recorded
    matches = match_frames(recorded, population.truths, n_classes=n_classes, thresholds=thresholds, rule=rule)
    frames = split_detections(
        recorded,
        population.boxes.suppressed,
        thresholds=thresholds,
        class_scores=population.boxes.class_scores,
        class_space=population.boxes.class_space,
        features=population.boxes.features,
    )
    rows = np.flatnonzero(matches.outcome != _FN)
    if not np.array_equal(matches.detection[rows], frames.rows):
        raise MldError("matches and kept predictions are not the same boxes; this is a defect, please report it.")
    return DetectionUnits(
        thresholds=thresholds,
        rule=rule,
        frames=frames,
        prediction_rows=rows,
        matches=matches,
        **_objects(population, matches, frames, rule),
    )


def _objects(
    population: DetectionPopulation, matches: Matches, frames: DetectedFrames, rule: MatchRule
) -> dict[str, Any]:
    truths, labels = population.truths, population.truths.labels
    missed, lost, best = np.zeros(len(labels), np.bool_), np.ones(len(labels), np.bool_), np.zeros(len(labels))
    hits = matches.outcome == _TP
    lost[matches.truth[hits]] = False
    np.maximum.at(best, matches.truth[hits], matches.score[hits])
    missed[matches.truth[(matches.outcome == _FN) & (matches.error_type == _MISS)]] = True
    shown = candidate_scores(frames.candidates, truths, n_classes=population.n_classes, rule=rule)
    best[missed] = shown[missed]
    known = np.flatnonzero(labels >= 0)
    return {"objects": known, "is_missed": missed[known], "is_not_found": lost[known], "best_score": best[known]}


def unit_rows(population: DetectionPopulation, units: DetectionUnits) -> pl.DataFrame:
    """Return the facts of all units, predictions first: `evaluation/units` without codes and probabilities."""
    parts = [_predictions(population, units), _objects_rows(population, units)]
    return pl.concat(parts, how="diagonal")


def _predictions(population: DetectionPopulation, units: DetectionUnits) -> pl.DataFrame:
    kept, matches, rows = units.frames.kept, units.matches, units.prediction_rows
    frame = kept.frame_index
    truth = matches.truth[rows]
    values: dict[str, Any] = {
        "unit_index": units.frames.rows - population.boxes.recorded.offsets[frame],
        "is_error": units.is_error,
        "label": _where(units.true_labels, units.true_labels >= 0),
        "prediction": kept.labels,
        "confidence": kept.scores.astype(np.float32),
        "outcome": _names(OUTCOMES, matches.outcome[rows]),
        "error_type": _names(ERROR_TYPES, matches.error_type[rows]),
        "error_sub_type": _names(SUB_TYPES, matches.sub_type[rows]),
        "truth_index": _where(truth - population.truths.offsets[frame], truth >= 0),
        "match_distance": pl.Series(_distances(population, units), nan_to_null=True),
        **{name: pl.Series(getattr(matches, name)[rows], nan_to_null=True) for name in ("ate", "ase", "aoe", "ave")},
    }
    return _with_identity(population, frame, kept.boxes, values, "prediction")


def _distances(population: DetectionPopulation, units: DetectionUnits) -> npt.NDArray[np.float64]:
    """Return the distance of each prediction from the truth it is about, whatever matching went by; NaN without one."""
    matches, rows = units.matches, units.prediction_rows
    if units.rule.measure == "distance":
        return matches.value[rows]
    truth = matches.truth[rows]
    apart = np.full(len(rows), np.nan)
    about = np.flatnonzero(truth >= 0)
    gap = units.frames.kept.boxes[about, :2] - population.truths.boxes[truth[about], :2]
    apart[about] = np.hypot(gap[:, 0], gap[:, 1])
    return apart


def _objects_rows(population: DetectionPopulation, units: DetectionUnits) -> pl.DataFrame:
    truths, objects = population.truths, units.objects
    frame = truths.frame_index[objects]
    labels, points = truths.labels[objects], truths.points[objects]
    place = objects - truths.offsets[frame]
    values: dict[str, Any] = {
        "unit_index": place,
        "is_error": units.is_missed,
        "label": labels,
        "prediction": labels,
        "confidence": units.best_score.astype(np.float32),
        "outcome": pl.Series(np.where(units.is_not_found, "fn", "tp")),
        "error_type": pl.Series(["miss" if missed else None for missed in units.is_missed.tolist()], dtype=pl.String),
        "truth_index": place,
        "points": _where(points, points >= 0),
    }
    return _with_identity(population, frame, truths.boxes[objects], values, "object")


def _with_identity(
    population: DetectionPopulation,
    frame: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.float64],
    values: dict[str, Any],
    kind: str,
) -> pl.DataFrame:
    identity = population.frame.drop("fingerprint")[frame]
    box = (
        pl.Series("box_3d", boxes).cast(pl.List(pl.Float64))
        if len(boxes)
        else pl.Series("box_3d", [], pl.List(pl.Float64))
    )
    return identity.with_columns(
        pl.lit(kind).alias("unit_kind"),
        *(pl.Series(name, column) for name, column in values.items()),
        box,
        pl.Series("range_m", np.hypot(boxes[:, 0], boxes[:, 1])),
    )


def _where(values: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]) -> pl.Series:
    """Return integers, null where they are unknown."""
    return pl.Series(values, dtype=pl.Int64).to_frame("v").select(pl.when(pl.Series(known)).then("v")).to_series()


def _names(names: tuple[str, ...], codes: npt.NDArray[np.int8]) -> pl.Series:
    return pl.Series(codes.astype(np.int64)).replace_strict(
        dict(enumerate(names)), default=None, return_dtype=pl.String
    )
