"""Production rows for an evaluation (with late labels) and for monitoring (scored)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.evaluation._datasets import PRODUCTION
from mld_pipelines.evaluation._vectors import to_matrix, widths
from mld_pipelines.tables import LANDING_FEEDBACK, LANDING_INFERENCES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from mld_pipelines.diagnosis import ProductionScorer, ScoredUnits
    from mld_pipelines.lake import Lake

__all__ = ["SCORE_COLUMNS", "labelled_production", "latest_feedback", "score_inferences"]

#: Columns that scoring fills, in storage order.
SCORE_COLUMNS = (
    "error_proba",
    "error_code",
    "category",
    "is_aleatoric",
    "support_distance",
    "scored_by",
    "risk_scores",
    "confidence_t",
)


def latest_feedback(lake: Lake, *, version: int | None = None) -> pl.LazyFrame:
    """Return one row per labelled request: `request_id, label, labelled_at`; the latest label wins.

    Args:
        lake: The lake.
        version: Delta version of the labels; None takes the newest.
    """
    order = ["labelled_at", "ingested_at", "stream_id", "seq", "row"]
    return (
        lake.scan(LANDING_FEEDBACK, version=version)
        .sort(order)
        .group_by("request_id")
        .agg(pl.col("label").last(), pl.col("labelled_at").last())
    )


def labelled_production(
    lake: Lake,
    model_key: str,
    *,
    fingerprint: str,
    n_epoch: int | None,
    versions: Mapping[str, int] | None = None,
) -> pl.DataFrame:
    """Return logged inferences that have a label, shaped like traced inputs of dataset `production`.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        fingerprint: Only rows of these weights.
        n_epoch: Epoch that the rows are filed under: the one of the fingerprint.
        versions: Delta versions of the tables to read; None takes the newest.
    """
    known = versions or {}
    labels = latest_feedback(lake, version=known.get(LANDING_FEEDBACK.name))
    rows = (
        lake.scan(LANDING_INFERENCES, version=known.get(LANDING_INFERENCES.name), model_key=model_key)
        .filter(pl.col("fingerprint") == fingerprint)
        .join(labels.select("request_id", "label"), on="request_id")
        .sort("event_at", "stream_id", "seq", "row")
        .unique("request_id", keep="last", maintain_order=True)
    )
    return rows.with_columns(
        pl.lit(PRODUCTION).alias("dataset_type"),
        pl.lit(n_epoch, dtype=pl.Int64).alias("n_epoch"),
        pl.col("request_id").alias("input_id"),
    ).collect()


def score_inferences(frame: pl.DataFrame, scorer: ProductionScorer) -> pl.DataFrame:
    """Return the frame with its score columns filled by the stored estimator of a result.

    The Logger's background thread, the asset `monitoring/scored` and the SDK all call this function.

    Args:
        frame: Rows with `logits` or `probs`, `feature`, `fingerprint`, `request_id`; any number, also none.
        scorer: The production scorer of the result.
    """
    has_output = pl.col("logits").is_not_null() | pl.col("probs").is_not_null()
    index = frame.with_row_index("_row").filter((pl.col("fingerprint") == scorer.fingerprint) & has_output)
    parts = [_scored(part, scorer) for part in _by_width(index)]
    empty = pl.DataFrame(schema={"_row": pl.get_index_type(), **_score_schema()})
    scores = pl.concat([empty, *parts])
    kept = frame.drop(name for name in SCORE_COLUMNS if name in frame.columns)
    return kept.with_row_index("_row").join(scores, on="_row", how="left", maintain_order="left").drop("_row")


def _by_width(frame: pl.DataFrame) -> list[pl.DataFrame]:
    keys = [pl.col(name).list.len().alias(f"_{name}") for name in ("logits", "probs", "feature")]
    if frame.is_empty():
        return []
    drop = ["_logits", "_probs", "_feature"]
    return [part.drop(drop) for part in frame.with_columns(keys).partition_by(drop, maintain_order=True)]


def _scored(part: pl.DataFrame, scorer: ProductionScorer) -> pl.DataFrame:
    matrices = {name: to_matrix(part, name) for name in ("logits", "probs", "feature") if widths(part, name) != [None]}
    units = scorer.score(
        logits=matrices.get("logits"),
        probabilities=None if "logits" in matrices else matrices.get("probs"),
        features=matrices.get("feature"),
        keys=[f"{PRODUCTION}/{request}" for request in part["request_id"]],
    )
    return part.select("_row").with_columns(**score_series(units, scored_by=scorer.scored_by))


def score_series(units: ScoredUnits, *, scored_by: str) -> dict[str, pl.Series]:
    """Return the score columns of a batch of scored units, with the dtypes of the tables."""
    return {
        "error_proba": _float32(units.error_proba),
        "error_code": pl.Series(units.error_code, dtype=pl.String),
        "category": pl.Series(units.category, dtype=pl.String),
        "is_aleatoric": pl.Series(units.is_aleatoric, dtype=pl.Boolean),
        "support_distance": _float32(units.support_distance),
        "scored_by": pl.Series([scored_by] * len(units.error_proba), dtype=pl.String),
        "risk_scores": _vectors(units.risk_scores),
        "confidence_t": _float32(units.confidence_t),
    }


def _float32(values: npt.NDArray[np.floating]) -> pl.Series:
    """Return a float column in which NaN, the scorer's "no value", is null."""
    return pl.Series(np.asarray(values, dtype=np.float32), nan_to_null=True)


def _vectors(matrix: npt.NDArray[np.floating]) -> pl.Series:
    """Return score vectors as lists; null where none could be computed, NaN where a single one could not."""
    rows = np.asarray(matrix, dtype=np.float32)
    lists = pl.Series("scores", rows).cast(pl.List(pl.Float32)).to_frame()
    is_empty = pl.Series(np.isnan(rows).all(axis=1))
    return lists.select(pl.when(~is_empty).then(pl.col("scores"))).to_series()


def _score_schema() -> dict[str, pl.DataType]:
    column = LANDING_INFERENCES.column
    return {name: column(name).data_type for name in SCORE_COLUMNS[:-1]} | {"confidence_t": pl.Float32()}
