"""Production frames of a detector scored by a stored result: one function for the Logger, the asset and the SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.evaluation._datasets import PRODUCTION
from mld_pipelines.evaluation.detection._frame_boxes import BOX_COLUMNS, frame_boxes
from mld_pipelines.tables import LANDING_INFERENCES

if TYPE_CHECKING:
    import numpy.typing as npt

    from mld_pipelines.diagnosis import DetectionScorer, ScoredFrames

__all__ = ["FRAME_INPUT_COLUMNS", "FRAME_SCORE_COLUMNS", "score_frames"]

_OF_FRAME = ("error_proba", "error_code", "category", "is_aleatoric", "scored_by", "expected_errors", "expected_misses")
_OF_BOXES = ("box_error_proba", "box_error_codes", "box_categories")
_OF_MISSES = ("missed_boxes_3d", "missed_labels", "missed_proba", "missed_codes", "missed_categories")
#: Columns of `landing/inferences` that scoring fills.
FRAME_SCORE_COLUMNS = (*_OF_FRAME, *_OF_BOXES, *_OF_MISSES)

#: Columns of `landing/inferences` that scoring reads.
FRAME_INPUT_COLUMNS = ("request_id", "fingerprint", *BOX_COLUMNS)

_SHAPE = ("_is_empty", "_is_blind", "_class_space", "_class_scores", "_features")


def score_frames(rows: pl.DataFrame, scorer: DetectionScorer) -> pl.DataFrame:
    """Return the frames with their score columns filled by the stored estimator of a result.

    A frame of other weights, or without the features or class scores that the estimator needs, keeps nulls. Values do
    not depend on the frames beside it.

    Args:
        rows: Rows of `landing/inferences` with `FRAME_INPUT_COLUMNS`; any number.
        scorer: The scorer of the result.

    Raises:
        InvalidInputError: A width or a label differs from what the estimator was fitted on.
    """
    numbered = rows.drop(name for name in FRAME_SCORE_COLUMNS if name in rows.columns).with_row_index("_row")
    known = numbered.filter((pl.col("fingerprint") == scorer.fingerprint) & pl.col("labels").is_not_null())
    shaped = known.select("_row", "request_id", *BOX_COLUMNS, *_shapes())
    parts = [_scored(part, scorer) for part in shaped.partition_by(_SHAPE, maintain_order=True) if _fits(part, scorer)]
    schema = {name: LANDING_INFERENCES.column(name).data_type for name in FRAME_SCORE_COLUMNS}
    scores = pl.concat([pl.DataFrame(schema={"_row": pl.get_index_type(), **schema}), *parts])
    return numbered.join(scores, on="_row", how="left", maintain_order="left").drop("_row")


def _shapes() -> list[pl.Expr]:
    """What frames must share to be scored at once: whether there are boxes, what was suppressed, and widths."""
    boxes = pl.col("labels").list.len()
    widths = [
        pl.when(boxes > 0).then(pl.col(name).list.len().fill_null(0) / boxes).alias(f"_{name}")
        for name in ("class_scores", "features")
    ]
    space = pl.when(boxes > 0).then("class_space").alias("_class_space")
    is_blind = pl.col("suppressed_labels").is_null().alias("_is_blind")
    return [(boxes == 0).alias("_is_empty"), is_blind, space, *widths]


def _fits(part: pl.DataFrame, scorer: DetectionScorer) -> bool:
    """Whether the frames have what the estimator needs."""
    is_empty, _, _, class_scores, features = part.select(_SHAPE).row(0)
    if is_empty:
        return True
    wanted = scorer.estimator.scorer
    return not (wanted.has_class_scores and not class_scores) and not (wanted.feature_dim and not features)


def _scored(part: pl.DataFrame, scorer: DetectionScorer) -> pl.DataFrame:
    boxes = frame_boxes(part)
    width = scorer.estimator.feature_dim
    has_none = width > 0 and not len(boxes.recorded)  # no box, no feature: still one of the estimator's kind
    scored = scorer.score(
        boxes.recorded,
        boxes.suppressed,
        class_scores=boxes.class_scores,
        class_space=boxes.class_space,
        features=np.empty((0, width), np.float32) if has_none else boxes.features,
        keys=[f"{PRODUCTION}/{request}" for request in part["request_id"]],
    )
    return part.select("_row").with_columns(_series(scored, scorer))


def _series(scored: ScoredFrames, scorer: DetectionScorer) -> list[pl.Series]:
    """Return the score columns of F frames, with the dtypes of the tables."""
    offsets, misses = scored.offsets, scored.misses
    boxes = pl.Series(scored.box_error_proba, dtype=pl.Float32, nan_to_null=True)
    columns = {
        "error_proba": pl.Series(scored.error_proba, nan_to_null=True),
        "error_code": pl.Series(scored.error_code, dtype=pl.String),
        "category": pl.Series(scored.category, dtype=pl.String),
        "is_aleatoric": pl.Series([_is_aleatoric(code, scorer) for code in scored.error_code], dtype=pl.Boolean),
        "scored_by": pl.Series([scorer.scored_by] * scored.frames, dtype=pl.String),
        "expected_errors": pl.Series(scored.expected_errors, dtype=pl.Float64),
        "expected_misses": pl.Series(scored.expected_misses, dtype=pl.Float64),
        "box_error_proba": _lists(boxes, offsets),
        "box_error_codes": _lists(pl.Series(scored.box_error_codes, dtype=pl.String), offsets),
        "box_categories": _lists(pl.Series(scored.box_categories, dtype=pl.String), offsets),
        "missed_boxes_3d": _lists(pl.Series(misses.boxes.ravel()), 7 * misses.offsets),
        "missed_labels": _lists(pl.Series(misses.labels), misses.offsets),
        "missed_proba": _lists(pl.Series(misses.proba.astype(np.float32)), misses.offsets),
        "missed_codes": _lists(pl.Series(scored.miss_codes, dtype=pl.String), misses.offsets),
        "missed_categories": _lists(pl.Series(scored.miss_categories, dtype=pl.String), misses.offsets),
    }
    return [columns[name].cast(LANDING_INFERENCES.column(name).data_type).alias(name) for name in FRAME_SCORE_COLUMNS]


def _is_aleatoric(code: str | None, scorer: DetectionScorer) -> bool | None:
    return None if code is None else scorer.issues.get(code, ("", False))[1]


def _lists(values: pl.Series, offsets: npt.NDArray[np.int64]) -> pl.Series:
    """Return flat values as one list per frame."""
    groups = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    filled = pl.DataFrame({"frame": groups, "values": values}).group_by("frame", maintain_order=True).agg("values")
    frames = pl.DataFrame({"frame": np.arange(len(offsets) - 1)})
    lists = frames.join(filled, on="frame", how="left", maintain_order="left")["values"]
    return lists.fill_null(pl.Series([[]], dtype=pl.List(values.dtype)))
