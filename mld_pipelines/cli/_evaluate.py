"""`mld evaluate`: evaluate a traced model in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
) -> Answer:
    """Evaluate a traced model: metrics, error codes, categories and the error estimator."""
    from mld_pipelines.evaluation import parse_spec

    result = evaluator_of(model).request_evaluation(result_name=result_name, n_epoch=parse_spec(n_epoch))
    return Answer(document(result), overview(result))


def evaluator_of(model: str) -> Evaluator:
    """Return the Evaluator of a model key."""
    from mld_pipelines.evaluator import Evaluator
    from mld_pipelines.records import split_model_key

    name, version = split_model_key(model)
    return Evaluator(name, version)
