"""A killed production process loses nothing it had acknowledged; a lake is the same from wherever it is opened."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mld_pipelines.lake import Lake
from mld_pipelines.tables import LANDING_INFERENCES
from tests.support.processes import environment, run_mld

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PRODUCTION = """
import time, torch
from mld_pipelines.monitoring import ClassificationLogger
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
logger = ClassificationLogger(model, "net", "v1")
n = 0
while True:
    logger(torch.randn(1, 4), request_ids=[str(n)])
    n += 1
    if n % 20 == 0:
        print(logger.stats.acknowledged, flush=True)
        time.sleep(0.002)
"""


def kill_when_acknowledged(home: Path, rows: int) -> int:
    """Run a production process, kill it with SIGKILL and return what it had said was acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-c", PRODUCTION], stdout=subprocess.PIPE, text=True, env=environment(MLD_HOME=str(home))
    )
    said = 0
    for line in child.stdout:
        said = int(line)
        if said >= rows:
            child.kill()
            break
    assert child.wait(30) == -signal.SIGKILL, f"the production process ended by itself after {said} rows"
    child.stdout.close()
    return said


def stored(home: Path) -> list[int]:
    """Numbers of the requests in the lake."""
    return sorted(
        int(name) for name in Lake(str(home / "lake"), code_version="test").read(LANDING_INFERENCES)["request_id"]
    )


@pytest.mark.feature("I25")
def test_what_a_killed_process_had_acknowledged_is_stored_by_the_next_command(tmp_path):
    home = tmp_path / ".mld"
    said = kill_when_acknowledged(home, 400)
    done = run_mld("ingest", "replay", "--json", folder=tmp_path, MLD_HOME=str(home))
    assert done.status in {0, 4}, done  # 4: all of it was in the lake already
    assert done.document["waiting"] == [], done
    found = stored(home)
    assert found == list(range(len(found))), "a row is missing in between, or stored twice"
    assert len(found) >= said
    again = run_mld("ingest", "replay", "--json", folder=tmp_path, MLD_HOME=str(home))
    assert again.status == 4, again
    assert stored(home) == found


@pytest.mark.feature("I25")
def test_rows_that_never_reached_the_lake_wait_in_the_spool_and_are_shipped(tmp_path):
    home = tmp_path / ".mld"
    home.mkdir()
    (home / "lake").write_text("no lake can be made here while the production process lives")
    said = kill_when_acknowledged(home, 100)
    (home / "lake").unlink()
    status = run_mld("ingest", "status", "--json", folder=tmp_path, MLD_HOME=str(home))
    assert status.document["rows"] >= said, status
    done = run_mld("ingest", "replay", "--json", folder=tmp_path, MLD_HOME=str(home))
    assert done.status == 0, done
    assert done.document["shipped"] == status.document["rows"], (done, status)
    found = stored(home)
    assert found == list(range(len(found))), "a row is missing in between, or stored twice"
    assert len(found) >= said
    assert status.document["rows"] - len(found) in {0, 1}  # the row that describes the model, if it was spooled by then


@pytest.fixture
def demo_lake(first_run):
    return first_run.home / "lake"


def listed(folder: Path, endpoint: str) -> object:
    folder.mkdir()
    done = run_mld("results", "list", "digits@v1", "--json", folder=folder, MLD_API_ENDPOINT=endpoint)
    assert done.status == 0, done
    return done.document


def test_a_lake_opened_from_another_folder_shows_the_same_results(demo_lake, tmp_path):
    here = listed(tmp_path / "one", str(demo_lake))
    assert next(row["result_name"] for row in here["results"]) == "digits_demo"
    assert len(here["results"]) == 2
    assert listed(tmp_path / "two", demo_lake.as_uri()) == here
    assert not (tmp_path / "two" / ".mld").exists()


def test_a_lake_that_was_moved_shows_the_same_results(demo_lake, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(demo_lake, moved)
    names = [row["result_name"] for row in listed(tmp_path / "folder", str(moved))["results"]]
    for name in names:
        shown = [
            run_mld("results", "show", name, "--json", folder=tmp_path, MLD_API_ENDPOINT=str(root))
            for root in (moved, demo_lake)
        ]
        assert shown[0].status == 0, shown[0]
        assert shown[0].document == shown[1].document


def test_the_results_of_the_demo_read_the_same_in_another_process(demo_lake, first_run):
    of_digits = [row["result_name"] for row in first_run.document["results"]]
    of_drive = first_run.document["drive"]["result"]["result_name"]
    rows = run_mld("results", "list", "--json", MLD_API_ENDPOINT=str(demo_lake)).document["results"]
    found = {
        model: [row["result_name"] for row in rows if row["model_key"] == model]
        for model in ("digits@v1", "pillars@v1")
    }
    assert found == {"digits@v1": of_digits, "pillars@v1": [of_drive]}
    assert len(rows) == len(of_digits) + 1
