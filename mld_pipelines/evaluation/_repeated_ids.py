"""Inputs of one trace that share an id: the last row counts, and what the others were of is in no number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.evaluation._refusals import named_inputs
from mld_pipelines.tables import LANDING_TRACES, TRACES_INPUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.lake import Lake

__all__ = ["repeated_id_warnings"]

_NAMED = 3
"""Ids that a warning names."""

_INPUT = ["dataset_type", "n_epoch", "input_id"]


def repeated_id_warnings(lake: Lake, model_key: str, epochs: Sequence[int | None]) -> tuple[str, ...]:
    """Return a warning if different inputs of one trace share an id, so that all but the last are in no number.

    That an input was traced again as it was loses nothing and is not said; where the content was not hashed, it cannot
    be told from another one and is.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        epochs: Epochs that are evaluated.
    """
    chosen = pl.col("n_epoch").is_in(list(epochs), nulls_equal=True)
    landed = lake.scan(LANDING_TRACES, model_key=model_key).filter(chosen)
    read = lake.scan(TRACES_INPUTS, model_key=model_key).filter(chosen)
    counts = pl.collect_all([landed.select(pl.len()), read.select(pl.len())])
    if counts[0].item() == counts[1].item():
        return ()
    found = _shared_ids(landed, read)
    if found.is_empty():
        return ()
    lost = int(found["lost"].sum())
    ids = [f"{dataset}/{one}" for dataset, one in found.select("dataset_type", "input_id").head(_NAMED).iter_rows()]
    named = named_inputs(ids, more=found.height > len(ids))
    return (
        f"{found.height} {'input id stands' if found.height == 1 else 'input ids stand'} for several inputs of one "
        f"trace ({named}): the last row of each counted, {lost} other {'row is' if lost == 1 else 'rows are'} in no "
        "number of this result. Give every input an id of its own and trace again.",
    )


def _shared_ids(landed: pl.LazyFrame, read: pl.LazyFrame) -> pl.DataFrame:
    """Return the ids whose winner has earlier rows of another, or unknown, content in its own stream."""
    keys = [*_INPUT, "stream_id"]
    winners = read.select(*keys, pl.col("seq").alias("last_seq"))
    rows = landed.select(*keys, "seq", "input_hash").join(winners, on=keys, nulls_equal=True)
    groups = (
        rows.filter(pl.col("seq") <= pl.col("last_seq"))
        .group_by(keys)
        .agg(
            (pl.len().cast(pl.Int64) - 1).alias("lost"),
            ((pl.col("input_hash").n_unique() > 1) | pl.col("input_hash").null_count().gt(0)).alias("is_other"),
        )
    )
    return groups.filter((pl.col("lost") > 0) & pl.col("is_other")).sort(keys, nulls_last=False).collect()
