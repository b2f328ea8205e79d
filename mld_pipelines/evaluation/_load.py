"""Reading results back: only rows bound to a name by `evaluation/results` exist."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.exceptions import UnknownResultError
from mld_pipelines.tables import (
    ESTIMATORS_MODELS,
    EVALUATION_CODES,
    EVALUATION_ISSUES,
    EVALUATION_METRICS,
    EVALUATION_RESULTS,
    EVALUATION_UNITS,
    TableSpec,
)

if TYPE_CHECKING:
    from datetime import datetime

    from mld_pipelines.lake import Lake

__all__ = ["StoredResult", "list_results", "load_result", "result_names"]


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One finished result in the lake; its tables are read when asked for.

    Attributes:
        lake: The lake it was read from.
        result_name: Its name.
        evaluation_id: The attempt whose rows it binds.
        model_key: `model_name@version_name`.
        row: Its whole row of `evaluation/results`.
    """

    lake: Lake
    result_name: str
    evaluation_id: str
    model_key: str
    row: dict[str, Any]

    @property
    def created_at(self) -> datetime:
        """When it was finished."""
        created: datetime = self.row["created_at"]
        return created

    @property
    def inputs(self) -> dict[str, Any]:
        """What it was computed from: Delta versions, code version, policy, seed, codebooks, run."""
        plain = ("code_version", "algorithm_version", "seed", "run_id", "trigger", "codebook_ids", "fingerprint")
        return {
            "table_versions": json.loads(self.row["input_versions"]),
            "policy": json.loads(self.row["policy"]),
            "previous_codebook_ids": self.row["previous_codebook_ids"],
            **{name: self.row[name] for name in plain},
        }

    def metrics(self) -> pl.DataFrame:
        """Rows of `evaluation/metrics`."""
        return self._rows(EVALUATION_METRICS).collect()

    def issues(self) -> pl.DataFrame:
        """Rows of `evaluation/issues`."""
        return self._rows(EVALUATION_ISSUES).collect()

    def codes(self) -> pl.DataFrame:
        """Rows of `evaluation/codes`; none where the result is older than that table."""
        return self._rows(EVALUATION_CODES).collect()

    def units(self) -> pl.LazyFrame:
        """Rows of `evaluation/units`, lazily."""
        return self._rows(EVALUATION_UNITS)

    def artifacts(self) -> pl.DataFrame:
        """Rows of `estimators/models`."""
        return self._rows(ESTIMATORS_MODELS).collect()

    def verifications(self) -> dict[int | None, dict[str, Any]]:
        """What a stress pass verified, by epoch; empty without one (docs/method.md#stress).

        `families` holds the mean absolute error of default, half and map on windows of each family when it was left
        out, their number, and the share of them that the interval `covered`; `verified_families` are those where it
        held, `missed_families` those where it did not; `blend_weight` is β, `width_factor` q. Of a detector the
        errors of each family, β and q are dicts of `precision` and `recall` (either may lack a family in whose windows
        it is undefined).
        """
        maps = self._rows(ESTIMATORS_MODELS).filter(pl.col("kind") == "window_map").select("n_epoch", "parameters")
        return {epoch: json.loads(text) for epoch, text in maps.collect().iter_rows()}

    def _rows(self, spec: TableSpec) -> pl.LazyFrame:
        return self.lake.scan(spec, model_key=self.model_key).filter(pl.col("evaluation_id") == self.evaluation_id)


def load_result(lake: Lake, result_name: str) -> StoredResult:
    """Return a finished result by name.

    Raises:
        UnknownResultError: No result has this name; the message lists those that exist.
    """
    rows = lake.scan(EVALUATION_RESULTS).filter(pl.col("result_name") == result_name).collect()
    if rows.is_empty():
        names = sorted(result_names(lake))
        shown = ", ".join(names[-10:]) or "none"
        raise UnknownResultError(f"no result is named {result_name!r} in {lake.root}; results there: {shown}.")
    row = rows.row(0, named=True)
    return StoredResult(lake, result_name, row["evaluation_id"], row["model_key"], row)


def result_names(lake: Lake) -> set[str]:
    """Return the names of all finished results."""
    return set(lake.scan(EVALUATION_RESULTS).select("result_name").collect()["result_name"])


def list_results(lake: Lake, model_key: str | None = None) -> pl.DataFrame:
    """Return one row per finished result, oldest first.

    Args:
        lake: The lake.
        model_key: Only results of this model.
    """
    rows = lake.scan(EVALUATION_RESULTS)
    if model_key is not None:
        rows = rows.filter(pl.col("model_key") == model_key)
    return (
        rows.sort("created_at", "result_name")
        .select(
            "result_name",
            "task",
            pl.col("n_epoch_spec").alias("n_epoch"),
            "status",
            "datasets",
            "counts",
            "created_at",
            "model_key",
            "decision_dataset",
            "trigger",
            "warnings",
        )
        .collect()
    )
