"""`mld stress`: run registered models on corrupted copies of their traced inputs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mld_pipelines.cli._answer import Answer, table_of
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._exits import Exit
from mld_pipelines.cli._open import ModelKey, import_from_here, open_lake, require_model

if TYPE_CHECKING:
    from mld_pipelines.compute import PoolPolicy
    from mld_pipelines.lake import Lake
    from mld_pipelines.tracing import StressOptions

__all__ = ["app"]

app = group("Run registered models on corrupted copies of their traced inputs, so that estimates have seen a shift.")

Severities = Annotated[str, typer.Option(help="Strengths from 1 to 5, separated by commas.")]
MaxInputs = Annotated[int, typer.Option(help="Most inputs to corrupt; with 100 the estimate gains nothing.")]
Seed = Annotated[int, typer.Option(help="Seed of the choice of inputs and of every corruption.")]
BatchSize = Annotated[int, typer.Option(help="Copies per call of a worker.")]
Backend = Annotated[
    Literal["auto", "inline", "local", "cluster"],
    typer.Option(help="Where batches run: this process, local Ray or the cluster of RAY_ADDRESS."),
]
Workers = Annotated[int | None, typer.Option(help="Number of workers; default: by the machine.")]
Gpus = Annotated[float, typer.Option(help="Share of a GPU per worker.")]

_REPORTED = (
    "model_key", "task", "dataset_type", "n_epoch", "fingerprint", "families", "stress_version", "inputs", "sets",
    "done_sets", "known_sets", "rows", "quarantined_batches", "failures", "lost_copies", "is_waiting", "stream_id",
    "backend", "workers", "seconds", "complete",
)  # fmt: skip
_COST = (
    "seconds", "spent_seconds", "measured_batches", "measured_inputs", "measured_seconds", "driver_seconds", "sets",
    "forwards", "workers",
)  # fmt: skip


@command(app, "run")
def run(
    model: ModelKey,
    *,
    severities: Severities = "1,3,5",
    max_inputs: MaxInputs = 400,
    seed: Seed = 0,
    batch_size: BatchSize = 64,
    max_seconds: Annotated[
        float | None, typer.Option(help="Run nothing if it is expected to take longer; default: no limit.")
    ] = None,
    backend: Backend = "auto",
    workers: Workers = None,
    gpus: Gpus = 0.0,
    as_json: bool = False,
) -> Answer:
    """Run what is missing of a stress pass. Exit status 6: it costs too much, or copies were quarantined."""
    from mld_pipelines.tracing import stress_run

    is_shown = not as_json and sys.stderr.isatty()
    lake = _open(model)
    report = stress_run(
        lake,
        model,
        options=_options(severities, max_inputs, seed, batch_size),
        pool=_pool(backend, workers, gpus),
        max_seconds=max_seconds,
        progress=is_shown,
        on_cost=(lambda cost: typer.echo(f"expected cost: {cost.summary}", err=True)) if is_shown else None,
    )
    data = {name: getattr(report, name) for name in _REPORTED}
    data["families"] = list(report.families)
    data["cost"] = {name: getattr(report.cost, name) for name in _COST}
    status = Exit.NOTHING_TO_DO if report.backend == "none" else Exit.OK
    return Answer(data, (report.summary,), status if report.complete else Exit.CHECK_FAILED)


@command(app, "cost")
def cost(
    model: ModelKey,
    *,
    severities: Severities = "1,3,5",
    max_inputs: MaxInputs = 400,
    seed: Seed = 0,
    batch_size: BatchSize = 64,
    backend: Backend = "inline",
    workers: Workers = None,
    gpus: Gpus = 0.0,
) -> Answer:
    """Measure eight batches and tell what the rest of a stress pass will take; nothing is written."""
    from mld_pipelines.tracing import stress_cost

    lake = _open(model)
    options = _options(severities, max_inputs, seed, batch_size)
    found = stress_cost(lake, model, options=options, pool=_pool(backend, workers, gpus))
    data = {"model_key": model, **{name: getattr(found, name) for name in _COST}}
    return Answer(data, (found.summary,), Exit.OK if found.forwards else Exit.NOTHING_TO_DO)


@command(app, "status")
def status(model: ModelKey) -> Answer:
    """List the stress passes of a model. Exit status 6: its current result is not verified under shift."""
    from mld_pipelines.tracing import stress_coverage, stress_passes

    lake = open_lake()
    require_model(lake, model)
    passes = stress_passes(lake, model)
    coverage = stress_coverage(lake, model)
    text: list[Any] = [coverage.summary]
    if passes.height:
        effects = [name for name in ("error_rate", "box_change") if passes[name].count()]
        shown = ["dataset_type", "n_epoch", "families", "sets", "rows", "state", *effects, "finished_at"]
        text.insert(0, table_of(passes.select(shown)))
    data = {
        "model_key": model,
        "stressed": coverage.is_stressed,
        "verified": coverage.is_verified,
        "verified_families": coverage.verified_families,
        "passes": passes,
        "summary": coverage.summary,
    }
    return Answer(data, tuple(text), Exit.OK if coverage.is_verified else Exit.CHECK_FAILED)


def _open(model: str) -> Lake:
    import_from_here()
    lake = open_lake()
    require_model(lake, model)
    return lake


def _options(severities: str, max_inputs: int, seed: int, batch_size: int) -> StressOptions:
    from mld_pipelines.exceptions import InvalidInputError
    from mld_pipelines.tracing import StressOptions

    try:
        chosen = tuple(int(part) for part in severities.split(","))
    except ValueError:
        raise InvalidInputError(f"--severities is {severities!r}; give numbers such as 1,3,5.") from None
    return StressOptions(severities=chosen, max_inputs=max_inputs, seed=seed, batch_size=batch_size)


def _pool(backend: Literal["auto", "inline", "local", "cluster"], workers: int | None, gpus: float) -> PoolPolicy:
    from mld_pipelines.compute import PoolPolicy

    return PoolPolicy(backend=backend, size=workers, num_gpus=gpus)
