"""`make demo`: the whole loop on real data, once and once again on the same state."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

#: What every run of the demo fills; `ops/*` and `landing/requests` depend on what happens.
TABLES = {
    "landing/models", "landing/traces", "landing/receipts", "landing/inferences", "landing/feedback", "traces/inputs",
    "evaluation/units", "evaluation/metrics", "evaluation/issues", "evaluation/codes", "evaluation/results",
    "estimators/models",
    "monitoring/scored", "monitoring/windows", "monitoring/codes", "monitoring/alerts", "ops/quality", "ops/pins",
}  # fmt: skip
WEEK_TWO = "2026-01-12"


@pytest.fixture(scope="session")
def demo(first_run):
    return first_run.document


def test_estimated_and_true_error_rates_of_a_fortnight_stand_side_by_side(demo):
    days = demo["days"]
    assert [day["event_day"] for day in days] == [f"2026-01-{n:02d}" for n in range(5, 19)]
    assert {day["n"] for day in days} == {240}
    for day in days:
        assert 0 <= day["error_rate_low"] <= day["error_rate_estimated"] <= day["error_rate_high"] <= 1, day
        assert 0 <= day["error_rate_true"] <= 1, day
        inside = day["error_rate_low"] <= day["error_rate_true"] <= day["error_rate_high"]
        assert day["in_interval"] is inside, day


def test_the_estimate_follows_the_truth_through_the_fortnight(demo):
    """At 90 % each, 14 intervals hold the truth at least 10 times with probability 0.99 if they are honest."""
    days = demo["days"]
    shown = [(d["event_day"], d["error_rate_low"], d["error_rate_true"], d["error_rate_high"]) for d in days]
    assert sum(day["in_interval"] for day in days) >= 10, shown
    first, last = days[:7], days[-2:]
    assert min(day["error_rate_estimated"] for day in last) > max(day["error_rate_estimated"] for day in first), shown


def test_every_table_is_listed_with_its_rows_and_delta_version(demo):
    tables = {table["table"]: table for table in demo["tables"]}
    assert set(tables) >= TABLES
    assert [name for name in TABLES if tables[name]["rows"] < 1] == []
    assert all(isinstance(table["version"], int) and table["version"] >= 0 for table in demo["tables"])
    assert {name: tables[name]["rows"] for name in ("landing/traces", "landing/inferences", "landing/feedback")} == {
        "landing/traces": 1000 + 304, "landing/inferences": 14 * 240 + 8 * 60, "landing/feedback": 420
    }  # fmt: skip


def test_the_top_issues_are_named_with_their_errors(demo):
    issues = demo["issues"]
    assert len(issues) == 5
    for earlier, later in pairwise(issues):  # whatever the average rate: more errors among fewer units come first
        is_worse = later["errors"] >= earlier["errors"] and later["counts"] <= earlier["counts"]
        assert not is_worse or (later["errors"], later["counts"]) == (earlier["errors"], earlier["counts"]), issues
    assert all(issue["error_code"] and issue["category"] and issue["reason"] for issue in issues)


def test_alerts_about_errors_and_drift_fire_in_the_second_week_only(demo):
    due = {"estimated_error_rate", "drift_confidence", "drift_codes", "realised_error_rate"}
    of_digits = [alert for alert in demo["alerts"] if alert["model_key"] == "digits@v1"]
    raised = [alert for alert in of_digits if alert["rule"] in due]  # `latency` depends on the machine
    assert {alert["rule"] for alert in raised} == due, demo["alerts"]
    assert [alert for alert in raised if alert["opened_at"] < WEEK_TWO or alert["state"] != "firing"] == []


@pytest.mark.feature("G11")
def test_labels_made_a_sensor_re_evaluate_in_a_dagster_run_whose_id_is_in_the_result(demo):
    first, second = demo["results"]
    assert (first["result_name"], first["inputs"]["trigger"], first["inputs"]["run_id"]) == (
        "digits_demo", "manual", None
    )  # fmt: skip
    assert second["inputs"]["trigger"] == "feedback"
    assert second["inputs"]["run_id"], second["inputs"]
    assert set(second["inputs"]["table_versions"]) >= {"landing/feedback", "landing/inferences"}


@pytest.mark.feature("G11")
def test_the_dagster_run_of_the_re_evaluation_is_in_the_history_with_its_delta_versions(demo, platform):
    run_id = demo["results"][1]["inputs"]["run_id"]
    run = platform.graphql(
        """query($id: ID!) { runOrError(runId: $id) { ... on Run { status jobName tags { key value }
             assetMaterializations { assetKey { path } metadataEntries { label
               ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } } } } }""",
        {"id": run_id},
    )["runOrError"]
    assert run.get("status") == "SUCCESS", f"run {run_id} of the result is not in Dagster's history: {run}"
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert (tags["dagster/sensor_name"], tags["dagster/partition"]) == ("reevaluate", "digits@v1")
    assert sorted("/".join(one["assetKey"]["path"]) for one in run["assetMaterializations"]) == [
        "estimators/models", "evaluation/codes", "evaluation/issues", "evaluation/metrics", "evaluation/results",
        "evaluation/units",
    ]  # fmt: skip
    labels = [{entry["label"] for entry in one["metadataEntries"]} for one in run["assetMaterializations"]]
    assert all("delta_version" in found for found in labels), labels


def test_a_demo_takes_few_runs_and_none_fails(platform):
    runs = platform.graphql("{ runsOrError { ... on Runs { results { runId jobName status } } } }")["runsOrError"]
    states = Counter((run["jobName"], run["status"]) for run in runs["results"])
    assert {status for _, status in states} == {"SUCCESS"}, f"{states}; logs: {platform.home / 'dagster' / 'logs'}"
    assert sum(states.values()) <= 30, states


def test_a_second_run_sends_the_same_streams_and_every_count_stays(demo, second_run):
    before, after = demo["tables"], second_run.document["tables"]
    assert {t["table"]: t["rows"] for t in after} == {t["table"]: t["rows"] for t in before}


def test_a_second_run_reports_every_batch_as_known(demo, second_run):
    for stream, first in demo["counts"].items():
        assert first["known"] == 0, (stream, first)
        again = second_run.document["counts"][stream]
        assert again == {"rows": first["rows"], "known": first["rows"], "quarantined": 0}, (stream, again)


def test_a_second_run_shows_the_same_findings(demo, second_run):
    for part in ("results", "days", "issues", "alerts", "drive"):
        assert second_run.document[part] == demo[part], part
