"""Supervises the Dagster webserver and daemon as child processes; knows nothing of Dagster but its command lines."""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mld_pipelines.cli._processes import stop_all, stop_marked
from mld_pipelines.cli._state import dagster_home, initialise
from mld_pipelines.exceptions import ConfigurationError, MissingDependencyError, MldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["MARKER", "Platform", "PlatformError", "running_platform"]

LOOPBACK = "127.0.0.1"
"""Dagster's UI has no authentication: it is never bound to another address."""

MARKER = "MLD_PLATFORM_RUN"
"""Environment variable that every descendant inherits, so that none is left behind."""

_START_SECONDS = 120.0
"""A cold start of webserver and code location takes 7 s on two idle cores; a loaded machine gets 120."""

_LOAD_QUERY = """{ workspaceOrError {
  ... on Workspace { locationEntries { name
    locationOrLoadError { ... on PythonError { message causes { message } } } } }
  ... on PythonError { message } } }"""


class PlatformError(MldError):
    """A process of the platform ended or did not come up."""


@dataclass(slots=True)
class Platform:
    """A running webserver and daemon.

    Attributes:
        url: Address of the Dagster UI.
        home: State directory.
        logs: Log file of each process by name.
        processes: The two children by name.
    """

    url: str
    home: Path
    logs: dict[str, Path]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the webserver; return the answer's `data`.

        Raises:
            PlatformError: The query was refused or the webserver did not answer.
        """
        body = json.dumps({"query": query, "variables": dict(variables or {})}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.url}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                document: dict[str, Any] = json.load(answer)
        except (OSError, ValueError) as error:
            raise PlatformError(f"{self.url} did not answer a query: {error}.") from error
        if document.get("errors"):
            raise PlatformError(f"the webserver refused a query: {document['errors'][0].get('message')}.")
        data: dict[str, Any] = document["data"]
        return data

    def location_errors(self) -> dict[str, str]:
        """Return the code locations that failed to load, with the message."""
        workspace = self.graphql(_LOAD_QUERY)["workspaceOrError"]
        if "message" in workspace:
            return {"workspace": workspace["message"]}
        entries = {entry["name"]: entry["locationOrLoadError"] or {} for entry in workspace["locationEntries"]}
        return {name: _innermost(found) for name, found in entries.items() if "message" in found}

    def require_alive(self) -> None:
        """Raise when a child has ended.

        Raises:
            PlatformError: Which process ended, with the end of its log.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise PlatformError(
                    f"the {name} ended with status {process.returncode}. {_tail(self.logs[name])} "
                    f"The whole log: {self.logs[name]}"
                )


@contextmanager
def running_platform(
    workspace: Path,
    *,
    home: Path,
    port: int = 3000,
    start_seconds: float = _START_SECONDS,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Platform]:
    """Run webserver and daemon for the length of a `with` block; no process survives it.

    Args:
        workspace: `workspace.yaml`; its folder is the working directory of both processes. They, code locations and
            runs import from there, then from the working directory of this one: registered factories are found as
            `mld trace run` finds them.
        home: State directory; `dagster/` in it becomes `DAGSTER_HOME`.
        port: Port of the UI on the loopback address; 0 takes a free one.
        start_seconds: How long the webserver may take to answer.
        environment: Variables for the children, over the current ones.
        progress: Called with what happens, in words.

    Yields:
        The platform, once the webserver answers.

    Raises:
        ConfigurationError: There is no workspace, the port is taken, or a platform runs on this state already.
        MissingDependencyError: The `platform` extra is not installed.
        PlatformError: A process ended or the webserver never answered.
    """
    say = progress or (lambda _: None)
    workspace = _checked_workspace(workspace)
    _require_extra()
    initialise(home)
    with _only_one(home), _marked_run(home, say) as marker:
        port = _free_port(port)
        platform = Platform(f"http://{LOOPBACK}:{port}", home, _log_files(home))
        try:
            _prepare_instance(home, _environment(home, marker, environment))
            for name, arguments in _commands(workspace, port).items():
                say(f"starting the {name}")
                platform.processes[name] = _start(
                    arguments, workspace.parent, platform.logs[name], _environment(home, marker, environment)
                )
            _wait_until_answering(platform, start_seconds)
            yield platform
        finally:
            say("stopping")
            stop_all(list(platform.processes.values()), marker=f"{MARKER}={marker}")


