"""`Evaluator`: ask for evaluations of one model and read their results."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mld_pipelines.evaluation import (
    EpochSpec,
    Progress,
    evaluate,
    known_models,
    list_results,
    load_result,
)
from mld_pipelines.evaluator._display import ResultFrame
from mld_pipelines.evaluator._result import Result
from mld_pipelines.exceptions import UnknownModelError, UnknownResultError
from mld_pipelines.lake import Lake, explaining
from mld_pipelines.records import model_key
from mld_pipelines.settings import lake_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mld_pipelines.diagnosis import Policy

__all__ = ["Evaluator"]


class Evaluator:
    """Evaluates what was traced under one model name and version.

    The endpoint is read from `MLD_API_ENDPOINT` at every call, so it may be set after this object was made.

    Args:
        model_name: The name used with the Tracer.
        version_name: The version used with the Tracer.

    Raises:
        InvalidInputError: A name is empty or holds reserved characters.

    Example:
        >>> evaluator = Evaluator("resnet18", "v1")
        >>> evaluator.model_key
        'resnet18@v1'
    """

    def __init__(self, model_name: str, version_name: str) -> None:
        self.model_key = model_key(model_name, version_name)
        self._kept: tuple[str, Lake] | None = None

    def __repr__(self) -> str:
        return f"Evaluator({self.model_key!r})"

    def request_evaluation(
        self, result_name: str | None = None, n_epoch: EpochSpec = "latest", *, policy: Policy | None = None
    ) -> Result:
        """Evaluate the traced data in this process and return the stored result.

        Args:
            result_name: Name of the result; made automatically when None.
            n_epoch: `"latest"`, an epoch number, or None for every epoch apart.
            policy: Tolerances and bounds; the default policy when None.

        Raises:
            UnknownModelError: Nothing was traced under these names.
            UnfinishedTraceError: `wait_for_save()` was not called for some traced rows.
            UnknownEpochError: The epoch was not traced.
            DuplicateResultError: The name is taken.
            CorruptTableError: A file of the lake is missing or damaged.
        """
        lake = self._lake()
        with explaining(lake), _progress(f"evaluating {self.model_key}") as show:
            stored = evaluate(
                lake, self.model_key, result_name=result_name, n_epoch=n_epoch, policy=policy, progress=show
            )
        return Result(stored)

    def list_results(self) -> ResultFrame:
        """Return one row per past result of this model, oldest first.

        Raises:
            UnknownModelError: The model was never traced, logged or evaluated.
        """
        lake = self._lake()
        rows = list_results(lake, self.model_key)
        if rows.is_empty() and self.model_key not in (known := known_models(lake)):
            raise UnknownModelError(
                f"nothing is known of {self.model_key!r}; models in {lake.root}: {', '.join(known) or 'none'}."
            )
        return ResultFrame(rows)

    def get_result(self, result_name: str) -> Result:
        """Return a past result of this model.

        Raises:
            UnknownResultError: No result of this model has this name; the message lists those it has.
        """
        lake = self._lake()
        own = list_results(lake, self.model_key)["result_name"].to_list()
        if result_name not in own:
            shown = ", ".join(own[-10:]) or "none"
            raise UnknownResultError(f"{self.model_key} has no result named {result_name!r}; it has: {shown}.")
        return Result(load_result(lake, result_name))

    def _lake(self) -> Lake:
        """Return the lake of the endpoint; kept while that is the same, because opening its tables takes time."""
        uri = lake_uri()
        if self._kept is None or self._kept[0] != uri:
            self._kept = uri, Lake.open(uri)
        return self._kept[1]


@contextmanager
def _progress(title: str) -> Iterator[Progress]:
    """Show a spinner on a terminal; nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _message: None
        return
    with console.status(title) as status:
        yield lambda message: status.update(f"{title}: {message}")
