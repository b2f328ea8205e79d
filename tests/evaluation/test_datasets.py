from __future__ import annotations

import pytest

from mld_pipelines.evaluation import choose_decision_dataset
from mld_pipelines.exceptions import InvalidInputError, NotFoundError


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"train": 9, "val": 1, "test": 5}, "val"),
        ({"TRAIN": 9, "Valid": 1, "test": 5}, "Valid"),
        ({"test": 1, "validation": 1}, "validation"),
        ({"eval": 1, "train": 1}, "eval"),
        ({"train": 9, "holdout": 1}, "holdout"),
        ({"train": 9, "b": 5, "a": 5, "c": 4}, "a"),
        ({"train": 9, "b": 6, "a": 5}, "b"),
        ({"train": 9}, "train"),
        ({"train": 9, "production": 90}, "train"),
    ],
)
def test_the_rule_for_the_deciding_dataset(counts: dict[str, int], expected: str) -> None:
    assert choose_decision_dataset(counts).dataset == expected


def test_training_data_decides_with_a_warning() -> None:
    decision = choose_decision_dataset({"train": 9})
    assert decision.is_train
    assert "optimistic" in decision.warnings[0]


def test_a_dataset_whose_weights_changed_does_not_decide() -> None:
    decision = choose_decision_dataset({"train": 9, "val": 5, "test": 2}, barred=["val"])
    assert decision.dataset == "test"
    assert "'val'" in decision.warnings[0]


def test_the_policy_overrides() -> None:
    assert choose_decision_dataset({"val": 1, "hard": 1}, override="hard").dataset == "hard"


def test_an_override_that_was_not_traced_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="'hard'"):
        choose_decision_dataset({"val": 1}, override="hard")


def test_production_never_decides() -> None:
    with pytest.raises(InvalidInputError, match="production never does"):
        choose_decision_dataset({"production": 100})
