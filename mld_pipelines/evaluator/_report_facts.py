"""What a report says, gathered from a stored result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.evaluation import (
    detection_window_evidence,
    reliability_bins,
    window_evidence,
)
from mld_pipelines.evaluator._report import ReportFacts

if TYPE_CHECKING:
    from mld_pipelines.evaluation import StoredResult

__all__ = ["gather_facts"]

_TRAIN = "train"


def gather_facts(
    stored: StoredResult,
    *,
    metrics: pl.DataFrame,
    issues: pl.DataFrame,
    codes: pl.DataFrame,
    units: pl.DataFrame,
    classes: pl.DataFrame | None = None,
    frames: pl.DataFrame | None = None,
) -> ReportFacts:
    """Return what a report shows: of the last epoch where the result has several.

    Args:
        stored: The result.
        metrics: `Result.metrics_summary()`.
        issues: `Result.get_issues()`.
        codes: `Result.get_codes()`.
        units: Rows of `evaluation/units`.
        classes: Of a detector one row per dataset, epoch and class.
        frames: Of a detector one row per frame, the worst first.
    """
    row, epoch = stored.row, stored.row["epochs"][-1]
    in_epoch = pl.col("n_epoch").eq_missing(pl.lit(epoch, dtype=pl.Int64))
    decisive, detects = row["decision_dataset"], row["task"] != "classification"
    known = units.filter(in_epoch)
    own = issues.filter(in_epoch & (pl.col("dataset") == decisive))
    return ReportFacts(
        result_name=stored.result_name,
        model_key=stored.model_key,
        task=row["task"],
        created_at=stored.created_at,
        counts=row["counts"],
        epochs=tuple(row["epochs"]),
        decision_dataset=decisive,
        notes=tuple(row["warnings"]),
        inputs=stored.inputs,
        metrics=metrics,
        intervals=stored.metrics()
        .filter(in_epoch)
        .rename({"dataset_type": "dataset"})
        .sort("dataset", maintain_order=True),
        issues=own,
        codes=codes.filter(in_epoch),
        evidence=detection_window_evidence(stored) if detects else window_evidence(stored),
        reliability=_reliability(known, decisive),
        boxes=known.filter(pl.col("dataset_type") == decisive) if detects else None,
        classes=None if classes is None else classes.filter(in_epoch & (pl.col("dataset") == decisive)),
        frames=None if frames is None else frames.filter(in_epoch & (pl.col("dataset") == decisive)),
        verification=stored.verifications().get(epoch),
    )


def _reliability(units: pl.DataFrame, decisive: str) -> dict[str, pl.DataFrame]:
    """Return the bins of the reference, then of the largest dataset that is neither it nor training data."""
    counted = units.group_by("dataset_type").len().sort("len", "dataset_type", descending=[True, False])
    others = [name for name in counted["dataset_type"] if name != decisive and name.lower() != _TRAIN]
    found = {}
    for name in [decisive, *others[:1]]:
        part = units.filter(pl.col("dataset_type") == name)
        bins = reliability_bins(part["error_proba"], part["is_error"])
        if bins.height:
            found[name] = bins
    return found
