from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mld_pipelines.compute import PoolPolicy
from mld_pipelines.lake import Lake

#: `trace_factories` is importable through `sys.path` alone, as a user's own code is.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"), code_version="test")


@pytest.fixture(scope="module")
def local_ray():
    """One small Ray for all tests of a module; the pools reuse it."""
    from mld_pipelines.compute._session import ray_session

    with ray_session(PoolPolicy(object_store_bytes=80 * 2**20)) as ray:
        yield ray
