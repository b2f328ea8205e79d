from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from mld_pipelines.diagnosis import Policy
from mld_pipelines.windows import (
    DERIVED_SCHEMA,
    ReevaluationFacts,
    ReevaluationState,
    decide_reevaluation,
    gather_windows,
)

NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
POLICY = Policy()
QUIET = ReevaluationFacts(model_key="m@v1", result_name="r1", event_time=NOW, labels=0, outside=[False] * 5)
SHIFTED = replace(QUIET, labels=50, outside=[False, True, True, True])


def test_two_hundred_labels_suffice_alone() -> None:
    assert not decide_reevaluation(replace(QUIET, labels=199), POLICY).is_due
    decision = decide_reevaluation(replace(QUIET, labels=200), POLICY)
    assert (decision.is_due, decision.reason) == (True, "labels")
    assert "200 labels" in decision.explanation


def test_fifty_labels_suffice_when_the_estimate_left_the_band_in_three_windows() -> None:
    decision = decide_reevaluation(SHIFTED, POLICY)
    assert (decision.is_due, decision.reason) == (True, "estimate")
    assert not decide_reevaluation(replace(SHIFTED, labels=49), POLICY).is_due
    assert not decide_reevaluation(replace(SHIFTED, outside=[True, True, False]), POLICY).is_due
    assert not decide_reevaluation(replace(SHIFTED, outside=[True, True]), POLICY).is_due


@pytest.mark.parametrize(
    ("unseen_low", "unseen_ref", "due"),
    [(0.06, 0.01, True), (0.05, 0.01, False), (0.06, 0.04, False), (0.09, 0.04, True), (None, 0.0, False)],
)
def test_a_doubled_unseen_share_counts_as_shift(unseen_low: float | None, unseen_ref: float, due: bool) -> None:
    facts = replace(QUIET, labels=60, unseen_low=unseen_low, unseen_ref=unseen_ref)
    decision = decide_reevaluation(facts, POLICY)
    assert decision.is_due is due
    assert decision.reason == ("unseen" if due else None)


def test_shift_without_labels_never_makes_a_result() -> None:
    assert not decide_reevaluation(replace(SHIFTED, labels=0), POLICY).is_due


def test_cool_down_runs_in_event_time() -> None:
    asked = decide_reevaluation(replace(QUIET, labels=200), POLICY).state
    more = replace(QUIET, labels=400)
    early = replace(more, event_time=NOW + timedelta(hours=5, minutes=59))
    late = replace(more, event_time=NOW + timedelta(hours=6))
    assert not decide_reevaluation(early, POLICY, asked).is_due
    assert decide_reevaluation(late, POLICY, asked).is_due


def test_cool_down_outlives_a_new_result() -> None:
    asked = decide_reevaluation(replace(QUIET, labels=200), POLICY).state
    after = replace(QUIET, result_name="r2", labels=200, event_time=NOW + timedelta(hours=1))
    assert not decide_reevaluation(after, POLICY, asked).is_due


def test_the_same_labels_do_not_ask_twice() -> None:
    asked = decide_reevaluation(replace(QUIET, labels=250), POLICY).state
    later = replace(QUIET, labels=449, event_time=NOW + timedelta(days=2))
    assert not decide_reevaluation(later, POLICY, asked).is_due
    assert decide_reevaluation(replace(later, labels=450), POLICY, asked).is_due


def test_lasting_shift_asks_once_until_production_was_back_inside() -> None:
    asked = decide_reevaluation(SHIFTED, POLICY).state
    lasting = replace(SHIFTED, labels=120, event_time=NOW + timedelta(days=1))
    still = decide_reevaluation(lasting, POLICY, asked)
    assert not still.is_due
    back = decide_reevaluation(replace(lasting, outside=[False] * 3), POLICY, still.state)
    assert decide_reevaluation(lasting, POLICY, back.state).is_due


def test_a_new_result_arms_the_rule_again() -> None:
    asked = decide_reevaluation(SHIFTED, POLICY).state
    renewed = replace(SHIFTED, result_name="r2", event_time=NOW + timedelta(days=1))
    assert decide_reevaluation(renewed, POLICY, asked).is_due


def test_a_repeated_tick_has_the_same_run_key() -> None:
    keys = {decide_reevaluation(SHIFTED, POLICY).run_key for _ in range(2)}
    assert len(keys) == 1
    assert None not in keys


def test_state_survives_the_cursor() -> None:
    state = decide_reevaluation(SHIFTED, POLICY).state
    assert ReevaluationState.from_json(state.to_json()) == state
    assert ReevaluationState.from_json(ReevaluationState().to_json()) == ReevaluationState()


def test_windows_are_gathered_in_order_and_only_where_judged() -> None:
    def window(hour: int, n: int, low: float, high: float, unseen: float) -> dict[str, object]:
        start = NOW.replace(hour=hour)
        return {
            "event_day": date(2026, 5, 10), "hour": hour, "model_key": "m@v1", "result_name": "r1", "slice": "all",
            "grain": "hour", "window_start": start, "n": n, "error_rate_reference": 0.1, "error_rate_low": low,
            "error_rate_high": high, "unseen_low": unseen,
        }  # fmt: skip

    rows = [
        window(3, 200, 0.2, 0.3, 0.5),
        window(1, 200, 0.05, 0.2, 0.1),
        window(2, 50, 0.3, 0.4, 0.9),
        window(4, 200, 0.01, 0.05, 0.2),
    ]
    derived = pl.DataFrame(rows, schema=DERIVED_SCHEMA)
    assert gather_windows(derived, model_key="m@v1", result_name="r1") == ([False, True, True], 0.2)
    assert gather_windows(derived, model_key="m@v1", result_name="other") == ([], None)


def test_a_finished_stress_pass_is_due_at_once_and_without_labels() -> None:
    decision = decide_reevaluation(replace(QUIET, stress_passes=1), POLICY)
    assert (decision.is_due, decision.reason) == (True, "stress")
    assert "1 finished stress pass not read yet" in decision.explanation
    assert decision.run_key == "reevaluate:m@v1:r1:stress:1"
    assert decide_reevaluation(replace(QUIET, stress_passes=2), POLICY).run_key != decision.run_key


def test_a_stress_pass_starts_no_cool_down_and_takes_no_labels() -> None:
    first = decide_reevaluation(replace(QUIET, labels=150, stress_passes=1), POLICY)
    assert (first.state.requested_at, first.state.requested_labels) == (None, 0)
    assert decide_reevaluation(replace(QUIET, labels=200), POLICY, first.state).reason == "labels"


def test_a_stress_pass_does_not_wait_for_a_cool_down() -> None:
    asked = decide_reevaluation(replace(QUIET, labels=200), POLICY).state
    soon = replace(QUIET, labels=400, event_time=NOW + timedelta(hours=1), stress_passes=1)
    decision = decide_reevaluation(soon, POLICY, asked)
    assert decision.reason == "stress"
    assert decision.state == asked


def test_enough_labels_make_the_whole_evaluation_which_reads_the_stress_pass_too() -> None:
    assert decide_reevaluation(replace(QUIET, labels=200, stress_passes=1), POLICY).reason == "labels"
