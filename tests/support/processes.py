"""Real processes of the project: the `mld` command, the platform, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]

MARKER = "MLD_TEST_PROCESS"
"""Environment variable that names the descendants of one test."""

STOP_SECONDS = 120.0
"""For a platform to stop: at most 25 s on idle cores (20 s of grace for a run in flight, 5 s for the rest)."""


@dataclass(frozen=True)
class Finished:
    """A command that ended: its exit status and what it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The JSON document on standard output."""
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise AssertionError(f"no JSON on standard output: {self}") from error


def environment(**values: str) -> dict[str, str]:
    """The current environment with these variables and without what names another lake or Dagster instance."""
    other = {"MLD_API_ENDPOINT", "MLD_API_KEY", "MLD_HOME", "MLD_SENSOR_INTERVAL", "DAGSTER_HOME"}
    return {name: value for name, value in os.environ.items() if name not in other} | values


def run_module(module: str, *arguments: str, folder: Path = ROOT, seconds: float = 600, **values: str) -> Finished:
    """Run `python -m module` in a folder with some environment variables and wait for its end."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(**values),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def run_mld(*arguments: str, folder: Path = ROOT, **values: str) -> Finished:
    """Run an `mld` command."""
    return run_module("mld_pipelines.cli", *arguments, folder=folder, seconds=180, **values)


@dataclass
class RunningPlatform:
    """A platform that `mld up` started.

    Attributes:
        url: Address of the Dagster UI.
        home: Its state directory.
        process: The `mld up` process.
        mark: `NAME=value` in the environment of every process it started.
    """

    url: str
    home: Path
    process: subprocess.Popen[str]
    mark: str

    @property
    def port(self) -> int:
        """Port of the UI."""
        return int(self.url.rsplit(":", 1)[1])

    def graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the webserver; return the answer's `data`."""
        body = json.dumps({"query": query, "variables": dict(variables or {})}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            document = json.load(answer)
        assert not document.get("errors"), document["errors"]
        return document["data"]

    def stop(self, number: signal.Signals = signal.SIGINT) -> Finished:
        """Send a signal, as Ctrl-C does, and wait for the end."""
        self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=STOP_SECONDS)
        return Finished(self.process.returncode, stdout, stderr)


@contextmanager
def platform_up(home: Path, **values: str) -> Iterator[RunningPlatform]:
    """Run `mld up` on a state directory for the length of a `with` block."""
    mark = f"{home}-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "mld_pipelines.cli", "up", "--port", "0", "--json"],
        cwd=ROOT,
        env=environment(MLD_HOME=str(home), **{MARKER: mark}, **values),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"mld up ended with {process.wait()}: {process.stderr.read() if process.stderr else ''}"
        document = json.loads(line)
        assert document["location_errors"] == {}, document
        yield RunningPlatform(document["url"], home, process, f"{MARKER}={mark}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=STOP_SECONDS)


def marked(mark: str) -> dict[int, str]:
    """Living processes whose environment holds `NAME=value`, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:  # ended in between, or another user's
                continue
    return found


def wait_for(condition: Callable[[], Any], what: str, *, seconds: float) -> tuple[Any, float]:
    """Wait until a condition gives something true; return that and the seconds it took."""
    started = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - started < seconds, f"waited {seconds:.0f} s for {what} in vain"
        time.sleep(0.25)
    return found, time.monotonic() - started
