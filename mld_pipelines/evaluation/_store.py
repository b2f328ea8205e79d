"""Writing a result: rows first, the name last (docs/storage.md#results)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines import __version__
from mld_pipelines.evaluation._load import StoredResult, load_result, result_names
from mld_pipelines.evaluation._names import automatic_name, checked_name
from mld_pipelines.evaluation._plan import EvaluationPlan, versions_json
from mld_pipelines.lake import Batch, Lake, Provenance
from mld_pipelines.records import uuid7
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
    from collections.abc import Iterator

    from mld_pipelines.evaluation._outcome import PopulationOutcome

__all__ = ["Evaluation", "remove_unbound", "store"]

#: Tables whose rows become visible when `evaluation/results` binds their `evaluation_id`.
_ROW_TABLES = (EVALUATION_UNITS, EVALUATION_METRICS, EVALUATION_ISSUES, EVALUATION_CODES, ESTIMATORS_MODELS)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A computed evaluation that has no name yet: its plan and one outcome per epoch."""

    plan: EvaluationPlan
    outcomes: tuple[PopulationOutcome, ...]

    @property
    def counts(self) -> int:
        """Units of all epochs; an object that was found is counted as the prediction that found it."""
        counted = (pl.col("unit_kind") != "object") | pl.col("is_error")
        return sum(outcome.units.filter(counted).height for outcome in self.outcomes)


def store(
    lake: Lake, evaluation: Evaluation, *, result_name: str | None = None, run_id: str | None = None
) -> StoredResult:
    """Write an evaluation under a name and return it as stored.

    A racing loser of an automatic name takes the next number; its first rows stay unbound and maintenance removes them.

    Args:
        lake: The lake.
        evaluation: What was computed.
        result_name: Name given by the user; None makes one.
        run_id: Dagster run, for the receipts both ways.

    Raises:
        DuplicateResultError: The given name was taken meanwhile.
    """
    attempt = evaluation.plan
    while True:
        created_at = datetime.now(UTC)
        taken = result_names(lake)
        name = (
            automatic_name(attempt.model_key, attempt.task, created_at, taken=taken)
            if result_name is None
            else checked_name(result_name, taken=taken)
        )
        provenance = Provenance(run_id=run_id, extra={"result_name": name, "evaluation_id": attempt.evaluation_id})
        for spec, frame in _rows(evaluation, attempt, name, created_at):
            lake.append(spec, frame, provenance=provenance)
        row = _result_row(evaluation, attempt, name, created_at, run_id)
        commit = lake.commit_once(EVALUATION_RESULTS, [Batch(f"result:{name}", 0, row)], provenance=provenance)
        if commit.rows:
            lake.pin(name, attempt.input_versions)
            return load_result(lake, name)
        attempt = replace(attempt, evaluation_id=uuid7())


def remove_unbound(lake: Lake, *, older_than: datetime) -> dict[str, int]:
    """Delete rows of attempts that no result binds; returns the number of rows per table.

    Args:
        lake: The lake.
        older_than: Only attempts whose UUIDv7 is older: a running evaluation has no name yet.
    """
    bound = set(lake.scan(EVALUATION_RESULTS).select("evaluation_id").collect()["evaluation_id"])
    horizon = f"{int(older_than.timestamp() * 1000):012x}"
    removed = {}
    for spec in _ROW_TABLES:
        attempts = lake.scan(spec).group_by("evaluation_id").agg(pl.len().alias("rows")).collect()
        stamp = pl.col("evaluation_id").str.replace_all("-", "").str.head(12)
        stale = attempts.filter(~pl.col("evaluation_id").is_in(list(bound)) & (stamp < horizon))
        removed[spec.name] = int(stale["rows"].sum())
        if stale.height:
            provenance = Provenance(extra={"purpose": "remove rows that no result binds"})
            lake.remove(spec, where={"evaluation_id": stale["evaluation_id"].to_list()}, provenance=provenance)
    return removed


def _rows(
    evaluation: Evaluation, attempt: EvaluationPlan, name: str, created_at: datetime
) -> Iterator[tuple[TableSpec, pl.DataFrame]]:
    """Yield every row table with the rows of the attempt."""
    ids = {"evaluation_id": attempt.evaluation_id, "result_name": name, "model_key": attempt.model_key}
    frames: dict[TableSpec, list[pl.DataFrame]] = {
        EVALUATION_UNITS: [outcome.units for outcome in evaluation.outcomes],
        EVALUATION_METRICS: [outcome.metrics for outcome in evaluation.outcomes],
        EVALUATION_ISSUES: [outcome.issues for outcome in evaluation.outcomes],
        EVALUATION_CODES: [outcome.codes for outcome in evaluation.outcomes],
        ESTIMATORS_MODELS: [outcome.artifacts(created_at) for outcome in evaluation.outcomes],
    }
    for spec, parts in frames.items():
        yield spec, pl.concat(parts).with_columns(pl.lit(value).alias(column) for column, value in ids.items())


def _result_row(
    evaluation: Evaluation, attempt: EvaluationPlan, name: str, created_at: datetime, run_id: str | None
) -> pl.DataFrame:
    outcomes = evaluation.outcomes
    last = outcomes[-1]
    warnings = [*attempt.warnings, *(note for outcome in outcomes for note in outcome.warnings)]
    values: dict[str, Any] = {
        "evaluation_id": attempt.evaluation_id,
        "result_name": name,
        "model_key": attempt.model_key,
        "task": attempt.task,
        "status": "finished",
        "n_epoch_spec": attempt.n_epoch_spec,
        "epochs": list(attempt.epochs),
        "datasets": list(attempt.datasets),
        "decision_dataset": last.decision_dataset,
        "counts": evaluation.counts,
        "fingerprint": last.fingerprint,
        "fingerprints": [outcome.fingerprint for outcome in outcomes],
        "codebook_ids": [outcome.codebook_id or "" for outcome in outcomes],
        "previous_codebook_ids": [outcome.previous_codebook_id or "" for outcome in outcomes],
        "input_versions": versions_json(attempt.input_versions),
        "code_version": __version__,
        "algorithm_version": attempt.policy.algorithm_version,
        "policy": attempt.policy.to_json(),
        "seed": attempt.policy.seed,
        "trigger": attempt.trigger,
        "warnings": list(dict.fromkeys(warnings)),
        "run_id": run_id,
        "created_at": created_at,
    }
    schema = {key: EVALUATION_RESULTS.column(key).data_type for key in values}
    return pl.DataFrame([values], schema=schema)
