"""The inputs that two results have in common: same dataset, same id, same content, same label."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mld_pipelines.exceptions import InvalidInputError

__all__ = ["Paired", "Side", "pair_units"]

_KEY = ["dataset", "input_id"]
_COMPARED = (
    "prediction", "is_error", "confidence", "entropy", "loss", "error_proba", "error_code", "category",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One result of a comparison.

    Attributes:
        name: Its name, with the epoch where there are several.
        units: Rows of `evaluation/units` of one epoch.
        lineage_id: Lineage of its codebook; None without one.
    """

    name: str
    units: pl.DataFrame
    lineage_id: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """Common units of two results.

    Attributes:
        units: dataset, input_id, label and, per side, what `_COMPARED` names, with `_before` and `_after`; sorted by
            dataset and input.
        counts: Per dataset: units of both sides, common ones, and why the others are not.
    """

    units: pl.DataFrame
    counts: pl.DataFrame


def pair_units(before: Side, after: Side, *, dataset: str | None) -> Paired:
    """Match the units of two results.

    Args:
        before: The baseline.
        after: What it is compared with.
        dataset: Only this dataset; None takes those that both results have.

    Raises:
        InvalidInputError: A dataset is missing on a side, or no input is common.
    """
    datasets = _datasets(before, after, dataset)
    left, right = (_named(side.units, datasets, suffix) for side, suffix in ((before, "_before"), (after, "_after")))
    both = left.join(right, on=_KEY, how="inner")
    hashes = pl.col("input_hash_before"), pl.col("input_hash_after")
    flagged = both.with_columns(
        (hashes[0] != hashes[1]).fill_null(value=False).alias("other_content"),
        pl.col("label_before").ne_missing(pl.col("label_after")).alias("other_label"),
        (hashes[0].is_null() | hashes[1].is_null()).alias("unhashed"),
    )
    common = flagged.filter(~pl.col("other_content") & ~pl.col("other_label"))
    counts = _counts(left, right, flagged, common)
    if common.is_empty():
        told = "; ".join(
            f"{row['dataset']}: {row['same_id']} equal ids, {row['other_content']} with other content, "
            f"{row['other_label']} with another label"
            for row in counts.iter_rows(named=True)
        )
        raise InvalidInputError(
            f"{before.name!r} and {after.name!r} have no common input ({told}); nothing was compared. Trace both "
            "models on the same inputs under the same dataset_type and input_ids."
        )
    units = common.rename({"label_before": "label"}).sort(_KEY)
    return Paired(units, counts)


def _datasets(before: Side, after: Side, dataset: str | None) -> list[str]:
    own, other = (sorted(side.units["dataset_type"].unique()) for side in (before, after))
    shared = [name for name in own if name in other]
    wanted = shared if dataset is None else [name for name in shared if name == dataset]
    if not wanted:
        asked = "no dataset in common" if dataset is None else f"no common dataset {dataset!r}"
        raise InvalidInputError(
            f"the results have {asked}: {before.name!r} has {', '.join(own) or 'none'}, {after.name!r} has "
            f"{', '.join(other) or 'none'}. Nothing was compared."
        )
    return wanted


def _named(units: pl.DataFrame, datasets: list[str], suffix: str) -> pl.DataFrame:
    return units.filter(pl.col("dataset_type").is_in(datasets)).select(
        pl.col("dataset_type").alias("dataset"),
        "input_id",
        *(pl.col(name).alias(f"{name}{suffix}") for name in ("label", "input_hash", *_COMPARED)),
    )


def _counts(left: pl.DataFrame, right: pl.DataFrame, both: pl.DataFrame, common: pl.DataFrame) -> pl.DataFrame:
    """Per dataset how many units there are, how many are common, and why the others are not."""

    def sizes(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        return frame.group_by("dataset").agg(pl.len().cast(pl.Int64).alias(name))

    reasons = both.group_by("dataset").agg(
        pl.col("other_content").sum().cast(pl.Int64),
        (pl.col("other_label") & ~pl.col("other_content")).sum().cast(pl.Int64).alias("other_label"),
    )
    unhashed = common.group_by("dataset").agg(pl.col("unhashed").sum().cast(pl.Int64))
    counted = sizes(left, "units_before").join(sizes(right, "units_after"), on="dataset", how="left")
    for part in (sizes(common, "common"), sizes(both, "same_id"), reasons, unhashed):
        counted = counted.join(part, on="dataset", how="left")
    columns = [
        "dataset", "units_before", "units_after", "common", "same_id", "other_content", "other_label", "unhashed",
    ]  # fmt: skip
    return counted.select(columns).fill_null(0).sort("dataset")
