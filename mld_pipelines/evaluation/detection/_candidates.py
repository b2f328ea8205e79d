"""What warns of an error: the low score of a prediction, a candidate below the operating point on a missed object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.metrics import CENTRE_DISTANCE, OUTCOMES, match_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.metrics import MatchRule
    from mld_pipelines.records import Detections3D, Truths3D

__all__ = ["candidate_scores", "unflagged"]

_TP = OUTCOMES.index("tp")


def candidate_scores(
    candidates: Detections3D, truths: Truths3D, *, n_classes: int, rule: MatchRule = CENTRE_DISTANCE
) -> NDArray[np.float64]:
    """Return the score of the candidate that would have found each true box, 0 where none would, (T,).

    Args:
        candidates: Boxes below the operating point.
        truths: True boxes of the same frames.
        n_classes: Classes of the detector.
        rule: When a box is right.
    """
    matches = match_frames(candidates, truths, n_classes=n_classes, rule=rule)
    hits, best = matches.outcome == _TP, np.zeros(len(truths))
    best[matches.truth[hits]] = matches.score[hits]
    return best


def unflagged(unit_kind: str, threshold: float) -> pl.Expr:
    """Return the expression that tells the errors of which nothing warned.

    Args:
        unit_kind: `input`, `prediction` or `object`; an object that no box found holds the score of the best candidate
            on it, 0 where there is none.
        threshold: t* of the first two: the confidence at or above which an error counts as unflagged.
    """
    if unit_kind == "object":
        return pl.col("is_error") & (pl.col("confidence") == 0.0)
    # The confidence is compared as stored (float32): a reader who recounts from the table gets the same number.
    return pl.col("is_error") & (pl.col("confidence") >= pl.lit(threshold, dtype=pl.Float32))
