"""Logged inferences → window states, in one polars plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from mld_pipelines.exceptions import ContractError
from mld_pipelines.tables import CATEGORIES
from mld_pipelines.windows._bins import BATCH_BINS, LATENCY_BINS, UNIT_BINS, batch_bin, latency_bin, unit_bin
from mld_pipelines.windows._lists import count_bins, to_lists, to_trimmed_lists
from mld_pipelines.windows._shift import SHIFT_COLUMNS, SHIFT_SCALARS, add_shift_lists
from mld_pipelines.windows._state import (
    DETECTOR_COLUMNS,
    KEY,
    LATENCY_STEP_MS,
    PROBABILITY_STEP,
    STATE_SCHEMA,
    empty_states,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UNSEEN", "Thresholds", "aggregate", "input_columns"]

UNSEEN = "UNSEEN"

#: Class indices above this share its count: a corrupt index must not allocate a list of its own length.
_LARGEST_CLASS = 65_535
_HOUR_US = 3_600_000_000

_REQUIRED = {"event_at": pl.Datetime("us", "UTC"), "model_key": pl.String()}
_OPTIONAL: dict[str, pl.DataType] = {
    "result_name": pl.String(),
    "slice": pl.String(),
    "latency_ms": pl.Float64(),
    "batch_size": pl.Int32(),
    "prediction": pl.Int64(),
    "confidence": pl.Float32(),
    "clock_skewed": pl.Boolean(),
    "is_invalid": pl.Boolean(),
    "error_proba": pl.Float32(),
    "confidence_t": pl.Float32(),
    "error_code": pl.String(),
    "category": pl.String(),
    "label": pl.Int64(),
}
_ERRORS = frozenset(("result_name", "error_proba", "confidence_t", "error_code", "category", "label"))
_GROUP = ("hour_number", "model_key", "result_name", "slice")
_BINS = {
    "batch_histogram": BATCH_BINS,
    "latency_histogram": LATENCY_BINS,
    "confidence_histogram": UNIT_BINS,
    "error_proba_histogram": UNIT_BINS,
}


#: Columns that only some states have: those of window maps and of detectors.
_PARTLY = {**SHIFT_COLUMNS, **DETECTOR_COLUMNS}


class Thresholds(Protocol):
    """The two thresholds of a result that window counts are taken against; a `WindowReference` has them."""

    @property
    def threshold_ep(self) -> float:
        """Error probability: units above it are counted (docs/method.md#window)."""
        ...

    @property
    def threshold_mc(self) -> float:
        """Tempered confidence: units below it are counted."""
        ...


def aggregate(
    rows: pl.DataFrame | pl.LazyFrame,
    *,
    references: Mapping[str, Thresholds] | None = None,
    errors: bool = True,
) -> pl.DataFrame:
    """Aggregate inferences to the mergeable states of their hours.

    The cost is that of the rows given: aggregate only what is new and `merge` it with the stored states.

    Args:
        rows: One row per inference (`landing/inferences`, or `monitoring/scored` joined with `label`). Needs
            `event_at` and `model_key`; of the columns `result_name, slice, latency_ms, batch_size, prediction,
            confidence, clock_skewed, is_invalid, error_proba, confidence_t, error_code, category, label` those that
            are missing count as null; the `shift_…` sums are added where there are any. Others are not read.
        references: Window references by result name. Counts against unknown thresholds are zero.
        errors: False gives the basic metrics of every row, whatever its result (`result_name` null).

    Returns:
        States with the columns of `monitoring/windows`, sorted by key; error columns are null where `result_name` is.

    Raises:
        ContractError: A required column is missing.
    """
    source = _select_inputs(rows.lazy(), errors=errors)
    prepared = source.select(*_group_keys(), *_row_values(references or {})).collect()
    if prepared.is_empty():
        return empty_states()
    keys, numbered = _number_groups(prepared)
    grouped, coded = pl.collect_all([_group(numbered.lazy()), _group_codes(numbered.lazy())])
    states = keys.join(_fill_histograms(grouped), on="group").join(_code_lists(coded), on="group", how="left")
    return _finish(_join_shift(states, rows.lazy(), keys) if errors else states)


def input_columns(*, errors: bool, shift: bool = False) -> list[str]:
    """Return the columns that `aggregate` reads, required ones first.

    Args:
        errors: As at `aggregate`.
        shift: Also the sums for window maps.
    """
    wanted = (*_REQUIRED, *_OPTIONAL, *(SHIFT_COLUMNS if shift else ()))
    return [name for name in wanted if errors or name not in _ERRORS]


def _select_inputs(rows: pl.LazyFrame, *, errors: bool) -> pl.LazyFrame:
    present = rows.collect_schema()
    if missing := sorted(set(_REQUIRED) - set(present)):
        raise ContractError(f"inferences lack the columns {missing}; no window was computed.")
    wanted = {**_REQUIRED, **_OPTIONAL}
    read = {*input_columns(errors=errors)}
    absent = {name for name in wanted if name not in present or name not in read}
    return rows.select(
        pl.lit(None, wanted[name]).alias(name) if name in absent else pl.col(name).cast(wanted[name]) for name in wanted
    )


def _group_keys() -> list[pl.Expr]:
    return [
        (pl.col("event_at").dt.epoch("us") // _HOUR_US).cast(pl.Int32).alias("hour_number"),
        pl.col("model_key"),
        pl.col("result_name"),
        pl.col("slice").fill_null("all"),
    ]


def _join_shift(states: pl.DataFrame, rows: pl.LazyFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """Add the sums that some of the rows carry; few do, so the others are not looked at again."""
    present = rows.collect_schema().names()
    if not {*SHIFT_COLUMNS} <= {*present}:
        return states
    optional = [pl.lit(None, pl.String).alias(name) for name in ("result_name", "slice") if name not in present]
    carriers = rows.with_columns(optional).filter(pl.col("shift_n").is_not_null())
    carried = carriers.select(*_group_keys(), *SHIFT_COLUMNS).collect()
    if carried.is_empty():
        return states
    named = carried.join(keys, on=list(_GROUP), how="left", nulls_equal=True, maintain_order="left")
    groups = named["group"].to_numpy().astype(np.int64)
    found = named.group_by("group").agg(pl.col(SHIFT_SCALARS).sum()).sort("group")
    lists = add_shift_lists(named, groups, len(keys))
    at = found["group"].to_list()
    return states.join(found.with_columns(one.gather(at) for one in lists), on="group", how="left")


def _number_groups(prepared: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the windows with a number each, and the rows with the number of their window instead of its key.

    Rows arrive in runs of one window; hashing one number per row instead of its key halves the cost of grouping.
    """
    starts = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in _GROUP)
    run = prepared.select(starts.alias("run")).to_series()
    runs = prepared.select(_GROUP).filter(run)
    keys = runs.unique(maintain_order=True).with_row_index("group")
    group_of_run = runs.join(keys, on=list(_GROUP), how="left", nulls_equal=True, maintain_order="left")["group"]
    group = group_of_run.gather(run.cum_sum() - 1)
    has_result = pl.col("result_name").is_not_null().alias("has_result")
    return keys, prepared.select(group, has_result, pl.exclude(_GROUP))


def _row_values(thresholds: Mapping[str, Thresholds]) -> list[pl.Expr]:
    invalid = pl.col("is_invalid").fill_null(value=False) | pl.col("confidence").is_nan().fill_null(value=False)
    risk = _on_grid(pl.when(~invalid).then(_finite("error_proba")), PROBABILITY_STEP)
    wrong = pl.col("label") != pl.col("prediction")
    over, below = _threshold_flags(thresholds)
    bins = {
        "batch_histogram": batch_bin("batch_size"),
        "latency_histogram": latency_bin("latency_ms"),
        "confidence_histogram": unit_bin("confidence"),
        "error_proba_histogram": pl.when(~invalid).then(unit_bin("error_proba")),
    }
    return [
        pl.col("event_at"),
        invalid.alias("n_invalid"),
        pl.col("clock_skewed").alias("n_clock_skewed"),
        pl.when(pl.col("batch_size") >= 1).then(_on_grid(1.0 / pl.col("batch_size"), PROBABILITY_STEP)).alias("calls"),
        _on_grid(_finite("latency_ms"), LATENCY_STEP_MS).alias("latency"),
        _on_grid(_finite("confidence"), PROBABILITY_STEP).alias("confidence"),
        risk.alias("risk"),
        _on_grid(pl.when(risk.is_not_null()).then(_tempered()), PROBABILITY_STEP).alias("confidence_t"),
        (over & risk.is_not_null()).alias("n_over_threshold"),
        (below & risk.is_not_null()).alias("n_below_confidence"),
        wrong.alias("wrong"),
        pl.col("error_code"),
        pl.col("category"),
        *(bin_.fill_null(_BINS[name]).alias(name) for name, bin_ in bins.items()),
        # 0 stands for "no prediction", so that bins start at one
        (pl.col("prediction").clip(-1, _LARGEST_CLASS).fill_null(-1) + 1).cast(pl.Int32).alias("class_counts"),
    ]


def _threshold_flags(thresholds: Mapping[str, Thresholds]) -> tuple[pl.Expr, pl.Expr]:
    risk, confidence = pl.col("error_proba").cast(pl.Float64), _tempered()
    over, below = pl.lit(value=False), pl.lit(value=False)
    for name, limits in thresholds.items():
        mine = pl.col("result_name") == name
        over = pl.when(mine).then(risk > limits.threshold_ep).otherwise(over)
        below = pl.when(mine).then(confidence < limits.threshold_mc).otherwise(below)
    return over, below


def _group(prepared: pl.LazyFrame) -> pl.LazyFrame:
    labelled = pl.col("wrong").is_not_null()
    both = labelled & pl.col("risk").is_not_null()
    flags = ("n_invalid", "n_clock_skewed", "n_over_threshold", "n_below_confidence")
    return prepared.group_by("group").agg(
        pl.len().cast(pl.Int64).alias("n"),
        *(pl.col(name).sum().cast(pl.Int64) for name in flags),
        pl.col("event_at").min().alias("first_at"),
        pl.col("event_at").max().alias("last_at"),
        pl.col("calls").sum().alias("call_sum"),
        pl.col("latency").sum().alias("latency_sum_ms"),
        pl.col("latency").max().alias("latency_max_ms"),
        pl.col("confidence").sum().alias("confidence_sum"),
        pl.col("risk").count().cast(pl.Int64).alias("n_scored"),
        pl.col("risk").sum().alias("error_proba_sum"),
        pl.col("confidence_t").sum().alias("confidence_t_sum"),
        labelled.sum().cast(pl.Int64).alias("n_labelled"),
        pl.col("wrong").sum().cast(pl.Int64).alias("n_label_errors"),
        both.sum().cast(pl.Int64).alias("n_labelled_scored"),
        (both & pl.col("wrong")).sum().cast(pl.Int64).alias("n_labelled_scored_errors"),
        pl.col("risk").filter(labelled).sum().alias("labelled_error_proba_sum"),
        *(pl.col(name) for name in (*_BINS, "class_counts")),
    )


def _group_codes(prepared: pl.LazyFrame) -> pl.LazyFrame:
    return (
        prepared.filter(pl.col("error_code").is_not_null() & pl.col("has_result"))
        .group_by("group", "error_code", "category")
        .agg(pl.len().cast(pl.Int64).alias("counts"), pl.col("risk").sum())
    )


def _code_lists(coded: pl.DataFrame) -> pl.DataFrame:
    """One row per window: sorted codes with counts and sums, the category counts and the number of unseen."""
    codes = coded.group_by("group", "error_code").agg(pl.col("counts").sum(), pl.col("risk").sum()).sort("error_code")
    by_category = [
        pl.col("counts").filter(pl.col("category") == category).sum().alias(category) for category in CATEGORIES
    ]
    lists = codes.group_by("group", maintain_order=True).agg(
        pl.col("error_code").alias("codes"),
        pl.col("counts").alias("code_counts"),
        pl.col("risk").alias("code_error_proba_sums"),
        pl.col("counts").filter(pl.col("error_code") == UNSEEN).sum().alias("n_unseen"),
    )
    categories = coded.group_by("group").agg(by_category)
    return lists.join(categories, on="group", how="left").with_columns(category_counts=pl.concat_list(CATEGORIES))


def _fill_histograms(grouped: pl.DataFrame) -> pl.DataFrame:
    filled = [to_lists(count_bins(grouped[name], size + 1)[:, :size]).alias(name) for name, size in _BINS.items()]
    classes = int(grouped["class_counts"].list.max().max() or 0)  # type: ignore[arg-type]
    by_class = count_bins(grouped["class_counts"], classes + 1)[:, 1:]
    return grouped.with_columns(*filled, to_trimmed_lists(np.ascontiguousarray(by_class)).alias("class_counts"))


def _finish(states: pl.DataFrame) -> pl.DataFrame:
    has_result = pl.col("result_name").is_not_null()
    later = list(STATE_SCHEMA)[list(STATE_SCHEMA).index("n_scored") :]
    error_columns = [name for name in later if name not in DETECTOR_COLUMNS]
    empty = pl.lit([], dtype=pl.List(pl.Int64))
    defaults = {
        "n_unseen": pl.lit(0, dtype=pl.Int64),
        "category_counts": pl.lit([0] * len(CATEGORIES), dtype=pl.List(pl.Int64)),
        "codes": pl.lit([], dtype=pl.List(pl.String)),
        "code_counts": empty,
        "code_error_proba_sums": pl.lit([], dtype=pl.List(pl.Float64)),
    }
    return (
        states.with_columns(
            (pl.col("hour_number") // 24).cast(pl.Date).alias("event_day"),
            (pl.col("hour_number") % 24).cast(pl.Int32).alias("hour"),
            *(pl.coalesce(name, default).alias(name) for name, default in defaults.items()),
            *(pl.lit(None, dtype).alias(name) for name, dtype in _PARTLY.items() if name not in states.columns),
        )
        .with_columns(pl.when(has_result).then(pl.col(name)).alias(name) for name in error_columns)
        .select(STATE_SCHEMA.names())
        .cast(STATE_SCHEMA)
        .sort(KEY)
    )


def _on_grid(value: pl.Expr, step: float) -> pl.Expr:
    """Round to a binary grid so that sums do not depend on the order of addition (see `_state`)."""
    return (value.cast(pl.Float64) / step).round(0) * step


def _tempered() -> pl.Expr:
    """Tempered confidence; rows scored before it was kept fall back to the raw one (temperature 1)."""
    return pl.coalesce(_finite("confidence_t"), _finite("confidence"))


def _finite(column: str) -> pl.Expr:
    value = pl.col(column).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)
