"""Inputs that occur in several datasets: found by the hash of their content, reported, never removed."""

from __future__ import annotations

import polars as pl

from mld_pipelines.evaluation._datasets import PRODUCTION

__all__ = ["duplicate_warnings"]


def duplicate_warnings(units: pl.DataFrame) -> tuple[str, ...]:
    """Return one warning per pair of datasets that share inputs of equal `input_hash`; production is no split.

    Args:
        units: dataset_type, input_id, input_hash (null where inputs were not hashed) and label of one epoch.
    """
    columns = ["input_hash", "dataset_type", "input_id", "label"]
    hashed = (
        units.lazy().select(columns).filter(pl.col("input_hash").is_not_null() & (pl.col("dataset_type") != PRODUCTION))
    )
    # One row per content and dataset: what is traced twice inside one dataset is not what this is about.
    first = hashed.sort("dataset_type", "input_id").unique(["input_hash", "dataset_type"], keep="first")
    pairs = first.join(first, on="input_hash", suffix="_other").filter(
        pl.col("dataset_type") < pl.col("dataset_type_other")
    )
    counted = (
        pairs.sort("input_id", "input_id_other")
        .group_by("dataset_type", "dataset_type_other")
        .agg(
            pl.len().alias("inputs"),
            (pl.col("label") != pl.col("label_other")).sum().alias("relabelled"),
            pl.col("input_id", "input_id_other").first(),
        )
        .sort("dataset_type", "dataset_type_other")
        .collect()
    )
    return tuple(_warning(row) for row in counted.iter_rows(named=True))


def _warning(row: dict[str, str | int]) -> str:
    one, two = row["dataset_type"], row["dataset_type_other"]
    labels = f", {row['relabelled']} of them with different labels" if row["relabelled"] else ""
    return (
        f"{row['inputs']} inputs are in {one!r} and in {two!r} alike (equal input_hash{labels}), e.g. "
        f"{one}/{row['input_id']} = {two}/{row['input_id_other']}: what is measured on one is not independent of the "
        "other. They were evaluated as they are; keep each input in one dataset."
    )
