"""Inputs that occur more than once: found by the hash of their content, reported, never removed from the counts."""

from __future__ import annotations

import polars as pl

from mld_pipelines.evaluation._datasets import PRODUCTION

__all__ = ["content_keys", "duplicate_warnings", "repetition_warnings"]

MOST_REPEATED = 0.01
"""Share of a reference that may repeat other inputs of it unsaid: intervals are narrower by less than 0.5 %."""


def content_keys(units: pl.DataFrame, *, banked: pl.Series) -> list[str]:
    """Return one key per unit, `dataset/input_id`; units of equal content have that of the first, banked ones before.

    Nothing may learn from a neighbour that is the unit itself under another name: with 800 of 800 reference inputs in
    the training data too, the estimator ranked their errors perfectly (AUROC 1.000) and said 0.50 of new inputs whose
    error rate was 0.21.

    Args:
        units: dataset_type, input_id and input_hash (null where inputs were not hashed) of one epoch.
        banked: True for the units that neighbours come from.
    """
    own = pl.format("{}/{}", "dataset_type", "input_id")
    named = units.select(own.alias("key"), pl.coalesce("input_hash", own).alias("content"), (~banked).alias("behind"))
    first = pl.col("key").sort_by("behind", "key").first().over("content")
    keys: list[str] = named.select(first).to_series().to_list()
    return keys


def repetition_warnings(units: pl.DataFrame, dataset: str) -> tuple[str, ...]:
    """Return a warning where inputs of one dataset repeat each other; intervals count each as evidence of its own.

    Args:
        units: dataset_type and input_hash (null where inputs were not hashed) of one epoch.
        dataset: The dataset that decides.
    """
    hashes = units.filter(pl.col("dataset_type") == dataset)["input_hash"]
    repeated = len(hashes.drop_nulls()) - hashes.drop_nulls().n_unique()
    if repeated <= MOST_REPEATED * len(hashes):
        return ()
    return (
        f"{repeated} of {len(hashes)} inputs of {dataset!r} repeat others of it (equal input_hash): every interval "
        "takes them for independent evidence and is too narrow. Trace each input once.",
    )


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
