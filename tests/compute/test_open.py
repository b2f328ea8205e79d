"""Choosing and starting a backend."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from mld_pipelines.compute import PoolPolicy, WorkerSpec, choose_backend, open_pool
from mld_pipelines.exceptions import ConfigurationError, MissingDependencyError


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(("n_batches", "backend"), [(0, "inline"), (1, "inline"), (2, "local"), (None, "local")])
def test_auto_starts_ray_only_above_one_batch(n_batches, backend):
    assert choose_backend(PoolPolicy(), n_batches=n_batches) == backend


@pytest.mark.parametrize("backend", ["inline", "local"])
def test_a_named_backend_is_taken_whatever_the_size(backend):
    assert choose_backend(PoolPolicy(backend=backend), n_batches=1) == backend
    assert choose_backend(PoolPolicy(backend=backend), n_batches=100) == backend


def test_a_cluster_is_refused_clearly(monkeypatch):
    with pytest.raises(ConfigurationError, match="cluster"):
        choose_backend(PoolPolicy(backend="cluster"))
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ConfigurationError, match="ray://head:10001"):
        choose_backend(PoolPolicy())


def test_without_ray_auto_runs_inline_and_local_names_the_extra(monkeypatch, caplog):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    assert choose_backend(PoolPolicy(), n_batches=5) == "inline"
    assert "Ray is not installed" in caplog.text
    with pytest.raises(MissingDependencyError, match=r"mld-pipelines\[platform\]"):
        choose_backend(PoolPolicy(backend="local"))


def test_importing_compute_loads_neither_ray_nor_torch():
    code = "import sys, mld_pipelines.compute as c; c.PoolPolicy(); sys.exit(bool({'ray', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.ray
def test_a_pool_starts_its_own_ray_quietly_and_shuts_it_down(worker_modules, monkeypatch, capfd):
    import ray

    ray.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # local means local
    policy = PoolPolicy(backend="local", size=1, object_store_bytes=80 * 2**20)
    with open_pool(WorkerSpec("pool_workers:Scale"), policy) as pool:
        assert pool.backend == "local"
        results = list(pool.map([{"values": np.ones(2)}]))
    assert not results[0].failed
    assert not ray.is_initialized()
    assert capfd.readouterr().out == ""
