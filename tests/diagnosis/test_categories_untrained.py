"""From a model's outputs to categories: an untrained network, and independence of order and batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mld_pipelines.diagnosis import (
    ALEATORIC,
    CRITICAL,
    HOTSPOT,
    OPERATIONAL,
    RECESSIVE,
    STABLE,
    CodebookIdentity,
    Policy,
    atc_threshold,
    categorise,
    category_counts,
    count_codes,
    find_aleatoric,
    fit_codebook,
    unit_ambiguity,
)
from mld_pipelines.metrics import unit_statistics

pytestmark = pytest.mark.torch


@dataclass
class _Diagnosed:
    names: np.ndarray
    category: np.ndarray
    counts: dict[str, int]
    codebook_id: str


def _untrained_outputs(seed: int, *, gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import torch

    images, labels = load_digits(return_X_y=True)
    torch.manual_seed(seed)
    body = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(32 * 16, 64), torch.nn.ReLU(),
    ).eval()  # fmt: skip
    head = torch.nn.Linear(64, 10)
    with torch.no_grad():
        features = body(torch.tensor(images / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8))
        logits = head(features) * gain
    return features.numpy(), logits.numpy(), labels


def _diagnose(keys: np.ndarray, features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> _Diagnosed:
    order = np.argsort(keys)
    features, logits, labels = features[order], logits[order], labels[order]
    policy = Policy()
    stats = unit_statistics(logits=logits, labels=labels)
    identity = CodebookIdentity(
        model_name="cnn", fingerprint="0", feature_layer="7", feature_dim=64, output_kind="logits", n_classes=10
    )
    fit = fit_codebook(features, stats.probabilities, identity=identity, policy=policy)
    assert fit is not None
    assert stats.is_error is not None
    n_codes, index = fit.codebook.n_codes, fit.assignment.index
    counts = count_codes(
        index, stats.is_error, stats.confidence, n_codes=n_codes,
        threshold=atc_threshold(stats.confidence, float(stats.is_error.mean())),
    )  # fmt: skip
    verdicts = categorise(
        counts.n, counts.k, counts.k_unflagged, policy=policy, unseen=np.arange(n_codes + 1) == n_codes
    )
    overlay = find_aleatoric(
        unit_ambiguity(logits, labels, temperature=1.0), index, stats.is_error, category=verdicts.category, n_classes=10
    )
    back = np.argsort(order)
    names = fit.codebook.code_names(index)[back]
    totals = dict(category_counts(index, verdicts.category, aleatoric=overlay.is_aleatoric))
    return _Diagnosed(names, verdicts.category[index][back], totals, fit.codebook.codebook_id)


@pytest.mark.feature("H14", "H15", "H16", "H17", "H18", "H19")
@pytest.mark.parametrize(("seed", "gain"), [(0, 1.0), (1, 1.0), (2, 20.0)])
def test_untrained_model_has_no_coverage_and_no_aleatoric_code(seed: int, gain: float) -> None:
    features, logits, labels = _untrained_outputs(seed, gain=gain)
    counts = _diagnose(np.arange(len(labels)), features, logits, labels).counts
    n = len(labels)
    assert (counts[STABLE] + counts[OPERATIONAL]) / n <= 0.1
    assert (counts[HOTSPOT] + counts[CRITICAL] + counts[RECESSIVE]) / n >= 0.9
    assert counts[ALEATORIC] == 0


def test_permuting_the_rows_changes_no_code_and_no_category() -> None:
    features, logits, labels = _untrained_outputs(0, gain=5.0)
    keys = np.arange(len(labels))
    first = _diagnose(keys, features, logits, labels)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    second = _diagnose(keys[shuffled], features[shuffled], logits[shuffled], labels[shuffled])
    assert second.codebook_id == first.codebook_id
    np.testing.assert_array_equal(second.names, first.names[shuffled])
    np.testing.assert_array_equal(second.category, first.category[shuffled])
    assert second.counts == first.counts


def test_running_again_repeats_every_code_and_category() -> None:
    outputs = _untrained_outputs(3, gain=5.0)
    first, second = (_diagnose(np.arange(len(outputs[2])), *outputs) for _ in range(2))
    assert second.codebook_id == first.codebook_id
    np.testing.assert_array_equal(second.names, first.names)
    np.testing.assert_array_equal(second.category, first.category)
