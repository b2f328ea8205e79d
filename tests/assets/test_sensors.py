"""Sensors: whatever the order of commits, ticks and crashes, no day and no request is missed or doubled."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from assets.definitions import defs as platform
from mld_pipelines.diagnosis import ALGORITHM_VERSION, Policy
from mld_pipelines.evaluation import evaluate, promote_result
from mld_pipelines.lake import Batch
from mld_pipelines.tables import FIRST_EVENT_DAY, LANDING_REQUESTS, MONITORING_ALERTS
from tests.support.traced import MODEL, START, write_feedback, write_inferences, write_receipt, write_trace


def days_of(request) -> list[date]:
    first = date.fromisoformat(request.tags["dagster/asset_partition_range_start"])
    last = date.fromisoformat(request.tags["dagster/asset_partition_range_end"])
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def all_days(result) -> list[date]:
    return [day for request in result.run_requests for day in days_of(request)]


class Traffic:
    """Commits inferences and labels, and knows which days they touch."""

    def __init__(self, lake, choose: random.Random) -> None:
        self.lake, self.choose, self.seq = lake, choose, 0
        self.logged: dict[str, date] = {}

    def commit(self) -> set[date]:
        if self.logged and self.choose.random() < 0.3:
            chosen = self.choose.sample(sorted(self.logged), min(2, len(self.logged)))
            self.seq += 1
            write_feedback(self.lake, chosen, [0] * len(chosen), at=START + timedelta(days=20, seconds=self.seq))
            return {self.logged[one] for one in chosen}
        day = self.choose.randint(0, 12)
        ids, _ = write_inferences(self.lake, 2, seq=self.seq, at=START + timedelta(days=day))
        self.seq += 1
        touched = (START + timedelta(days=day)).date()
        self.logged |= dict.fromkeys(ids, touched)
        return {touched}


@pytest.mark.parametrize("seed", range(4))
def test_new_logs_requests_every_touched_day_once_per_commit_group(lake, tick, seed):
    choose = random.Random(seed)
    traffic, cursor, waiting, keys = Traffic(lake, choose), None, set(), Counter()
    for _ in range(12):
        if choose.random() < 0.6:
            waiting |= traffic.commit()
            continue
        result = tick("new_logs", cursor)
        assert sorted(all_days(result)) == sorted(waiting), "exactly the days touched since the last tick, each once"
        keys.update(request.run_key for request in result.run_requests)
        cursor, waiting = result.cursor, set()
    assert sorted(all_days(tick("new_logs", cursor))) == sorted(waiting)
    assert set(keys.values()) <= {1}


@pytest.mark.parametrize("seed", range(4))
def test_a_tick_that_crashed_before_its_cursor_was_stored_loses_nothing(lake, tick, seed):
    choose = random.Random(100 + seed)
    traffic, cursor, owed, launched = Traffic(lake, choose), None, set(), {}
    for _ in range(12):
        action = choose.choice(["commit", "commit", "tick", "crash"])
        if action == "commit":
            owed |= traffic.commit()
            continue
        result = tick("new_logs", cursor)
        fresh = {r.run_key: days_of(r) for r in result.run_requests if r.run_key not in launched}
        launched |= fresh
        if action == "tick":
            assert owed <= {day for r in result.run_requests for day in days_of(r)}
            cursor, owed = result.cursor, set()
        else:
            repeated = tick("new_logs", cursor)
            assert [r.run_key for r in repeated.run_requests] == [r.run_key for r in result.run_requests], (
                "the same rows give the same run keys, so Dagster launches nothing twice"
            )


def test_a_lake_made_anew_repeats_versions_and_no_run_key(lake, tick):
    def keys():
        write_trace(lake, "train", 20, seed=1)
        write_inferences(lake, 2, seq=0, at=START)
        requests = [one for name in ("new_traces", "new_logs") for one in tick(name).run_requests]
        assert len(requests) == 2
        return {request.run_key for request in requests}

    first = keys()
    assert {request.run_key for name in ("new_traces", "new_logs") for request in tick(name).run_requests} == first
    shutil.rmtree(lake.root)
    assert not first & keys()


def test_touched_days_beyond_the_cap_wait_for_the_next_tick(lake, tick):
    for n in range(30):
        write_inferences(lake, 1, seq=n, at=datetime(2025, 10, 1, tzinfo=UTC) + timedelta(days=2 * n))
    first = tick("new_logs")
    second = tick("new_logs", first.cursor)
    third = tick("new_logs", second.cursor)
    assert (len(first.run_requests), len(second.run_requests), len(third.run_requests)) == (25, 5, 0)
    assert len({*all_days(first), *all_days(second)}) == 30
    assert min(all_days(first)) > max(all_days(second)), "newest first"


def test_contiguous_days_are_one_run(lake, tick):
    for n in (0, 1, 2, 5):
        write_inferences(lake, 1, seq=n, at=START + timedelta(days=n))
    ranges = [(min(days), max(days)) for days in map(days_of, tick("new_logs").run_requests)]
    day = START.date()
    assert ranges == [(day + timedelta(5), day + timedelta(5)), (day, day + timedelta(2))]


def test_an_event_day_in_the_future_waits_until_it_is_a_partition(lake, tick, resources):
    from resources import ClockResource

    write_inferences(lake, 1, at=datetime(2026, 2, 5, tzinfo=UTC))
    early = tick("new_logs")
    assert early.run_requests == []
    assert tick("new_logs", early.cursor).run_requests == []
    resources["clock"] = ClockResource(fixed="2026-02-05T00:00:01+00:00")
    assert all_days(tick("new_logs", early.cursor)) == [date(2026, 2, 5)]


def test_events_before_the_first_day_are_left_out(lake, tick):
    write_inferences(lake, 1, at=datetime(2019, 12, 31, tzinfo=UTC))
    result = tick("new_logs")
    assert result.run_requests == []
    assert json.loads(result.cursor)["pending"] == []
    assert date(2020, 1, 1) == FIRST_EVENT_DAY


def test_compaction_touches_no_day(lake, tick):
    from mld_pipelines.tables import LANDING_INFERENCES

    for n in range(4):
        write_inferences(lake, 2, seq=n)
    cursor = tick("new_logs").cursor
    lake.compact(LANDING_INFERENCES, min_files=2)
    assert tick("new_logs", cursor).run_requests == []


def test_new_logs_reports_what_landed(lake, tick):
    write_inferences(lake, 3)
    events = tick("new_logs").asset_events
    assert [event.asset_key.to_user_string() for event in events] == ["landing/inferences"]
    assert events[0].metadata["new_rows"].value == 3


@pytest.mark.parametrize("seed", range(3))
def test_new_traces_requests_every_finished_model_once(lake, tick, instance, seed):
    choose = random.Random(seed)
    cursor, waiting, n = None, set(), 0
    for _ in range(10):
        if choose.random() < 0.6:
            key = f"toy@v{choose.randint(1, 3)}"
            write_trace(lake, "val", 3, seed=n, model_key=key, stream=f"s{n}")
            waiting.add(key)
            n += 1
            continue
        result = tick("new_traces", cursor)
        assert sorted(r.partition_key for r in result.run_requests) == sorted(waiting)
        assert waiting <= set(instance.get_dynamic_partitions("model_key"))
        cursor, waiting = result.cursor, set()
    assert {r.partition_key for r in tick("new_traces", cursor).run_requests} == waiting


def test_rows_without_a_receipt_are_reported_after_a_minute_and_not_promoted(lake, tick, resources, capfd):
    from resources import ClockResource

    stream = write_trace(lake, "val", 3, receipt=False)
    first = tick("new_traces")
    resources["clock"] = ClockResource(fixed="2026-02-01T12:01:30+00:00")
    second = tick("new_traces", first.cursor)
    assert first.run_requests == second.run_requests == []
    said = capfd.readouterr()
    assert stream in said.err + said.out
    assert json.loads(second.cursor)["state"]["open_since"] == {}, "reported once"
    write_receipt(lake, stream, "val", 3)
    assert [r.partition_key for r in tick("new_traces", second.cursor).run_requests] == [MODEL]


def request(lake, request_id: str, **values) -> None:
    at = START
    row = {
        "stream_id": request_id, "seq": 0, "row": 0, "ingested_at": at, "ingest_day": at.date(), "sdk_version": "test",
        "request_id": request_id, "kind": "evaluation", "model_key": MODEL, "n_epoch_spec": "latest",
        "result_name": None, "params": None, "requested_by": "test", "requested_at": at, **values,
    }  # fmt: skip
    schema = {name: LANDING_REQUESTS.column(name).data_type for name in row}
    lake.commit_once(LANDING_REQUESTS, [Batch(request_id, 0, pl.DataFrame([row], schema=schema))])


def test_a_requested_evaluation_is_launched_once_with_its_wishes(lake, tick, instance):
    request(lake, "r1", n_epoch_spec="3", result_name="mine", params='{"seed": 5}')
    result = tick("evaluation_requests")
    (run,) = result.run_requests
    assert (run.run_key, run.partition_key) == ("r1", MODEL)
    config = run.run_config["ops"]["evaluate_model"]["config"]
    assert (config["result_name"], config["n_epoch"], config["policy"]) == ("mine", "3", '{"seed": 5}')
    assert config["trigger"] == "request"
    assert instance.get_dynamic_partitions("model_key") == [MODEL]
    assert tick("evaluation_requests", result.cursor).run_requests == []


def test_a_result_made_by_the_sdk_is_reported_once_for_every_table(lake, tick, instance, evaluated):
    result = tick("evaluation_results")
    keys = {event.asset_key.to_user_string() for event in result.asset_events}
    assert keys == {
        "evaluation/units", "evaluation/metrics", "evaluation/issues", "evaluation/codes", "evaluation/results",
        "estimators/models",
    }  # fmt: skip
    assert {event.partition for event in result.asset_events} == {MODEL}
    assert result.asset_events[0].metadata["result_name"].value == evaluated
    assert tick("evaluation_results", result.cursor).asset_events == []


def test_a_new_current_result_rescores_the_last_week_once(lake, tick, evaluated):
    for n in (0, 5, 9, 10):
        write_inferences(lake, 2, seq=n, at=START + timedelta(days=n), result_name=evaluated)
    first = tick("rescore")
    assert first.run_requests == [], "a first result has nothing to score again: new_logs asks for the new rows"
    newer = evaluate(lake, MODEL).result_name
    result = tick("rescore", first.cursor)
    day = START.date()
    assert sorted(all_days(result)) == [day + timedelta(5), day + timedelta(9), day + timedelta(10)]
    assert all(newer in request.run_key for request in result.run_requests)
    assert tick("rescore", result.cursor).run_requests == []
    promote_result(lake, newer, promoted_by="test", at=datetime.now(UTC))
    assert tick("rescore", result.cursor).run_requests == [], "promoting what is current changes nothing"
    promote_result(lake, evaluated, promoted_by="test", at=datetime.now(UTC))
    back = tick("rescore", result.cursor)
    assert all(evaluated in request.run_key for request in back.run_requests)
    assert len(all_days(back)) == 3
    promote_result(lake, newer, promoted_by="test", at=datetime.now(UTC))
    forth = tick("rescore", back.cursor)
    assert not {r.run_key for r in forth.run_requests} & {r.run_key for r in result.run_requests}, (
        "rows that came meanwhile were never scored by it, and Dagster launches no run key twice"
    )


def test_production_that_an_earlier_result_scored_is_rescored_even_by_a_fresh_sensor(lake, tick, evaluated):
    monitored(lake, evaluated, 5)
    evaluate(lake, MODEL)
    assert all_days(tick("rescore")) == [START.date() + timedelta(days=1)]


def test_a_result_of_a_model_without_production_rescores_nothing(tick, evaluated):
    assert tick("rescore").run_requests == []


def monitored(lake, result_name: str, n: int, seq: int = 0) -> tuple[list[str], list[int]]:
    requests, truth = write_inferences(lake, n, result_name=result_name, at=START + timedelta(days=1), seq=seq)
    refresh(lake, result_name)
    return requests, truth.tolist()


def refresh(lake, result_name: str) -> None:
    from mld_pipelines.rollups import Scorers, refresh_windows, score_days

    days = [START.date() + timedelta(days=1)]
    scorers = Scorers(lake)
    score_days(lake, days, current=scorers.current, score=scorers.score)
    refresh_windows(lake, days, references=scorers.references({result_name}).windows)


def test_enough_labels_request_one_re_evaluation(lake, tick, evaluated):
    requests, truth = monitored(lake, evaluated, 220)
    quiet = tick("reevaluate")
    assert quiet.run_requests == []
    write_feedback(lake, requests[:199], truth[:199], at=START + timedelta(days=2))
    almost = tick("reevaluate", quiet.cursor)
    assert almost.run_requests == []
    write_feedback(lake, requests[199:], truth[199:], at=START + timedelta(days=3))
    due = tick("reevaluate", almost.cursor)
    (run,) = due.run_requests
    assert run.partition_key == MODEL
    assert run.run_config["ops"]["evaluate_model"]["config"]["trigger"] == "feedback"
    repeated = tick("reevaluate", almost.cursor)
    assert [r.run_key for r in repeated.run_requests] == [run.run_key], "a repeated tick asks for the same run"
    assert tick("reevaluate", due.cursor).run_requests == []


def test_a_re_evaluation_keeps_the_policy_of_the_result(lake, tick):
    write_trace(lake, "val", 150, seed=2)
    first = evaluate(lake, MODEL, policy=Policy(tau_operational=0.3)).result_name
    requests, truth = monitored(lake, first, 220)
    write_feedback(lake, requests, truth, at=START + timedelta(days=2))
    (run,) = tick("reevaluate").run_requests
    policy = json.loads(run.run_config["ops"]["evaluate_model"]["config"]["policy"])
    assert (policy["tau_operational"], policy["algorithm_version"]) == (0.3, ALGORITHM_VERSION)


def test_the_cool_down_outlives_the_moment_when_a_new_result_has_no_windows_yet(lake, tick, evaluated):
    requests, truth = monitored(lake, evaluated, 220)
    write_feedback(lake, requests, truth, at=START + timedelta(days=2))
    due = tick("reevaluate")
    assert len(due.run_requests) == 1
    newer = evaluate(lake, MODEL, trigger="feedback").result_name
    between = tick("reevaluate", due.cursor)  # committed, and nothing scored by it so far
    assert between.run_requests == []
    requests, truth = monitored(lake, newer, 230, seq=1)
    write_feedback(lake, requests, truth, at=START + timedelta(days=3))
    after = tick("reevaluate", between.cursor)
    assert after.run_requests == [], "production has not moved on by six hours since the last request"
    requests, truth = write_inferences(lake, 1, result_name=newer, seq=2, at=START + timedelta(days=1, hours=7))
    refresh(lake, newer)
    assert len(tick("reevaluate", after.cursor).run_requests) == 1


def test_labels_of_other_weights_do_not_count(lake, tick, evaluated):
    monitored(lake, evaluated, 40)
    requests, truth = write_inferences(lake, 220, stream="other", fingerprint="b" * 64, result_name=evaluated)
    write_feedback(lake, requests, truth, at=START + timedelta(days=2))
    assert tick("reevaluate").run_requests == []


def test_a_failed_run_becomes_one_alert(lake, resources, instance):
    import dagster as dg

    @dg.op
    def broken() -> None:
        raise ValueError("the disk is full")

    @dg.job
    def fails() -> None:
        broken()

    run = fails.execute_in_process(instance=instance, raise_on_error=False)
    sensor = platform.resolve_sensor_def("run_failure")
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failure",
        dagster_instance=instance,
        dagster_run=run.dagster_run,
        dagster_event=run.get_run_failure_event(),
        resources={name: resources[name] for name in sensor.required_resource_keys},
    ).for_run_failure()
    sensor(context)
    sensor(context)
    (alert,) = lake.read(MONITORING_ALERTS).iter_rows(named=True)
    assert (alert["rule"], alert["state"], alert["severity"]) == ("run_failure", "firing", "critical")
    assert run.run_id in alert["message"]


def test_an_empty_lake_ticks_quietly(tick):
    for name in ("new_traces", "evaluation_requests", "evaluation_results", "new_logs", "reevaluate", "rescore"):
        result = tick(name)
        assert not result.run_requests
        assert not result.asset_events
        assert json.loads(result.cursor)["versions"] == {}


def test_every_sensor_runs_from_the_start():
    import dagster as dg

    names = {sensor.name for sensor in platform.sensors}
    assert names == {
        "new_traces", "evaluation_requests", "evaluation_results", "new_logs", "reevaluate", "rescore", "run_failure",
        "run_recovery", "stress_passes", "automation",
    }  # fmt: skip
    assert {sensor.default_status for sensor in platform.sensors} == {dg.DefaultSensorStatus.RUNNING}
