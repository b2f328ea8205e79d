"""Views over the units of a result: group, count, divide (docs/method.md#views)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.evaluation._filters import Filters, filtered
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = [
    "ALEATORIC",
    "BOX_COLUMNS",
    "DETECTION_VIEW_COLUMNS",
    "VIEW_COLUMNS",
    "is_detection",
    "metadata_columns",
    "unit_columns",
    "view",
]

ALEATORIC = "aleatoric_hotspot"

#: Names that `groupby` knows besides metadata keys.
VIEW_COLUMNS = (
    "dataset",
    "n_epoch",
    "category",
    "error_code",
    "error_type",
    "label",
    "prediction",
    "confidence_bin",
)
#: Names that `groupby` knows of a detector.
DETECTION_VIEW_COLUMNS = (*VIEW_COLUMNS, "unit_kind", "outcome", "error_sub_type", "range_bin")

#: Columns of `evaluation/units` that only the units of a detector have.
BOX_COLUMNS = (
    "unit_index", "outcome", "error_type", "error_sub_type", "box_3d", "range_m", "points", "match_distance", "ate",
    "ase", "aoe", "ave", "truth_index",
)  # fmt: skip
_FILTER_ONLY = ("confidence", "entropy", "loss", "error_proba", "is_error", "is_aleatoric", "input_id")
_COUNTED = ("counts", "ratio", "errors", "error_rate", "mean_error_proba")
_CONFIDENCE_BINS = 10
_RANGE_STEP = 10
"""Metres of a range bin."""
_BOX_FILTERS = ("score", *(name for name in BOX_COLUMNS if name not in ("box_3d", *DETECTION_VIEW_COLUMNS)))


def view(
    units: pl.LazyFrame,
    groupby: Sequence[str] | str,
    *,
    adjustby: Sequence[str] | str | None = None,
    filters: Filters | None = None,
    exclusive: bool = False,
    sort: str = "counts",
) -> pl.DataFrame:
    """Count units per group; `ratio` = counts / counts of the `adjustby` group.

    The dataset (and the epoch, where there are several) is always part of both groupings. An aleatoric unit counts
    in its primary category and in `aleatoric_hotspot`.

    So is the kind of unit of a detector: an object that was found and the prediction that found it are one success.

    Args:
        units: Rows of `evaluation/units`.
        groupby: Names among `VIEW_COLUMNS` (of a detector `DETECTION_VIEW_COLUMNS`) and the metadata keys.
        adjustby: Subset of `groupby`; None divides by the dataset.
        filters: See `Filters`.
        exclusive: Count every unit in its primary category only.
        sort: Column to sort by inside a dataset, largest first for numbers.

    Returns:
        Columns: dataset, [n_epoch], [unit_kind], the groups, counts, ratio, errors, error_rate, mean_error_proba.

    Raises:
        InvalidInputError: Unknown or misplaced names.
    """
    groups, adjust = _names(groupby), _names(adjustby)
    frame = unit_columns(units.collect())
    has_boxes = is_detection(frame)
    frame = _with_boxes(frame) if has_boxes else _named(frame)
    traced = metadata_columns(frame, taken={*frame.columns, *_COUNTED})
    valid = [*(DETECTION_VIEW_COLUMNS if has_boxes else VIEW_COLUMNS), *traced]
    _check_names(groups, adjust, valid)
    frame = frame.with_columns(
        value.alias(key) for key, value in traced.items() if key in groups or filters is not None
    )
    frame = filtered(frame, filters, {*valid, *_FILTER_ONLY, *(_BOX_FILTERS if has_boxes else ())})
    if not exclusive and "category" in groups:
        frame = _with_overlay(frame)
    scope = ["dataset", *(["n_epoch"] if "n_epoch" in groups or frame["n_epoch"].n_unique() > 1 else [])]
    scope += ["unit_kind"] if has_boxes else []
    keys = list(dict.fromkeys([*scope, *groups]))
    counted = _counted(frame, keys, list(dict.fromkeys([*scope, *adjust])))
    if sort not in counted.columns:
        raise InvalidInputError(f"cannot sort by {sort!r}; the view has {counted.columns}.")
    descending = counted.schema[sort].is_numeric()
    return counted.sort([*scope, sort, *groups], descending=[False] * len(scope) + [descending] + [False] * len(groups))


def is_detection(units: pl.DataFrame) -> bool:
    """Return whether units are boxes; of no unit at all, whether they could be.

    Args:
        units: Rows of `evaluation/units`.
    """
    return "outcome" in units.columns and (units.is_empty() or bool(units["outcome"].is_not_null().any()))


def unit_columns(units: pl.DataFrame) -> pl.DataFrame:
    """Return units with the columns that mean something for them: those of boxes only where there are boxes.

    Args:
        units: Rows of `evaluation/units`.
    """
    return units if is_detection(units) else units.drop(BOX_COLUMNS, strict=False)


def metadata_columns(units: pl.DataFrame, *, taken: Collection[str] = ()) -> dict[str, pl.Expr]:
    """Return one expression per metadata key of the units, by column name; keys in `taken` get `metadata_` before.

    A key whose values are all numbers or all booleans is a column of such; any other is text.

    Args:
        units: Rows of `evaluation/units`.
        taken: Names that stand for something else.
    """
    return {
        (f"metadata_{key}" if key in taken else key): _metadata_value(key, kind)
        for key, kind in sorted(_metadata_kinds(units).items())
    }


def _names(names: Sequence[str] | str | None) -> list[str]:
    if names is None:
        return []
    return [names] if isinstance(names, str) else list(names)


def _check_names(groups: list[str], adjust: list[str], valid: list[str]) -> None:
    if not groups:
        raise InvalidInputError(f"groupby needs at least one of: {', '.join(valid)}.")
    for name in (*groups, *adjust):
        if name not in valid:
            raise InvalidInputError(f"unknown group {name!r}; valid groups: {', '.join(valid)}.")
    if missing := [name for name in adjust if name not in groups and name != "dataset"]:
        raise InvalidInputError(f"adjustby {missing} must be part of groupby {groups}.")


def _named(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the derived columns of a view: dataset, error type and confidence bin."""
    bins = (pl.col("confidence") * _CONFIDENCE_BINS).floor().clip(0, _CONFIDENCE_BINS - 1).cast(pl.Int64)
    low, high = bins / _CONFIDENCE_BINS, (bins + 1) / _CONFIDENCE_BINS
    confusion = pl.format("{}→{}", pl.col("label"), pl.col("prediction"))
    return frame.with_columns(
        pl.col("dataset_type").alias("dataset"),
        pl.when("is_error").then(confusion).alias("error_type"),
        pl.format("{}–{}", low.round(1), high.round(1)).alias("confidence_bin"),
    )


