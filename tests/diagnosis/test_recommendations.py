"""Every verdict comes with a method and a way to verify it."""

from __future__ import annotations

import itertools

import pytest

from mld_pipelines.diagnosis import CATEGORIES, CRITICAL, HOTSPOT, OPERATIONAL, REASONS, RECESSIVE, STABLE, recommend
from mld_pipelines.exceptions import InvalidInputError


@pytest.mark.feature("H28")
@pytest.mark.parametrize(
    ("category", "reason", "aleatoric"), list(itertools.product(CATEGORIES, REASONS, [False, True]))
)
def test_every_verdict_has_a_complete_method(category: str, reason: str, aleatoric: bool) -> None:
    method = recommend(category, reason, is_aleatoric=aleatoric)
    assert method.method
    assert method.title
    assert method.actions
    assert method.verify


@pytest.mark.feature("H28")
@pytest.mark.parametrize(
    ("category", "reason", "method"),
    [
        (STABLE, "confirmed", "freeze_regression_slice"),
        (OPERATIONAL, "confirmed", "monitor"),
        (OPERATIONAL, "generalisation_gap", "close_generalisation_gap"),
        (HOTSPOT, "train_only", "label_and_retrain"),
        (CRITICAL, "confirmed", "inspect_confident_errors"),
        (RECESSIVE, "few_units", "label_more"),
        (RECESSIVE, "between_tolerances", "label_to_decide"),
        (RECESSIVE, "unseen", "extend_reference"),
    ],
)
def test_method_fits_category_and_reason(category: str, reason: str, method: str) -> None:
    assert recommend(category, reason).method == method


@pytest.mark.feature("H19", "H28")
def test_aleatoric_code_is_not_sent_to_collect_data() -> None:
    method = recommend(HOTSPOT, "confirmed", is_aleatoric=True)
    assert method.method == "reduce_ambiguity"
    assert not any("retrain" in action for action in method.actions)


def test_unknown_category_names_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="stable_coverage"):
        recommend("coldspot", "confirmed")
