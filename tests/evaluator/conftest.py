from __future__ import annotations

import pytest

from mld_pipelines.evaluator import Evaluator, Result
from mld_pipelines.lake import Lake
from tests.support.traced import write_trace


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An endpoint with a traced model `toy@v1` of two datasets."""
    root = str(tmp_path_factory.mktemp("evaluator") / "lake")
    lake = Lake.open(root)
    metadata = ['{"site": "north"}' if i % 3 else '{"site": "south", "lamp": 2}' for i in range(900)]
    write_trace(lake, "train", 900, seed=1, metadata=metadata)
    write_trace(lake, "val", 900, seed=2, noise=1.6, metadata=metadata)
    return root


@pytest.fixture(autouse=True)
def _endpoint_is_set(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLD_API_ENDPOINT", endpoint)


@pytest.fixture(scope="module")
def evaluator(endpoint: str) -> Evaluator:
    return Evaluator("toy", "v1")


@pytest.fixture(scope="module")
def result(evaluator: Evaluator, endpoint: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_API_ENDPOINT", endpoint)
        return evaluator.request_evaluation(result_name="first")
