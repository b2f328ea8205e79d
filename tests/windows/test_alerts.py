from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.tables.monitoring import MONITORING_ALERTS
from mld_pipelines.windows import (
    DEFAULT_RULES,
    DERIVED_SCHEMA,
    AlertRule,
    Baseline,
    aggregate,
    derive,
    evaluate_alerts,
    resolve_run_failures,
    roll_up,
    run_failure_alert,
)

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 5, 1, tzinfo=UTC)
ESTIMATE = [rule for rule in DEFAULT_RULES if rule.name == "estimated_error_rate"]


def _hours(lows: list[float | None], *, n: int = 200, first: int = 0, **columns: Any) -> pl.DataFrame:
    """One hour per lower bound; r0 = 0.1, so 0.2 breaches, 0.05 is clear, 0.09 lies between."""
    starts = [START + timedelta(hours=first + k) for k in range(len(lows))]
    rows = [
        {
            "event_day": start.date(), "hour": start.hour, "model_key": "m@v1", "result_name": "r", "slice": "all",
            "grain": "hour", "window_start": start, "n": n, "n_scored": n, "n_invalid": 0, "error_rate_reference": 0.1,
            "error_rate_low": low, "error_rate_estimated": None if low is None else low + 0.05,
            "error_rate_high": None if low is None else low + 0.1, **columns,
        }
        for start, low in zip(starts, lows, strict=True)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=DERIVED_SCHEMA)


def _days(ns: list[int], **columns: Any) -> pl.DataFrame:
    rows = [
        {
            "event_day": date(2026, 5, 1) + timedelta(days=k), "hour": None, "model_key": "m@v1", "result_name": None,
            "slice": "all", "grain": "day", "window_start": START + timedelta(days=k), "n": n, "n_invalid": 0,
            **{name: values[k] for name, values in columns.items()},
        }
        for k, n in enumerate(ns)
        if n
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=DERIVED_SCHEMA)


def test_one_breach_is_pending_and_two_of_three_fire() -> None:
    assert evaluate_alerts(_hours([0.2]), ESTIMATE)["state"].to_list() == ["pending"]
    fired = evaluate_alerts(_hours([0.2, 0.05, 0.2]), ESTIMATE).row(0, named=True)
    assert (fired["state"], fired["opened_at"], fired["fired_at"]) == ("firing", START, START + timedelta(hours=2))


def test_two_breaches_far_apart_do_not_fire() -> None:
    states = evaluate_alerts(_hours([0.2, 0.05, 0.05, 0.2]), ESTIMATE)["state"].to_list()
    assert states == ["ok", "pending"]


def test_firing_resolves_after_two_clear_windows_of_three_below_eighty_percent() -> None:
    between = evaluate_alerts(_hours([0.2, 0.2, 0.09, 0.09, 0.09]), ESTIMATE).row(0, named=True)
    assert between["state"] == "firing"
    clear = evaluate_alerts(_hours([0.2, 0.2, 0.05, 0.05]), ESTIMATE).row(0, named=True)
    assert (clear["state"], clear["closed_at"]) == ("resolved", START + timedelta(hours=3))


def test_a_breach_within_the_cool_down_continues_the_same_alert() -> None:
    quick = evaluate_alerts(_hours([0.2, 0.2, 0.05, 0.05, 0.2, 0.2]), ESTIMATE)
    assert quick["state"].to_list() == ["firing"]
    slow = evaluate_alerts(_hours([0.2, 0.2, *[0.05] * 8, 0.2, 0.2]), ESTIMATE)
    assert slow["state"].to_list() == ["resolved", "firing"]


def test_small_windows_give_no_verdict() -> None:
    assert evaluate_alerts(_hours([0.2, 0.2, 0.2], n=99), ESTIMATE).is_empty()
    assert evaluate_alerts(_hours([None, None]), ESTIMATE).is_empty()


