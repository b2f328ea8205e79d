"""`mld stress`."""

from __future__ import annotations

import pytest

from mld_pipelines.cli._exits import Exit
from mld_pipelines.evaluation import evaluate, load_result
from mld_pipelines.tables import LANDING_STRESS
from tests.support.traced import MODEL, STRESS_FAMILIES, write_stress, write_trace

FACTORIES = """
import torch
from torch import nn

from mld_pipelines.stress import Family, Kind


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))


def dataset(n=20, scale=1.0):
    images = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * scale
    return [(images[i], i % 3, f"item-{i}") for i in range(n)]


def halving():
    return Family("halving", (Kind("half", lambda x, severity, rng: x / 2),), "mine")
"""
KEY = "net@v1"
SMALL = ("--severities", "3", "--max-inputs", "8", "--batch-size", "8")


@pytest.fixture
def traced(mld, tmp_path, monkeypatch):
    """A registered model that the platform has traced; returns how to register it otherwise."""
    (tmp_path / "my_stress_factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def register(*options, scale=1.0):
        mld("models", "register", "net", "my_stress_factories:model", "--version-name", "v1", *options)
        params = f'{{"scale": {scale}}}'
        mld("models", "register", "val", "my_stress_factories:dataset", "--dataset", "--params", params)

    register()
    mld("trace", "run", "net", "val", "--dataset-type", "val", "--backend", "inline")
    return register


def stress(mld, command, *options):
    return mld("stress", command, KEY, *SMALL, "--backend", "inline", *options)


def test_cost_tells_before_anything_is_written(mld, lake, traced):
    done = stress(mld, "cost", "--json")
    assert done.exit == 0
    assert (done.document["sets"], done.document["forwards"], done.document["workers"]) == (21, 168, 1)
    assert done.document["seconds"] > 0
    assert lake.version(LANDING_STRESS) is None
    assert "about" in stress(mld, "cost").stdout


def test_run_stresses_and_status_lists_it(mld, lake, traced):
    before = mld("stress", "status", KEY, "--json")
    assert (before.exit, before.document["verified"], before.document["passes"]) == (Exit.CHECK_FAILED, False, [])
    assert "mld stress run net@v1" in before.document["summary"]
    done = stress(mld, "run", "--json")
    assert (done.exit, done.document["rows"], done.document["complete"]) == (0, 168, True)
    assert done.document["families"] == ["noise", "blur", "light", "geometry", "digital"]
    assert lake.read(LANDING_STRESS).height == 168
    after = mld("stress", "status", KEY, "--json")
    assert (after.exit, after.document["stressed"]) == (Exit.CHECK_FAILED, True)
    (one,) = after.document["passes"]
    assert len(mld("trace", "list", KEY, "--json").document["finished"]) == 1, "a pass is no trace"
    assert (one["state"], one["sets"], one["rows"], one["dataset_type"]) == ("complete", 21, 168, "val")


def test_status_is_verified_when_the_current_result_has_verified_families(mld, lake):
    write_trace(lake, "val", 900, seed=2, noise=1.4)
    evaluate(lake, MODEL)
    write_stress(lake, "val", 250, seed=2, noise=1.4)
    before = mld("stress", "status", MODEL, "--json")
    assert (before.exit, before.document["stressed"], before.document["verified"]) == (Exit.CHECK_FAILED, True, False)
    assert (
        f"is older than the pass, so nothing is verified under shift yet: mld evaluate {MODEL}"
        in (before.document["summary"])
    )
    name = evaluate(lake, MODEL).result_name
    after = mld("stress", "status", MODEL, "--json")
    assert (after.exit, after.document["verified"]) == (Exit.OK, True)
    facts = load_result(lake, name).verifications()[None]
    assert after.document["verified_families"] == facts["verified_families"]
    assert sorted(facts["verified_families"] + facts["missed_families"]) == sorted(STRESS_FAMILIES)
    assert f"result {name!r} has verified its estimates under shift on scale, shift" in after.document["summary"]
    assert "found its interval wrong on noise" in after.document["summary"]


def test_status_of_a_pass_too_small_to_verify_anything_says_why(mld, lake):
    write_trace(lake, "val", 200, seed=2, noise=1.4)
    write_stress(lake, "val", 20, seed=2, noise=1.4)
    unseen = mld("stress", "status", MODEL, "--json")
    assert (unseen.exit, unseen.document["verified"]) == (Exit.CHECK_FAILED, False)
    assert "was not evaluated" in unseen.document["summary"]
    evaluate(lake, MODEL)
    done = mld("stress", "status", MODEL, "--json")
    assert (done.exit, done.document["verified"]) == (Exit.CHECK_FAILED, False)
    assert "has verified nothing under shift: the stress pass was not used" in done.document["summary"]


def test_running_again_has_nothing_to_do(mld, traced):
    stress(mld, "run")
    again = stress(mld, "run", "--json")
    assert (again.exit, again.document["known_sets"]) == (Exit.NOTHING_TO_DO, 21)
    assert stress(mld, "cost").exit == Exit.NOTHING_TO_DO


def test_a_limit_stops_what_costs_too_much(mld, lake, traced):
    done = stress(mld, "run", "--max-seconds", "0", "--json")
    assert (done.exit, done.document["is_waiting"]) == (Exit.CHECK_FAILED, True)
    assert lake.version(LANDING_STRESS) is None


def test_families_of_the_registration_are_used(mld, traced):
    traced("--families", "my_stress_factories:halving")
    assert stress(mld, "run", "--json").document["families"] == ["halving"]
    rows = {row["name"]: row for row in mld("models", "list", "--json").document["registrations"]}
    assert rows["net"]["families"] == "my_stress_factories:halving"


def test_families_that_are_not_there_are_refused_at_registration(mld, traced):
    done = mld(
        "models", "register", "net", "my_stress_factories:model", "--version-name", "v1", "--families",
        "my_stress_factories:nothing",
    )  # fmt: skip
    assert done.exit == Exit.NOT_SET_UP


def test_families_belong_to_models(mld, traced):
    done = mld("models", "register", "val", "my_stress_factories:dataset", "--dataset", "--families", "image")
    assert done.exit == Exit.USAGE
    assert "--families" in done.stderr


def test_images_outside_the_range_are_refused_with_what_to_do(mld, traced):
    traced(scale=7.0)
    done = stress(mld, "run")
    assert done.exit == Exit.FAILED
    assert "normalize=(mean, std)" in done.stderr


def test_severities_that_are_no_numbers_are_refused(mld, traced):
    done = mld("stress", "run", KEY, "--severities", "mild", "--backend", "inline")
    assert done.exit == Exit.USAGE
    assert "'mild'" in done.stderr


@pytest.fixture
def detector(mld):
    """The example's detector, registered and traced as the documentation does it."""
    mld("models", "register", "net", "examples.drive.datasets:drive_model", "--version-name", "v1")
    params = '{"part": "val", "frames": 3}'
    mld("models", "register", "val", "examples.drive.datasets:drive_dataset", "--dataset", "--params", params)
    mld("trace", "run", "net", "val", "--dataset-type", "val", "--backend", "inline")


def test_a_detector_has_its_cost_its_pass_and_its_status(mld, lake, detector):
    few = ("--max-inputs", "2")
    told = stress(mld, "cost", *few, "--json").document
    assert (told["sets"], told["forwards"], told["workers"], told["seconds"] > 0) == (7, 14, 1, True)
    done = stress(mld, "run", *few, "--json")
    assert (done.exit, done.document["task"], done.document["rows"]) == (0, "od3d", 14)
    assert (done.document["families"], done.document["lost_copies"]) == (
        ["density", "coverage", "noise", "intensity"],
        {},
    )
    assert stress(mld, "run", *few).exit == Exit.NOTHING_TO_DO
    after = mld("stress", "status", KEY, "--json").document
    (one,) = after["passes"]
    assert (after["stressed"], one["sets"], one["rows"], one["error_rate"]) == (True, 7, 14, None)
    assert one["box_change"] > 0, "what clutter adds is more than what the others lose"
    shown = mld("stress", "status", KEY).stdout
    assert ("box_change" in shown, "error_rate" in shown) == (True, False)


def test_a_model_of_a_tracer_is_told_what_to_do(mld, lake):
    write_trace(lake, "val", 20)
    done = mld("stress", "run", MODEL)
    assert done.exit == Exit.NOT_FOUND
    assert "tracer.stress" in done.stderr
    assert "tracer.stress" in mld("stress", "status", MODEL).stdout


def test_an_unknown_model_names_the_known(mld, lake):
    write_trace(lake, "val", 20)
    done = mld("stress", "status", "other@v1")
    assert done.exit == Exit.NOT_FOUND
    assert MODEL in done.stderr
