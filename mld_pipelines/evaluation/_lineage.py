"""Which codes of the previous weights hold the same inputs (docs/method.md#names)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.diagnosis import link_codes
from mld_pipelines.tables import ESTIMATORS_MODELS, EVALUATION_RESULTS, EVALUATION_UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.lake import Lake

__all__ = ["CodeLinks", "link_to_previous"]


@dataclass(frozen=True, slots=True)
class CodeLinks:
    """Codes of this result and the codes of an earlier one that hold the same inputs.

    Attributes:
        result_name: The earlier result.
        partners: Code of this result → (code of the earlier one, Jaccard overlap on the common inputs).
    """

    result_name: str
    partners: Mapping[str, tuple[str, float]] = field(default_factory=dict)


def link_to_previous(lake: Lake, model_name: str, lineage_id: str, units: pl.DataFrame) -> CodeLinks | None:
    """Return the links from the codes of a lineage to those of the lineage before it; None where there is none.

    "Before" is the newest result of the model, any version, with other weights that was finished before the first
    result of this lineage. The answer therefore stays the same when the same weights are evaluated again.

    Args:
        lake: The lake.
        model_name: Name without version.
        lineage_id: Lineage of the codebook in use.
        units: Rows with dataset_type, input_id and error_code.
    """
    previous = _previous(lake, model_name, lineage_id)
    if previous is None:
        return None
    keys = pl.concat_str("dataset_type", pl.lit("/"), "input_id").alias("key")
    before = (
        lake.scan(EVALUATION_UNITS, model_key=previous["model_key"], evaluation_id=previous["evaluation_id"])
        .filter(pl.col("n_epoch").eq_missing(pl.lit(previous["n_epoch"], dtype=pl.Int64)))
        .select(keys, "error_code")
        .collect()
    )
    now = units.select(keys, "error_code")
    links = link_codes(dict(before.iter_rows()), dict(now.iter_rows()))
    return CodeLinks(previous["result_name"], {link.code_b: (link.code_a, link.jaccard) for link in links})


def _previous(lake: Lake, model_name: str, lineage_id: str) -> dict[str, Any] | None:
    books = (
        lake.scan(ESTIMATORS_MODELS)
        .filter((pl.col("kind") == "codebook") & pl.col("lineage_id").is_not_null())
        .filter(pl.col("model_key").str.split("@").list.first() == model_name)
        .select("evaluation_id", "model_key", "n_epoch", "lineage_id")
        .collect()
    )
    if books.is_empty():
        return None
    results = lake.scan(EVALUATION_RESULTS).select("evaluation_id", "result_name", "created_at").collect()
    rows = books.join(results, on="evaluation_id").sort("created_at", "result_name", "n_epoch", nulls_last=False)
    first = rows.filter(pl.col("lineage_id") == lineage_id)["created_at"].min()
    others = rows.filter(pl.col("lineage_id") != lineage_id)
    if first is not None:
        others = others.filter(pl.col("created_at") < first)
    return others.row(-1, named=True) if others.height else None
