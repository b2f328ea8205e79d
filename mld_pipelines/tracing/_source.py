"""Which finished trace of a registered model a stress pass continues."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from mld_pipelines.evaluation import choose_decision_dataset
from mld_pipelines.exceptions import InvalidInputError, NotFoundError
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_TRACES
from mld_pipelines.tracing._frames import FRAMES_TASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mld_pipelines.lake import Lake

__all__ = [
    "TraceSource",
    "find_source",
    "find_trace",
    "how_to_stress",
    "is_stress_due",
    "stressed_already",
    "traced_inputs",
    "traced_task",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource:
    """A finished trace run whose inputs can be read again.

    Attributes:
        model_key: Model.
        task: Task of the model.
        model: Name of the registered model.
        dataset: Name of the registered dataset.
        dataset_type: Name of the dataset in the traces.
        n_epoch: Epoch of the traces.
        batch_size: Items per batch of the trace run: a row's place in its stream tells its place in the dataset.
        seed: Seed of the factories.
        fingerprint: Weights.
        stream_id: Stream of the rows.
        last_seq: Last batch of the trace.
        settings: What the registration said about the detector when it was traced.
    """

    model_key: str
    task: str
    model: str
    dataset: str
    dataset_type: str
    n_epoch: int | None
    batch_size: int
    seed: int
    fingerprint: str
    stream_id: str
    last_seq: int
    settings: Mapping[str, Any] = field(default_factory=dict)


def find_trace(lake: Lake, model_key: str) -> dict[str, Any]:
    """Return the receipt of the newest finished trace of a model's decision dataset.

    Raises:
        NotFoundError: The model was not traced.
        InvalidInputError: Only training data was traced so far, or weights changed during the trace.
    """
    receipts = _finished(lake, model_key, "trace")
    if receipts.is_empty():
        raise NotFoundError(
            f"{model_key} has no finished trace, so there is nothing to corrupt. Trace it first: mld trace run."
        )
    newest = receipts.sort("completed_at").group_by("dataset_type", maintain_order=True).last()
    counts = dict(newest.select("dataset_type", "rows").iter_rows())
    barred = newest.filter("weights_changed")["dataset_type"].to_list()
    decision = choose_decision_dataset(counts, barred=barred)
    if decision.is_train:
        raise InvalidInputError(
            f"only training data of {model_key} was traced so far; nothing was run. A stress pass needs the dataset "
            "that decides: trace a validation or test set."
        )
    return dict(newest.row(by_predicate=pl.col("dataset_type") == decision.dataset, named=True))


def find_source(lake: Lake, model_key: str) -> TraceSource:
    """Return the newest trace of a model's decision dataset, if the platform made it.

    Raises:
        NotFoundError: The model was not traced, or only by a tracer of the user's, whose inputs the platform has not.
        InvalidInputError: Only training data was traced so far, or weights changed during the trace.
    """
    receipt = find_trace(lake, model_key)
    task = traced_task(lake, receipt)
    if receipt["source"] is None:
        how = how_to_stress(task)
        raise NotFoundError(
            f"dataset {receipt['dataset_type']!r} of {model_key} was traced by a tracer, so the platform has not its "
            f"inputs. {how[0].upper()}{how[1:]}."
        )
    if task is None:
        raise NotFoundError(
            f"the rows of the newest trace of {model_key} are gone (stream {receipt['stream_id']}); nothing was run. "
            "Trace it again."
        )
    taken = ("model_key", "dataset_type", "n_epoch", "fingerprint", "stream_id", "last_seq")
    return TraceSource(task=task, **{name: receipt[name] for name in taken}, **json.loads(receipt["source"]))


def traced_task(lake: Lake, trace: Mapping[str, Any]) -> str | None:
    """Return the task of a traced model; None if the rows of the trace are gone.

    Args:
        lake: Where the rows are.
        trace: Receipt of the trace.
    """
    rows = lake.scan(LANDING_TRACES, stream_id=trace["stream_id"]).select("task").head(1).collect()
    return None if rows.is_empty() else str(rows["task"][0])


def how_to_stress(task: str | None) -> str:
    """Return what to do about a dataset that a tracer has traced; tracers of detectors make no copies."""
    registered = "register model and dataset and run mld trace run"
    return registered if task == FRAMES_TASK else f"call tracer.stress(…) where they are, or {registered}"


def traced_inputs(lake: Lake, source: TraceSource) -> pl.DataFrame:
    """Return the inputs of a trace: input_id and index, its place in the dataset, ascending."""
    rows = lake.scan(LANDING_TRACES, stream_id=source.stream_id).filter(pl.col("seq") <= source.last_seq)
    index = pl.col("seq") * source.batch_size + pl.col("row").cast(pl.Int64)
    found = rows.select("input_id", index.alias("index")).collect()
    return found.sort("index").unique("input_id", keep="last", maintain_order=True)


def stressed_already(lake: Lake, trace: Mapping[str, Any]) -> bool:
    """Return whether a finished stress pass of the same weights, dataset and epoch as a trace is in the lake.

    Args:
        lake: Where the receipts are.
        trace: Receipt of the trace.
    """
    receipts = _finished(lake, trace["model_key"], "stress")
    same = (
        (pl.col("fingerprint") == trace["fingerprint"])
        & (pl.col("dataset_type") == trace["dataset_type"])
        & pl.col("n_epoch").eq_missing(trace["n_epoch"])
    )
    return receipts.filter(same).height > 0


def is_stress_due(lake: Lake, model_key: str) -> bool:
    """Return whether the platform can stress a model's traced weights and nobody has yet.

    Args:
        lake: Where receipts are read.
        model_key: `model_name@version_name`.
    """
    try:
        trace = find_trace(lake, model_key)
    except (InvalidInputError, NotFoundError):
        return False
    return trace["source"] is not None and not stressed_already(lake, trace)


def _finished(lake: Lake, model_key: str, purpose: str) -> pl.DataFrame:
    receipts = lake.read(LANDING_RECEIPTS, model_key=model_key, purpose=purpose)
    return receipts.filter(pl.col("state") != "discarded")