def _prepare_instance(home: Path, environment: dict[str, str]) -> None:
    """Make or upgrade Dagster's databases before several processes want to: at once they corrupt each other's."""
    version = importlib.metadata.version("dagster")
    stamp = dagster_home(home) / ".schema"
    if stamp.exists() and stamp.read_text() == version:
        return
    command = [sys.executable, "-m", "dagster", "instance", "migrate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise PlatformError(f"the Dagster instance in {dagster_home(home)} cannot be prepared: {' '.join(last)}")
    stamp.write_text(version)


def _commands(workspace: Path, port: int) -> dict[str, list[str]]:
    # `python -m`, not console scripts: those carry an absolute path that a moved checkout breaks
    python = [sys.executable, "-m"]
    return {
        "webserver": [*python, "dagster_webserver", "-w", str(workspace), "-h", LOOPBACK, "-p", str(port)],
        "daemon": [*python, "dagster._daemon", "run", "-w", str(workspace)],
    }


def _start(arguments: list[str], folder: Path, log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            arguments,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C at the terminal reaches us alone; we stop the children in order
        )


def _environment(home: Path, marker: str, extra: Mapping[str, str] | None) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": _import_path(),
        **(extra or {}),
        "MLD_HOME": str(home),
        "DAGSTER_HOME": str(dagster_home(home)),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        MARKER: marker,
    }


def _import_path() -> str:
    """Return the working directory, then what `PYTHONPATH` names; absolute, for the children run in another folder."""
    named = os.environ.get("PYTHONPATH", "")
    paths = [Path.cwd(), *(Path(one or ".").absolute() for one in named.split(os.pathsep) if named)]
    return os.pathsep.join(dict.fromkeys(map(str, paths)))


def _checked_workspace(workspace: Path) -> Path:
    found = workspace.expanduser().absolute()
    if not found.is_file():
        raise ConfigurationError(
            f"there is no {workspace}. The platform runs from a checkout of mld_pipelines: change into it, or name its "
            "workspace with --workspace."
        )
    return found


def _require_extra() -> None:
    missing = [name for name in ("dagster", "dagster_webserver") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"{' and '.join(missing)} not installed: the platform needs pip install 'mld-pipelines[platform]'."
        )


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the lock of this state directory: two daemons on one instance would both launch every run."""
    with (dagster_home(home) / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"a platform runs on {home} already. Stop it, or set MLD_HOME to another state directory."
            ) from error
        yield


@contextmanager
def _marked_run(home: Path, say: Callable[[str], None]) -> Iterator[str]:
    """Yield the marker of this run; stop first what a run that was itself killed (SIGKILL, out of memory) left behind.

    The marker is on disk while processes may carry it. A second daemon beside an orphaned one would launch runs twice.
    """
    record = dagster_home(home) / "up.run"
    earlier = record.read_text(encoding="utf-8").strip() if record.exists() else ""
    if earlier and (stopped := stop_marked(f"{MARKER}={earlier}")):
        say(f"stopped {stopped} processes of a platform that was killed")
    marker = uuid.uuid4().hex
    record.write_text(marker, encoding="utf-8")
    try:
        yield marker
    finally:
        record.unlink(missing_ok=True)


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            reason = str(error).rstrip(".")
            raise ConfigurationError(f"port {port} cannot be used: {reason}. Choose another with --port.") from error
        return int(probe.getsockname()[1])


def _log_files(home: Path) -> dict[str, Path]:
    folder = dagster_home(home) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    logs = {name: folder / f"{name}.log" for name in ("webserver", "daemon")}
    for log in logs.values():
        log.write_bytes(b"")
    return logs


def _wait_until_answering(platform: Platform, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        platform.require_alive()
        try:
            with urllib.request.urlopen(f"{platform.url}/server_info", timeout=5):  # noqa: S310
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise PlatformError(
        f"the webserver did not answer within {seconds:.0f} s. {_tail(platform.logs['webserver'])} "
        f"The whole log: {platform.logs['webserver']}"
    )


def _innermost(error: dict[str, Any]) -> str:
    """Return the message of what went wrong first; Dagster's own only says that something did."""
    causes = error.get("causes") or [error]
    message: str = causes[-1]["message"]
    return message.strip()


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"Its last words: {lines[-1].strip()}" if lines else "It said nothing."
