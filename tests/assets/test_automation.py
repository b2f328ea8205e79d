"""A new model is evaluated once, by itself, when its traces are there and sound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from assets.automation import AUTOMATION_TAG
from assets.checks import check_groups
from assets.definitions import defs as platform
from assets.evaluation import EVALUATION_TABLES
from mld_pipelines.evaluation import list_results
from mld_pipelines.tables import TRACES_INPUTS
from resources import asset_key
from tests.support.traced import MODEL, toy_outputs, write_trace

TRACES = asset_key("traces/inputs")
TARGETS = [asset_key(table) for table in EVALUATION_TABLES]


@pytest.fixture
def daemon(instance):
    """Evaluate the automation conditions as the daemon does, tick by tick; returns what is requested."""
    state = {"cursor": None, "now": datetime(2026, 2, 1, tzinfo=UTC)}

    def tick() -> dict[str, set[str]]:
        state["now"] += timedelta(seconds=30)
        result = dg.evaluate_automation_conditions(
            defs=platform,
            instance=instance,
            asset_selection=dg.AssetSelection.groups("evaluation", "estimators"),
            cursor=state["cursor"],
            evaluation_time=state["now"],
        )
        state["cursor"] = result.cursor
        requested = {key.to_user_string(): result.get_requested_partitions(key) for key in TARGETS}
        return {key: partitions for key, partitions in requested.items() if partitions}

    return tick


def report(instance, *keys: dg.AssetKey, partition: str = MODEL) -> None:
    for key in keys:
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))


def report_checks(instance, *, passed: bool) -> None:
    for name, group in check_groups(TRACES_INPUTS).items():
        if any(one.severity == "critical" for one in group):
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=TRACES, check_name=name, passed=passed, metadata={},
                    severity=dg.AssetCheckSeverity.ERROR, blocking=True,
                )
            )  # fmt: skip


EVERYTHING = {key.to_user_string(): {MODEL} for key in TARGETS}


def test_a_new_model_key_requests_the_whole_evaluation_once(instance, daemon):
    assert daemon() == {}
    instance.add_dynamic_partitions("model_key", [MODEL])
    assert daemon() == {}, "no traces yet"
    report(instance, TRACES)
    report_checks(instance, passed=True)
    assert daemon() == EVERYTHING
    assert daemon() == {}
    report(instance, *TARGETS)
    assert daemon() == {}
    report(instance, TRACES)
    report_checks(instance, passed=True)
    assert daemon() == {}, "an evaluated model is evaluated again by labels or requests only"


def test_traces_whose_contract_failed_are_not_evaluated(instance, daemon):
    daemon()
    instance.add_dynamic_partitions("model_key", [MODEL])
    report(instance, TRACES)
    report_checks(instance, passed=False)
    assert daemon() == {}
    report_checks(instance, passed=True)
    assert daemon() == EVERYTHING, "sound at last"


def test_a_result_reported_by_the_sdk_needs_no_evaluation(instance, daemon, tick, evaluated):
    daemon()
    tick("evaluation_results")
    report(instance, TRACES)
    report_checks(instance, passed=True)
    assert daemon() == {}


def test_another_models_traces_request_nothing_for_this_one(instance, daemon):
    daemon()
    instance.add_dynamic_partitions("model_key", [MODEL, "toy@v2"])
    report(instance, TRACES, partition="toy@v2")
    report_checks(instance, passed=True)
    assert daemon() == {key: {"toy@v2"} for key in EVERYTHING}


def test_an_automatic_run_waits_for_a_dataset_that_can_decide(lake, materialize):
    write_trace(lake, "train", 150, seed=1)
    materialize("traces", checks=False, partition_key=MODEL)
    run = materialize("evaluation", "estimators", checks=False, partition_key=MODEL, tags={AUTOMATION_TAG: "new_model"})
    assert run.success
    assert run.asset_materializations_for_node("evaluate_model") == []
    assert list_results(lake).is_empty()


def said_by(run, instance) -> str:
    return "\n".join(record.user_message for record in instance.all_logs(run.run_id))


def test_an_automatic_run_that_waits_says_that_only_training_data_came(lake, materialize, instance):
    write_trace(lake, "train", 150, seed=1)
    materialize("traces", checks=False, partition_key=MODEL)
    run = materialize("evaluation", "estimators", checks=False, partition_key=MODEL, tags={AUTOMATION_TAG: "new_model"})
    assert "only training data of toy@v1 was traced to the end so far" in said_by(run, instance)


@pytest.mark.parametrize("train", [150, 0])
def test_an_automatic_run_that_waits_says_that_the_rows_of_val_were_refused(lake, materialize, instance, train):
    logits = toy_outputs(12, seed=2)[2]
    logits[:, 1] = float("nan")
    if train:
        write_trace(lake, "train", train, seed=1)
    write_trace(lake, "val", 12, seed=2, logits=logits)
    materialize("traces", checks=False, partition_key=MODEL)
    run = materialize("evaluation", "estimators", checks=False, partition_key=MODEL, tags={AUTOMATION_TAG: "new_model"})
    said = said_by(run, instance)
    assert "only training data" not in said
    assert "every row of toy@v1 that could decide was refused, 12 of 'val': 12 traced rows were refused (" in said
    assert "val/val-0, val/val-1, val/val-2, …). See `mld tables show ops/quarantine`" in said


def test_refused_training_rows_are_not_told_as_rows_that_could_decide(lake, materialize, instance):
    logits = toy_outputs(150, seed=1)[2]
    logits[3, 1] = float("nan")
    write_trace(lake, "train", 150, seed=1, logits=logits)
    materialize("traces", checks=False, partition_key=MODEL)
    run = materialize("evaluation", "estimators", checks=False, partition_key=MODEL, tags={AUTOMATION_TAG: "new_model"})
    said = said_by(run, instance)
    assert "only training data of toy@v1 was traced to the end so far" in said
    assert "1 traced row was refused (" in said


def test_an_automatic_run_reports_a_result_that_exists_instead_of_making_another(lake, materialize, evaluated):
    run = materialize("evaluation", "estimators", checks=False, partition_key=MODEL, tags={AUTOMATION_TAG: "new_model"})
    events = run.asset_materializations_for_node("evaluate_model")
    assert {event.asset_key for event in events} == set(TARGETS)
    assert {event.metadata["result_name"].value for event in events} == {evaluated}
    assert list_results(lake).height == 1
