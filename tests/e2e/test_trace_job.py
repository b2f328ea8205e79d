"""The tracing job as the UI launches it: a registered model over a registered dataset, on Ray actors."""

from __future__ import annotations

import polars as pl
import pytest

from mld_pipelines.lake import Lake
from mld_pipelines.tables import (
    ESTIMATORS_MODELS,
    EVALUATION_RESULTS,
    LANDING_RECEIPTS,
    LANDING_TRACES,
    TRACES_INPUTS,
    TRACES_STRESS,
)
from tests.support.processes import run_mld, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1500)]

MODEL_KEY = "registered_digits@v1"

LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on PythonError { message } } }"""
EVENTS = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status
  eventConnection(limit: 1000) { events { __typename ... on MessageEvent { message level }
    ... on ExecutionStepOutputEvent { metadataEntries { label
      ... on TextMetadataEntry { text } ... on FloatMetadataEntry { floatValue } } } } } } } }"""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@pytest.fixture(scope="module")
def registered(platform):
    """A model and a dataset, registered through the command line."""
    home = str(platform.home)
    commands = [
        ("digits", "examples.registered:digits_model", "--model-name", "registered_digits", "--version-name", "v1"),
        ("digits-val", "examples.registered:digits_dataset", "--dataset", "--params", '{"part": "val"}'),
    ]
    answers = [run_mld("models", "register", *command, "--json", MLD_HOME=home) for command in commands]
    assert [done.status for done in answers] == [0, 0], answers
    return [done.document["name"] for done in answers]


@pytest.fixture(scope="module")
def run(platform, registered):
    """The run that the webserver launched, when it has ended."""
    model, dataset = registered
    configuration = {
        "ops": {"trace_registered_model": {"config": {"model": model, "dataset": dataset, "batch_size": 100}}},
        "resources": {"pool": {"config": {"backend": "local", "size": 1}}},
    }
    selector = {
        "repositoryLocationName": "mld_pipelines",
        "repositoryName": "__repository__",
        "jobName": "trace_model",
    }
    parameters = {"selector": selector, "runConfigData": configuration, "mode": "default"}
    launched = platform.graphql(LAUNCH, {"params": parameters})["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]

    def ended():
        found = platform.graphql(EVENTS, {"id": run_id})["runOrError"]
        return found if found["status"] in ENDED else None

    found, _ = wait_for(ended, f"the end of run {run_id}; see {platform.url}/runs/{run_id}", seconds=300)
    return found | {"id": run_id}


@pytest.fixture
def lake(platform):
    return Lake(str(platform.home / "lake"), code_version="test")


def test_the_run_succeeds_and_reports_what_it_traced(run):
    messages = [event.get("message", "") for event in run["eventConnection"]["events"]]
    assert run["status"] == "SUCCESS", messages[-10:]
    outputs = [e for e in run["eventConnection"]["events"] if e["__typename"] == "ExecutionStepOutputEvent"]
    report = {entry["label"]: entry.get("text") or entry.get("floatValue") for entry in outputs[0]["metadataEntries"]}
    assert (report["rows"], report["items"], report["quarantined_batches"] or 0.0) == (700.0, 700.0, 0.0), report
    assert "traced 700 of 700 items of 'val' for registered_digits@v1" in report["summary"]
    assert "local" in report["summary"], f"it did not run on Ray: {report['summary']}"


def test_progress_shows_in_the_log_of_the_run(run):
    progress = [e["message"] for e in run["eventConnection"]["events"] if "batches" in e.get("message", "")]
    assert any("traced 7 of 7 batches" in line for line in progress), progress
    assert len(progress) >= 3, progress


def test_the_rows_are_those_of_the_dataset(run, lake):
    from examples.registered import digits_dataset

    dataset = digits_dataset("val")
    rows = lake.read(LANDING_TRACES, model_key=MODEL_KEY).sort("seq", "row")
    assert rows.height == len(dataset) == 700
    expected = [(str(input_id), label) for _, label, input_id in (dataset[i] for i in range(len(dataset)))]
    assert sorted(rows.select("input_id", "label").rows()) == sorted(expected)
    assert rows["feature"].list.len().unique().to_list() == [32]
    assert 0.8 < (rows["prediction"] == rows["label"]).mean() < 1.0
    receipts = lake.read(LANDING_RECEIPTS, model_key=MODEL_KEY, purpose="trace")
    assert receipts.select("dataset_type", "purpose").rows() == [("val", "trace")]


def test_the_new_traces_are_promoted_by_themselves(run, platform, lake):
    promoted, _ = wait_for(
        lambda: lake.scan(TRACES_INPUTS, model_key=MODEL_KEY).select(pl.len()).collect().item(),
        f"the run of the new_traces sensor; see {platform.url}/automation",
        seconds=180,
    )
    assert promoted == 700


def test_the_model_is_stressed_by_itself(run, platform, lake):
    receipts, _ = wait_for(
        lambda: lake.read(LANDING_RECEIPTS, model_key=MODEL_KEY, purpose="stress").to_dicts(),
        f"the run of the stress_passes sensor; see {platform.url}/automation",
        seconds=600,
    )
    (row,) = receipts
    assert (row["dataset_type"], row["rows"], row["dropped"]) == ("val", 400 * 63, 0)


def test_the_next_result_is_verified_under_shift(run, platform, lake):
    def verified():
        results = lake.read(EVALUATION_RESULTS, model_key=MODEL_KEY)
        maps = lake.read(ESTIMATORS_MODELS, model_key=MODEL_KEY).filter(pl.col("kind") == "window_map")
        return results.join(maps, on="evaluation_id", how="semi")["result_name"].to_list()

    names, _ = wait_for(verified, f"the run of the reevaluate sensor; see {platform.url}/automation", seconds=300)
    kinds = lake.read(ESTIMATORS_MODELS, model_key=MODEL_KEY, result_name=names[0])["kind"]
    assert "window_map" in kinds.to_list()
    assert lake.scan(TRACES_STRESS, model_key=MODEL_KEY).select(pl.len()).collect().item() == 400 * 63
