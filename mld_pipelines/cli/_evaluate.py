"""`mld evaluate`: evaluate a traced model in this process."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld_pipelines.cli._answer import Answer
from mld_pipelines.cli._command import command
from mld_pipelines.cli._open import ModelKey  # noqa: TC001 - typer reads the annotation
from mld_pipelines.cli._results import document, overview

if TYPE_CHECKING:
    from mld_pipelines.evaluator import Evaluator

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "evaluate")(evaluate)


def evaluate(
    model: ModelKey,
    *,
    n_epoch: Annotated[str, typer.Option(help="latest, all, or an epoch number.")] = "latest",
    result_name: Annotated[str | None, typer.Option(help="Name of the result; default: made by a pattern.")] = None,
    policy: Annotated[str | None, typer.Option(help="Tolerances and bounds as a JSON object.")] = None,
    matching: Annotated[
        str | None, typer.Option(help="centre_distance or bev_iou: when a box of a 3D detector is right.")
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(help="Operating threshold of a detector; default: the best F1 of each class.")
    ] = None,
) -> Answer:
    """Evaluate a traced model: metrics, error codes, categories and the error estimator."""
    from mld_pipelines.diagnosis import Policy
    from mld_pipelines.evaluation import parse_spec

    given: dict[str, Any] = {"matching": matching, "score_threshold": score_threshold}
    chosen = replace(
        Policy.from_json(policy or "{}"), **{name: value for name, value in given.items() if value is not None}
    )
    result = evaluator_of(model).request_evaluation(result_name, parse_spec(n_epoch), policy=chosen)
    return Answer(document(result), overview(result))


def evaluator_of(model: str) -> Evaluator:
    """Return the Evaluator of a model key."""
    from mld_pipelines.evaluator import Evaluator
    from mld_pipelines.records import split_model_key

    name, version = split_model_key(model)
    return Evaluator(name, version)
