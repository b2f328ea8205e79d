from __future__ import annotations

import numpy as np
import pytest

from mld_pipelines.evaluator import Evaluator, Result
from mld_pipelines.lake import Lake
from tests.support.traced import toy_outputs, write_trace


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An endpoint with a traced model `toy@v1` of two datasets."""
    root = str(tmp_path_factory.mktemp("evaluator") / "lake")
    lake = Lake.open(root)
    metadata = ['{"site": "north"}' if i % 3 else '{"site": "south", "lamp": 2}' for i in range(900)]
    write_trace(lake, "train", 900, seed=1, metadata=metadata)
    uris = [f"s3://raw/{i}.png" if i % 2 else None for i in range(900)]
    write_trace(lake, "val", 900, seed=2, noise=1.6, metadata=metadata, uris=uris)
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


@pytest.fixture(scope="module")
def better(endpoint: str, result: Result) -> Result:
    """`toy@v2`: the same inputs, other weights, a sharper and less often wrong model; one input is relabelled."""
    lake = Lake.open(endpoint)
    for dataset, seed, noise in (("train", 1, 1.0), ("val", 2, 1.6)):
        labels, _, logits = toy_outputs(900, seed=seed, noise=noise)
        helped = logits + np.where(np.arange(4) == labels[:, None], 2.0, 0.0)
        given = labels.copy()
        given[7] = (given[7] + 1) % 4
        write_trace(
            lake, dataset, 900, seed=seed, noise=noise, model_key="toy@v2", fingerprint="b" * 64, logits=helped,
            labels=given,
        )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_API_ENDPOINT", endpoint)
        return Evaluator("toy", "v2").request_evaluation(result_name="second")
