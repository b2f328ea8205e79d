"""From landing to silver: the last write of every traced input, for finished traces only.

The Dagster asset `traces/inputs` and the SDK call the same function, so a process without Dagster evaluates
exactly what the platform would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_TRACES, TRACES_INPUTS

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake, Provenance

__all__ = ["Promotion", "UnfinishedStream", "promote", "unfinished_streams"]

_POPULATION = ["dataset_type", "n_epoch"]
_INPUT = ["model_key", *_POPULATION, "input_id"]
_ARRIVAL = ["ingested_at", "stream_id", "seq", "row"]


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion did.

    Attributes:
        version: Delta version of `traces/inputs` that holds the model's rows.
        rows: Inputs of the model.
        superseded: Traced rows that a later write of the same input replaced.
        changed_inputs: Input ids traced with another `input_hash` before: a data-quality event.
        promoted: False when the partition was current already.
    """

    version: int | None
    rows: int
    superseded: int = 0
    changed_inputs: int = 0
    promoted: bool = True


@dataclass(frozen=True, slots=True)
class UnfinishedStream:
    """Traced rows of one stream and dataset that no receipt covers."""

    stream_id: str
    dataset_type: str
    n_epoch: int | None
    rows: int


def promote(lake: Lake, model_key: str, *, provenance: Provenance | None = None) -> Promotion:
    """Bring `traces/inputs` of a model up to date with the finished traces in landing.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        provenance: Written with the commit.
    """
    receipts_version = lake.version(LANDING_RECEIPTS)
    mark = f"promote:{model_key}"
    if receipts_version is None or lake.mark(TRACES_INPUTS, mark) == receipts_version:
        rows = lake.scan(TRACES_INPUTS, model_key=model_key).select(pl.len()).collect().item()
        return Promotion(lake.version(TRACES_INPUTS), rows, promoted=False)
    finished = _finished_rows(lake, model_key)
    winners = finished.sort(_ARRIVAL).unique(_INPUT, keep="last", maintain_order=True)
    frame = _rows_at(lake, model_key, winners)
    commit = lake.replace(
        TRACES_INPUTS, frame, where={"model_key": model_key}, provenance=provenance, marks={mark: receipts_version}
    )
    return Promotion(
        version=commit.version,
        rows=winners.height,
        superseded=finished.height - winners.height,
        changed_inputs=_changed_inputs(finished),
    )


def unfinished_streams(lake: Lake, model_key: str) -> list[UnfinishedStream]:
    """Return the traces that block an evaluation (docs/storage.md#receipts), oldest first.

    Rows without a receipt block only while no finished trace of the same dataset and epoch is newer than they are.
    """
    rows = _narrow_rows(lake, model_key)
    receipts = _latest_receipts(lake, model_key)
    open_rows = rows.join(receipts, on=["stream_id", *_POPULATION], how="left", nulls_equal=True).filter(
        pl.col("last_seq").is_null() | ((pl.col("seq") > pl.col("last_seq")) & (pl.col("state") != "discarded"))
    )
    newest = (
        receipts.filter(pl.col("state") != "discarded")
        .group_by(_POPULATION)
        .agg(pl.col("completed_at").max().alias("finished_at"))
    )
    blocking = (
        open_rows.group_by("stream_id", *_POPULATION)
        .agg(pl.len().alias("rows"), pl.col("ingested_at").max().alias("last_row_at"))
        .join(newest, on=_POPULATION, how="left", nulls_equal=True)
        .filter(pl.col("finished_at").is_null() | (pl.col("last_row_at") > pl.col("finished_at")))
        .sort("last_row_at", "stream_id")
    )
    return [
        UnfinishedStream(row["stream_id"], row["dataset_type"], row["n_epoch"], row["rows"])
        for row in blocking.iter_rows(named=True)
    ]


def _narrow_rows(lake: Lake, model_key: str) -> pl.DataFrame:
    """Return the rows of a model without their vectors."""
    columns = [*_INPUT, *_ARRIVAL, "input_hash"]
    return lake.scan(LANDING_TRACES, model_key=model_key).select(columns).collect()


def _latest_receipts(lake: Lake, model_key: str) -> pl.DataFrame:
    receipts = lake.scan(LANDING_RECEIPTS, model_key=model_key).filter(pl.col("purpose") == "trace").collect()
    return latest_by_stream(receipts)


def latest_by_stream(receipts: pl.DataFrame) -> pl.DataFrame:
    """Return how far each stream is finished, and how it ended, by dataset and epoch."""
    return (
        receipts.sort("completed_at", "seq")
        .group_by("stream_id", *_POPULATION)
        .agg(pl.col("last_seq").max(), pl.col("state").last(), pl.col("completed_at").last())
    )


def _finished_rows(lake: Lake, model_key: str) -> pl.DataFrame:
    receipts = _latest_receipts(lake, model_key).filter(pl.col("state") != "discarded")
    rows = _narrow_rows(lake, model_key)
    return rows.join(receipts, on=["stream_id", *_POPULATION], nulls_equal=True).filter(
        pl.col("seq") <= pl.col("last_seq")
    )


def _rows_at(lake: Lake, model_key: str, winners: pl.DataFrame) -> pl.DataFrame:
    arrival = ["stream_id", "seq", "row"]
    rows = lake.scan(LANDING_TRACES, model_key=model_key).join(winners.lazy().select(arrival), on=arrival, how="semi")
    return rows.collect().sort(_INPUT[1:], nulls_last=False)


def _changed_inputs(finished: pl.DataFrame) -> int:
    hashes = finished.group_by(_INPUT).agg(pl.col("input_hash").drop_nulls().n_unique().alias("hashes"))
    return hashes.filter(pl.col("hashes") > 1).height
