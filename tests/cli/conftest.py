from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from mld_pipelines.lake import Lake
from mld_pipelines.settings import state_directory
from tests.support.traced import write_inferences, write_trace

MODEL = "toy@v1"


@dataclass(frozen=True)
class Outcome:
    exit: int
    stdout: str
    stderr: str

    @property
    def document(self):
        """The one JSON document on standard output; anything else there is an error."""
        assert self.stdout.endswith("\n")
        return json.loads(self.stdout)


@pytest.fixture
def mld():
    """Run a command in this process."""
    from mld_pipelines.cli._app import app

    def run(*arguments: str) -> Outcome:
        done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        return Outcome(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def lake():
    """The empty lake of this test's state directory."""
    return Lake(str(state_directory() / "lake"), code_version="test")


@pytest.fixture(scope="session")
def _evaluated_root(tmp_path_factory):
    from mld_pipelines.evaluator import Evaluator

    root = tmp_path_factory.mktemp("evaluated") / "lake"
    lake = Lake(str(root), code_version="test")
    write_trace(lake, "train", 300, seed=1)
    write_trace(lake, "val", 300, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_API_ENDPOINT", str(root))
        Evaluator("toy", "v1").request_evaluation(result_name="first")
    write_inferences(lake, 50)
    return root


@pytest.fixture
def evaluated(_evaluated_root, monkeypatch):
    """A lake with one traced and evaluated model and 50 inferences; tests only read it."""
    monkeypatch.setenv("MLD_API_ENDPOINT", str(_evaluated_root))
    return Lake(str(_evaluated_root), code_version="test")
