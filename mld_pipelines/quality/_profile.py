"""Profiles: one row of statistics per column, computed by polars over all rows and judged against an earlier one.

Great Expectations then validates a few dozen rows although the numbers cover the whole table.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.quality._engine import validate
from mld_pipelines.quality._expectations import Expectation, is_scalar
from mld_pipelines.quality._outcomes import QualityOutcome

if TYPE_CHECKING:
    from mld_pipelines.tables import Column, TableSpec

__all__ = ["PROFILE_SCHEMA", "profile", "profile_expectations", "reference_profile", "run_profile"]

PROFILE_SCHEMA = pl.Schema(
    {
        "column": pl.String,
        "rows": pl.Int64,
        "null_share": pl.Float64,
        "nan_share": pl.Float64,
        "distinct": pl.Int64,
        "mean": pl.Float64,
        "sd": pl.Float64,
        "minimum": pl.Float64,
        "p01": pl.Float64,
        "p50": pl.Float64,
        "p99": pl.Float64,
        "maximum": pl.Float64,
    }
)

_STANDARD_ERRORS = 4.0
"""Sampling noise allowed around a reference: two-sided normal tail of 6e-5, so 100 columns a night stay quiet."""

_EFFECT = 0.5
"""Shift of a mean, in reference standard deviations, that counts as drift: Cohen's medium effect."""

_NULL_EFFECT = 0.05
"""Rise of a null share that counts as drift."""

_QUANTILE_ROWS = 100
"""Fewest rows with which a 1 % quantile is more than the smallest value."""

_CHECK = "profile"


def profile(spec: TableSpec, frame: pl.DataFrame) -> pl.DataFrame:
    """Return one row of statistics per scalar column, over all rows (NaN counted, then left out).

    Args:
        spec: The table.
        frame: Rows as the lake returns them.
    """
    rows = [_statistics(column, frame[column.name]) for column in spec.columns if is_scalar(column)]
    return pl.DataFrame(rows, schema=PROFILE_SCHEMA)


def _statistics(column: Column, values: pl.Series) -> dict[str, Any]:
    n = values.len()
    nulls = values.null_count()
    numbers = _numbers(column, values)
    nan = 0 if numbers is None else int(numbers.is_nan().sum())
    row: dict[str, Any] = {
        "column": column.name,
        "rows": n,
        "null_share": nulls / n if n else None,
        "nan_share": nan / n if n else None,
        "distinct": values.drop_nulls().n_unique(),
    }
    return row if numbers is None else row | _moments(numbers.filter(numbers.is_finite()))


def _numbers(column: Column, values: pl.Series) -> pl.Series | None:
    if column.data_type.is_numeric() or column.data_type == pl.Boolean():
        return values.drop_nulls().cast(pl.Float64)
    return None


def _moments(values: pl.Series) -> dict[str, float | None]:
    frame = values.to_frame("v")
    return frame.select(
        mean=pl.col("v").mean(),
        sd=pl.col("v").std(),
        minimum=pl.col("v").min(),
        p01=pl.col("v").quantile(0.01, "nearest"),
        p50=pl.col("v").quantile(0.5, "nearest"),
        p99=pl.col("v").quantile(0.99, "nearest"),
        maximum=pl.col("v").max(),
    ).row(0, named=True)


def profile_expectations() -> tuple[Expectation, ...]:
    """Return what is expected of a profile row beside its reference, the same for every table."""
    return (
        Expectation(
            "profile_nan_share",
            "gx",
            "critical",
            "no column holds NaN",
            "nan_share",
            "expect_column_values_to_be_between",
            {"column": "nan_share", "max_value": 0.0},
        ),
        _ordered("profile_null_share", "no column has clearly more nulls than before", "null_high", "null_share"),
        _ordered("profile_mean_high", "no mean rose by half a standard deviation", "mean_high", "mean"),
        _ordered("profile_mean_low", "no mean fell by half a standard deviation", "mean", "mean_low"),
        _ordered("profile_median_high", "no median rose above the reference's 99 % quantile", "reference_p99", "p50"),
        _ordered("profile_median_low", "no median fell below the reference's 1 % quantile", "p50", "reference_p01"),
    )


