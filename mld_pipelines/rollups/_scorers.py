"""The scorers of the current results, loaded once per refresh."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.diagnosis import DetectionScorer
from mld_pipelines.evaluation import (
    FRAME_SCORE_COLUMNS,
    current_results,
    load_baseline,
    load_detection_scorer,
    load_result,
    load_scorer,
    score_frames,
    score_inferences,
)
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.rollups._shift import carry_sums
from mld_pipelines.rollups._values import References
from mld_pipelines.tables import LANDING_INFERENCES
from mld_pipelines.windows import ranges_of

if TYPE_CHECKING:
    from mld_pipelines.diagnosis import ProductionScorer
    from mld_pipelines.lake import Lake

__all__ = ["Scorers", "load_any_scorer"]

_log = logging.getLogger("mld_pipelines.rollups")


class Scorers:
    """Scores inferences with the current results and hands out their references.

    Args:
        lake: The lake.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._loaded: dict[str, ProductionScorer | DetectionScorer] = {}
        self.current = current_results(lake)

    def score(self, result_name: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows with their score columns; what the Logger scored with the same estimator stays as it is.

        Under a window map the first scored row of each hour carries the sums of that hour (docs/storage.md#shift-sums).
        Frames of a detector get `ranges_m` besides.
        """
        scorer = self._scorer(result_name)
        done = (pl.col("scored_by") == scorer.scored_by).fill_null(value=False)
        numbered = rows.with_row_index("_order")
        if isinstance(scorer, DetectionScorer):
            frames = [_frames_scored(numbered.filter(~done), scorer), numbered.filter(done)]
            return pl.concat(frames, how="diagonal").sort("_order").drop("_order").with_columns(ranges_of())
        taken = numbered.filter(done).with_columns(_tempered(scorer.window_reference.temperature))
        parts = [score_inferences(numbered.filter(~done), scorer), taken]
        return carry_sums(pl.concat(parts, how="diagonal").sort("_order").drop("_order"), scorer)

    def references(self, result_names: set[str]) -> References:
        """Return what production is compared with, for some results."""
        scorers = {name: self._scorer(name) for name in sorted(result_names)}
        return References(
            baselines={name: load_baseline(self._lake, name) for name in scorers},
            windows={name: scorer.window_reference for name, scorer in scorers.items()},
            maps={
                name: scorer.window_map
                for name, scorer in scorers.items()
                if not isinstance(scorer, DetectionScorer) and scorer.window_map is not None
            },
        )

    def _scorer(self, result_name: str) -> ProductionScorer | DetectionScorer:
        if result_name not in self._loaded:
            self._loaded[result_name] = load_any_scorer(self._lake, result_name)
        return self._loaded[result_name]


def _frames_scored(rows: pl.DataFrame, scorer: DetectionScorer) -> pl.DataFrame:
    """Score frames; one that the estimator cannot read (a class it never met) stays unscored and stops no other."""
    try:
        return score_frames(rows, scorer)
    except InvalidInputError as error:
        parts = [_frame_scored(row, scorer) for row in rows.iter_slices(1)]
        left = sum(part["scored_by"].null_count() for part in parts)
        _log.warning("%d of %d frames stay unscored by %r, e.g.: %s", left, rows.height, scorer.result_name, error)
        return pl.concat(parts)


def _frame_scored(row: pl.DataFrame, scorer: DetectionScorer) -> pl.DataFrame:
    try:
        return score_frames(row, scorer)
    except InvalidInputError:
        nothing = {name: LANDING_INFERENCES.column(name).data_type for name in FRAME_SCORE_COLUMNS}
        kept = row.drop(name for name in nothing if name in row.columns)
        return kept.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in nothing.items())


def load_any_scorer(lake: Lake, result_name: str) -> ProductionScorer | DetectionScorer:
    """Return the production scorer of a result of any task.

    Args:
        lake: The lake.
        result_name: A finished result.

    Raises:
        UnknownResultError: No result has this name.
        CorruptArtifactError: Its artifacts cannot be read.
    """
    is_classifier = load_result(lake, result_name).row["task"] == "classification"
    return load_scorer(lake, result_name) if is_classifier else load_detection_scorer(lake, result_name)


def _tempered(temperature: float) -> pl.Expr:
    """Largest probability at a temperature, from logits or, without them, from log-probabilities."""
    wide = pl.List(pl.Float64)
    scores = pl.coalesce(pl.col("logits").cast(wide), pl.col("probs").cast(wide).list.eval(pl.element().log()))
    shifted = (pl.element() - pl.element().max()) / temperature
    total = scores.list.eval(shifted.exp().sum()).list.first()
    return (1.0 / total).cast(pl.Float32).alias("confidence_t")
