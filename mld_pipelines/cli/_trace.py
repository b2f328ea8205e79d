"""`mld trace`: trace registered models, and settle traces that nobody finished."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mld_pipelines.cli._answer import Answer, table_of
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._exits import Exit
from mld_pipelines.cli._open import ModelKey, import_from_here, open_lake, require_model

if TYPE_CHECKING:
    import polars as pl

__all__ = ["app"]

app = group("Trace registered models, and settle traces that nobody finished.")

Stream = Annotated[str, typer.Argument(metavar="STREAM", help="Stream id, as `mld trace list` shows it.")]
Epoch = Annotated[int | None, typer.Option("--n-epoch", help="Epoch of the weights.")]


_REPORTED = (
    "model_key", "dataset_type", "n_epoch", "items", "rows", "batches", "known_batches", "quarantined_batches",
    "failures", "lost_items", "repeated_ids", "stream_id", "backend", "workers", "seconds", "complete",
)  # fmt: skip


@command(app, "run")
def run(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a registered model.")],
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET", help="Registered dataset, or a folder: kitti:/path?split=val, nuscenes:/path."
        ),
    ] = None,
    *,
    dataset_option: Annotated[str | None, typer.Option("--dataset", help="The dataset, given as an option.")] = None,
    dataset_type: Annotated[str, typer.Option(help="Name of the dataset in the traces, e.g. val.")],
    n_epoch: Epoch = None,
    batch_size: Annotated[int, typer.Option(help="Items per forward pass.")] = 64,
    backend: Annotated[
        Literal["auto", "inline", "local", "cluster"],
        typer.Option(help="Where batches run: this process, local Ray or the cluster of RAY_ADDRESS."),
    ] = "auto",
    workers: Annotated[int | None, typer.Option(help="Number of workers; default: by the machine.")] = None,
    gpus: Annotated[float, typer.Option(help="Share of a GPU per worker.")] = 0.0,
    post_workers: Annotated[
        int | None, typer.Option(help="Workers that make rows of a 3D detector's outputs; default: as --workers.")
    ] = None,
    working_dir: Annotated[
        str | None, typer.Option(help="Folder with your code to copy to a cluster; default: it is there already.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of whatever is random in model and dataset.")] = 0,
    run_key: Annotated[str | None, typer.Option(help="Repeating a run with the same key continues it.")] = None,
    as_json: bool = False,
) -> Answer:
    """Trace a registered model over a registered dataset. Exit status 6: some items are missing."""
    from mld_pipelines.compute import PoolPolicy
    from mld_pipelines.tracing import trace_run

    import_from_here()
    report = trace_run(
        open_lake(),
        model,
        _one_dataset(dataset, dataset_option),
        dataset_type=dataset_type,
        n_epoch=n_epoch,
        batch_size=batch_size,
        pool=PoolPolicy(backend=backend, size=workers, num_gpus=gpus, post_size=post_workers, working_dir=working_dir),
        progress=not as_json and sys.stderr.isatty(),
        seed=seed,
        run_key=run_key,
    )
    data = {name: getattr(report, name) for name in _REPORTED}
    return Answer(data, (report.summary,), Exit.OK if report.complete else Exit.CHECK_FAILED)


def _one_dataset(argument: str | None, option: str | None) -> str:
    from mld_pipelines.exceptions import InvalidInputError

    given = [name for name in (argument, option) if name is not None]
    if len(given) != 1:
        raise InvalidInputError(f"{len(given)} datasets are named; name one, behind the model or with --dataset.")
    return given[0]


@command(app, "list")
def list_traces(model: ModelKey) -> Answer:
    """List what was traced for a model: finished traces and those without a receipt."""
    from mld_pipelines.cli._receipts import finished_traces, unfinished_traces

    lake = open_lake()
    require_model(lake, model)
    done, unfinished = finished_traces(lake, model), unfinished_traces(lake, model)
    text: list[Any] = [table_of(done, title="finished") if done.height else "no finished trace"]
    if unfinished.height:
        text += [
            table_of(unfinished, title="unfinished"),
            "settle them: mld trace accept STREAM | mld trace discard STREAM",
        ]
    return Answer({"finished": done, "unfinished": unfinished}, tuple(text))


@command(app, "accept")
def accept(stream: Stream) -> Answer:
    """Declare an unfinished trace complete as it is."""
    return _settle(stream, "accepted")


@command(app, "discard")
def discard(stream: Stream) -> Answer:
    """Leave the rows of an unfinished trace out of every evaluation."""
    return _settle(stream, "discarded")


def _settle(stream: str, state: Literal["accepted", "discarded"]) -> Answer:
    from mld_pipelines.cli._receipts import settle

    receipts: pl.DataFrame = settle(open_lake(), stream, state=state)
    rows = int(receipts["rows"].sum())
    return Answer({"stream_id": stream, "state": state, "receipts": receipts}, (f"{state} {rows} rows of {stream}",))
