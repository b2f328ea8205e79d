"""Every verdict comes with a method and a way to verify it."""

from __future__ import annotations

import itertools

import pytest

from mld_pipelines.diagnosis import (
    CATEGORIES,
    CRITICAL,
    HOTSPOT,
    METHODS,
    OPERATIONAL,
    REASONS,
    RECESSIVE,
    STABLE,
    Clues,
    recommend,
)
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
        (RECESSIVE, "generalisation_gap", "close_generalisation_gap"),
        (STABLE, "train_only", "trace_held_out"),
        (OPERATIONAL, "train_only", "trace_held_out"),
    ],
)
def test_method_fits_category_and_reason(category: str, reason: str, method: str) -> None:
    assert recommend(category, reason).method == method


_ONE_PAIR = Clues(n_errors=12, confusion=(3, 5), confusion_share=0.75, sink_share=0.8, n_labels=3)
_SINK = Clues(n_errors=12, confusion=(3, 1), confusion_share=0.3, sink_share=1.0, n_labels=6, is_far=True)
_SCATTER = Clues(n_errors=12, confusion=(3, 5), confusion_share=0.2, sink_share=0.3, n_labels=6)


@pytest.mark.feature("H28")
@pytest.mark.parametrize(
    ("category", "clues", "method"),
    [
        (CRITICAL, _ONE_PAIR, "audit_labels"),
        (CRITICAL, _SINK, "find_shortcut"),
        (CRITICAL, _SCATTER, "inspect_confident_errors"),
        (HOTSPOT, _ONE_PAIR, "separate_classes"),
        (HOTSPOT, _SINK, "match_conditions"),
        (HOTSPOT, _SCATTER, "label_and_retrain"),
        # Two errors are no pattern.
        (HOTSPOT, Clues(n_errors=2, confusion=(1, 0), confusion_share=1.0, sink_share=1.0), "label_and_retrain"),
        (STABLE, _ONE_PAIR, "freeze_regression_slice"),
        (RECESSIVE, _SINK, "label_to_decide"),
        (RECESSIVE, Clues(n_errors=20, is_undecidable=True), "refine_or_accept"),
    ],
)
def test_method_follows_what_the_errors_have_in_common(category: str, clues: Clues, method: str) -> None:
    reason = "between_tolerances" if category == RECESSIVE else "confirmed"
    assert recommend(category, reason, clues=clues).method == method


@pytest.mark.feature("H28")
def test_a_veto_is_not_overruled_by_how_many_labels_would_decide() -> None:
    stuck = Clues(n_errors=20, is_undecidable=True)
    assert recommend(RECESSIVE, "generalisation_gap", clues=stuck).method == "close_generalisation_gap"
    assert recommend(RECESSIVE, "unseen", clues=stuck).method == "extend_reference"


@pytest.mark.feature("H28")
def test_every_method_has_its_own_key_and_way_to_verify() -> None:
    assert all(key == method.method and method.verify and method.actions for key, method in METHODS.items())
    assert len({method.title for method in METHODS.values()}) == len(METHODS)
    reached = {
        recommend(category, reason, is_aleatoric=flag, clues=clues).method
        for category, reason, flag in itertools.product(CATEGORIES, REASONS, [False, True])
        for clues in (None, _ONE_PAIR, _SINK, Clues(is_undecidable=True))
    }
    assert reached == set(METHODS)


@pytest.mark.feature("H19", "H28")
def test_aleatoric_code_is_not_sent_to_collect_data() -> None:
    method = recommend(HOTSPOT, "confirmed", is_aleatoric=True)
    assert method.method == "reduce_ambiguity"
    assert not any("retrain" in action for action in method.actions)


def test_unknown_category_names_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="stable_coverage"):
        recommend("coldspot", "confirmed")
