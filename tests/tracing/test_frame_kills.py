"""Drivers and actors that are really killed in a detector's run: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mld_pipelines.compute import PoolPolicy
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_TRACES, OPS_QUARANTINE
from mld_pipelines.tracing import register_dataset, register_model, trace_run

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """
import sys
import mld_pipelines.tracing._landing as landing
from mld_pipelines.compute import PoolPolicy
from mld_pipelines.lake import Lake
from mld_pipelines.tracing import trace_run

landing._FLUSH_BYTES = 1  # a commit per batch, so that some are in the lake
pool = PoolPolicy(backend=sys.argv[2], size=1, num_cpus=0.4, post_cpus=0.4, object_store_bytes=80 * 2**20)
trace_run(
    Lake(sys.argv[1], code_version="test"), "pillars", "frames", dataset_type="val", batch_size=2, pool=pool,
    run_key="nightly", progress=lambda done, total: print(done, flush=True),
)
"""


@pytest.fixture
def registered(lake):
    register_model(
        lake, "pillars", factory="examples.drive.datasets:drive_model", model_name="pillars", version_name="v1"
    )
    register_dataset(lake, "frames", factory="frame_factories:frames", params={"delay": 0.2})
    return lake


def kill_driver(lake, backend, after):
    """Run a driver in a process of its own until it has said so many batches, and kill it."""
    command = [sys.executable, "-c", DRIVER, lake.root, backend]
    paths = f"{ROOT}:{Path(__file__).parent}"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, text=True
    ) as driver:
        for line in driver.stdout:
            if line.strip() == str(after):
                driver.send_signal(signal.SIGKILL)
                break
        driver.stdout.read()
    assert driver.returncode == -signal.SIGKILL


def run(lake, dataset="frames", backend="inline", **options):
    pool = PoolPolicy(backend=backend, size=1, num_cpus=0.4, post_cpus=0.4)
    return trace_run(lake, "pillars", dataset, dataset_type="val", batch_size=2, pool=pool, **options)


def ids(lake):
    return sorted(lake.read(LANDING_TRACES)["input_id"])


@pytest.mark.parametrize("backend", ["inline", pytest.param("local", marks=pytest.mark.ray)])
def test_a_killed_driver_is_continued_without_losing_or_doubling_a_frame(registered, tmp_path, backend):
    from mld_pipelines.lake import Lake

    kill_driver(registered, backend, after=2)
    assert registered.version(LANDING_RECEIPTS) is None
    before = ids(registered)
    assert 2 <= len(before) < 6
    report = run(registered, run_key="nightly")
    assert (report.rows, report.complete, report.known_batches) == (6, True, len(before) // 2)
    whole = Lake(str(tmp_path / "whole"), code_version="test")
    register_model(
        whole, "pillars", factory="examples.drive.datasets:drive_model", model_name="pillars", version_name="v1"
    )
    register_dataset(whole, "frames", factory="frame_factories:frames")
    run(whole)
    assert ids(registered) == ids(whole)
    assert registered.read(LANDING_RECEIPTS)["rows"].to_list() == [6]


@pytest.mark.ray
def test_an_actor_that_dies_once_costs_no_frame(registered, local_ray, tmp_path):
    params = {"spoilt": 3, "how": "die", "once": str(tmp_path / "died")}
    register_dataset(registered, "deadly", factory="frame_factories:frames", params=params)
    report = run(registered, "deadly", backend="local")
    assert (tmp_path / "died").exists()
    assert (report.rows, report.complete, dict(report.lost_items)) == (6, True, {})
    assert len(set(ids(registered))) == 6
    assert registered.version(OPS_QUARANTINE) is None


@pytest.mark.ray
def test_a_frame_that_kills_every_actor_is_the_only_one_that_is_lost(registered, local_ray):
    params = {"spoilt": 3, "how": "die"}
    register_dataset(registered, "deadly", factory="frame_factories:frames", params=params)
    report = run(registered, "deadly", backend="local")
    assert (report.rows, list(report.lost_items)) == (5, [3])
    assert len(set(ids(registered))) == 5
    (found,) = registered.read(OPS_QUARANTINE)["reason"].to_list()
    assert "item 3 of 'val'" in found
    assert "worker process died" in found
