"""What commands share: opening the lake and reading arguments."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld_pipelines.exceptions import InvalidInputError, UnknownModelError

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake
    from mld_pipelines.tables import TableSpec

__all__ = ["ModelKey", "import_from_here", "json_object", "open_lake", "require_model", "table_spec"]

ModelKey = Annotated[str, typer.Argument(metavar="MODEL", help="Model as NAME@VERSION.")]


def open_lake() -> Lake:
    """Open the lake that `MLD_API_ENDPOINT` or the state directory names."""
    from mld_pipelines.lake import Lake

    return Lake.open()


def require_model(lake: Lake, model: str) -> str:
    """Return the model key, checked.

    Raises:
        InvalidInputError: It is not `name@version`.
        UnknownModelError: The lake knows no such model; the message lists those it knows.
    """
    from mld_pipelines.records import split_model_key

    split_model_key(model)
    known = _known_models(lake)
    if model not in known:
        raise UnknownModelError(f"no model {model!r} in {lake.root}; models there: {', '.join(known) or 'none'}.")
    return model


def _known_models(lake: Lake) -> list[str]:
    import polars as pl

    from mld_pipelines.tables import LANDING_INFERENCES, LANDING_RECEIPTS, LANDING_TRACES

    named = (LANDING_TRACES, LANDING_RECEIPTS, LANDING_INFERENCES)
    keys = [lake.scan(spec).select("model_key").unique() for spec in named]
    return pl.concat(keys).unique().collect()["model_key"].drop_nulls().sort().to_list()


def table_spec(name: str) -> TableSpec:
    """Return the declaration of a table.

    Raises:
        NotFoundError: The catalogue has no such table.
    """
    from mld_pipelines.exceptions import NotFoundError
    from mld_pipelines.tables import CATALOGUE

    if name not in CATALOGUE:
        raise NotFoundError(f"no table {name!r}; tables: {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def json_object(text: str | None, *, what: str) -> dict[str, Any]:
    """Read a JSON object from an option.

    Raises:
        InvalidInputError: The text is no JSON object.
    """
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"{what} {text!r} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"{what} must be a JSON object, got {text!r}.")
    return value


def import_from_here() -> None:
    """Let `module:function` names resolve from the working directory, as `python -m` would."""
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, here)
