"""Per-unit statistics against SciPy, hand calculation and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import log_softmax
from scipy.stats import entropy as scipy_entropy

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.metrics import unit_statistics

LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.floats(-60, 60))


def test_two_units_by_hand() -> None:
    stats = unit_statistics(logits=[[math.log(3), 0.0], [0.0, 0.0]], labels=[1, 0])
    np.testing.assert_allclose(stats.probabilities, [[0.75, 0.25], [0.5, 0.5]])
    np.testing.assert_allclose(stats.confidence, [0.75, 0.5])
    np.testing.assert_allclose(stats.loss, [math.log(4), math.log(2)])
    np.testing.assert_allclose(stats.entropy, [0.75 * math.log(4 / 3) + 0.25 * math.log(4), math.log(2)])
    assert stats.prediction.tolist() == [0, 0]
    assert stats.prediction.dtype == np.int64
    assert stats.is_error is not None
    assert stats.is_error.tolist() == [True, False]


@settings(max_examples=50)
@given(LOGITS)
def test_logits_agree_with_scipy(logits: np.ndarray) -> None:
    labels = np.arange(len(logits)) % logits.shape[1]
    stats = unit_statistics(logits=logits, labels=labels)
    expected = log_softmax(logits, axis=1)
    assert stats.loss is not None
    np.testing.assert_allclose(stats.loss, -expected[np.arange(len(logits)), labels], atol=1e-10)
    np.testing.assert_allclose(stats.entropy, scipy_entropy(np.exp(expected), axis=1), atol=1e-10)
    np.testing.assert_array_equal(stats.prediction, logits.argmax(axis=1))


def test_float32_logits_are_computed_in_float64() -> None:
    logits = np.array([[30.0, 0.0]], dtype=np.float32)
    stats = unit_statistics(logits=logits, labels=[0])
    assert stats.probabilities.dtype == np.float64
    assert stats.loss is not None
    # ln(1 + e^-30) by series; in float32 it would be 0.
    assert stats.loss[0] == pytest.approx(math.exp(-30), rel=1e-2)


def test_huge_logits_neither_overflow_nor_lose_the_loss() -> None:
    stats = unit_statistics(logits=[[1e5, 0.0]], labels=[1])
    assert stats.loss is not None
    assert stats.loss[0] == pytest.approx(1e5)
    assert stats.entropy[0] == 0.0


def test_probabilities_are_clipped_only_inside_logarithms() -> None:
    stats = unit_statistics(probabilities=[[1.0, 0.0]], labels=[1])
    assert stats.loss is not None
    assert stats.loss[0] == pytest.approx(12 * math.log(10))
    assert stats.entropy[0] == 0.0
    assert stats.probabilities.tolist() == [[1.0, 0.0]]


def test_without_labels_loss_and_error_are_absent() -> None:
    stats = unit_statistics(logits=[[1.0, 2.0]])
    assert stats.loss is None
    assert stats.is_error is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither"),
        ({"logits": [1.0, 2.0]}, "shape"),
        ({"logits": [[1.0], [2.0]]}, "2 classes"),
        ({"logits": [[1.0, 2.0], [np.nan, 0.0]]}, "row 1"),
        ({"logits": [[1.0, np.inf]]}, "infinity"),
        ({"probabilities": [[0.5, 0.9]]}, "no probabilities"),
        ({"probabilities": [[-0.1, 1.1]]}, "minimum"),
        ({"logits": [[1.0, 2.0]], "labels": [2]}, "outside"),
        ({"logits": [[1.0, 2.0]], "labels": [-1]}, "outside"),
        ({"logits": [[1.0, 2.0]], "labels": [0, 1]}, "one class index per unit"),
        ({"logits": [[1.0, 2.0]], "labels": [0.5]}, "integers"),
    ],
)
def test_bad_input_is_an_error_that_says_what(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        unit_statistics(**arguments)  # type: ignore[arg-type]
