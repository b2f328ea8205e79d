"""Traced rows that broke their contract: they are in `ops/quarantine` and in no number of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_TRACES, OPS_QUARANTINE, TRACES_INPUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld_pipelines.lake import Lake

__all__ = ["named_inputs", "refusals", "refused_rows", "refused_warnings"]

_SHOWN = "see `mld tables show ops/quarantine`"
_NAMED = 3
"""Inputs that a warning names; all are in the table."""

_LONGEST = 60
"""Characters of an input id in a warning: a refused id may be what broke the contract."""

_BATCH, _POPULATION = ["stream_id", "seq"], ["dataset_type", "n_epoch"]
_SHARED = "batch|shared"
"""Rule of the row that holds the payload of many others: no refusal of its own."""


def refusals(lake: Lake, model_key: str) -> str | None:
    """Return how many traced rows of a model were refused, the commonest reason and some inputs; None if none were.

    What a later attempt of the same stream did bring in is not refused any more.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
    """
    return _told(_refused(lake, model_key))


def refused_rows(lake: Lake, model_key: str) -> pl.DataFrame:
    """Return how many traced rows of a model were refused and not brought in later: `refused` by stream and population.

    Batches that were refused as a whole are not among them: what they held is not known.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
    """
    known = _refused(lake, model_key).filter(pl.col("dataset_type").is_not_null())
    keys = ["stream_id", *_POPULATION]
    return known.group_by(keys).agg(pl.len().cast(pl.Int64).alias("refused")).sort(keys, nulls_last=False)


def refused_warnings(lake: Lake, model_key: str, epochs: Sequence[int | None]) -> tuple[str, ...]:
    """Return a warning if rows of the epochs that an evaluation reads were refused and are not replaced.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        epochs: Epochs that are evaluated.
    """
    refused = _refused(lake, model_key)
    if refused.is_empty():
        return ()
    chosen = pl.col("n_epoch").is_in(list(epochs), nulls_equal=True)
    read = lake.scan(TRACES_INPUTS, model_key=model_key).filter(chosen)
    found = _told(pl.concat([_missing_inputs(refused.filter(chosen), read), _missing_batches(refused, read)]))
    return () if found is None else (f"{found} and are in no number of this result: {_SHOWN}.",)


def named_inputs(ids: Sequence[str], more: bool) -> str:
    """Return inputs in words: shortened, with what says that there are others."""
    shown = [text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…" for text in ids]
    return ", ".join(shown) + (", …" if more else "")


def _refused(lake: Lake, model_key: str) -> pl.DataFrame:
    """Return the refused rows and batches of a model's traces that nothing brought in later and nobody discarded."""
    columns = [*_BATCH, "row", *_POPULATION, "input_id"]
    refused = (
        lake.scan(OPS_QUARANTINE)
        .filter((pl.col("table") == LANDING_TRACES.name) & (pl.col("model_key") == model_key))
        .filter(pl.col("rule") != _SHARED)
        .group_by(columns)
        .agg(pl.col("reason").min())
    )
    whole = pl.col("row") < 0
    landed = lake.scan(LANDING_TRACES, model_key=model_key).select(*_BATCH, pl.col("row").cast(pl.Int64))
    open_rows = pl.concat([
        refused.filter(~whole).join(landed, on=[*_BATCH, "row"], how="anti"),
        refused.filter(whole).join(landed, on=_BATCH, how="anti"),
    ])  # fmt: skip
    discarded = lake.scan(LANDING_RECEIPTS, model_key=model_key, purpose="trace").filter(pl.col("state") == "discarded")
    return open_rows.join(discarded, on="stream_id", how="anti").collect()


def _missing_inputs(refused: pl.DataFrame, read: pl.LazyFrame) -> pl.DataFrame:
    """Return the refused rows whose input has no row at all, or only an earlier one of the same stream."""
    keys = [*_POPULATION, "input_id"]
    winners = read.select(*keys, pl.col("stream_id").alias("winner"), pl.col("seq").alias("winner_seq")).collect()
    known = refused.filter(pl.col("input_id").is_not_null())
    earlier = (pl.col("winner") == pl.col("stream_id")) & (pl.col("winner_seq") < pl.col("seq"))
    joined = known.join(winners, on=keys, how="left", nulls_equal=True)
    return joined.filter(pl.col("winner").is_null() | earlier).select(refused.columns)


def _missing_batches(refused: pl.DataFrame, read: pl.LazyFrame) -> pl.DataFrame:
    """Return what was refused without a name, of the streams that are read."""
    streams = read.select(pl.col("stream_id").unique()).collect()
    return refused.filter(pl.col("input_id").is_null()).join(streams, on="stream_id", how="semi")


def _told(refused: pl.DataFrame) -> str | None:
    if refused.is_empty():
        return None
    batches = int((refused["row"] < 0).sum())
    counted = [_count(refused.height - batches, "traced row"), _count(batches, "whole batch", "whole batches")]
    verb = "was" if refused.height == 1 else "were"
    commonest = refused.group_by("reason").len().sort("len", "reason", descending=[True, False])["reason"][0]
    text = f"{' and '.join(filter(None, counted))} {verb} refused ({commonest}"
    named = refused.filter(pl.col("input_id").is_not_null()).sort(*_POPULATION, *_BATCH, "row")
    if named.is_empty():
        return f"{text})"
    ids = [f"{dataset}/{one}" for dataset, one in named.select("dataset_type", "input_id").head(_NAMED).iter_rows()]
    return f"{text}; {named_inputs(ids, more=refused.height > len(ids))})"


def _count(number: int, one: str, many: str | None = None) -> str | None:
    if not number:
        return None
    return f"{number} {one if number == 1 else many or one + 's'}"