def _with_boxes(frame: pl.DataFrame) -> pl.DataFrame:
    """Add what a view of boxes derives; the error type is stored, for it is not told by the classes alone."""
    steps = (pl.col("range_m") / _RANGE_STEP).floor().cast(pl.Int64) * _RANGE_STEP
    types = frame["error_type"]
    return _named(frame).with_columns(
        types,
        pl.col("confidence").alias("score"),
        pl.format("{}–{} m", steps, steps + _RANGE_STEP).alias("range_bin"),
    )


def _metadata_kinds(frame: pl.DataFrame) -> dict[str, type[pl.DataType]]:
    """Return the kind of every metadata key; null says nothing."""
    kinds: dict[str, set[type[pl.DataType]]] = {}
    for text in frame["metadata"].drop_nulls().unique():
        for key, value in json.loads(text).items():
            kinds.setdefault(key, set())
            if value is not None:
                kinds[key].add(_kind(value))
    numbers: set[type[pl.DataType]] = {pl.Int64, pl.Float64}
    return {
        key: found.pop() if len(found) == 1 else pl.Float64 if found == numbers else pl.String
        for key, found in kinds.items()
    }


def _kind(value: object) -> type[pl.DataType]:
    if isinstance(value, bool):
        return pl.Boolean
    if isinstance(value, int):
        return pl.Int64 if abs(value) < 2**63 else pl.String
    return pl.Float64 if isinstance(value, float) else pl.String


def _metadata_value(key: str, kind: type[pl.DataType]) -> pl.Expr:
    path = "$['" + key.replace("\\", "\\\\").replace("'", "\\'") + "']"
    found = pl.col("metadata").str.json_path_match(path)
    value = found == "true" if kind is pl.Boolean else found.cast(kind)
    return value.alias(key)


def _with_overlay(frame: pl.DataFrame) -> pl.DataFrame:
    overlay = frame.filter("is_aleatoric").with_columns(pl.lit(ALEATORIC).alias("category"))
    return pl.concat([frame, overlay])


def _counted(frame: pl.DataFrame, keys: list[str], adjust: list[str]) -> pl.DataFrame:
    errors = pl.col("is_error").sum().cast(pl.Int64)
    counted = frame.group_by(keys).agg(
        pl.len().cast(pl.Int64).alias("counts"),
        errors.alias("errors"),
        pl.col("error_proba").cast(pl.Float64).mean().alias("mean_error_proba"),
    )
    ratio = pl.col("counts") / pl.col("counts").sum().over(adjust)
    rate = pl.col("errors") / pl.col("counts")
    return counted.with_columns(ratio.alias("ratio"), rate.alias("error_rate")).select(*keys, *_COUNTED)
