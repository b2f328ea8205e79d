"""What an evaluation will read and under which policy, resolved before any number is computed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluation._current import current_result
from mld_pipelines.evaluation._datasets import PRODUCTION
from mld_pipelines.evaluation._epochs import EpochSpec, format_spec, resolve_epochs
from mld_pipelines.evaluation._load import load_result
from mld_pipelines.evaluation._promotion import promote, unfinished_streams
from mld_pipelines.evaluation._refusals import refusals, refused_warnings
from mld_pipelines.evaluation._repeated_ids import repeated_id_warnings
from mld_pipelines.evaluation._stress_promotion import STRESS_WARNING, promote_stress
from mld_pipelines.exceptions import InvalidInputError, UnfinishedTraceError, UnknownModelError
from mld_pipelines.records import uuid7
from mld_pipelines.tables import (
    LANDING_FEEDBACK,
    LANDING_INFERENCES,
    LANDING_MODELS,
    LANDING_RECEIPTS,
    LANDING_TRACES,
    TRACES_INPUTS,
    TRACES_STRESS,
)

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake, Provenance

__all__ = ["EvaluationPlan", "known_models", "plan", "plan_again"]


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """Everything an evaluation depends on; equal plans give equal rows.

    Attributes:
        evaluation_id: UUIDv7 of this attempt.
        model_key: `model_name@version_name`.
        task: Task of the traced rows.
        n_epoch_spec: What was asked for: `latest`, `all` or a number.
        epochs: Epochs to evaluate, each a population of its own; None stands for rows without an epoch.
        datasets: Traced datasets, sorted, and `production` where labels exist.
        barred: Datasets whose weights changed while they were traced.
        input_versions: Delta version of every table that is read.
        previous: Result whose codebooks may be reused; None for a first evaluation.
        policy: Tolerances and bounds.
        trigger: `manual`, `request`, `feedback`, `new_model` or `stress`.
        warnings: What a reader of the result should know.
    """

    evaluation_id: str
    model_key: str
    task: str
    n_epoch_spec: str
    epochs: tuple[int | None, ...]
    datasets: tuple[str, ...]
    barred: tuple[str, ...]
    input_versions: dict[str, int]
    previous: str | None
    policy: Policy
    trigger: str
    warnings: tuple[str, ...]


def plan(
    lake: Lake,
    model_key: str,
    *,
    n_epoch: EpochSpec = "latest",
    policy: Policy | None = None,
    trigger: str = "manual",
    provenance: Provenance | None = None,
) -> EvaluationPlan:
    """Promote finished traces of a model and resolve what an evaluation reads.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        n_epoch: `"latest"`, an epoch number, or None for every epoch apart.
        policy: Tolerances and bounds; the default policy when None.
        trigger: Why the evaluation is made.
        provenance: Written with the promotion.

    Raises:
        UnknownModelError: Nothing was traced for the model.
        UnfinishedTraceError: Rows without a receipt would be left out.
        UnknownEpochError: The epoch was not traced.
    """
    receipts = lake.version(LANDING_RECEIPTS)  # before anything is read: a receipt that comes now counts as new
    _require_finished(lake, model_key)
    promote(lake, model_key, provenance=provenance)
    promote_stress(lake, model_key, provenance=provenance)
    traced = _traced_groups(lake, model_key)
    choice = resolve_epochs(n_epoch, traced["n_epoch"].unique().sort(nulls_last=False).to_list())
    chosen = traced.filter(pl.col("n_epoch").is_in(list(choice.epochs), nulls_equal=True))
    tasks = chosen["task"].unique().sort().to_list()
    if len(tasks) != 1:
        raise InvalidInputError(f"model {model_key} was traced for several tasks {tasks}; use one version per task.")
    return EvaluationPlan(
        evaluation_id=uuid7(),
        model_key=model_key,
        task=tasks[0],
        n_epoch_spec=format_spec(n_epoch),
        epochs=choice.epochs,
        datasets=_datasets(lake, model_key, chosen),
        barred=_barred(lake, model_key),
        input_versions=_versions(lake) | ({} if receipts is None else {LANDING_RECEIPTS.name: receipts}),
        previous=current_result(lake, model_key),
        policy=policy or Policy(),
        trigger=trigger,
        warnings=(
            *choice.warnings,
            *refused_warnings(lake, model_key, choice.epochs),
            *repeated_id_warnings(lake, model_key, choice.epochs),
        ),
    )


def plan_again(
    lake: Lake, result_name: str, *, trigger: str = "stress", provenance: Provenance | None = None
) -> EvaluationPlan:
    """Promote finished stress passes and plan to read, apart from them, exactly what a result read.

    Args:
        lake: The lake.
        result_name: A finished result.
        trigger: Why the evaluation is made.
        provenance: Written with the promotion.

    Raises:
        UnknownResultError: No result has this name.
    """
    stored = load_result(lake, result_name)
    row, read = stored.row, json.loads(stored.row["input_versions"])
    receipts = lake.version(LANDING_RECEIPTS)
    promote_stress(lake, stored.model_key, provenance=provenance)
    new = {LANDING_RECEIPTS.name: receipts, TRACES_STRESS.name: lake.version(TRACES_STRESS)}
    return EvaluationPlan(
        evaluation_id=uuid7(),
        model_key=stored.model_key,
        task=row["task"],
        n_epoch_spec=row["n_epoch_spec"],
        epochs=tuple(row["epochs"]),
        datasets=tuple(row["datasets"]),
        barred=_barred(lake, stored.model_key, version=read.get(LANDING_RECEIPTS.name)),
        input_versions=read | {name: version for name, version in new.items() if version is not None},
        previous=result_name,
        policy=Policy.from_json(row["policy"]),
        trigger=trigger,
        warnings=tuple(text for text in row["warnings"] if not text.startswith(STRESS_WARNING)),
    )


def known_models(lake: Lake) -> list[str]:
    """Return the keys of every traced or logged model, sorted."""
    frames = [
        lake.scan(spec).select("model_key").unique().collect()
        for spec in (LANDING_MODELS, LANDING_TRACES, LANDING_INFERENCES)
    ]
    return pl.concat(frames)["model_key"].unique().sort().to_list()


def _require_finished(lake: Lake, model_key: str) -> None:
    unfinished = unfinished_streams(lake, model_key)
    if unfinished:
        names = "; ".join(f"{s.stream_id} ({s.rows} rows of {s.dataset_type!r})" for s in unfinished)
        raise UnfinishedTraceError(
            f"model {model_key} has traced rows without a receipt: {names}. Nothing was evaluated and the rows are "
            "kept. Call tracer.wait_for_save(), or settle a stream with `mld trace accept|discard STREAM`."
        )


def _traced_groups(lake: Lake, model_key: str) -> pl.DataFrame:
    """Return task, dataset, epoch and rows of what was traced.

    Raises:
        UnknownModelError: Nothing was.
        InvalidInputError: Every row was refused by its contract.
    """
    keys = ["task", "dataset_type", "n_epoch"]
    groups = lake.scan(TRACES_INPUTS, model_key=model_key).group_by(keys).agg(pl.len().alias("rows")).collect()
    if groups.is_empty() and (refused := refusals(lake, model_key)):
        raise InvalidInputError(
            f"no traced row of {model_key!r} can be evaluated: {refused}. What was refused is kept in "
            "ops/quarantine; find out what makes the model's outputs so and trace again."
        )
    if groups.is_empty():
        known = known_models(lake)
        raise UnknownModelError(
            f"nothing was traced for {model_key!r} (or wait_for_save() was not called yet). "
            f"Models in {lake.root}: {', '.join(known) or 'none'}."
        )
    return groups


def _datasets(lake: Lake, model_key: str, chosen: pl.DataFrame) -> tuple[str, ...]:
    traced = chosen["dataset_type"].unique().sort().to_list()
    if PRODUCTION not in traced and _has_labelled_production(lake, model_key):
        traced.append(PRODUCTION)
    return tuple(traced)


def _has_labelled_production(lake: Lake, model_key: str) -> bool:
    if lake.version(LANDING_FEEDBACK) is None:
        return False
    labelled = lake.scan(LANDING_FEEDBACK).select("request_id").unique()
    requests = lake.scan(LANDING_INFERENCES, model_key=model_key).select("request_id")
    return not requests.join(labelled, on="request_id", how="semi").head(1).collect().is_empty()


def _barred(lake: Lake, model_key: str, *, version: int | None = None) -> tuple[str, ...]:
    scanned = lake.scan(LANDING_RECEIPTS, version=version, model_key=model_key)
    receipts = scanned.filter(pl.col("purpose") == "trace").collect()
    latest = receipts.sort("completed_at", "seq").group_by("dataset_type").agg(pl.col("weights_changed").last())
    return tuple(latest.filter(pl.col("weights_changed"))["dataset_type"].sort().to_list())


def _versions(lake: Lake) -> dict[str, int]:
    specs = (TRACES_INPUTS, TRACES_STRESS, LANDING_MODELS, LANDING_INFERENCES, LANDING_FEEDBACK)
    versions = {spec.name: lake.version(spec) for spec in specs}
    return {name: version for name, version in versions.items() if version is not None}


def versions_json(versions: dict[str, int]) -> str:
    """Return Delta versions as JSON with sorted keys."""
    return json.dumps(versions, sort_keys=True)
