"""From landing to silver: the last finished run of every stressed copy.

An unfinished stress pass waits in landing for its receipt; it never holds up an evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.evaluation._promotion import Promotion, latest_by_stream
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_STRESS, TRACES_STRESS

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake, Provenance

__all__ = ["STRESS_WARNING", "promote_stress"]

STRESS_WARNING = "the stress pass was not used: "
"""Start of a result's warning about copies that it could not use."""

_ARRIVAL = ["stream_id", "seq", "row"]


def promote_stress(lake: Lake, model_key: str, *, provenance: Provenance | None = None) -> Promotion:
    """Bring `traces/stress` of a model up to date with the finished stress passes in landing.

    Of several runs of one copy (model, weights, epoch, dataset, input, kind, severity) the one whose receipt is
    newest wins, then the last write.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        provenance: Written with the commit.
    """
    receipts = lake.scan(LANDING_RECEIPTS, model_key=model_key).filter(pl.col("purpose") == "stress").collect()
    # Receipts are only ever added: their number says whether anything is new, and those of traces do not count.
    mark = f"promote:{model_key}"
    if receipts.is_empty() or lake.mark(TRACES_STRESS, mark) == receipts.height:
        rows = lake.scan(TRACES_STRESS, model_key=model_key).select(pl.len()).collect().item()
        return Promotion(lake.version(TRACES_STRESS), rows, promoted=False)
    finished = _finished_rows(lake, model_key, receipts)
    key = list(TRACES_STRESS.key)
    winners = finished.sort("completed_at", "ingested_at", *_ARRIVAL).unique(key, keep="last", maintain_order=True)
    rows = lake.scan(LANDING_STRESS, model_key=model_key).join(winners.lazy().select(_ARRIVAL), on=_ARRIVAL, how="semi")
    commit = lake.replace(
        TRACES_STRESS,
        rows.collect().sort(key[1:], nulls_last=False),
        where={"model_key": model_key},
        provenance=provenance,
        marks={mark: receipts.height},
    )
    return Promotion(commit.version, winners.height, superseded=finished.height - winners.height)


def _finished_rows(lake: Lake, model_key: str, receipts: pl.DataFrame) -> pl.DataFrame:
    """Return what identifies the copies that a receipt covers."""
    usable = latest_by_stream(receipts).filter(pl.col("state") != "discarded")
    columns = [*TRACES_STRESS.key, *_ARRIVAL, "ingested_at"]
    landed = lake.scan(LANDING_STRESS, model_key=model_key).select(columns).collect()
    covered = landed.join(
        usable.rename({"dataset_type": "source_dataset"}),
        on=["stream_id", "source_dataset", "n_epoch"],
        nulls_equal=True,
    )
    return covered.filter(pl.col("seq") <= pl.col("last_seq"))
