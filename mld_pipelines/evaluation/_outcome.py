"""What an evaluation says about one epoch, before it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mld_pipelines.evaluation._artifacts import artifact_rows

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

__all__ = ["PopulationOutcome"]


@dataclass(frozen=True, slots=True, eq=False)
class PopulationOutcome:
    """Everything an evaluation says about one epoch, as rows without their attempt columns.

    Attributes:
        n_epoch: The epoch.
        decision_dataset: Dataset whose counts decided.
        fingerprint: Weights of that dataset.
        codebook_id: Codebook used; None without codes.
        previous_codebook_id: Codebook it was reused or refitted from.
        units: Rows of `evaluation/units`.
        metrics: Rows of `evaluation/metrics`.
        issues: Rows of `evaluation/issues`.
        codes: Rows of `evaluation/codes`.
        artifact_values: Rows of `estimators/models` before their time stamp.
        warnings: What a reader should know.
    """

    n_epoch: int | None
    decision_dataset: str
    fingerprint: str
    codebook_id: str | None
    previous_codebook_id: str | None
    units: pl.DataFrame
    metrics: pl.DataFrame
    issues: pl.DataFrame
    codes: pl.DataFrame
    artifact_values: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]

    def artifacts(self, created_at: datetime) -> pl.DataFrame:
        """Return the rows of `estimators/models`."""
        return artifact_rows(self.artifact_values, created_at=created_at)
