"""`mld models`: factories that the platform can call by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld_pipelines.cli._answer import Answer, table_of
from mld_pipelines.cli._command import command, group
from mld_pipelines.cli._open import import_from_here, json_object, open_lake
from mld_pipelines.exceptions import InvalidInputError

if TYPE_CHECKING:
    from mld_pipelines.tracing import Registration

__all__ = ["app"]

app = group("Register the models and datasets that `mld trace run` can build again.")


@command(app, "register")
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the registration.")],
    factory: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Returns the model, or the dataset.")],
    *,
    dataset: Annotated[bool, typer.Option("--dataset", help="The factory makes a dataset, not a model.")] = False,
    model_name: Annotated[str | None, typer.Option(help="Model identifier of the traces; default: NAME.")] = None,
    version_name: Annotated[str | None, typer.Option(help="Version identifier of the traces (models).")] = None,
    params: Annotated[str | None, typer.Option(help="Keyword arguments of the factory as a JSON object.")] = None,
    families: Annotated[
        str | None,
        typer.Option(help="Corruptions of stress passes: image, tabular, points, MODULE:FUNCTION; default: by shape."),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            help="Of a detector, as a JSON object: architecture, box_convention, pc_range, score_thresh, iou_thresh, "
            "max_detections_per_frame; what is left out is taken from the model."
        ),
    ] = None,
) -> Answer:
    """Register a model or a dataset by its factory, replacing an earlier registration of this name."""
    from mld_pipelines.tracing import register_dataset, register_model

    import_from_here()
    arguments = json_object(params, what="--params")
    if dataset:
        if model_name or version_name or families or settings:
            raise InvalidInputError(
                "--model-name, --version-name, --families and --settings belong to models; leave them out with "
                "--dataset."
            )
        made = register_dataset(open_lake(), name, factory=factory, params=arguments)
        return _answer(made)
    if version_name is None:
        raise InvalidInputError("a model needs --version-name: traces are kept by model name and version name.")
    lake = open_lake()
    model = model_name or name
    return _answer(
        register_model(
            lake,
            name,
            factory=factory,
            model_name=model,
            version_name=version_name,
            params=arguments,
            families=families,
            settings=json_object(settings, what="--settings"),
        )
    )


@command(app, "list")
def list_models() -> Answer:
    """List registered models and datasets."""
    import polars as pl

    from mld_pipelines.tracing import list_registrations

    rows = [_row(entry) for entry in list_registrations(open_lake())]
    if not rows:
        return Answer({"registrations": []}, ("nothing is registered; register with: mld models register",))
    frame = pl.DataFrame(
        [{**row, "params": str(row["params"]), "settings": str(row["settings"])} for row in rows],
        infer_schema_length=None,
    )
    return Answer({"registrations": rows}, (table_of(frame),))


def _row(entry: Registration) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "factory": entry.factory,
        "params": dict(entry.params),
        "model_key": entry.model_key if entry.kind == "model" else None,
        "families": entry.families,
        "settings": dict(entry.settings),
        "registered_at": entry.registered_at,
    }


def _answer(entry: Registration) -> Answer:
    return Answer(_row(entry), (f"registered the {entry.kind} {entry.name!r} as {entry.factory}",))
