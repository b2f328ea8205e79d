"""`mld up`: real Dagster processes over a small workspace."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mld_pipelines import settings
from mld_pipelines.cli._exits import Exit
from mld_pipelines.cli._platform import MARKER, Platform, PlatformError, running_platform
from mld_pipelines.exceptions import ConfigurationError, MissingDependencyError

TOY = """
import dagster as dg

@dg.asset
def one():
    return 1

defs = dg.Definitions(assets=[one])
"""
USERS = """
import dagster as dg

@dg.op
def importing_op():
    import my_own_models
    import toy_location
    assert my_own_models.MADE == "by the user"

@dg.job(executor_def=dg.in_process_executor)
def importing():
    importing_op()

defs = dg.Definitions(jobs=[importing])
"""
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
BROKEN = "raise RuntimeError('this location is broken on purpose')"


@pytest.fixture
def workspace(tmp_path):
    """Return a function that writes a workspace with one module."""

    def write(source: str) -> Path:
        (tmp_path / "toy_location.py").write_text(source)
        path = tmp_path / "workspace.yaml"
        path.write_text(
            "load_from:\n  - python_module:\n      module_name: toy_location\n"
            "      working_directory: .\n      location_name: toy\n"
        )
        return path

    return write


def descendants() -> list[int]:
    """Living processes that carry the platform's marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if MARKER.encode() in environment and str(settings.state_directory()).encode() in environment:
                found.append(int(entry.name))
    return found


def test_a_missing_workspace_is_explained(mld):
    done = mld("up", "--workspace", "nowhere/workspace.yaml")
    assert done.exit == Exit.NOT_SET_UP
    assert "nowhere/workspace.yaml" in done.stderr
    assert "--workspace" in done.stderr


def test_a_taken_port_is_explained(workspace, mld):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = mld("up", "--workspace", str(workspace(TOY)), "--port", str(taken.getsockname()[1]))
    assert done.exit == Exit.NOT_SET_UP
    assert "--port" in done.stderr


def test_a_missing_extra_is_explained(workspace, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(MissingDependencyError, match=r"mld-pipelines\[platform\]"),
        running_platform(workspace(TOY), home=settings.state_directory()),
    ):
        pass


def test_a_child_that_ends_is_reported_with_its_last_words(workspace, monkeypatch):
    failing = {"webserver": [sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"]}
    monkeypatch.setattr("mld_pipelines.cli._platform._commands", lambda *_: failing)
    monkeypatch.setattr("mld_pipelines.cli._platform._prepare_instance", lambda *_: None)
    with (
        pytest.raises(PlatformError, match=r"webserver ended with status 3.*no such thing"),
        running_platform(workspace(TOY), home=settings.state_directory(), port=0),
    ):
        pass


def test_what_lies_in_the_folder_that_it_is_started_in_can_be_imported_by_its_processes(
    workspace, monkeypatch, tmp_path_factory
):
    here, named = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("named")
    (here / "my_models.py").write_text("")
    (here / "sources").mkdir()
    for folder, module in ((here / "sources", "relative_to_here"), (named, "named_absolutely")):
        (folder / f"{module}.py").write_text("")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", f"sources:{named}")
    told = "import my_models, relative_to_here, named_absolutely as last, toy_location; raise SystemExit(last.__file__)"
    monkeypatch.setattr("mld_pipelines.cli._platform._commands", lambda *_: {"daemon": [sys.executable, "-c", told]})
    monkeypatch.setattr("mld_pipelines.cli._platform._prepare_instance", lambda *_: None)
    with (
        pytest.raises(PlatformError, match=rf"Its last words: {named}/named_absolutely.py"),
        running_platform(workspace(""), home=settings.state_directory(), port=0),
    ):
        pass


def test_a_child_that_ignores_sigterm_is_killed_with_its_own_children(tmp_path):
    from mld_pipelines.cli._processes import stop_all

    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN);"
        "print(1, flush=True); time.sleep(60)'], start_new_session=True, stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", stubborn],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={"MLD_TEST_MARK": str(tmp_path)},
    )
    grandchild = int(process.stdout.readline())
    stop_all([process], marker=f"MLD_TEST_MARK={tmp_path}", grace_seconds=0.3)
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    # SIGKILL is sent, not awaited: nobody but init can reap a grandchild.
    for _ in range(100):
        if is_gone(grandchild):
            break
        time.sleep(0.1)
    assert is_gone(grandchild)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended (a zombie that waits for init has)."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def start_up(workspace: Path, folder: Path | None = None) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start `mld up` as a process, in a folder, and wait until it has announced itself."""
    command = [sys.executable, "-m", "mld_pipelines.cli", "up", "--workspace", str(workspace), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)
    return process, json.loads(process.stdout.readline())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_up_answers_on_loopback_and_leaves_nothing_behind(workspace, number):
    process, document = start_up(workspace(TOY))
    assert document["url"].startswith("http://127.0.0.1:")
    assert document["location_errors"] == {}
    assert set(descendants()) >= set(document["pids"].values())
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "", "")
    assert descendants() == []


@pytest.mark.slow
def test_a_run_imports_from_the_folder_that_the_platform_was_started_in(workspace, tmp_path):
    (folder := tmp_path / "user").mkdir()
    (folder / "my_own_models.py").write_text("MADE = 'by the user'")
    process, document = start_up(workspace(USERS), folder)
    try:
        assert document["location_errors"] == {}
        platform = Platform(document["url"], settings.state_directory(), {})
        selector = {"repositoryLocationName": "toy", "repositoryName": "__repository__", "jobName": "importing"}
        started = platform.graphql(LAUNCH, {"params": {"selector": selector, "mode": "default"}})
        run_id = started["launchRun"]["run"]["runId"]
        for _ in range(300):
            status = platform.graphql("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }",
                                      {"id": run_id})["runOrError"]["status"]  # fmt: skip
            if status in {"SUCCESS", "FAILURE"}:
                break
            time.sleep(0.2)
        assert status == "SUCCESS"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.slow
def test_what_a_killed_platform_left_behind_is_stopped_by_the_next_one_on_the_same_state(workspace):
    path, said = workspace(TOY), []
    process, document = start_up(path)
    process.kill()
    process.communicate(timeout=60)
    orphans = set(document["pids"].values())
    assert orphans <= set(descendants()), "nothing can run after SIGKILL: the children are still there"
    port = int(document["url"].rsplit(":", 1)[1])
    with running_platform(path, home=settings.state_directory(), port=port, progress=said.append) as platform:
        alive = set(descendants())
        assert not orphans & alive
        assert {child.pid for child in platform.processes.values()} <= alive
    assert any("platform that was killed" in line for line in said), said
    assert descendants() == []


@pytest.mark.slow
def test_a_second_platform_on_the_same_state_is_refused_and_a_broken_location_is_named(workspace):
    home, path = settings.state_directory(), workspace(BROKEN)
    with running_platform(path, home=home, port=0) as platform:
        assert "broken on purpose" in platform.location_errors()["toy"]
        with pytest.raises(ConfigurationError, match="already"), running_platform(path, home=home, port=0):
            pass
        platform.require_alive()
    assert descendants() == []