def test_days_are_judged_where_no_hour_reaches_a_hundred() -> None:
    day = _hours([0.2]).with_columns(hour=pl.lit(None, pl.Int32), grain=pl.lit("day"), n=pl.lit(300, pl.Int64))
    sparse = pl.concat([_hours([0.2], n=50), day])
    assert evaluate_alerts(sparse, ESTIMATE)["grain"].to_list() == ["day"]
    assert evaluate_alerts(pl.concat([_hours([0.2], n=150), day]), ESTIMATE)["grain"].to_list() == ["hour"]


def test_an_alert_says_value_interval_threshold_and_origin() -> None:
    alert = evaluate_alerts(_hours([0.2, 0.3]), ESTIMATE, versions={"monitoring/windows": 7}).row(0, named=True)
    assert (alert["value"], alert["low"], alert["high"]) == pytest.approx((0.35, 0.3, 0.4))
    assert (alert["threshold"], alert["origin"], alert["severity"], alert["n"]) == (0.1, "reference", "critical", 200)
    assert alert["last_seen"] == START + timedelta(hours=1)
    assert alert["versions"] == '{"monitoring/windows": 7}'
    assert "0.35" in alert["message"]


def test_models_results_and_slices_have_their_own_alerts() -> None:
    other = _hours([0.2, 0.2]).with_columns(model_key=pl.lit("other@v1"))
    again = _hours([0.2, 0.2]).with_columns(result_name=pl.lit("r2"))
    alerts = evaluate_alerts(pl.concat([_hours([0.2, 0.2]), other, again]), ESTIMATE)
    assert alerts["alert_id"].n_unique() == 3
    assert alerts["state"].to_list() == ["firing"] * 3


