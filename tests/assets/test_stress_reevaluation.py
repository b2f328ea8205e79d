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
    shown = next(iter(run.asset_materializations_for_node("evaluate_model"))).metadata
    (facts,) = load_result(lake, current_result(lake, MODEL)).verifications().values()
    assert shown["verified_under_shift"].value.split(":")[0] == ("partly" if facts["missed_families"] else "yes")
    rows = {record.data["family"]: record.data for record in shown["verification"].records}
    assert set(rows) == set(facts["families"])
    way = {0.0: "default", 0.5: "half", 1.0: "map"}[facts["blend_weight"]]
    for family, error in facts["families"].items():
        expected = "no shift" if family == "clean" else "no" if family in facts["missed_families"] else "yes"
        assert rows[family]["held"] == expected
        assert rows[family]["error"] == pytest.approx(error[way], abs=1e-4)

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


def detector_facts(**values):
    errors = {
        rate: {"default": 0.1, "half": 0.02, "map": 0.3, "n_windows": 9, "covered": 0.9}
        for rate in ("precision", "recall")
    }
    return {
        "families": {"clean": errors, "density": errors, "noise": {"recall": errors["recall"]}},
        "missed_families": [], "blend_weight": {"precision": 0.5, "recall": 0.0},
        "width_factor": {"precision": 1.25, "recall": 1.5}, **values,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("missed", "said"),
    [
        ([], "yes: the interval held on density, noise"),
        (["noise"], "partly: the interval held on density; missed on noise"),
        (["density", "noise"], "no: the interval missed on density, noise"),
    ],
)
def test_families_that_were_missed_make_a_verification_partial(missed, said):
    from assets.reports import verified_under_shift

    shown = verified_under_shift(detector_facts(missed_families=missed))
    assert shown["verified_under_shift"] == said
    rows = {(one.data["family"], one.data["rate"]): one.data for one in shown["verification"].records}
    assert len(rows) == 5, "noise left no window in which precision is defined"
    assert rows["density", "precision"] == {
        "family": "density", "rate": "precision", "error": 0.02, "held": "no" if "density" in missed else "yes",
        "map_weight": 0.5, "interval_factor": 1.25,
    }  # fmt: skip
    assert (rows["noise", "recall"]["error"], rows["clean", "recall"]["held"]) == (0.1, "no shift")


def test_a_result_without_a_stress_pass_is_not_verified(lake, result):
    from assets.reports import result_metadata

    shown = result_metadata(load_result(lake, result))
    assert shown["verified_under_shift"].startswith("no: ")
    assert "verification" not in shown


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
