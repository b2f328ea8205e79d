"""`mld init`, `mld demo`, `mld doctor`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mld_pipelines.cli._answer import Answer
from mld_pipelines.cli._command import command
from mld_pipelines.cli._exits import Exit
from mld_pipelines.exceptions import ConfigurationError

if TYPE_CHECKING:
    from mld_pipelines.cli._doctor import Finding

__all__ = ["add_to"]

_MARK = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


def add_to(app: typer.Typer) -> None:
    """Register the commands of this module."""
    command(app, "init")(init)
    command(app, "demo")(demo)
    command(app, "doctor")(doctor)


def init() -> Answer:
    """Make the state directory: lake, spool and Dagster instance. What exists is never changed."""
    from mld_pipelines import settings
    from mld_pipelines.cli._state import initialise

    done = initialise(settings.state_directory())
    text = [f"state directory: {done.home}", *(f"made {path}" for path in done.made)]
    text += [f"kept {path}, which differs from this version's template" for path in done.kept]
    if not done.made:
        text.append("everything was there already")
    return Answer({"home": done.home, "made": done.made, "kept": done.kept}, tuple(text))


def demo(
    *,
    checkout: Annotated[str, typer.Option(help="Checkout of mld_pipelines, where examples/demo lies.")] = ".",
    part: Annotated[
        Literal["all", "digits", "drive"],
        typer.Option(help="`digits`: a classifier of handwritten digits; `drive`: a 3D detector on the road."),
    ] = "all",
    as_json: bool = False,
) -> Answer:
    """Watch the whole loop: trace, evaluate, monitor, re-evaluate. State lives in .mld/demo."""
    folder = Path(checkout).expanduser().absolute()
    if not (folder / "examples" / "demo").is_dir():
        raise ConfigurationError(
            f"there is no examples/demo in {folder}: the demo runs from a checkout of mld_pipelines."
        )
    arguments = [sys.executable, "-m", "examples.demo", "--part", part, *(["--json"] if as_json else [])]
    done = subprocess.run(arguments, cwd=folder, check=False)  # noqa: S603 - our own interpreter
    raise typer.Exit(Exit.INTERRUPTED if done.returncode < 0 else done.returncode)


def doctor() -> Answer:
    """Check this installation: versions, state directory, disk, clock, lake, spool."""
    from mld_pipelines.cli._doctor import examine

    findings = examine()
    failed = any(finding.status == "failed" for finding in findings)
    return Answer(
        {"ok": not failed, "checks": [_row(finding) for finding in findings]},
        tuple(_line(finding) for finding in findings),
        Exit.CHECK_FAILED if failed else Exit.OK,
    )


def _row(finding: Finding) -> dict[str, str | None]:
    return {"check": finding.check, "status": finding.status, "detail": finding.detail, "remedy": finding.remedy}


def _line(finding: Finding) -> str:
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    return f"{_MARK[finding.status]} {finding.check}: {finding.detail}{remedy}"