lows = st.lists(st.sampled_from([0.2, 0.05, 0.09, None]), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(lows)
def test_replaying_the_same_windows_changes_nothing(values: list[float | None]) -> None:
    once = evaluate_alerts(_hours(values), ESTIMATE)
    assert evaluate_alerts(_hours(values), ESTIMATE, once).equals(once)


@settings(max_examples=80, deadline=None)
@given(lows, st.data())
def test_judging_in_two_goes_equals_judging_at_once(values: list[float | None], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    overlap = data.draw(st.integers(0, cut))
    first = evaluate_alerts(_hours(values[:cut]), ESTIMATE)
    begin = cut - overlap
    second = evaluate_alerts(_hours(values), ESTIMATE, first, since=START + timedelta(hours=begin))
    stored = pl.concat([first.join(second, on="alert_id", how="anti"), second]).sort("opened_at", "alert_id")
    assert stored.equals(evaluate_alerts(_hours(values), ESTIMATE))


def test_an_alert_that_late_rows_refute_is_withdrawn() -> None:
    stored = evaluate_alerts(_hours([0.2, 0.2, 0.05]), ESTIMATE)
    corrected = evaluate_alerts(_hours([0.05, 0.05, 0.05]), ESTIMATE, stored)
    assert corrected["state"].to_list() == ["resolved"]
    assert corrected["alert_id"].to_list() == stored["alert_id"].to_list()
    assert corrected["message"][0].startswith("withdrawn")
    assert evaluate_alerts(_hours([0.05, 0.05, 0.05]), ESTIMATE, corrected).equals(corrected)


@pytest.mark.feature("K25", "M10")
@pytest.mark.parametrize("rule", ["drift_codes", "drift_classes", "drift_confidence"])
def test_planted_drift_in_production_fires(
    rule: str, make_rows: Callable[..., pl.DataFrame], make_baseline: Callable[..., Baseline], result_name: str
) -> None:
    """Reference on other codes, classes and confidences than the traffic."""
    baseline = make_baseline({"E001": 2000, "E002": 1000})
    states = aggregate(make_rows(6000))
    derived = pl.concat([derive(states, {result_name: baseline}), derive(roll_up(states), {result_name: baseline})])
    alerts = evaluate_alerts(derived).filter(pl.col("rule") == rule)
    assert alerts["state"].to_list() == ["firing"]


def test_traffic_like_the_reference_raises_no_drift_alert(
    make_rows: Callable[..., pl.DataFrame], result_name: str
) -> None:
    from mld_pipelines.windows import fit_baseline

    units = make_rows(3000, seed=11).with_columns(is_error=pl.lit(value=False))
    baseline = fit_baseline(units, model_key="m@v1", result_name=result_name)
    states = aggregate(make_rows(12_000, seed=12, days=4))
    derived = pl.concat([derive(states, {result_name: baseline}), derive(roll_up(states), {result_name: baseline})])
    alerts = evaluate_alerts(derived, [rule for rule in DEFAULT_RULES if rule.name.startswith("drift")])
    assert "firing" not in alerts["state"].to_list()
    assert "resolved" not in alerts["state"].to_list()


@pytest.mark.feature("M33")
def test_labels_that_show_more_errors_than_the_reference_fire() -> None:
    labelled = {"error_rate_realised": 0.3, "error_rate_realised_low": 0.2, "error_rate_realised_high": 0.4}
    alerts = evaluate_alerts(_hours([None, None], n_labelled=40, **labelled))
    assert alerts.select("rule", "state", "high").rows() == [("realised_error_rate", "firing", 0.4)]
    assert evaluate_alerts(_hours([None, None], n_labelled=29, **labelled)).is_empty()


def test_a_growing_share_of_bad_categories_fires() -> None:
    alerts = evaluate_alerts(_hours([None, None], bad_share=0.4, bad_low=0.35, bad_threshold=0.2))
    assert alerts.select("rule", "state", "value").rows() == [("bad_categories", "firing", 0.4)]


def test_partly_scored_windows_are_judged_by_what_was_scored() -> None:
    assert evaluate_alerts(_hours([0.2, 0.2], n_scored=99), ESTIMATE).is_empty()


def test_inputs_outside_the_reference_fire() -> None:
    windows = _hours([0.0, 0.0], unseen_share=0.3, unseen_low=0.25, unseen_threshold=0.1)
    alert = evaluate_alerts(windows).row(0, named=True)
    assert (alert["rule"], alert["state"], alert["value"]) == ("unseen", "firing", 0.3)


@pytest.mark.feature("M8")
def test_volume_falls_and_surges_fire_but_a_day_still_filling_does_not() -> None:
    def volume(*ns: int) -> list[str]:
        return evaluate_alerts(_days(list(ns))).filter(pl.col("rule") == "volume")["state"].to_list()

    assert volume(100, 100, 100, 100, 20, 20, 100) == ["firing"]
    assert volume(100, 100, 100, 100, 400, 400) == ["firing"]
    assert volume(100, 100, 100, 100, 5) == []
    assert volume(100, 110, 90, 105, 120) == []


def test_slow_days_fire_the_latency_rule() -> None:
    derived = _days([200] * 6, latency_p95_ms=[10.0, 11.0, 10.0, 10.0, 25.0, 30.0])
    alert = evaluate_alerts(derived).filter(pl.col("rule") == "latency").row(0, named=True)
    assert (alert["state"], alert["value"], alert["origin"]) == ("firing", 30.0, "history")


def test_lost_rows_fire() -> None:
    hours = _hours([None, None]).with_columns(
        result_name=pl.lit(None, pl.String), n_quarantined=pl.lit(10), n_dropped=pl.lit(None, pl.Int64)
    )
    alert = evaluate_alerts(hours).row(0, named=True)
    assert (alert["rule"], alert["state"]) == ("lost_rows", "firing")
    assert alert["value"] == pytest.approx(10 / 210)


def test_a_failed_run_is_one_alert_however_often_it_is_reported() -> None:
    calls = [
        run_failure_alert(run_id="run-1", job="evaluation", model_key="m@v1", failed_at=START, message="disk full")
        for _ in range(2)
    ]
    assert calls[0].equals(calls[1])
    assert calls[0]["state"].to_list() == ["firing"]
    assert MONITORING_ALERTS.align(calls[0]).height == 1


def test_work_done_by_a_later_run_resolves_the_alerts_of_the_runs_that_failed_at_it() -> None:
    alerts = pl.concat(
        run_failure_alert(run_id=run_id, job="evaluation", model_key=model, failed_at=START, message="disk full")
        for run_id, model in (("run-1", "m@v1"), ("run-2", "m@v1"), ("run-3", "other@v1"))
    )
    later = START + timedelta(hours=1)
    resolved = resolve_run_failures(alerts, [("m@v1", "run-1"), ("m@v1", "run-9")], run_id="run-4", succeeded_at=later)
    (row,) = resolved.iter_rows(named=True)
    assert (row["state"], row["closed_at"], row["fired_at"]) == ("resolved", later, START)
    assert row["alert_id"] == alerts["alert_id"][0]
    assert row["message"].endswith("run run-4 has done its work since")
    assert MONITORING_ALERTS.align(resolved).height == 1
    again = resolve_run_failures(resolved, [("m@v1", "run-1")], run_id="run-5", succeeded_at=later)
    assert again.is_empty()


def test_rows_fit_the_table() -> None:
    assert MONITORING_ALERTS.align(evaluate_alerts(_hours([0.2]))).height == 1
    assert MONITORING_ALERTS.align(evaluate_alerts(_hours([]))).is_empty()


def test_a_rule_that_cannot_resolve_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="resume"):
        AlertRule(name="x", value="n", compared="n", threshold=1.0, origin="user", resume=2.0)


def test_late_rows_that_take_back_the_reason_to_go_on_leave_the_alert_resolved() -> None:
    """Fired, resolved by two clear hours of three, gone on with by the last hour; then that hour is corrected."""
    lows_before = [0.2, 0.2, 0.2, 0.2, 0.2, 0.05, 0.2, 0.05, 0.2]
    stored = evaluate_alerts(_hours(lows_before), ESTIMATE)
    assert stored["state"].to_list() == ["firing"]
    corrected = [*lows_before[:8], 0.09]  # between 80 % of the threshold and the threshold: neither breach nor clear
    (update,) = evaluate_alerts(_hours(corrected), ESTIMATE, stored, since=START + timedelta(hours=8)).to_dicts()
    (fresh,) = evaluate_alerts(_hours(corrected), ESTIMATE).to_dicts()
    assert (update["alert_id"], update["state"]) == (stored["alert_id"].item(), "resolved")
    assert update["closed_at"] == fresh["closed_at"] == START + timedelta(hours=7)


@settings(max_examples=60, deadline=None)
@given(lows, lows, st.data())
def test_late_rows_leave_the_alerts_that_judging_everything_afresh_gives(
    before: list[float | None], after: list[float | None], data: st.DataObject
) -> None:
    """Some windows from `begin` on are corrected; the others stay. Alive alerts equal a fresh judgement of all."""
    begin = data.draw(st.integers(0, len(before)))
    corrected = before[:begin] + after + before[begin + len(after) :]
    stored = evaluate_alerts(_hours(before), ESTIMATE)
    update = evaluate_alerts(_hours(corrected), ESTIMATE, stored, since=START + timedelta(hours=begin))
    merged = pl.concat([stored.join(update, on="alert_id", how="anti"), update])
    alive = pl.col("state").is_in(["pending", "firing"])
    fresh = evaluate_alerts(_hours(corrected), ESTIMATE)
    assert sorted(merged.filter(alive)["alert_id"]) == sorted(fresh.filter(alive)["alert_id"])


@settings(max_examples=40, deadline=None)
@given(lows, st.data())
def test_judging_only_old_windows_again_never_touches_what_happened_after_them(
    values: list[float | None], data: st.DataObject
) -> None:
    stored = evaluate_alerts(_hours(values), ESTIMATE)
    end = data.draw(st.integers(0, len(values)))
    partial = evaluate_alerts(_hours(values[:end]), ESTIMATE, stored)
    merged = pl.concat([stored.join(partial, on="alert_id", how="anti"), partial]).sort("opened_at", "alert_id")
    assert merged.equals(stored)
