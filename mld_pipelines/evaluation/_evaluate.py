"""One evaluation from start to finish: plan, compute, store. The SDK, the asset and the CLI call this function."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

from mld_pipelines.evaluation._artifacts import stored_codebooks
from mld_pipelines.evaluation._classification import evaluate_population
from mld_pipelines.evaluation._current import current_result
from mld_pipelines.evaluation._lineage import link_to_previous
from mld_pipelines.evaluation._load import StoredResult, result_names
from mld_pipelines.evaluation._names import checked_name
from mld_pipelines.evaluation._plan import plan, plan_again
from mld_pipelines.evaluation._population import load_model_facts, load_population
from mld_pipelines.evaluation._store import Evaluation, store
from mld_pipelines.evaluation._stress import load_copies, scan_copies
from mld_pipelines.evaluation.detection._evaluate import evaluate_detections
from mld_pipelines.evaluation.detection._population import load_detection_population
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.lake import Provenance
from mld_pipelines.records import split_model_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mld_pipelines.diagnosis import Codebook, Policy
    from mld_pipelines.evaluation._epochs import EpochSpec
    from mld_pipelines.evaluation._outcome import PopulationOutcome
    from mld_pipelines.evaluation._plan import EvaluationPlan
    from mld_pipelines.lake import Lake

__all__ = ["Progress", "compute", "evaluate", "evaluate_again"]


class Progress(Protocol):
    """Told what is being done now."""

    def __call__(self, message: str, /) -> None:
        """Show one step."""
        ...


def _silent(message: str, /) -> None:
    """Show nothing."""


def evaluate(
    lake: Lake,
    model_key: str,
    *,
    result_name: str | None = None,
    n_epoch: EpochSpec = "latest",
    policy: Policy | None = None,
    trigger: str = "manual",
    run_id: str | None = None,
    progress: Progress = _silent,
) -> StoredResult:
    """Evaluate what was traced of a model and store the result.

    Args:
        lake: The lake.
        model_key: `model_name@version_name`.
        result_name: Name of the result; made from model, task, day and a counter when None.
        n_epoch: `"latest"`, an epoch number, or None for every epoch apart.
        policy: Tolerances and bounds; the default policy when None.
        trigger: Why it is made: `manual`, `request` or `feedback`.
        run_id: Dagster run that calls.
        progress: Told every step.

    Raises:
        UnknownModelError: Nothing was traced for the model.
        UnfinishedTraceError: Traced rows without a receipt exist.
        UnknownEpochError: The epoch was not traced.
        DuplicateResultError: The name is taken.
        InvalidInputError: The traced rows cannot be evaluated as they are.
    """
    if result_name is not None:
        checked_name(result_name, taken=result_names(lake))
    progress("promoting traces")
    prepared = plan(
        lake, model_key, n_epoch=n_epoch, policy=policy, trigger=trigger, provenance=Provenance(run_id=run_id)
    )
    evaluation = compute(lake, prepared, progress=progress)
    progress("storing the result")
    return store(lake, evaluation, result_name=result_name, run_id=run_id)


def evaluate_again(
    lake: Lake,
    result_name: str,
    *,
    trigger: str = "stress",
    run_id: str | None = None,
    progress: Progress = _silent,
) -> StoredResult:
    """Evaluate exactly what a result read once more, with the stress passes that finished since.

    The new result has the old one's rows; only its window map differs (docs/method.md#stress).

    Args:
        lake: The lake.
        result_name: A finished result.
        trigger: Why it is made.
        run_id: Dagster run that calls.
        progress: Told every step.

    Raises:
        UnknownResultError: No result has this name.
    """
    progress("promoting stressed copies")
    prepared = plan_again(lake, result_name, trigger=trigger, provenance=Provenance(run_id=run_id))
    evaluation = compute(lake, prepared, progress=progress)
    progress("storing the result")
    return store(lake, evaluation, run_id=run_id)


def compute(lake: Lake, prepared: EvaluationPlan, *, progress: Progress = _silent) -> Evaluation:
    """Compute every epoch of a plan; nothing is written.

    Raises:
        InvalidInputError: The task is not evaluated by this version, or the rows cannot be evaluated.
    """
    epoch_of = _EPOCHS.get(prepared.task)
    if epoch_of is None:
        raise InvalidInputError(
            f"model {prepared.model_key} was traced for task {prepared.task!r}; this version evaluates "
            f"{', '.join(sorted(_EPOCHS))}. Nothing was evaluated, and the traces stay for a version that does."
        )
    return Evaluation(prepared, tuple(epoch_of(lake, prepared, epoch, progress) for epoch in prepared.epochs))


def _epoch(lake: Lake, prepared: EvaluationPlan, epoch: int | None, progress: Progress) -> PopulationOutcome:
    label = _label(epoch)
    progress(f"reading units{label}")
    population = load_population(lake, prepared, epoch)
    name, _ = split_model_key(prepared.model_key)
    books = _codebooks(lake, prepared)
    progress(f"evaluating {population.frame.height} units{label}")
    facts = load_model_facts(lake, prepared.model_key, population.frame["fingerprint"][-1])
    link = functools.partial(link_to_previous, lake, name)
    return evaluate_population(
        population,
        facts,
        prepared,
        candidates=books,
        link=link,
        copies=lambda weights, dataset: load_copies(lake, prepared, epoch, fingerprint=weights, dataset=dataset),
    )


def _detection_epoch(lake: Lake, prepared: EvaluationPlan, epoch: int | None, progress: Progress) -> PopulationOutcome:
    label = _label(epoch)
    progress(f"reading frames{label}")
    population = load_detection_population(lake, prepared, epoch)
    progress(f"evaluating {population.rows.height} frames{label}")
    return evaluate_detections(
        population,
        prepared,
        candidates=_codebooks(lake, prepared),
        copies=lambda weights, dataset: scan_copies(lake, prepared, epoch, fingerprint=weights, dataset=dataset),
    )


def _codebooks(lake: Lake, prepared: EvaluationPlan) -> Iterator[Codebook]:
    name, _ = split_model_key(prepared.model_key)
    return stored_codebooks(lake, name, current=prepared.previous or current_result(lake, prepared.model_key))


def _label(epoch: int | None) -> str:
    return "" if epoch is None else f" of epoch {epoch}"


_EPOCHS = {"classification": _epoch, "od3d": _detection_epoch}
