"""`mld evaluate`, `mld results`, `mld monitor`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import polars as pl
import pytest

from mld_pipelines.cli._exits import Exit
from mld_pipelines.evaluator import Evaluator
from mld_pipelines.tables import MONITORING_ALERTS
from tests.support.traced import write_inferences, write_trace


def alert_of(result):
    moment = datetime(2026, 1, 6, tzinfo=UTC)
    values = {
        "alert_id": result, "rule": "drift_codes", "model_key": "toy@v1", "result_name": result, "slice": "all",
        "grain": "day", "severity": "warning", "state": "firing", "value": 0.4, "threshold": 0.1, "origin": "reference",
        "n": 50, "opened_at": moment, "last_seen": moment, "message": "codes moved",
    }  # fmt: skip
    schema = {name: MONITORING_ALERTS.column(name).data_type for name in values}
    return pl.DataFrame([values], schema=schema)


def test_evaluate_makes_the_result_that_the_sdk_reads(mld, lake):
    write_trace(lake, "val", 120)
    done = mld("evaluate", "toy@v1", "--result-name", "by-hand", "--json")
    assert done.exit == 0
    result = Evaluator("toy", "v1").get_result(result_name="by-hand")
    assert done.document["metrics"][0]["accuracy"] == result.metrics_summary()["accuracy"][0]
    assert done.document["inputs"]["table_versions"] == result.inputs["table_versions"]


def test_evaluate_of_an_unknown_model_names_the_known(mld, evaluated):
    done = mld("evaluate", "other@v1")
    assert done.exit == Exit.NOT_FOUND
    assert "toy" in done.stderr


def test_evaluate_refuses_an_epoch_that_is_none(mld, evaluated):
    assert mld("evaluate", "toy@v1", "--n-epoch", "newest").exit == Exit.USAGE


def test_evaluate_refuses_a_name_that_exists(mld, evaluated):
    assert mld("evaluate", "toy@v1", "--result-name", "first").exit == Exit.FAILED


def test_list_marks_the_current_result(mld, evaluated):
    (row,) = mld("results", "list", "toy@v1", "--json").document["results"]
    assert (row["result_name"], row["current"]) == ("first", True)


def test_list_without_results_is_empty(mld):
    assert mld("results", "list", "--json").document == {"results": []}


def test_show_prints_metrics_categories_and_issues(mld, evaluated):
    done = mld("results", "show", "first")
    assert done.exit == 0
    assert all(text in done.stdout for text in ("accuracy", "stable_coverage_ratio", "issues ("))


def test_show_of_an_unknown_result_names_the_known(mld, evaluated):
    done = mld("results", "show", "second")
    assert done.exit == Exit.NOT_FOUND
    assert "first" in done.stderr


def test_export_writes_the_report_and_says_where(mld, evaluated, tmp_path):
    done = mld("results", "export", "first", str(tmp_path / "report.html"))
    assert done.exit == 0
    assert str(tmp_path / "report.html") in done.stdout
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_export_of_a_folder_lists_its_files(mld, evaluated, tmp_path):
    done = mld("results", "export", "first", str(tmp_path / "out"), "--format", "csv", "--json").document
    assert sorted(done["files"]) == sorted(str(file) for file in (tmp_path / "out").iterdir())
    assert {"units.csv", "codes.csv", "result.json"} <= {file.name for file in (tmp_path / "out").iterdir()}


def test_export_keeps_a_file_that_exists(mld, evaluated, tmp_path):
    (tmp_path / "codes.csv").write_text("mine")
    assert mld("results", "export", "first", str(tmp_path / "codes.csv")).exit == Exit.FAILED
    assert mld("results", "export", "first", str(tmp_path / "x.doc")).exit == Exit.USAGE
    assert (tmp_path / "codes.csv").read_text() == "mine"
    assert mld("results", "export", "first", str(tmp_path / "codes.csv"), "--overwrite").exit == 0
    assert mld("results", "export", "first", str(tmp_path / "mine.csv"), "--table", "codes").exit == 0
    assert (tmp_path / "mine.csv").read_bytes() == (tmp_path / "codes.csv").read_bytes()


def test_promote_brings_an_older_result_back(mld, lake):
    write_trace(lake, "val", 120)
    mld("evaluate", "toy@v1", "--result-name", "old")
    mld("evaluate", "toy@v1", "--result-name", "new")
    assert mld("results", "promote", "old", "--json").document["model_key"] == "toy@v1"
    current = {row["result_name"]: row["current"] for row in mld("results", "list", "--json").document["results"]}
    assert current == {"old": True, "new": False}


def test_tail_shows_the_newest_inferences_last(mld, evaluated):
    done = mld("monitor", "tail", "toy@v1", "-n", "5", "--json").document
    assert [row["request_id"] for row in done["inferences"]] == [f"logger-0-{i}" for i in range(45, 50)]


def test_tail_of_an_unknown_model_names_the_known(mld, evaluated):
    done = mld("monitor", "tail", "toy@v2")
    assert done.exit == Exit.NOT_FOUND
    assert "toy@v1" in done.stderr


def test_a_model_key_needs_both_names(mld, evaluated):
    assert mld("monitor", "show", "toy").exit == Exit.USAGE


def test_show_before_any_monitoring_says_so(mld, evaluated):
    done = mld("monitor", "show", "toy@v1")
    assert done.exit == 0
    assert "nothing monitored" in done.stdout


@pytest.mark.feature("I21", "I22")
def test_show_adds_the_hours_of_a_day(mld, lake):
    from mld_pipelines.tables import LANDING_INFERENCES, MONITORING_WINDOWS
    from mld_pipelines.windows import aggregate

    write_inferences(lake, 50)
    rows = lake.read(LANDING_INFERENCES)
    states = aggregate(rows, errors=False)
    days = states["event_day"].unique().to_list()
    lake.replace(MONITORING_WINDOWS, MONITORING_WINDOWS.align(states), where={"event_day": days})
    (day,) = mld("monitor", "show", "toy@v1", "--json").document["days"]
    assert day["n"] == 50
    assert day["latency_p50_ms"] == pytest.approx(rows["latency_ms"].median(), rel=0.13)


@pytest.mark.feature("I18", "I23")
def test_show_sees_days_through_the_current_result(mld, lake):
    from mld_pipelines.rollups import Scorers, refresh_windows, score_days
    from mld_pipelines.tables import LANDING_INFERENCES

    write_trace(lake, "train", 300, seed=1)
    write_trace(lake, "val", 300, seed=2)
    mld("evaluate", "toy@v1", "--result-name", "first")
    write_inferences(lake, 120, result_name="first")
    days = lake.read(LANDING_INFERENCES)["event_day"].unique().to_list()
    scorers = Scorers(lake)
    score_days(lake, days, current=scorers.current, score=scorers.score)
    refresh_windows(lake, days, references=scorers.references({"first"}).windows)
    document = mld("monitor", "show", "toy@v1", "--json").document
    (day,) = [row for row in document["days"] if row["result_name"] == "first"]
    assert document["current_result"] == "first"
    assert day["error_rate_low"] <= day["error_rate_estimated"] <= day["error_rate_high"]
    assert day["throughput_per_s"] > 0
    shown = mld("monitor", "show", "toy@v1").stdout
    assert shown.count("2026-01-06") == 1
    metrics = mld("results", "show", "first", "--json").document["metrics"]
    (accuracy,) = [row["accuracy"] for row in metrics if row["dataset"] == "val"]
    assert f"reference of first: error rate {1 - accuracy:.3f}" in shown
    assert "- not verified under shift" in shown
    assert "too few for an alert" not in shown


def test_show_says_which_days_are_too_small_for_an_alert(mld, lake):
    from mld_pipelines.rollups import Scorers, refresh_windows, score_days
    from mld_pipelines.tables import LANDING_INFERENCES

    write_trace(lake, "val", 300, seed=2)
    mld("evaluate", "toy@v1", "--result-name", "first")
    write_inferences(lake, 40, result_name="first")
    days = lake.read(LANDING_INFERENCES)["event_day"].unique().to_list()
    scorers = Scorers(lake)
    score_days(lake, days, current=scorers.current, score=scorers.score)
    refresh_windows(lake, days, references=scorers.references({"first"}).windows)
    assert (
        "- 1 of 1 days have fewer than 100 inferences: too few for an alert" in mld("monitor", "show", "toy@v1").stdout
    )


def test_show_keeps_the_estimates_of_days_that_only_an_earlier_result_judged(mld, lake):
    from mld_pipelines.rollups import Scorers, refresh_windows, score_days
    from mld_pipelines.tables import LANDING_INFERENCES

    write_trace(lake, "val", 300, seed=2)
    mld("evaluate", "toy@v1", "--result-name", "first")
    write_inferences(lake, 120, result_name="first")
    days = lake.read(LANDING_INFERENCES)["event_day"].unique().to_list()
    scorers = Scorers(lake)
    score_days(lake, days, current=scorers.current, score=scorers.score)
    refresh_windows(lake, days, references=scorers.references({"first"}).windows)
    mld("evaluate", "toy@v1", "--result-name", "second")
    (line,) = [line for line in mld("monitor", "show", "toy@v1").stdout.splitlines() if line.startswith(" 2026-01-06")]
    assert line.split()[1] == "first"
    assert 0 <= float(line.split()[5]) <= 1


def test_show_lists_an_alert_once_however_many_results_raised_it(mld, lake):
    write_trace(lake, "val", 300, seed=2)
    write_inferences(lake, 50)
    for name in ("first", "second"):
        mld("evaluate", "toy@v1", "--result-name", name)
        lake.upsert(MONITORING_ALERTS, alert_of(name))
    done = mld("monitor", "show", "toy@v1")
    assert done.stdout.count("drift_codes") == 1
    assert "1 more through earlier results" in done.stdout
    assert len(mld("monitor", "show", "toy@v1", "--json").document["alerts"]) == 2


@pytest.mark.feature("I16")
def test_tail_follows_what_arrives_after_it_started(lake):
    write_inferences(lake, 3)
    command = [sys.executable, "-m", "mld_pipelines.cli", "monitor", "tail", "toy@v1", "--follow", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        first = [json.loads(process.stdout.readline())["request_id"] for _ in range(3)]
        write_inferences(lake, 2, seq=1)
        began = time.monotonic()
        later = [json.loads(process.stdout.readline())["request_id"] for _ in range(2)]
        waited = time.monotonic() - began
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert first == ["logger-0-0", "logger-0-1", "logger-0-2"]
    assert later == ["logger-1-0", "logger-1-1"]
    assert waited <= 10  # the promise for landing
    assert (process.returncode, errors) == (0, "")
