"""Trace a registered model over a registered dataset on a pool of workers, from the UI or `mld trace run`."""

from typing import Any

import dagster as dg
from pydantic import Field

from resources import LakeResource, PoolResource, numbers

__all__ = ["TraceConfig", "trace_model", "trace_registered_model"]


class TraceConfig(dg.Config):
    """What to trace; names are those of `mld models register`."""

    model: str = Field(description="Name of a registered model.")
    dataset: str = Field(description="Name of a registered dataset.")
    dataset_type: str = Field(default="val", description="Name of the dataset in the traces, e.g. `train`, `val`.")
    n_epoch: int | None = Field(default=None, description="Epoch of the weights, where that means something.")
    batch_size: int = Field(default=64, description="Inputs per call of a worker.")
    seed: int = Field(default=0, description="Seed of everything random in the factories and the model.")


@dg.op(description="Runs a registered model over a registered dataset and completes the trace with a receipt.")
def trace_registered_model(
    context: dg.OpExecutionContext, config: TraceConfig, lake: LakeResource, pool: PoolResource
) -> dict[str, Any]:
    """Trace, show progress in the log, and say what was quarantined and which ids repeat."""
    from mld_pipelines.tracing import trace_run

    report = trace_run(
        lake.open(),
        config.model,
        config.dataset,
        dataset_type=config.dataset_type,
        n_epoch=config.n_epoch,
        batch_size=config.batch_size,
        pool=pool.policy(),
        progress=_progress(context),
        seed=config.seed,
        run_key=context.run.root_run_id or context.run.run_id,  # a retried run continues the first one's stream
    )
    for batch, reason in report.failures.items():
        context.log.warning(f"batch {batch} was quarantined: {reason}")
    for item, reason in report.lost_items.items():
        context.log.warning(f"item {item} was quarantined: {reason}")
    (context.log.warning if report.repeated_ids else context.log.info)(report.summary)
    counts = {"rows": report.rows, "items": report.items, "quarantined_batches": report.quarantined_batches}
    counts |= {"quarantined_items": len(report.lost_items), "repeated_ids": len(report.repeated_ids)}
    context.add_output_metadata({"stream_id": report.stream_id, "summary": report.summary, **numbers(counts)})
    return {"model_key": report.model_key, "rows": report.rows, "stream_id": report.stream_id}


def _progress(context: dg.OpExecutionContext) -> Any:
    """Return a callback that logs every tenth of the way: a line per batch would drown the log."""

    def show(done: int, total: int) -> None:
        if done == total or done * 10 // total != (done - 1) * 10 // total:
            context.log.info(f"traced {done} of {total} batches")

    return show


@dg.job(
    name="trace_model",
    description="Trace a registered model over a registered dataset; the new traces are then picked up by themselves.",
    tags={"mld/gpu": "trace"},
)
def trace_model() -> None:
    """Trace a registered model over a registered dataset."""
    trace_registered_model()
