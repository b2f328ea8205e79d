from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mld_pipelines.lake import Lake
from tests.support.traced import write_trace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def shared_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with a traced model of two datasets; tests only read it."""
    lake = Lake.open(str(tmp_path_factory.mktemp("evaluated") / "lake"))
    metadata = ['{"site": "north"}' if i % 3 else '{"site": "south", "lamp": 2}' for i in range(900)]
    write_trace(lake, "train", 900, seed=1, metadata=metadata)
    write_trace(lake, "val", 900, seed=2, noise=1.4, metadata=metadata)
    return lake
