"""Finished and unfinished traces, and the receipts that settle them by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import polars as pl

from mld_pipelines.evaluation import refused_rows, unfinished_streams
from mld_pipelines.exceptions import NotFoundError
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_TRACES

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake

__all__ = ["finished_traces", "settle", "unfinished_traces"]

_POPULATION = ["stream_id", "dataset_type", "n_epoch"]


def finished_traces(lake: Lake, model_key: str) -> pl.DataFrame:
    """Return the receipts of a model's traces, newest last; `rows` of a tracer hold the `refused` ones too."""
    shown = [*_POPULATION, "state", "rows", "refused", "dropped", "weights_changed", "note", "completed_at"]
    traces = lake.scan(LANDING_RECEIPTS, model_key=model_key, purpose="trace").collect()
    counted = traces.join(refused_rows(lake, model_key), on=_POPULATION, how="left", nulls_equal=True)
    return counted.with_columns(pl.col("refused").fill_null(0)).sort("completed_at").select(shown)


def unfinished_traces(lake: Lake, model_key: str) -> pl.DataFrame:
    """Return the traces of a model that block its evaluation."""
    rows = [(one.stream_id, one.dataset_type, one.n_epoch, one.rows) for one in unfinished_streams(lake, model_key)]
    return pl.DataFrame(rows, schema=[*_POPULATION, "rows"], orient="row", schema_overrides={"n_epoch": pl.Int64})


def settle(lake: Lake, stream_id: str, *, state: Literal["accepted", "discarded"]) -> pl.DataFrame:
    """Write the receipts that an unfinished stream lacks; return them.

    Args:
        lake: The lake.
        stream_id: The stream.
        state: `accepted` lets its rows into evaluations, `discarded` keeps them out.

    Raises:
        NotFoundError: The stream has no rows without a receipt; the message lists the streams that have.
    """
    rows = lake.scan(LANDING_TRACES).filter(pl.col("stream_id") == stream_id)
    keys = rows.select("model_key").unique().collect()["model_key"].to_list()
    open_traces = pl.concat([unfinished_traces(lake, key) for key in keys] or [unfinished_traces(lake, "")])
    mine = open_traces.filter(pl.col("stream_id") == stream_id)
    if mine.is_empty():
        raise NotFoundError(f"stream {stream_id!r} has no unfinished trace; nothing was changed. {_others(lake)}")
    receipts = _receipts(rows, mine, state)
    lake.append(LANDING_RECEIPTS, LANDING_RECEIPTS.align(receipts))
    return receipts


def _others(lake: Lake) -> str:
    keys = lake.scan(LANDING_TRACES).select("model_key").unique().collect()["model_key"].sort()
    streams = [row[0] for key in keys for row in unfinished_traces(lake, key).iter_rows()]
    return f"Unfinished streams: {', '.join(streams) or 'none'}."


def _receipts(rows: pl.LazyFrame, mine: pl.DataFrame, state: str) -> pl.DataFrame:
    now = datetime.now(UTC)
    summary = rows.group_by("model_key", *_POPULATION).agg(
        pl.col("seq").max().alias("last_seq"),
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("fingerprint").last(),
        (pl.col("fingerprint").n_unique() > 1).alias("weights_changed"),
    )
    found = summary.collect().join(mine.select(_POPULATION), on=_POPULATION, nulls_equal=True)
    return found.with_columns(
        # behind every batch number of the stream's own receipts, so that (stream, seq, row) stays unique
        pl.col("last_seq").alias("seq") + 1_000_000,
        pl.int_range(pl.len(), dtype=pl.Int32).alias("row"),
        pl.lit(now, dtype=pl.Datetime("us", "UTC")).alias("ingested_at"),
        pl.lit(now.date()).alias("ingest_day"),
        pl.lit(version("mld-pipelines")).alias("sdk_version"),
        pl.lit("trace").alias("purpose"),
        pl.lit(state).alias("state"),
        pl.lit(0, dtype=pl.Int64).alias("dropped"),
        pl.lit(f"{state} by hand with mld trace").alias("note"),
        pl.lit(now, dtype=pl.Datetime("us", "UTC")).alias("completed_at"),
    )
