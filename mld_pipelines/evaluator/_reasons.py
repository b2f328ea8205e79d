"""Why a unit's error probability is high: the largest contributions, as a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import SCORE_MEANINGS, SCORE_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mld_pipelines.diagnosis import DetectionEstimator, ErrorEstimator

__all__ = ["REASONS_TYPE", "reasons_column"]

_LIMIT = 3
REASONS_TYPE = pl.List(pl.Struct({"score": pl.String, "contribution": pl.Float64, "meaning": pl.String}))
"""Largest first: name of the score, what it adds to the log-odds of an error, and the same in words."""


def reasons_column(
    estimator: ErrorEstimator | DetectionEstimator,
    scores: NDArray[np.floating],
    *,
    names: Sequence[str] = SCORE_NAMES,
    meanings: Mapping[str, str] = SCORE_MEANINGS,
) -> pl.Series:
    """The up to three scores that raise each unit's error probability most; null for a unit without scores.

    The same as `ErrorEstimator.reasons`, for all units at once.

    Args:
        estimator: The result's.
        scores: The scores as stored, `(N, S)`; a row of NaN is a unit that was not scored.
        names: The S scores.
        meanings: What a high value of each says.
    """
    values = np.asarray(scores, dtype=np.float64).reshape(-1, len(names))
    contributions = estimator.model.contributions(values)
    ranked = np.argsort(-contributions, axis=1, kind="stable")[:, :_LIMIT]
    top = np.take_along_axis(contributions, ranked, axis=1)
    rows, places = np.nonzero(top > 0.0)
    raised = np.array(names)[ranked[rows, places]]
    said = np.array([meanings[name] for name in names])[ranked[rows, places]]
    long = pl.DataFrame(
        {
            "row": pl.Series(rows, dtype=pl.Int64),
            "score": pl.Series(raised.tolist(), dtype=pl.String),
            "contribution": pl.Series(top[rows, places], dtype=pl.Float64),
            "meaning": pl.Series(said.tolist(), dtype=pl.String),
        }
    )
    lists = long.group_by("row", maintain_order=True).agg(
        pl.struct("score", "contribution", "meaning").alias("reasons")
    )
    scored = pl.DataFrame({"row": np.arange(len(values)), "scored": ~np.isnan(values).all(axis=1)})
    joined = scored.join(lists, on="row", how="left", maintain_order="left")
    nothing = pl.lit([], dtype=REASONS_TYPE)
    filled = pl.when("scored").then(pl.col("reasons").fill_null(nothing))
    return joined.select(filled.cast(REASONS_TYPE).alias("reasons"))["reasons"]
