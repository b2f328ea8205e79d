"""The whole loop, sensor by sensor and run by run, with the jobs that the daemon would launch."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from assets.definitions import defs as platform
from mld_pipelines.evaluation import current_result, list_results, load_result
from mld_pipelines.tables import MONITORING_SCORED, MONITORING_WINDOWS, TRACES_INPUTS
from tests.support.traced import MODEL, START, write_feedback, write_inferences, write_trace

JOBS = {
    "new_traces": "traces",
    "evaluation_requests": "evaluation",
    "new_logs": "monitoring",
    "reevaluate": "evaluation",
    "rescore": "monitoring",
}


@pytest.fixture
def daemon(tick, instance, resources):
    """Tick every sensor and execute what it asks for, run keys honoured, until nothing happens any more."""
    cursors: dict[str, str] = {}
    launched: set[str] = set()

    def launch(job_name: str, request) -> None:
        job = platform.resolve_job_def(job_name)
        run = job.execute_in_process(
            instance=instance, run_config=request.run_config, partition_key=request.partition_key,
            tags=dict(request.tags), resources=resources,
        )  # fmt: skip
        assert run.success

    def settle() -> list[str]:
        done: list[str] = []
        for _ in range(6):
            before = len(done)
            for sensor in (
                "new_traces",
                "evaluation_requests",
                "evaluation_results",
                "new_logs",
                "reevaluate",
                "rescore",
            ):
                result = tick(sensor, cursors.get(sensor))
                cursors[sensor] = result.cursor
                for request in result.run_requests:
                    if request.run_key not in launched:
                        launched.add(request.run_key)
                        launch(JOBS[sensor], request)
                        done.append(request.run_key)
            if len(done) == before:
                return done
        raise AssertionError(f"never quiet: {done}")

    return settle


def test_from_trace_to_re_evaluation_because_labels_arrived(lake, daemon, evaluated):
    assert [key.split(":")[0] for key in daemon()] == ["traces"]
    assert lake.read(TRACES_INPUTS).height == 300
    requests, truth = write_inferences(lake, 230, result_name=evaluated, at=START + timedelta(days=1))
    assert [key.split(":")[0] for key in daemon()] == ["monitoring"]
    write_feedback(lake, requests, truth, at=START + timedelta(days=2))
    done = [key.split(":")[0] for key in daemon()]
    assert done == ["monitoring", "reevaluate", "rescore"]
    newest = current_result(lake, MODEL)
    assert newest != evaluated
    stored = load_result(lake, newest)
    assert (stored.row["trigger"], "production" in stored.row["datasets"]) == ("feedback", True)
    assert stored.row["decision_dataset"] == "val", "production can contradict a code but never decides"
    scored = lake.read(MONITORING_SCORED).group_by("result_name").len()
    assert dict(scored.iter_rows()) == {evaluated: 230, newest: 230}, "the new result sees last week's production"
    labelled = lake.read(MONITORING_WINDOWS).filter(pl.col("result_name").is_not_null())
    assert set(labelled["n_labelled"]) == {230}
    assert daemon() == []


def test_a_model_traced_later_gets_its_own_partition(lake, daemon, instance, evaluated):
    daemon()
    write_trace(lake, "val", 20, seed=5, model_key="toy@v2")
    assert [key.split(":")[:2] for key in daemon()] == [["traces", "toy@v2"]]
    assert set(instance.get_dynamic_partitions("model_key")) == {MODEL, "toy@v2"}
    assert list_results(lake, "toy@v2").is_empty(), "evaluation of a new model is the automation condition's work"
