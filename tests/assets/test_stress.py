"""Stress passes on the platform: asked for after a trace, cost first, one asset per model."""

from __future__ import annotations

import inspect

import dagster as dg
import polars as pl
import pytest

from assets.automation import AUTOMATION_TAG
from assets.definitions import defs as platform
from mld_pipelines.compute import PoolPolicy
from mld_pipelines.tables import (
    ESTIMATORS_MODELS,
    EVALUATION_RESULTS,
    LANDING_RECEIPTS,
    LANDING_STRESS,
    TRACES_STRESS,
)
from mld_pipelines.tracing import (
    StressOptions,
    register_dataset,
    register_model,
    stress_run,
    trace_run,
)
from tests.support.traced import write_trace

INLINE = PoolPolicy(backend="inline")
KEY = "toy@v1"
SMALL = {"severities": [3], "max_inputs": 12, "batch_size": 12}


def make_model():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))


def make_dataset(n: int = 24, scale: float = 1.0):
    import torch

    inputs = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * scale
    return [(inputs[i], i % 3) for i in range(n)]


@pytest.fixture
def registered(lake, monkeypatch, tmp_path):
    """Register model and dataset, whose factories live in a module that workers can import; return how to trace."""
    body = "\n".join(inspect.getsource(function) for function in (make_model, make_dataset))
    (tmp_path / "toy_stress_factories.py").write_text(f'"""Factories of the test."""\n{body}', encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = "toy_stress_factories"
    register_model(lake, "toy", factory=f"{module}:make_model", model_name="toy", version_name="v1")

    def trace(dataset_type="val", **params):
        register_dataset(lake, "digits", factory=f"{module}:make_dataset", params=params)
        return trace_run(lake, "toy", "digits", dataset_type=dataset_type, batch_size=10, pool=INLINE)

    return trace


@pytest.fixture
def launch(resources, instance):
    """Execute a job for the model, as a sensor or a person would."""

    def run(job="stress", tags=None, **config):
        instance.add_dynamic_partitions("model_key", [KEY])
        ops = {"stress_model": {"config": {**SMALL, **config}}} if job == "stress" else {}
        return platform.resolve_job_def(job).execute_in_process(
            instance=instance, run_config={"ops": ops}, resources=resources, partition_key=KEY, tags=tags,
            raise_on_error=False,
        )  # fmt: skip

    return run


def materialized(done, key):
    found = [e for e in done.get_asset_materialization_events() if e.asset_key.path == list(key)]
    return found[0].materialization.metadata if found else None


def observed(done):
    found = [event.asset_observation_data.asset_observation for event in done.get_asset_observation_events()]
    return [{name: entry.value for name, entry in one.metadata.items()} for one in found]


def test_a_pass_is_run_and_promoted_in_one_run(lake, registered, launch, capfd):
    registered()
    done = launch()
    assert done.success
    shown = materialized(done, ("stress", "passes"))
    assert (shown["sets"].value, shown["rows"].value, shown["inputs"].value) == (21, 252, 12)
    assert shown["families"].value == "noise, blur, light, geometry, digital"
    assert shown["glance"].value.startswith("![error rate, family by severity](data:image/svg+xml")
    assert "<svg" in shown["picture"].value or "data:image" in shown["picture"].value
    assert shown["seconds"].value > 0 < shown["cost_seconds"].value
    assert lake.read(TRACES_STRESS).height == 252
    assert materialized(done, ("traces", "stress"))["rows"].value == 252
    said = "".join(capfd.readouterr())
    assert "expected cost: about" in said
    assert "stressed 21 of 21 sets" in said
    assert lake.history(LANDING_STRESS)["run_id"].drop_nulls().to_list() == [done.run_id]


def test_a_pass_that_costs_too_much_shows_the_cost_and_waits(lake, registered, launch):
    registered()
    done = launch(max_seconds=0)
    assert done.success
    assert materialized(done, ("stress", "passes")) is None
    assert materialized(done, ("traces", "stress")) is None, "nothing to promote"
    (said,) = observed(done)
    assert said["state"] == "waits for a launch"
    assert said["cost_seconds"] > said["limit_seconds"] == 0
    assert "run_anyway" in said["message"]
    assert lake.version(LANDING_STRESS) is None
    assert launch(max_seconds=0, run_anyway=True).success
    assert lake.read(LANDING_STRESS).height == 252


def test_launching_again_runs_nothing(lake, registered, launch):
    registered()
    assert launch().success
    again = launch()
    assert materialized(again, ("stress", "passes"))["known_sets"].value == 21
    assert lake.read(LANDING_STRESS).height == 252


def test_a_model_that_cannot_be_stressed_fails_the_person_and_informs_the_sensor(registered, launch):
    registered(scale=9.0)
    by_hand = launch()
    assert not by_hand.success
    assert "image values run from" in str(by_hand.get_step_failure_events()[0].step_failure_data.error)
    by_itself = launch(tags={AUTOMATION_TAG: "trace"})
    assert by_itself.success
    (said,) = observed(by_itself)
    assert said["state"] == "cannot run"
    assert "normalize=(mean, std)" in said["message"]


def test_a_finished_trace_of_a_registered_model_asks_for_its_pass_once(lake, registered, tick):
    registered()
    first = tick("stress_passes")
    (request,) = first.run_requests
    assert (request.job_name, request.partition_key, request.tags[AUTOMATION_TAG]) == ("stress", KEY, "trace")
    assert tick("stress_passes", first.cursor).run_requests == []
    stress_run(lake, KEY, options=StressOptions(max_inputs=5), pool=INLINE)
    registered()
    after = tick("stress_passes", first.cursor)
    assert after.run_requests == [], "the same weights and inputs were stressed already"
    assert [event.asset_key.path for event in after.asset_events] == [["landing", "stress"], ["stress", "passes"]]


def test_a_pass_that_could_not_run_is_asked_for_again_when_its_cause_may_be_mended(
    lake, registered, launch, tick, monkeypatch
):
    from assets import passes

    registered(scale=9.0)
    first = tick("stress_passes")
    (request,) = first.run_requests
    (said,) = observed(launch(tags=request.tags))
    assert said["state"] == "cannot run"
    quiet = tick("stress_passes", first.cursor)
    assert quiet.run_requests == [], "nothing has changed"
    register_model(lake, "toy", factory="toy_stress_factories:make_model", model_name="toy", version_name="v1")
    mended = tick("stress_passes", quiet.cursor)
    assert [one.partition_key for one in mended.run_requests] == [KEY]
    assert tick("stress_passes", mended.cursor).run_requests == []
    monkeypatch.setattr(passes, "_PROCESS", "the platform was started anew")
    started = tick("stress_passes", mended.cursor)
    (again,) = started.run_requests
    assert (again.job_name, again.tags[AUTOMATION_TAG]) == ("stress", "trace")
    asked = [request.run_key, *(one.run_key for one in mended.run_requests), again.run_key]
    assert len(set(asked)) == 3, "Dagster launches no run key twice"


def test_a_pass_that_waits_for_a_launch_is_not_asked_for_again(registered, launch, tick, monkeypatch):
    from assets import passes

    registered()
    first = tick("stress_passes")
    (said,) = observed(launch(max_seconds=0, tags=first.run_requests[0].tags))
    assert said["state"] == "waits for a launch"
    monkeypatch.setattr(passes, "_PROCESS", "the platform was started anew")
    assert tick("stress_passes", first.cursor).run_requests == []


def reported(result):
    return [event for event in result.asset_events if event.asset_key.path == ["stress", "passes"]]


def test_a_pass_that_was_made_in_process_is_shown_once_with_what_a_run_would_show(
    lake, registered, launch, tick, instance
):
    registered()
    first = tick("stress_passes")
    report = stress_run(lake, KEY, options=StressOptions(severities=(3,), max_inputs=12, batch_size=12), pool=INLINE)
    after = tick("stress_passes", first.cursor)
    (event,) = reported(after)
    assert event.partition == KEY
    assert event.tags["dagster/data_version"] == report.stream_id
    assert event.metadata["made_by"].value == "a process outside Dagster"
    assert reported(tick("stress_passes", after.cursor)) == []
    assert reported(tick("stress_passes")) == [], "a sensor that was reset reports it no second time"
    launched = materialized(launch(), ("stress", "passes"))
    assert launched["stream_id"].value == report.stream_id, "the same pass"
    for name in ("families", "dataset_type", "fingerprint", "stress_version", "sets", "inputs", "rows", "effects",
                 "picture", "glance", "dagster/uri"):  # fmt: skip
        assert event.metadata[name] == launched[name], name


def test_a_pass_that_a_run_has_made_is_not_reported_beside_it(lake, registered, launch, tick, instance):
    registered()
    first = tick("stress_passes")
    assert launch().success
    assert lake.read(LANDING_RECEIPTS, purpose="stress").height == 1
    assert reported(tick("stress_passes", first.cursor)) == []


def test_a_pass_is_reported_after_the_run_that_is_stressing_its_model(lake, registered, tick, instance):
    registered()
    stress_run(lake, KEY, options=StressOptions(severities=(3,), max_inputs=12), pool=INLINE)
    run = instance.create_run_for_job(
        platform.resolve_job_def("stress"), status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": KEY}
    )
    first = tick("stress_passes")
    assert reported(first) == [], "it may be the run's, which will say so itself"
    instance.report_run_canceled(run)
    assert [event.partition for event in reported(tick("stress_passes", first.cursor))] == [KEY]


def test_training_data_alone_asks_for_nothing(registered, tick):
    registered(dataset_type="train")
    first = tick("stress_passes")
    assert first.run_requests == []
    registered(dataset_type="val")
    assert [request.job_name for request in tick("stress_passes", first.cursor).run_requests] == ["stress"]


def test_a_trace_of_a_tracer_asks_for_nothing(lake, tick):
    write_trace(lake, "val", 30)
    assert tick("stress_passes").run_requests == []


def test_a_pass_of_a_tracer_is_promoted(lake, tick, launch, stress_rows):
    stress_rows(lake)
    first = tick("stress_passes")
    (request,) = first.run_requests
    assert (request.job_name, request.partition_key) == ("stress_traces", KEY)
    (shown,) = reported(first)
    assert (shown.partition, shown.metadata["sets"].value, shown.metadata["inputs"].value) == (KEY, 21, 6)
    assert shown.metadata["rows"].value == lake.read(LANDING_STRESS).height == 126
    done = launch("stress_traces")
    assert done.success
    assert materialized(done, ("traces", "stress"))["rows"].value == lake.read(TRACES_STRESS).height > 0


@pytest.fixture
def stress_rows(monkeypatch):
    """Land a pass of a tracer."""

    def write(lake):
        from mld_pipelines.training import ClassificationTracer

        monkeypatch.setenv("MLD_API_ENDPOINT", lake.root)
        items = make_dataset()
        import torch

        inputs = torch.stack([image for image, _ in items])
        with ClassificationTracer(make_model(), "toy", "v1") as tracer:
            tracer.stress(inputs, [label for _, label in items], input_ids=range(24), severities=(1,), max_inputs=6)
        assert lake.read(LANDING_RECEIPTS)["purpose"].to_list() == ["stress"]

    return write


def test_a_finished_pass_makes_the_next_result(lake, registered, launch, tick, instance, resources):
    registered(n=300)
    launch("traces")
    assert launch("evaluation").success
    first = tick("reevaluate")
    assert first.run_requests == []
    assert launch(max_inputs=300).success
    (request,) = tick("reevaluate", first.cursor).run_requests
    done = platform.resolve_job_def("evaluation").execute_in_process(
        instance=instance, run_config=request.run_config, resources=resources, partition_key=request.partition_key
    )
    assert done.success
    newest = lake.read(EVALUATION_RESULTS).sort("created_at").row(-1, named=True)
    kinds = lake.read(ESTIMATORS_MODELS).filter(pl.col("evaluation_id") == newest["evaluation_id"])["kind"]
    assert (newest["trigger"], "window_map" in kinds.to_list()) == ("stress", True)


@pytest.fixture
def detector(lake):
    """Trace the example's detector on the platform, under the name of the other models here."""
    register_model(lake, "toy", factory="examples.drive.datasets:drive_model", model_name="toy", version_name="v1")
    params = {"part": "val", "frames": 4}
    register_dataset(lake, "digits", factory="examples.drive.datasets:drive_dataset", params=params)
    trace_run(lake, "toy", "digits", dataset_type="val", batch_size=2, pool=INLINE)


def test_a_detector_is_stressed_by_itself_and_shows_what_it_lost(lake, detector, tick, launch, capfd):
    (request,) = tick("stress_passes").run_requests
    assert (request.job_name, request.partition_key) == ("stress", KEY)
    done = launch(tags=request.tags, severities=[1, 5], max_inputs=2, batch_size=2)
    assert done.success
    shown = materialized(done, ("stress", "passes"))
    assert (shown["sets"].value, shown["rows"].value, shown["quarantined_copies"].value) == (14, 28, 0)
    assert shown["families"].value == "density, coverage, noise, intensity"
    assert shown["glance"].value.startswith("![share of objects lost, family by severity](data:image/svg+xml")
    effects = {(one.data["family"], one.data["severity"]): one.data for one in shown["effects"].records}
    assert len(effects) == 8
    assert effects["coverage", 5]["objects_lost"] > 0.3 > 0.1 > effects["coverage", 1]["objects_lost"]
    assert effects["noise", 5]["box_change"] > 0.1, "clutter makes false boxes"
    assert set(effects["noise", 5]) == {"family", "severity", "n", "objects_lost", "box_change"}
    assert materialized(done, ("traces", "stress"))["rows"].value == lake.read(TRACES_STRESS).height == 28
    assert "expected cost: about" in "".join(capfd.readouterr())
    assert tick("stress_passes").run_requests == []


def test_families_of_images_are_not_for_frames_and_the_sensor_is_informed(lake, detector, launch):
    register_model(
        lake,
        "toy",
        factory="examples.drive.datasets:drive_model",
        model_name="toy",
        version_name="v1",
        families="image",
    )
    by_itself = launch(tags={AUTOMATION_TAG: "trace"})
    assert by_itself.success
    (said,) = observed(by_itself)
    assert said["state"] == "cannot run"
    assert "--families points" in said["message"]
