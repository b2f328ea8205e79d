"""A stress pass on the platform: its receipt leads to a new result with a window map, and to a re-scored week."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from assets.definitions import defs as platform
from mld_pipelines.evaluation import current_result, evaluate, load_result, load_scorer
from mld_pipelines.rollups import Scorers
from mld_pipelines.tables import MONITORING_SCORED, MONITORING_WINDOWS
from mld_pipelines.windows import derive, roll_up
from tests.support.traced import MODEL, START, write_inferences, write_stress, write_trace

DAY = START + timedelta(days=1)


@pytest.fixture
def result(lake):
    write_trace(lake, "train", 150, seed=1)
    write_trace(lake, "val", 300, seed=2, noise=1.4)
    return evaluate(lake, MODEL).result_name


@pytest.fixture
def launch(instance, resources):
    """Execute what a sensor asked for as the daemon would."""

    def once(job_name, request):
        run = platform.resolve_job_def(job_name).execute_in_process(
            instance=instance, run_config=request.run_config, partition_key=request.partition_key,
            tags=dict(request.tags), resources=resources,
        )  # fmt: skip
        assert run.success
        return run

    return once


def badges(lake, result):
    known = Scorers(lake).references({result})
    states = lake.read(MONITORING_WINDOWS, result_name=result).drop("schema_version")
    return derive(roll_up(states), known.baselines, known.windows, known.maps)["badges"][0].to_list()


def test_a_finished_pass_makes_a_verified_result_and_windows(lake, tick, launch, result):
    write_inferences(lake, 200, result_name=result, at=DAY, noise=1.6)
    (logged,) = tick("new_logs").run_requests
    launch("monitoring", logged)
    assert "not verified under shift" in badges(lake, result)
    quiet = tick("reevaluate")
    scored = tick("rescore")
    assert quiet.run_requests == scored.run_requests == []

    write_stress(lake, "val", 250, seed=2, noise=1.4, at=DAY + timedelta(hours=1))
    due = tick("reevaluate", quiet.cursor)
    (request,) = due.run_requests
    assert request.partition_key == MODEL
    assert request.run_config["ops"]["evaluate_model"]["config"]["again"] == result
    run = launch("evaluation", request)
    (said,) = {event.metadata["verified_under_shift"].value for event in run.asset_materializations_for_node(
        "evaluate_model"
    )}  # fmt: skip
    assert said.startswith("yes: clean ±0.")
    assert "weight of the map" in said

    newest = current_result(lake, MODEL)
    stored = load_result(lake, newest)
    assert newest != result
    assert stored.row["trigger"] == "stress"
    assert load_scorer(lake, newest).window_map is not None
    assert tick("reevaluate", due.cursor).run_requests == []

    (rescored,) = tick("rescore", scored.cursor).run_requests
    launch("monitoring", rescored)
    rows = lake.read(MONITORING_SCORED).group_by("result_name").len()
    assert dict(rows.iter_rows()) == {result: 200, newest: 200}
    assert "not verified under shift" not in badges(lake, newest)
    assert "not verified under shift" in badges(lake, result), "an old result says what it said"


def test_a_tick_before_the_run_has_finished_asks_with_the_same_key(lake, tick, result):
    write_stress(lake, "val", 250, seed=2, noise=1.4, at=DAY)
    first = tick("reevaluate")
    repeated = tick("reevaluate")
    assert [one.run_key for one in first.run_requests] == [one.run_key for one in repeated.run_requests]
    assert "stress" in first.run_requests[0].run_key
    assert result in first.run_requests[0].run_key


def test_a_result_of_another_model_is_refused(lake, instance, resources, result):
    instance.add_dynamic_partitions("model_key", ["other@v1"])
    run = platform.resolve_job_def("evaluation").execute_in_process(
        instance=instance, partition_key="other@v1", resources=resources, raise_on_error=False,
        run_config={"ops": {"evaluate_model": {"config": {"again": result}}}},
    )  # fmt: skip
    assert not run.success
    assert lake.read(MONITORING_SCORED).filter(pl.col("model_key") == "other@v1").is_empty()
    assert current_result(lake, "other@v1") is None
