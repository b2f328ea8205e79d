"""Frames of a detector's result: what is wrong in each, and what was expected to be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.evaluation import Filters, filtered, metadata_columns
from mld_pipelines.evaluator._display import ResultFrame
from mld_pipelines.exceptions import InvalidInputError, LakeError
from mld_pipelines.tables import TRACES_INPUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.evaluation import StoredResult

__all__ = ["FRAME_COLUMNS", "FRAME_ORDERS", "frame_table", "frames_in_order", "select_frames", "traced_frames"]

_log = logging.getLogger("mld_pipelines.evaluator")

_KEY = ["dataset", "n_epoch", "input_id"]
_COUNTED = ("unit_kind", "unit_index", "is_error", "error_proba", "error_code")
_COUNTS = ("predictions", "objects", "true_positives", "false_positives", "missed")

#: Columns of a frame in their order; the metadata keys follow.
FRAME_COLUMNS = (*_KEY, "input_uri", *_COUNTS, "is_error", "expected_errors", "error_proba", "error_code")

#: Orders of frames: what comes first has the largest values of these; ties go by dataset, epoch and input.
FRAME_ORDERS = {
    "errors": (pl.col("false_positives") + pl.col("missed"), pl.col("expected_errors")),
    "false_positives": (pl.col("false_positives"), pl.col("expected_errors")),
    "missed": (pl.col("missed"),),
    "expected_errors": (pl.col("expected_errors"),),
    "error_proba": (pl.col("error_proba"), pl.col("expected_errors")),
    "input_id": (),
}

_NEARLY_ONE = float(np.nextafter(1.0, 0.0))
"""Largest double below 1: a certain error still has a logarithm."""


def traced_frames(stored: StoredResult, columns: Sequence[str]) -> pl.DataFrame | None:
    """Return the frames that a result was made of, from the traces as they were then; None where that is gone.

    Args:
        stored: The result of a detector.
        columns: Columns of `traces/inputs`.
    """
    version = stored.inputs["table_versions"].get(TRACES_INPUTS.name)
    in_epochs = pl.col("n_epoch").is_in(stored.row["epochs"], nulls_equal=True)
    try:
        scanned = stored.lake.scan(TRACES_INPUTS, version=version, model_key=stored.model_key)
        return scanned.filter(in_epochs & pl.col("truth_labels").is_not_null()).select(columns).collect()
    except LakeError:  # the version was vacuumed
        return None


def frame_table(stored: StoredResult, units: pl.DataFrame) -> pl.DataFrame:
    """Return one row per evaluated frame, those without a box or an object among them.

    Args:
        stored: The result of a detector.
        units: Its rows of `evaluation/units`.

    Returns:
        The columns of `FRAME_COLUMNS` and `metadata` as JSON text.
    """
    names = ["dataset_type", "n_epoch", "input_id"]
    known = units.select(*names, pl.lit(None, pl.String).alias("input_uri"), "metadata")
    traced = traced_frames(stored, known.columns)
    # Units name the frames that hold any; frames without are known to the traces alone.
    frames = (known if traced is None else pl.concat([traced, known])).unique(names, keep="first")
    if traced is None and (lost := _evaluated(stored) - frames.height) > 0:
        _log.warning(
            "%d frames of %s without a box or an object are not listed: the traces they are in were removed. Counts "
            "and rates of the summaries are of all frames.",
            lost, stored.result_name,
        )  # fmt: skip
    frames = frames.rename({"dataset_type": "dataset"})
    counted = _counted(units.rename({"dataset_type": "dataset"}))
    joined = frames.join(counted, on=_KEY, how="left", nulls_equal=True).with_columns(
        pl.col(*_COUNTS).fill_null(0),
        pl.col("is_error").fill_null(value=False),
        pl.col("expected_errors", "error_proba").fill_null(0.0),
    )
    return joined.select(*FRAME_COLUMNS, "metadata").sort(_KEY)


def select_frames(
    table: pl.DataFrame,
    *,
    dataset: str | None,
    n_epoch: int | None,
    filters: Filters | None,
    order: str,
    limit: int | None,
) -> ResultFrame:
    """Return the frames that all conditions describe, in an order, with their metadata as columns.

    Raises:
        InvalidInputError: The order is unknown, the limit is no non-negative integer, or as in `filtered`.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, np.integer)) or limit < 0):
        raise InvalidInputError(f"limit must be a non-negative integer or None, got {limit!r}.")
    keys = metadata_columns(table, taken=FRAME_COLUMNS)
    frame = table.with_columns(value.alias(name) for name, value in keys.items())
    if dataset is not None:
        frame = frame.filter(pl.col("dataset") == dataset)
    if n_epoch is not None:
        frame = frame.filter(pl.col("n_epoch") == n_epoch)
    frame = filtered(frame, filters, {*FRAME_COLUMNS, *keys} - {"input_uri"})
    ordered = frames_in_order(frame, order)
    shown = ordered if limit is None else ordered.head(int(limit))
    return ResultFrame(shown.select(*FRAME_COLUMNS, *keys))


def frames_in_order(frames: pl.DataFrame, order: str) -> pl.DataFrame:
    """Return frames sorted.

    Raises:
        InvalidInputError: The order is unknown.
    """
    if order not in FRAME_ORDERS:
        raise InvalidInputError(f"unknown order {order!r}; these exist: {', '.join(FRAME_ORDERS)}.")
    largest = FRAME_ORDERS[order]
    return frames.sort(*largest, *_KEY, descending=[True] * len(largest) + [False] * len(_KEY))


def _evaluated(stored: StoredResult) -> int:
    """Return how many frames the result was made of."""
    counts = stored.metrics().filter(pl.col("metric") == "n_inputs")["value"]
    return int(counts.sum())


def _counted(units: pl.DataFrame) -> pl.DataFrame:
    """Return what is known of each frame from its units."""
    is_object, is_wrong = pl.col("unit_kind") == "object", pl.col("is_error")
    proba = pl.col("error_proba").cast(pl.Float64).fill_null(0.0)
    # The worst unit: a wrong prediction, the most doubtful first, else a missed object, else the most doubtful box.
    rank = pl.when(is_object).then(2 * is_wrong.cast(pl.Float64)).otherwise(proba + 3 * is_wrong.cast(pl.Float64))
    ordered = (
        units.select(*_KEY, *_COUNTED)
        .sort(*_KEY, "unit_kind", "unit_index")
        .with_columns((-pl.min_horizontal(proba, _NEARLY_ONE)).log1p().alias("_right"), rank.alias("_rank"))
    )
    counted = ordered.group_by(_KEY, maintain_order=True).agg(
        (~is_object).sum().cast(pl.Int64).alias("predictions"),
        is_object.sum().cast(pl.Int64).alias("objects"),
        (~is_object & ~is_wrong).sum().cast(pl.Int64).alias("true_positives"),
        (~is_object & is_wrong).sum().cast(pl.Int64).alias("false_positives"),
        (is_object & is_wrong).sum().cast(pl.Int64).alias("missed"),
        is_wrong.any().alias("is_error"),
        proba.filter(~is_object).sum().alias("expected_errors"),
        pl.col("_right").filter(~is_object).sum(),
        pl.col("error_code").sort_by("_rank", descending=True, maintain_order=True).first(),
    )
    return counted.with_columns(pl.Series("error_proba", -np.expm1(counted["_right"].to_numpy()))).drop("_right")
