"""A finished stress pass makes a result due once, whether or not there is production."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mld_pipelines.evaluation import evaluate, evaluate_again
from mld_pipelines.rollups import due_reevaluations
from tests.support.traced import MODEL, START, write_receipt, write_stress, write_trace

if TYPE_CHECKING:
    from mld_pipelines.lake import Lake

LATER = START + timedelta(days=1)


@pytest.fixture
def result(lake: Lake) -> str:
    write_trace(lake, "train", 100, seed=1)
    write_trace(lake, "val", 300, seed=2, noise=1.4)
    return evaluate(lake, MODEL).result_name


@pytest.fixture
def lake(tmp_path: Any) -> Lake:
    from mld_pipelines.lake import Lake

    return Lake.open(str(tmp_path / "lake"))


def test_a_model_without_production_is_due_after_its_stress_pass_and_not_again(lake: Lake, result: str) -> None:
    assert due_reevaluations(lake, {}) == {}
    write_stress(lake, "val", 200, seed=2, noise=1.4, at=LATER)
    decision = due_reevaluations(lake, {})[MODEL]
    assert (decision.is_due, decision.reason, decision.state.result_name) == (True, "stress", result)
    evaluate_again(lake, result)
    assert due_reevaluations(lake, {}) == {}


def test_an_evaluation_for_another_reason_reads_the_pass_too(lake: Lake, result: str) -> None:
    write_stress(lake, "val", 200, seed=2, noise=1.4, at=LATER)
    assert evaluate(lake, MODEL).result_name != result
    assert due_reevaluations(lake, {}) == {}


def test_a_pass_that_could_not_be_used_is_not_asked_for_again(lake: Lake, result: str) -> None:
    write_stress(lake, "val", 20, seed=2, noise=1.4, at=LATER)
    assert due_reevaluations(lake, {})[MODEL].is_due
    assert "stress pass was not used" in str(evaluate_again(lake, result).row["warnings"])
    assert due_reevaluations(lake, {}) == {}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"fingerprint": "b" * 64}, id="other weights"),
        pytest.param({"epoch": 4}, id="another epoch"),
        pytest.param({"dataset": "train"}, id="a dataset that does not decide"),
        pytest.param({"model_key": "other@v1"}, id="another model"),
        pytest.param({"purpose": "trace"}, id="a trace"),
        pytest.param({"state": "discarded"}, id="discarded"),
    ],
)
def test_other_receipts_are_no_reason(lake: Lake, result: str, options: dict[str, Any]) -> None:
    values = {"dataset": "val", "purpose": "stress", **options}
    write_receipt(lake, "stream", values.pop("dataset"), 10, at=LATER, **values)
    assert due_reevaluations(lake, {}) == {}
    assert result
