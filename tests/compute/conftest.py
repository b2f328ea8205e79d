from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mld_pipelines.compute import PoolPolicy
from mld_pipelines.compute._session import ray_session


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
