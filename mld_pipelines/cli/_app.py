"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from mld_pipelines.cli import (
    _evaluate,
    _ingest,
    _labels,
    _lake,
    _models,
    _monitor,
    _quality,
    _results,
    _setup,
    _stress,
    _tables,
    _trace,
    _up,
)
from mld_pipelines.cli._command import group

__all__ = ["app"]

app = group(
    "Debug machine-learning models: trace, evaluate, estimate errors without labels, monitor.\n\n"
    "Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 nothing to do, 5 not set up, 6 a check failed."
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"mld-pipelines {version('mld-pipelines')}")
        raise typer.Exit


@app.callback()
def _program(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for part in (_setup, _up, _evaluate):
    part.add_to(app)
for name, part in (
    ("models", _models),
    ("trace", _trace),
    ("stress", _stress),
    ("labels", _labels),
    ("results", _results),
    ("tables", _tables),
    ("monitor", _monitor),
    ("ingest", _ingest),
    ("lake", _lake),
    ("quality", _quality),
):
    app.add_typer(part.app, name=name)
