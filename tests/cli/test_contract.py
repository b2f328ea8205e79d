"""What every command promises: help, `--json`, errors without tracebacks, exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer

from mld_pipelines.cli._answer import plain
from mld_pipelines.cli._exits import Exit, exit_of
from mld_pipelines.exceptions import (
    ConfigurationError,
    InvalidInputError,
    MissingDependencyError,
    StorageError,
    UnknownModelError,
    UnknownResultError,
)

COMMANDS = (
    ("init",), ("up",), ("demo",), ("doctor",), ("evaluate",), ("models", "register"), ("models", "list"),
    ("trace", "run"), ("trace", "list"), ("trace", "accept"), ("trace", "discard"), ("stress", "run"),
    ("stress", "cost"), ("stress", "status"), ("labels", "import"), ("results", "list"), ("results", "show"),
    ("results", "frames"), ("results", "promote"), ("results", "compare"), ("results", "export"), ("tables", "list"),
    ("tables", "show"),
    ("tables", "history"), ("tables", "compact"), ("tables", "vacuum"), ("monitor", "show"), ("monitor", "tail"),
    ("ingest", "status"), ("ingest", "replay"), ("lake", "migrate"), ("quality", "run"),
)  # fmt: skip


def leaves(command, path=()):
    """Every command of the tree by its path."""
    children = getattr(command, "commands", None)
    if children is None:
        return {path: command}
    return {name: leaf for key, child in children.items() for name, leaf in leaves(child, (*path, key)).items()}


@pytest.fixture(scope="module")
def tree():
    from mld_pipelines.cli._app import app

    return leaves(typer.main.get_command(app))


def test_the_tree_holds_the_documented_commands(tree):
    assert set(tree) == set(COMMANDS)


def test_usage_lines_name_arguments_in_capitals_without_brackets_of_their_own(tree):
    named = [p.metavar for command in tree.values() for p in command.params if p.param_type_name == "argument"]
    assert named
    assert [name for name in named if name is None or name != name.upper() or "[" in name] == []


def test_the_version_is_told(mld):
    from importlib.metadata import version

    assert mld("--version").stdout == f"mld-pipelines {version('mld-pipelines')}\n"


def test_every_command_takes_json(tree):
    without = [path for path, command in tree.items() if not any("--json" in p.opts for p in command.params)]
    assert without == []


def test_every_command_says_what_it_does(tree):
    assert [path for path, command in tree.items() if not (command.help or "").strip()] == []


def test_every_option_says_what_it_is(tree):
    silent = [
        (path, parameter.name)
        for path, command in tree.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownModelError("x"), 3),
        (UnknownResultError("x"), 3),
        (ConfigurationError("x"), 5),
        (MissingDependencyError("x"), 5),
        (InvalidInputError("x"), 2),
        (StorageError("x"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("x"), 70),
    ],
)
def test_errors_end_with_their_status(error, status):
    assert exit_of(error) == status


def test_an_error_is_one_line_on_standard_error(mld):
    done = mld("tables", "show", "no/such")
    assert (done.exit, done.stdout) == (Exit.NOT_FOUND, "")
    assert done.stderr.startswith("error: no table 'no/such'")
    assert done.stderr.count("\n") == 1


def test_an_error_is_a_document_with_json(mld):
    done = mld("tables", "show", "no/such", "--json")
    assert done.document["error"]["type"] == "NotFoundError"
    assert done.document["error"]["exit"] == done.exit == Exit.NOT_FOUND


def test_a_defect_is_told_apart_from_a_refusal(mld, monkeypatch):
    monkeypatch.setattr("mld_pipelines.cli._state.initialise", lambda home: 1 / 0)
    done = mld("init")
    assert done.exit == Exit.INTERNAL
    assert "unexpected ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr


def test_debugging_shows_where(mld, monkeypatch):
    monkeypatch.setenv("MLD_DEBUG", "1")
    monkeypatch.setattr("mld_pipelines.cli._state.initialise", lambda home: 1 / 0)
    assert "Traceback" in mld("init").stderr


def test_wrong_usage_is_status_two(mld):
    assert mld("tables", "show").exit == Exit.USAGE


def program(monkeypatch, *arguments: str) -> int:
    """Run the console script's function in this process; returns the exit status."""
    from mld_pipelines.cli import main

    monkeypatch.setattr("sys.argv", ["mld", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_wrong_usage_is_a_document_with_json(monkeypatch, capsys):
    for arguments in (("tables", "show"), ("no-such-command",), ("tables", "show", "x", "--no-such-option")):
        assert program(monkeypatch, *arguments, "--json") == Exit.USAGE
        said = capsys.readouterr()
        error = json.loads(said.out)["error"]
        assert error["exit"] == Exit.USAGE
        assert error["message"]
        assert error["message"] in said.err
        assert program(monkeypatch, *arguments) == Exit.USAGE
        assert capsys.readouterr().out == ""


def test_the_console_script_ends_with_the_status_of_the_command(monkeypatch, capsys):
    assert program(monkeypatch, "init", "--json") == Exit.OK
    assert program(monkeypatch, "tables", "show", "no/such") == Exit.NOT_FOUND
    assert program(monkeypatch, "--help") == Exit.OK


def test_json_is_strict(mld):
    assert plain({"a": float("nan"), "b": (1, {2}), "c": b"xyz"}) == {"a": None, "b": [1, [2]], "c": "<3 bytes>"}


@pytest.mark.slow
def test_help_loads_nothing_heavy():
    """Half a second is the promise (`benchmarks` times it); what would break it is an import."""
    script = (
        "import sys\n"
        "from mld_pipelines.cli import main\n"
        "sys.argv = ['mld', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('loaded:', *sorted(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    loaded = ran.stdout.split("loaded:")[1].split()
    heavy = {"dagster", "deltalake", "great_expectations", "numpy", "pandas", "polars", "ray", "scipy", "torch"}
    assert "typer" in loaded
    assert heavy.isdisjoint(loaded)
