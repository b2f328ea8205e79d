"""`mld up`: the platform in the foreground."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
import webbrowser
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld_pipelines.cli._answer import Answer, print_document, print_text
from mld_pipelines.cli._command import command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mld_pipelines.cli._platform import Platform

__all__ = ["add_to"]

_WATCH_SECONDS = 0.5


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "up")(up)


def up(
    *,
    workspace: Annotated[str, typer.Option(help="Dagster workspace to load.")] = "./workspace.yaml",
    port: Annotated[int, typer.Option(help="Port of the UI on this machine; 0 takes a free one.")] = 3000,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the UI in a browser.")] = False,
    as_json: bool = False,
) -> Answer:
    """Start the Dagster UI and daemon on this machine; Ctrl-C stops both and leaves nothing behind."""
    from mld_pipelines import settings
    from mld_pipelines.cli._platform import running_platform

    def say(text: str) -> None:
        if not as_json:
            print_text((text,))

    with _stop_signals(), contextlib.suppress(KeyboardInterrupt):
        home = settings.state_directory()
        with running_platform(Path(workspace), home=home, port=port, progress=say) as platform:
            _announce(platform, as_json=as_json)
            if open_browser:
                webbrowser.open(platform.url)
            while True:
                time.sleep(_WATCH_SECONDS)
                platform.require_alive()
    # the one document was printed when the platform came up
    raise typer.Exit(0)


def _announce(platform: Platform, *, as_json: bool) -> None:
    from mld_pipelines import settings

    errors = platform.location_errors()
    if as_json:
        pids = {name: process.pid for name, process in platform.processes.items()}
        document: dict[str, Any] = {
            "url": platform.url,
            "home": platform.home,
            "lake": settings.lake_uri(),
            "pids": pids,
        }
        print_document({**document, "logs": platform.logs, "location_errors": errors}, sys.stdout)
        return
    lines = [f"Dagster UI   {platform.url}", f"lake         {settings.lake_uri()}"]
    lines += [f"{name:<12} {log}" for name, log in platform.logs.items()]
    lines += [f"code location {name} did not load: {message.strip()}" for name, message in errors.items()]
    print_text((*lines, "Ctrl-C stops it."))


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or closed terminal into `KeyboardInterrupt`; ignore the impatient ones."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup mld up` stays
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
