"""Single units of a result: which, in which order, and why they are risky."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import DETECTION_SCORE_MEANINGS, DETECTION_SCORE_NAMES, SCORE_MEANINGS, SCORE_NAMES
from mld_pipelines.evaluation import ALEATORIC, BOX_COLUMNS, PRODUCTION, Filters, filtered, metadata_columns
from mld_pipelines.evaluator._display import ResultFrame
from mld_pipelines.evaluator._reasons import REASONS_TYPE, reasons_column
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables import EVALUATION_UNITS, LANDING_INFERENCES, TRACES_INPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mld_pipelines.diagnosis import DetectionEstimator, ErrorEstimator
    from mld_pipelines.evaluation import StoredResult

__all__ = ["ORDERS", "SAMPLE_COLUMNS", "order_units", "sample_frame", "select_units"]

_KEY = ["dataset", "n_epoch", "input_id"]

#: Orders of samples: column and whether its largest value comes first; ties go by dataset, epoch and input.
ORDERS = {
    "typical": ("support_distance", False),
    "atypical": ("support_distance", True),
    "error_proba": ("error_proba", True),
    "confidence": ("confidence", True),
    "loss": ("loss", True),
    "input_id": ("input_id", False),
}

#: Columns of a sample in their order; the metadata keys follow.
SAMPLE_COLUMNS = (
    "dataset", "n_epoch", "input_id", "input_uri", "label", "prediction", "is_error", "confidence", "error_proba",
    "error_code", "category", "is_aleatoric", "support_distance", "loss", "reasons",
)  # fmt: skip

#: Columns of a box, after those of every sample.
BOX_SAMPLE_COLUMNS = (
    "unit_kind", "unit_index", "outcome", "error_type", "error_sub_type", "box_3d", "range_m", "points",
    "match_distance", "ate", "ase", "aoe", "ave", "truth_box_3d",
)  # fmt: skip


def select_units(
    units: pl.DataFrame,
    *,
    error_code: str | Sequence[str] | None,
    category: str | Sequence[str] | None,
    dataset: str | None,
    n_epoch: int | None,
    filters: Filters | None,
) -> pl.DataFrame:
    """Return the units that all conditions describe, with their metadata as columns; names are checked before."""
    frame = units.with_columns(pl.col("dataset_type").alias("dataset"))
    if dataset is not None:
        frame = frame.filter(pl.col("dataset") == dataset)
    if n_epoch is not None:
        frame = frame.filter(pl.col("n_epoch") == n_epoch)
    if error_code is not None:
        frame = frame.filter(pl.col("error_code").is_in(as_list(error_code)))
    if category is not None:
        wanted = as_list(category)
        overlay = pl.col("is_aleatoric").fill_null(value=False) & pl.lit(ALEATORIC in wanted)
        frame = frame.filter(pl.col("category").is_in(wanted) | overlay)
    boxes = [name for name in BOX_COLUMNS if name in frame.columns]
    if boxes:
        frame = _with_truths(frame.with_columns(pl.col("confidence").alias("score")), units)
    keys = metadata_columns(units, taken=(*SAMPLE_COLUMNS, *frame.columns))
    frame = frame.with_columns(expression.alias(name) for name, expression in keys.items())
    usable = {*SAMPLE_COLUMNS, *keys, "entropy"} - {"reasons", "input_uri"}
    usable |= {*boxes, "unit_kind", "score"} - {"box_3d"} if boxes else set()
    return filtered(frame, filters, usable)


def order_units(frame: pl.DataFrame, order: str, limit: int | None) -> pl.DataFrame:
    """Return the first units in an order.

    Raises:
        InvalidInputError: The order is unknown or the limit is no non-negative integer.
    """
    if order not in ORDERS:
        raise InvalidInputError(f"unknown order {order!r}; these exist: {', '.join(ORDERS)}.")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, np.integer)) or limit < 0):
        raise InvalidInputError(f"limit must be a non-negative integer or None, got {limit!r}.")
    column, descending = ORDERS[order]
    ties = [name for name in _unit_key(frame) if name != column]
    ordered = frame.sort(column, *ties, descending=[descending] + [False] * len(ties), nulls_last=True)
    return ordered if limit is None else ordered.head(int(limit))


def sample_frame(
    stored: StoredResult,
    chosen: pl.DataFrame,
    estimator: Callable[[int | None], ErrorEstimator | DetectionEstimator],
    *,
    reasons: bool,
) -> ResultFrame:
    """Return chosen units as shown: with where their inputs lie and why they are risky.

    Args:
        stored: The result.
        chosen: Ordered units.
        estimator: Estimator of an epoch.
        reasons: Whether to say why; it reads the stored scores.
    """
    uris = _uris(stored, chosen)
    named = chosen.join(uris, on=_KEY, how="left", nulls_equal=True, maintain_order="left")
    explained = named.with_columns(_reasons(stored, chosen, estimator)) if reasons else named
    shown = [name for name in SAMPLE_COLUMNS if reasons or name != "reasons"]
    shown += BOX_SAMPLE_COLUMNS if "box_3d" in chosen.columns else ()
    stored_columns = {"dataset", "score", *BOX_SAMPLE_COLUMNS, *(column.name for column in EVALUATION_UNITS.columns)}
    keys = [name for name in chosen.columns if name not in stored_columns]
    return ResultFrame(explained.select(*shown, *keys))


def _scores(*, is_of_boxes: bool) -> dict[str, Any]:
    """Return names and meanings of the risk scores."""
    if is_of_boxes:
        return {"names": DETECTION_SCORE_NAMES, "meanings": DETECTION_SCORE_MEANINGS}
    return {"names": SCORE_NAMES, "meanings": SCORE_MEANINGS}


def _unit_key(frame: pl.DataFrame) -> list[str]:
    """Return what tells the units of a frame apart: boxes share their input."""
    return [*_KEY, "unit_kind", "unit_index"] if "unit_index" in frame.columns else _KEY


def _with_truths(frame: pl.DataFrame, units: pl.DataFrame) -> pl.DataFrame:
    """Add the true box that each unit is about, from the units of objects."""
    truths = units.filter(pl.col("unit_kind") == "object").select(
        pl.col("dataset_type").alias("dataset"),
        "n_epoch",
        "input_id",
        pl.col("unit_index").alias("truth_index"),
        pl.col("box_3d").alias("truth_box_3d"),
    )
    return frame.join(truths, on=[*_KEY, "truth_index"], how="left", nulls_equal=True, maintain_order="left")


def as_list(names: str | Sequence[str]) -> list[str]:
    """Return one or several names as a list."""
    return [names] if isinstance(names, str) else list(names)


def _uris(stored: StoredResult, chosen: pl.DataFrame) -> pl.DataFrame:
    """Where the raw inputs lie: from the traces that the result was made of, for production from the logs."""
    keys = chosen.select(_KEY).lazy()
    traced = stored.lake.scan(
        TRACES_INPUTS, version=stored.inputs["table_versions"].get(TRACES_INPUTS.name), model_key=stored.model_key
    ).select(pl.col("dataset_type").alias("dataset"), "n_epoch", "input_id", "input_uri")
    found = [keys.join(traced, on=_KEY, how="inner", nulls_equal=True)]
    if PRODUCTION in chosen["dataset"]:
        logged = (
            stored.lake.scan(LANDING_INFERENCES, model_key=stored.model_key)
            .sort("event_at", "stream_id", "seq", "row")
            .select(pl.col("request_id").alias("input_id"), "input_uri")
            .drop_nulls("input_uri")
            .unique("input_id", keep="last")
        )
        found.append(keys.filter(pl.col("dataset") == PRODUCTION).join(logged, on="input_id", how="inner"))
    return pl.concat(found).drop_nulls("input_uri").unique(_KEY, keep="last", maintain_order=True).collect()


def _reasons(
    stored: StoredResult, chosen: pl.DataFrame, estimator: Callable[[int | None], ErrorEstimator | DetectionEstimator]
) -> pl.Series:
    """Reasons of the chosen units, by the estimator of each one's epoch."""
    keys = ["dataset_type" if name == "dataset" else name for name in _unit_key(chosen)]
    scores = (
        chosen.select(keys)
        .lazy()
        .join(stored.units().select(*keys, "risk_scores"), on=keys, how="left", nulls_equal=True, maintain_order="left")
        .collect()
        .with_row_index("_row")
    )
    named = _scores(is_of_boxes="box_3d" in chosen.columns)
    width = len(named["names"])
    parts = [pl.DataFrame(schema={"_row": pl.get_index_type(), "reasons": REASONS_TYPE})]
    known = scores.filter(pl.col("risk_scores").list.len() == width)
    for (epoch,), part in known.group_by("n_epoch", maintain_order=True):
        matrix = part["risk_scores"].explode().to_numpy().reshape(-1, width)
        reasons = reasons_column(estimator(epoch), matrix, **named)
        parts.append(part.select("_row").with_columns(reasons))
    joined = scores.select("_row").join(pl.concat(parts), on="_row", how="left", maintain_order="left")
    return joined["reasons"]