def _ordered(name: str, words: str, larger: str, smaller: str) -> Expectation:
    kwargs = {"column_A": larger, "column_B": smaller, "or_equal": True, "ignore_row_if": "either_value_is_missing"}
    return Expectation(
        name, "gx", "warning", words, None, "expect_column_pair_values_a_to_be_greater_than_b", kwargs
    )  # fmt: skip


def run_profile(
    spec: TableSpec,
    current: pl.DataFrame,
    reference: pl.DataFrame | None,
    *,
    version: int,
    partition: str | None = None,
) -> list[QualityOutcome]:
    """Judge a profile against an earlier one; the first outcome carries the profile itself.

    Args:
        spec: The table.
        current: Profile of this version.
        reference: Earlier profile; None judges only what needs none.
        version: Delta version of the profile.
        partition: Partition it is of.
    """
    rows = 0 if current.is_empty() else int(current["rows"][0])
    stored = QualityOutcome(
        spec.name, version, partition, _CHECK, "polars", "info", True, rows,
        observed=json.dumps(current.to_dicts(), allow_nan=False), description="statistics per column over all rows",
    )  # fmt: skip
    stated = {one.name: one for one in profile_expectations()}
    document = {"name": "profile", "expectations": [one.document() for one in stated.values()], "meta": {}}
    judged = _beside(current, current.clear() if reference is None else reference)
    return [
        stored,
        *(
            QualityOutcome(
                spec.name, version, partition, found.name, "gx", stated[found.name].severity, found.passed,
                judged.height, found.unexpected, _culprits(judged, stated[found.name], found.passed), found.sample,
                stated[found.name].description,
            )
            for found in validate(document, judged)
        ),
    ]  # fmt: skip


def _beside(current: pl.DataFrame, reference: pl.DataFrame) -> pl.DataFrame:
    """Join the reference and derive the bands."""
    both = current.join(reference, on="column", how="left", suffix="_ref", maintain_order="left")
    allowed = (
        _EFFECT * pl.col("sd_ref")
        + _STANDARD_ERRORS * pl.col("sd_ref") * (1 / pl.col("rows").clip(1) + 1 / pl.col("rows_ref").clip(1)).sqrt()
    )
    share = pl.col("null_share_ref")
    noise = (share * (1 - share) * (1 / pl.col("rows").clip(1) + 1 / pl.col("rows_ref").clip(1))).sqrt()
    quotable = pl.min_horizontal("rows", "rows_ref") >= _QUANTILE_ROWS
    return both.with_columns(
        null_high=(share + _NULL_EFFECT + _STANDARD_ERRORS * noise).clip(0, 1),
        mean_high=pl.col("mean_ref") + allowed,
        mean_low=pl.col("mean_ref") - allowed,
        reference_p01=pl.when(quotable).then(pl.col("p01_ref")),
        reference_p99=pl.when(quotable).then(pl.col("p99_ref")),
    ).select(*PROFILE_SCHEMA, "null_high", "mean_low", "mean_high", "reference_p01", "reference_p99")


def _culprits(judged: pl.DataFrame, one: Expectation, passed: bool) -> str | None:
    if passed:
        return None
    if one.column is not None:
        broken = judged.filter(pl.col(one.column) > 0)
    else:
        broken = judged.filter(pl.col(one.kwargs["column_A"]) < pl.col(one.kwargs["column_B"]))
    return json.dumps(broken["column"].to_list())


def reference_profile(quality: pl.DataFrame, spec: TableSpec, partition: str | None = None) -> pl.DataFrame | None:
    """Return the latest stored profile of a table from rows of `ops/quality`, or None.

    Args:
        quality: Rows of `ops/quality`.
        spec: The table.
        partition: Partition the profile must be of.
    """
    stored = quality.filter(
        (pl.col("table") == spec.name) & (pl.col("check") == _CHECK) & pl.col("partition").eq_missing(partition)
    ).sort("checked_at", "version")
    if stored.is_empty():
        return None
    rows = json.loads(stored["observed"][-1])
    return pl.DataFrame(
        [{k: _number(v) for k, v in row.items() if k in PROFILE_SCHEMA} for row in rows], schema=PROFILE_SCHEMA
    )


def _number(value: object) -> object:
    return value if not isinstance(value, float) or math.isfinite(value) else None
