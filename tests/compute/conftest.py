from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from mld_pipelines.compute import PoolPolicy
from mld_pipelines.compute._session import ray_session
from tests.support.ray_cluster import ray_cluster


@pytest.fixture(scope="module")
def worker_modules():
    """Make `pool_workers` importable by the driver only through its `sys.path`, as a user's own code is."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def local_ray(worker_modules):
    """One small Ray for all tests of a module; the pools reuse it."""
    with ray_session(PoolPolicy(object_store_bytes=80 * 2**20)) as ray:
        yield ray


@pytest.fixture(scope="session")
def cluster():
    """A head and a worker node, one CPU each, that all tests of the session share."""
    with ray_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def joined_cluster(cluster, worker_modules):
    """This process as a driver of the cluster, as a user's environment makes it one."""
    with joined(cluster) as ray:
        yield ray


@contextlib.contextmanager
def joined(cluster):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        with ray_session(PoolPolicy(), backend="cluster") as ray:
            yield ray


@pytest.fixture(
    scope="module",
    params=[
        "inline",
        pytest.param("local", marks=pytest.mark.ray),
        pytest.param("cluster", marks=pytest.mark.ray),
    ],
)
def backend(request, worker_modules):
    """Every backend in turn, its Ray running."""
    if request.param == "inline":
        yield request.param
    elif request.param == "local":
        with ray_session(PoolPolicy(object_store_bytes=80 * 2**20)):
            yield request.param
    else:
        with joined(request.getfixturevalue("cluster")):
            yield request.param
