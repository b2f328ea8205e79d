"""One demo and one platform serve every test of this folder: the demo twice, then `mld up` on the state it left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import Browser, missing_browser, open_browser
from tests.support.processes import RunningPlatform, platform_up, run_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class DemoRun:
    """One run of the demo.

    Attributes:
        document: What `--json` printed.
        progress: Its lines on standard error.
        home: State directory.
        seconds: How long it took.
    """

    document: dict[str, Any]
    progress: str
    home: Path
    seconds: float


def run_demo(home: Path) -> DemoRun:
    started = time.monotonic()
    done = run_module("examples.demo", "--json", MLD_DEMO_HOME=str(home))
    seconds = time.monotonic() - started
    logs = home / "dagster" / "logs"
    assert done.status == 0, f"the demo ended with {done.status}: {done.stderr[-3000:]}\nDagster's logs: {logs}"
    return DemoRun(done.document, done.stderr, home, seconds)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """The demo on a fresh state."""
    return run_demo(tmp_path_factory.mktemp("demo") / "state")


@pytest.fixture(scope="session")
def second_run(first_run: DemoRun) -> DemoRun:
    """The demo again on the same state."""
    return run_demo(first_run.home)


@pytest.fixture(scope="session")
def platform(second_run: DemoRun) -> Iterator[RunningPlatform]:
    """`mld up`, with everything at its default, on what the demo left."""
    with platform_up(second_run.home) as running:
        yield running


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium."""
    if (reason := missing_browser()) is not None:
        pytest.skip(reason)
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened
