"""Choosing and starting a backend."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from mld_pipelines.compute import PoolPolicy, WorkerSpec, choose_backend, open_pool
from mld_pipelines.compute._cluster import check_reachable
from mld_pipelines.exceptions import ConfigurationError, MissingDependencyError, WorkerPoolError


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


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "ray://head:10001", "[::1]:6379", "auto"])
def test_auto_is_the_cluster_where_one_is_named_above_one_batch(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert choose_backend(PoolPolicy()) == "cluster"
    assert choose_backend(PoolPolicy(backend="cluster"), n_batches=1) == "cluster"
    assert choose_backend(PoolPolicy(), n_batches=1) == "inline"
    assert choose_backend(PoolPolicy(backend="local")) == "local"


@pytest.mark.parametrize("address", [None, "", "local"])
def test_a_cluster_without_an_address_is_refused(monkeypatch, address):
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigurationError, match="RAY_ADDRESS, which is"):
        choose_backend(PoolPolicy(backend="cluster"))
    assert choose_backend(PoolPolicy()) == "local"


@pytest.mark.parametrize("address", ["head", "http://head:6379", "head:99999", "head:0"])
def test_a_malformed_address_is_refused_with_its_value(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigurationError, match=address):
        choose_backend(PoolPolicy())


def test_a_cluster_that_does_not_answer_is_named_at_once(monkeypatch):
    import ray

    ray.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    began = time.monotonic()
    with (
        pytest.raises(WorkerPoolError, match=r"127\.0\.0\.1:1 cannot be joined: ConnectionRefusedError"),
        open_pool(WorkerSpec("pool_workers:Scale"), PoolPolicy(backend="cluster")),
    ):
        pass
    assert time.monotonic() - began < 10  # Ray itself waits for two minutes


def test_something_else_on_the_port_of_a_head_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("mld_pipelines.compute._cluster._JOIN_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WorkerPoolError, match="no Ray head answered within 3 s"):
            check_reachable(address)


def test_without_ray_auto_runs_inline_and_local_names_the_extra(monkeypatch, caplog):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    assert choose_backend(PoolPolicy(), n_batches=5) == "inline"
    assert "Ray is not installed" in caplog.text
    with pytest.raises(MissingDependencyError, match=r"mld-pipelines\[platform\]"):
        choose_backend(PoolPolicy(backend="local"))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(MissingDependencyError, match="RAY_ADDRESS needs Ray"):
        choose_backend(PoolPolicy())


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
