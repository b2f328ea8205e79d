"""Traced rows that broke their contract: they are in `ops/quarantine` and in no number of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.tables import LANDING_TRACES, OPS_QUARANTINE, TRACES_INPUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.lake import Lake

__all__ = ["refusals", "refused_warnings"]

_SHOWN = "see `mld tables show ops/quarantine`"


def refusals(lake: Lake, model_key: str, *, streams: pl.Series | None = None) -> str | None:
    """Return how many traced rows of a model were refused and the commonest reason; None if none were.

    What a later attempt of the same stream did bring in is not refused any more.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        streams: Only rows of these streams; None takes all.
    """
    refused = lake.scan(OPS_QUARANTINE).filter(
        (pl.col("table") == LANDING_TRACES.name) & (pl.col("model_key") == model_key)
    )
    if streams is not None:
        refused = refused.filter(pl.col("stream_id").is_in(streams.implode()))
    batch, whole = ["stream_id", "seq"], pl.col("row") < 0
    landed = lake.scan(LANDING_TRACES, model_key=model_key).select(*batch, "row")
    found_rows = refused.group_by(*batch, "row").agg(pl.col("reason").min())
    rows = pl.concat([
        found_rows.filter(~whole).join(landed, on=[*batch, "row"], how="anti"),
        found_rows.filter(whole).join(landed, on=batch, how="anti"),
    ])  # fmt: skip
    reasons = rows.group_by("reason").agg(pl.len().alias("rows"))
    found = reasons.sort("rows", "reason", descending=[True, False]).collect()
    if found.is_empty():
        return None
    return f"{found['rows'].sum()} traced rows were refused ({found['reason'][0]})"


def refused_warnings(lake: Lake, model_key: str, epochs: Sequence[int | None]) -> tuple[str, ...]:
    """Return a warning if rows of the streams that an evaluation reads were refused.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        epochs: Epochs that are evaluated.
    """
    read = lake.scan(TRACES_INPUTS, model_key=model_key).filter(pl.col("n_epoch").is_in(list(epochs), nulls_equal=True))
    streams = read.select(pl.col("stream_id").unique()).collect()["stream_id"]
    found = refusals(lake, model_key, streams=streams)
    return () if found is None else (f"{found} and are in no number of this result: {_SHOWN}.",)
