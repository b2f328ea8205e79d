"""The door for people and scripts: `mld`, and the platform as a `with` block.

Nothing heavy is imported before a command needs it: `mld --help` answers in a few tenths of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mld_pipelines.cli._platform import Platform, PlatformError, running_platform

__all__ = ["Platform", "PlatformError", "main", "running_platform"]


def main() -> None:
    """Run the command line; the exit status says what happened (see `docs/cli.md`)."""
    from mld_pipelines.cli._app import app
    from mld_pipelines.cli._command import run_program

    run_program(app)


def __getattr__(name: str) -> Any:
    """Import what supervises processes when it is asked for: `mld` needs it for one command of many."""
    if name in __all__:
        from mld_pipelines.cli import _platform

        return getattr(_platform, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
