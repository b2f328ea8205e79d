"""The grounds of verdicts: whose distances set the support, and when a binary model may speak of ambiguity."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluation._grounds import Grounds, q_values
from mld_pipelines.metrics import unit_statistics


def _grounds(logits: np.ndarray, labels: np.ndarray, *, datasets: list[str], distances: np.ndarray) -> Grounds:
    n = len(labels)
    return Grounds(
        frame=pl.DataFrame({"dataset_type": datasets, "fingerprint": ["a"] * n, "label": labels}),
        statistics=unit_statistics(logits=logits, labels=labels),
        index=np.arange(n) % 2,
        n_codes=2,
        distances=distances,
        temperature=1.0,
        reference=np.array(datasets) == "val",
        threshold=0.9,
        policy=Policy(),
    )


def _binary(n: int, *, informative: bool) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated outputs: code 0 is a coin flip; code 1 is known well, or a coin flip, too."""
    rng = np.random.default_rng(0)
    certainty = np.where(np.arange(n) % 2 == 0, 0.0, 3.0 if informative else 0.0)
    truth = rng.integers(0, 2, n)
    logits = np.stack([np.zeros(n), certainty * (2 * truth - 1) + 0.1 * rng.normal(size=n)], axis=1)
    return logits.astype(np.float32), truth


@pytest.mark.feature("H19")
@pytest.mark.parametrize("informative", [True, False])
def test_a_binary_model_without_information_has_no_aleatoric_code(informative: bool) -> None:
    logits, labels = _binary(400, informative=informative)
    grounds = _grounds(logits, labels, datasets=["val"] * 400, distances=np.zeros(400))
    found = grounds.find_aleatoric(np.array(["hotspot"] * 3), is_near=np.ones(3, bool))
    assert found.rivals[0] == 2
    assert bool(found.is_aleatoric[0]) == informative


@pytest.mark.feature("H19")
@pytest.mark.parametrize(("first", "near"), [("Train", [False, True, True]), ("test", [True, True, True])])
def test_the_support_is_that_of_training_or_of_the_reference_itself(first: str, near: list[bool]) -> None:
    """Code 0 of the reference lies at distance 2; training lies at 1, another dataset has no say."""
    logits, labels = _binary(200, informative=True)
    distances = np.where(np.arange(200) < 100, 1.0, np.where(np.arange(200) % 2 == 0, 2.0, 0.5))
    grounds = _grounds(logits, labels, datasets=[first] * 100 + ["val"] * 100, distances=distances)
    assert grounds.is_near_training().tolist() == near


@pytest.mark.feature("H22")
def test_a_single_code_has_no_q_value() -> None:
    logits, labels = _binary(40, informative=True)
    grounds = _grounds(logits, labels, datasets=["val"] * 40, distances=np.zeros(40))
    counted = grounds.count(np.arange(40) % 2 == 0)
    assert q_values(counted) == (None, None, None)
