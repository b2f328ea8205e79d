"""Stress passes of registered models: the model is run again on corrupted copies of what it was traced on."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from assets.automation import AUTOMATION_TAG
from assets.graph import OWNER, writer_pool
from assets.partitions import MODELS
from assets.reports import drawings
from mld_pipelines.tables import LANDING_STRESS
from resources import LakeResource, PoolResource, asset_key, column_schema, numbers, provenance

__all__ = ["CANNOT_RUN", "STRESS_PASSES", "StressConfig", "effects_of", "stress_model"]

#: Not a table: a finished pass, whose copies are in `landing/stress`.
STRESS_PASSES = dg.AssetKey(["stress", "passes"])

#: State of a pass that nobody asked for and that failed.
CANNOT_RUN = "cannot run"

_EFFECTS = {"classification": ("error_rate", "error rate"), "od3d": ("objects_lost", "share of objects lost")}

_DESCRIPTION = """A finished stress pass: the model's answers on corrupted copies of up to 400 inputs or frames.

The next evaluation learns from them how its estimate errs under shift (docs/stress.md). Runs by itself after a trace
of a registered model where it takes no longer than `stress_max_seconds`; otherwise it shows the cost and waits for a
launch with `run_anyway`."""


class StressConfig(dg.Config):
    """How to stress; every field has a default, so the button in the UI works as it is."""

    run_anyway: bool = Field(default=False, description="Run whatever it costs.")
    max_seconds: int | None = Field(
        default=None, description="Cost in seconds above which it waits; empty takes the policy's stress_max_seconds."
    )
    severities: list[int] = Field(default=[1, 3, 5], description="Strengths of every corruption, from 1 to 5.")
    max_inputs: int = Field(default=400, description="Most inputs to corrupt; below 400 the estimate gains little.")
    seed: int = Field(default=0, description="Seed of the choice of inputs and of every corruption.")
    batch_size: int = Field(default=64, description="Copies per call of a worker.")


@dg.multi_asset(
    name="stress_model",
    specs=[
        dg.AssetSpec(
            STRESS_PASSES,
            deps=[asset_key("traces/inputs")],
            description=_DESCRIPTION,
            group_name="stress",
            owners=[OWNER],
            kinds={"python", "ray", "deltalake"},
            code_version="1",
            metadata={"dagster/column_schema": column_schema(LANDING_STRESS)},
            skippable=True,
        )
    ],
    partitions_def=MODELS,
    pool=writer_pool("landing/stress"),
)
def stress_model(
    context: dg.AssetExecutionContext, config: StressConfig, lake: LakeResource, pool: PoolResource
) -> Iterator[dg.MaterializeResult[Any]]:
    """Run what is missing of a stress pass, with the cost known before it starts."""
    from mld_pipelines.diagnosis import Policy
    from mld_pipelines.exceptions import (
        ConfigurationError,
        InvalidInputError,
        LakeError,
        NotFoundError,
        WorkerPoolError,
    )
    from mld_pipelines.tracing import StressOptions, stress_run

    limit = Policy().stress_max_seconds if config.max_seconds is None else config.max_seconds
    try:
        report = stress_run(
            lake.open(),
            context.partition_key,
            options=StressOptions(
                severities=tuple(config.severities),
                max_inputs=config.max_inputs,
                seed=config.seed,
                batch_size=config.batch_size,
            ),
            pool=pool.policy(),
            max_seconds=None if config.run_anyway else limit,
            progress=_progress(context),
            on_cost=lambda cost: context.log.info(f"expected cost: {cost.summary}; the limit is {limit} s"),
            provenance=provenance(context.run.run_id),
        )
    except LakeError as error:  # what was committed is kept: the next attempt goes on behind it
        raise dg.RetryRequested(max_retries=2, seconds_to_wait=5.0) from error
    except (ConfigurationError, InvalidInputError, NotFoundError, WorkerPoolError) as error:
        if AUTOMATION_TAG not in context.run.tags:
            raise
        _observe(context, CANNOT_RUN, f"{error}", {})  # nobody asked for it: said, not an alert
        return
    if report.is_waiting:
        how = f"{report.summary}; the limit is {limit} s. Materialize this partition with run_anyway: true."
        _observe(context, "waits for a launch", how, {"cost_seconds": report.cost.seconds, "limit_seconds": limit})
        return
    for batch, reason in report.failures.items():
        context.log.warning(f"batch {batch} was quarantined: {reason}")
    for copy, reason in report.lost_copies.items():
        context.log.warning(f"{copy} was quarantined: {reason}")
    context.log.info(report.summary)
    yield _result(lake, report)


def _observe(context: dg.AssetExecutionContext, state: str, message: str, values: dict[str, float]) -> None:
    context.log.warning(message)
    metadata = {"state": state, "message": message, **numbers(values)}
    context.log_event(dg.AssetObservation(STRESS_PASSES, partition=context.partition_key, metadata=metadata))


def _progress(context: dg.AssetExecutionContext) -> Any:
    """Return a callback that logs every tenth of the way."""

    def show(done: int, total: int) -> None:
        if done == total or done * 10 // total != (done - 1) * 10 // total:
            context.log.info(f"stressed {done} of {total} sets")

    return show


def _result(lake: LakeResource, report: Any) -> dg.MaterializeResult[Any]:
    """Return the materialisation: counts, cost, and what every family did at every severity."""
    return dg.MaterializeResult(
        asset_key=STRESS_PASSES,
        metadata={
            "families": ", ".join(report.families),
            "dataset_type": report.dataset_type,
            "fingerprint": report.fingerprint,
            "stress_version": report.stress_version,
            "stream_id": report.stream_id,
            "summary": report.summary,
            "dagster/uri": lake.uri(LANDING_STRESS),
            **effects_of(lake, report.stream_id, task=report.task, dataset_type=report.dataset_type),
            **numbers(
                {
                    "sets": report.done_sets,
                    "known_sets": report.known_sets,
                    "inputs": report.inputs,
                    "rows": report.rows,
                    "quarantined_batches": report.quarantined_batches,
                    "quarantined_copies": len(report.lost_copies),
                    "seconds": report.seconds,
                    "cost_seconds": report.cost.seconds,
                }
            ),
        },
        data_version=dg.DataVersion(report.stream_id),
    )


def effects_of(lake: LakeResource, stream_id: str, *, task: str, dataset_type: str) -> dict[str, Any]:
    """Return a drawing and a table of what every family did at every severity.

    Of a classifier that is the error rate. What a detector got wrong, an evaluation tells; here it is the share of the
    objects found in the originals that it no longer found, and by how much its boxes became more or fewer.

    Args:
        lake: Where the pass is.
        stream_id: Its stream.
        task: Task of the model.
        dataset_type: Dataset of the originals.
    """
    from mld_pipelines.figures import heat_map
    from mld_pipelines.tracing import stress_error_rates

    rates = stress_error_rates(lake.open(), stream_id)
    value, what = _EFFECTS[task]
    title = f"{what[0].upper()}{what[1:]} under stress, {dataset_type}"
    picture = heat_map(rates, x="severity", y="family", value=value, title=title, is_share=True)
    known = [name for name in rates.columns if rates[name].count()]
    records = [dg.TableRecord(row) for row in rates.select(known).iter_rows(named=True)]
    return {
        **drawings(picture, f"{what}, family by severity", rates[value].to_list()),
        "effects": dg.MetadataValue.table(records),
    }
