"""Scores, precision and recall of unlabelled frames by a detector's stored result (docs/results.md#detectors)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.evaluation import FRAME_INPUT_COLUMNS, FRAME_SCORE_COLUMNS, estimate_frames, score_frames
from mld_pipelines.evaluator._display import ResultFrame
from mld_pipelines.evaluator._given import as_rows, fingerprints_of
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables import LANDING_INFERENCES

if TYPE_CHECKING:
    from mld_pipelines.diagnosis import DetectionEstimate, DetectionScorer
    from mld_pipelines.evaluator._scoring import Given, ScorerChoice

__all__ = ["estimate_given_frames", "score_given_frames"]

_log = logging.getLogger("mld_pipelines.evaluator")

_IDENTITY = ("request_id", "dataset_type", "n_epoch", "input_id", "event_at", "stream_id", "seq", "row")
_NEEDED = ("boxes_3d", "scores", "labels")


def score_given_frames(given: Given, scorers: ScorerChoice[DetectionScorer]) -> ResultFrame:
    """Return one row per frame with what names it and its score columns.

    Raises:
        InvalidInputError: Arrays instead of rows, rows without boxes, or of other weights.
    """
    frame = _checked(given)
    parts = [_scored(part, scorer) for part, scorer in _by_scorer(frame, given, scorers)]
    names = [name for name in _IDENTITY if name in frame.columns]
    if not parts:
        schema = {name: LANDING_INFERENCES.column(name).data_type for name in FRAME_SCORE_COLUMNS}
        return ResultFrame(pl.concat([frame.select(names), pl.DataFrame(schema=schema)], how="horizontal"))
    return ResultFrame(pl.concat(parts).sort("_order").select(*names, *FRAME_SCORE_COLUMNS))


def estimate_given_frames(given: Given, scorers: ScorerChoice[DetectionScorer], *, level: float) -> DetectionEstimate:
    """Estimate precision and recall of the given frames.

    Raises:
        InvalidInputError: As in `score_given_frames`, another level, or rows of several epochs of the result.
    """
    frame = _checked(given)
    chosen = _by_scorer(frame, given, scorers)
    if len({scorer.fingerprint for _, scorer in chosen}) > 1:
        raise InvalidInputError(
            "the rows were made by several sets of weights, each with its own reference; nothing was estimated. "
            "Estimate the rows of one fingerprint at a time."
        )
    scorer = chosen[0][1] if chosen else scorers.of(None)
    parts = [_scored(part, scorer) for part, _ in chosen] or [_scored(_completed(frame), scorer)]
    return estimate_frames(pl.concat(parts), scorer, level=level)


def _checked(given: Given) -> pl.DataFrame:
    """Return the rows, numbered."""
    if given.rows is None or any(one is not None for one in (given.features, given.logits, given.probabilities)):
        raise InvalidInputError(
            "a detector's frame is more than features and logits; nothing was scored. Pass rows= of landing/inferences "
            "or traces/inputs, or let ObjectDetection3DLogger score with result_name=."
        )
    frame = as_rows(given.rows)
    if frame.height and (missing := [name for name in _NEEDED if name not in frame.columns]):
        raise InvalidInputError(
            f"the rows have no column {', '.join(missing)}, only {', '.join(frame.columns)}; nothing was scored. Pass "
            "rows of landing/inferences or traces/inputs."
        )
    return frame.with_row_index("_order")


def _by_scorer(
    frame: pl.DataFrame, given: Given, scorers: ScorerChoice[DetectionScorer]
) -> list[tuple[pl.DataFrame, DetectionScorer]]:
    """Return the rows of each set of weights with their scorer."""
    accepted = scorers.by_fingerprint(fingerprints_of(frame), accept=given.accept_fingerprint)
    own = frame if "fingerprint" in frame.columns else frame.with_columns(pl.lit(None, pl.String).alias("fingerprint"))
    return [
        (_completed(own.filter(pl.col("fingerprint").eq_missing(pl.lit(name, pl.String)))), scorer)
        for name, scorer in accepted.items()
    ]


def _completed(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the columns that scoring reads and the rows do not have."""
    if "request_id" not in frame.columns and "input_id" in frame.columns:
        frame = frame.with_columns(pl.col("input_id").cast(pl.String).alias("request_id"))
    absent = [name for name in FRAME_INPUT_COLUMNS if name not in frame.columns]
    filled = frame.with_columns(pl.lit(None).alias(name) for name in absent)
    typed = filled.with_columns(
        pl.col(name).cast(LANDING_INFERENCES.column(name).data_type) for name in FRAME_INPUT_COLUMNS
    )
    unknown = pl.col("labels").list.eval(pl.element().cast(pl.Float64) * float("nan"))
    return typed.with_columns(
        pl.col("request_id").fill_null(pl.format("row {}", pl.col("_order"))),
        pl.col("velocities").fill_null(pl.concat_list(unknown, unknown)),
    )


def _scored(part: pl.DataFrame, scorer: DetectionScorer) -> pl.DataFrame:
    kept = [name for name in _IDENTITY if name in part.columns]
    rows = part.select("_order", *dict.fromkeys([*kept, *FRAME_INPUT_COLUMNS]))
    blind = rows["suppressed_labels"].null_count()
    if blind and scorer.estimator.scorer.has_suppressed:
        _log.warning(
            "%d of %d frames come without suppressed candidates, which the reference of %r has: risk scores made of "
            "them contribute nothing, and misses are assumed as in the reference. Pass suppressed_boxes_3d, "
            "suppressed_scores and suppressed_labels.",
            blind, rows.height, scorer.result_name,
        )  # fmt: skip
    return score_frames(rows.with_columns(pl.lit(scorer.fingerprint).alias("fingerprint")), scorer)
