"""Guards of the aleatoric overlay: medians by NumPy, bounds by SciPy's root finder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score

from mld_pipelines.diagnosis import in_support, is_informative, support_limit
from mld_pipelines.diagnosis._guards import code_medians
from mld_pipelines.exceptions import InvalidInputError


@given(st.lists(st.tuples(st.integers(-1, 3), st.floats(-9, 9) | st.just(float("nan"))), max_size=40))
def test_median_of_each_code_is_numpys(rows: list[tuple[int, float]]) -> None:
    index, values = np.array([row[0] for row in rows], dtype=int), np.array([row[1] for row in rows], dtype=float)
    found = code_medians(values, index, n_codes=4)
    for code in (0, 1, 2, 3, -1):
        mine = values[(index == code) & np.isfinite(values)]
        if len(mine):
            assert found[code] == pytest.approx(np.median(mine), abs=1e-12)
        else:
            assert np.isnan(found[code])


def test_the_limit_is_a_quantile_of_what_is_known() -> None:
    assert support_limit([*range(101), np.nan]) == pytest.approx(95.0)
    assert support_limit([np.nan, np.nan]) == np.inf
    assert support_limit([]) == np.inf


@pytest.mark.feature("H19")
@pytest.mark.parametrize(
    ("correct", "wrong", "inside"),
    [
        ([1.0, 1.0, 1.0], [1.0, 1.0], True),
        ([1.0, 1.0, 1.0, 1.0], [9.0, 9.0], False),  # familiar region, errors from its rim
        ([9.0, 9.0, 9.0, 9.0], [1.0], False),  # remote region
        ([1.0], [], True),
        ([9.0], [], False),
        ([], [], True),
        ([np.nan], [np.nan], True),
    ],
)
def test_units_and_errors_both_have_to_lie_in_the_support(
    correct: list[float], wrong: list[float], inside: bool
) -> None:
    distances = np.array([*correct, *wrong])
    errors = np.array([False] * len(correct) + [True] * len(wrong))
    found = in_support(distances, np.zeros(len(errors), int), errors, n_codes=1, limit=5.0)
    assert found.tolist() == [inside, True]


def test_lengths_have_to_agree() -> None:
    with pytest.raises(InvalidInputError, match="equally long"):
        in_support([1.0, 2.0], [0], [True], n_codes=1, limit=1.0)


def _lower_bound(auroc: float, m: int, n: int) -> float:
    """The 95 % lower bound of the score type, by searching the θ₀ that is just rejected (Hanley and McNeil 1982)."""

    def excess(theta: float) -> float:
        q1, q2 = theta / (2 - theta), 2 * theta**2 / (1 + theta)
        variance = (theta * (1 - theta) + (m - 1) * (q1 - theta**2) + (n - 1) * (q2 - theta**2)) / (m * n)
        return auroc - theta - 1.6448536 * float(np.sqrt(max(variance, 0.0)))

    return float(brentq(excess, 1e-9, auroc))


@pytest.mark.feature("H19")
@pytest.mark.parametrize("strength", [0.0, 0.1, 0.3, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("n", [10, 60, 400])
def test_a_binary_model_is_informative_when_the_lower_bound_of_its_auroc_exceeds_055(strength: float, n: int) -> None:
    rng = np.random.default_rng(round(100 * strength) + n)
    labels = np.arange(n) % 3 == 0
    scores = strength * labels + rng.normal(size=n)
    bound = _lower_bound(roc_auc_score(labels, scores), int(labels.sum()), int((~labels).sum()))
    assert is_informative(scores, labels) == (bound > 0.55)


@pytest.mark.feature("H19")
def test_luck_and_one_class_are_not_information() -> None:
    assert not is_informative([0.1, 0.2, 0.9], [False, False, True])  # AUROC 1, by chance one time in three
    assert not is_informative([0.1, 0.2, 0.9], [False, False, False])
    assert is_informative(np.linspace(0, 1, 40), np.arange(40) >= 20)
