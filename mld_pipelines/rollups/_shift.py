"""Sums of newly scored rows for the window map of their result, taken while outputs and features are at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mld_pipelines.diagnosis import StressWindowState
from mld_pipelines.windows import SHIFT_COLUMNS, shift_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mld_pipelines.diagnosis import ProductionScorer

__all__ = ["carry_sums"]

#: Rows whose vectors are in memory as matrices at once.
_SLICE_ROWS = 16_384
_OUTPUTS = {True: ("logits", "logits"), False: ("probabilities", "probs")}


def carry_sums(rows: pl.DataFrame, scorer: ProductionScorer) -> pl.DataFrame:
    """Return scored rows with the `shift_…` columns; unchanged without a window map.

    The first scored row of an hour carries the sums of that hour's rows, the others have nulls. Every row is scored
    once, so it is in the sums of exactly one row.

    Args:
        rows: Rows of `landing/inferences` with their score columns.
        scorer: What scored them.
    """
    if scorer.window_map is None or rows.is_empty():
        return rows
    used = ["_at", "event_at", "error_proba", "risk_scores", "logits", "probs", "feature"]
    scored = rows.with_row_index("_at").filter(pl.col("error_proba").is_not_null()).select(used)
    hours = scored.with_columns(_hour=pl.col("event_at").dt.truncate("1h")).partition_by("_hour", maintain_order=True)
    found = [{"_at": hour["_at"][0], **shift_columns(_state(hour, scorer))} for hour in hours]
    sums = pl.DataFrame(found, schema={"_at": pl.get_index_type(), **SHIFT_COLUMNS})
    return rows.with_row_index("_at").join(sums, on="_at", how="left", maintain_order="left").drop("_at")


def _state(rows: pl.DataFrame, scorer: ProductionScorer) -> StressWindowState:
    """Sums of scored rows, those with logits apart from those with probabilities only."""
    state = StressWindowState()
    uses_features = scorer.estimator.scorer.feature_dim > 0
    for has_logits, (name, column) in _OUTPUTS.items():
        part = rows.filter(pl.col("logits").is_not_null() == has_logits)
        for piece in part.iter_slices(_SLICE_ROWS):
            state += scorer.stress_state(
                error_proba=piece["error_proba"].to_numpy(),
                risk_scores=_matrix(piece["risk_scores"]),
                features=_matrix(piece["feature"]) if uses_features else None,
                **{name: _matrix(piece[column])},
            )
    return state


def _matrix(lists: pl.Series) -> NDArray[np.float32]:
    flat = lists.explode().to_numpy().astype(np.float32, copy=False)
    return np.ascontiguousarray(flat.reshape(len(lists), -1))
