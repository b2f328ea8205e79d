"""Which result of a model is the current one (docs/storage.md#current-result)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.tables import EVALUATION_RESULTS, OPS_PROMOTIONS

if TYPE_CHECKING:
    from datetime import datetime

    from mld_pipelines.lake import Lake

__all__ = ["current_result", "current_results", "promote_result"]


def current_results(lake: Lake) -> dict[str, str]:
    """Return the current result of every evaluated model: the newest finished, or the one promoted after it."""
    finished = lake.scan(EVALUATION_RESULTS).select("model_key", "result_name", at="created_at").collect()
    promoted = lake.scan(OPS_PROMOTIONS).select("model_key", "result_name", at="promoted_at").collect()
    newest = pl.concat([finished, promoted]).sort("at", "result_name").group_by("model_key").last()
    return dict(newest.sort("model_key").select("model_key", "result_name").iter_rows())


def current_result(lake: Lake, model_key: str) -> str | None:
    """Return the name of the current result of one model, or None before its first evaluation."""
    return current_results(lake).get(model_key)


def promote_result(lake: Lake, result_name: str, *, promoted_by: str, at: datetime) -> str:
    """Declare a result current until a newer one finishes; returns its model key.

    Raises:
        UnknownResultError: No result has this name.
    """
    from mld_pipelines.evaluation._load import load_result

    stored = load_result(lake, result_name)
    row = pl.DataFrame(
        {"model_key": [stored.model_key], "result_name": [result_name], "promoted_by": [promoted_by]},
    ).with_columns(pl.lit(at, dtype=OPS_PROMOTIONS.column("promoted_at").data_type).alias("promoted_at"))
    lake.append(OPS_PROMOTIONS, row)
    return stored.model_key
