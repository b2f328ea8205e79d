"""The door for people and scripts: `mld`.

Nothing heavy is imported before a command needs it: `mld --help` answers in a few tenths of a second.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; the exit status says what happened (see `docs/cli.md`)."""
    from mld_pipelines.cli._app import app
    from mld_pipelines.cli._command import run_program

    run_program(app)
