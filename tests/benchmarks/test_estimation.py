"""The estimation benchmark on digits and one small binary model: bounds are those of docs/estimation.md × 1.3."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.estimation import _generation
from benchmarks.estimation._datasets import load
from benchmarks.estimation._generation import Protocol
from benchmarks.estimation._job import Plan, measure_model
from benchmarks.estimation._metrics import ece, measure
from benchmarks.estimation._peers import log_odds_of_error, softmax
from benchmarks.estimation._planted import SLICES, recover
from benchmarks.estimation._report import Findings, document, markdown, replace_tables
from benchmarks.estimation._targets import Target

SLACK = 1.3
PLAN = Plan(
    seeds={"g": (0,), "b": (0,)},
    n_windows=80,
    references=(300,),
    planted=(),
    protocols={"g": Protocol(severities=(3,), stress_inputs=200), "b": Protocol(severities=(3,))},
)


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(_generation, "_CACHE", tmp_path_factory.mktemp("outputs"))
    models = {name: measure_model(name, PLAN) for name in PLAN.names()}
    yield Findings(models, planted=[], seconds=1.0, load=0.0)
    patch.undo()


def test_on_digits_units_are_ranked_no_worse_than_by_their_confidence(findings):
    for size, margin in (("all", 0.005), ("300", 0.01)):
        table = findings.models["g0"]["units"][size]["methods"]
        assert table["ours"]["AUROC"] >= table["MSP"]["AUROC"] - SLACK * margin
        assert table["ours"]["ECE"] <= SLACK * 0.025
    assert findings.models["g0"]["units"]["all"]["methods"]["ours"]["AUROC"] > 0.9


def test_on_digits_windows_are_estimated_better_than_by_the_best_peer_in_hindsight(findings):
    assert findings.ratio("g0", "ours") <= SLACK * 0.80
    assert findings.ratio("g0", "ours + stress") <= SLACK * 0.77
    assert findings.window("g0", "ours", "clean") <= SLACK * 0.0115


def test_on_digits_intervals_cover_and_clean_windows_raise_no_alert(findings):
    for method, least in (("ours", 0.72), ("ours + stress", 0.82)):
        interval = findings.models["g0"]["windows"]["intervals"][method]
        assert 1.0 - interval["coverage"] <= SLACK * (1.0 - least)
        assert interval["width"] <= SLACK * 0.11
        assert interval["false alerts"] <= SLACK * 0.01


def test_on_digits_codes_survive_a_refit(findings):
    codes = findings.models["g0"]["codes"]
    assert codes["names kept, frozen"] == 1.0
    assert codes["names kept, warm"] >= 0.80 / SLACK
    assert codes["ARI, warm"] >= 0.75 / SLACK


def test_a_binary_reference_of_seven_errors_gives_units_but_no_windows(findings):
    model = findings.models["b0"]
    assert model["errors"] == 7
    assert model["units"]["all"]["methods"]["ours"]["AUROC"] > 0.9
    assert "windows" not in model


def test_a_planted_shortcut_of_a_table_is_among_the_first_ten_issues():
    found = {row.name: row for row in recover("t", 0) if row.is_alone}
    assert set(found) == set(SLICES)
    for name in ("corrupted sub-population", "rare mode 3 %", "shortcut"):
        assert found[name].share >= 0.0299
        assert found[name].purity >= 0.9 / SLACK


def test_the_page_and_the_json_hold_every_method_and_say_who_wins(findings):
    page = markdown(findings)
    assert "Windows, small models, ours: " in page
    assert all(f"| {peer} |" in page for peer in ("CBPE", "ATC-MC", "DoC", "COTT + BBSE", "trust score"))
    numbers = json.loads(json.dumps(document(findings)))
    assert set(numbers["models"]) == {"g0", "b0"}
    assert {"quantity", "value", "must", "ambitious", "is_met"} == set(numbers["targets"][0])


def test_a_loss_is_printed_in_words(findings):
    behind = json.loads(json.dumps(findings.models))
    behind["g0"]["units"]["all"]["methods"]["ours"]["AUROC"] = 0.5
    behind["g0"]["windows"]["methods"]["ours"]["all"] = 0.9
    page = markdown(replace(findings, models=behind))
    assert "Units, digits, on clean units: ours **loses to** the best peer" in page
    assert "Windows, small models, ours: **loses to** the best single peer" in page
    assert "**missed by" in page


def test_tables_replace_only_what_stands_between_the_marks():
    page = "before\n<!-- estimation: begin -->\nold\n<!-- estimation: end -->\nafter\n"
    renewed = replace_tables(page, "new")
    assert renewed.startswith("before\n")
    assert renewed.endswith("after\n")
    assert "old" not in renewed
    with pytest.raises(ValueError, match="needs one"):
        replace_tables("no marks", "new")


def test_the_measures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    errors = rng.random(400) < 0.3
    scores = np.round(rng.random(400) + 0.3 * errors, 2)  # with ties
    got = measure(errors, scores, is_probability=False)
    assert got["AUROC"] == pytest.approx(roc_auc_score(errors, scores))
    assert got["AP"] == pytest.approx(average_precision_score(errors, scores))


def test_a_probability_that_is_right_on_average_in_each_bin_has_no_calibration_error():
    probability = np.repeat([0.25, 0.75], 200)
    errors = np.tile([True, False, False, False], 50), np.tile([True, True, True, False], 50)
    assert ece(np.concatenate(errors), probability) == pytest.approx(0.0, abs=1e-12)
    assert ece(np.concatenate(errors), probability + 0.1) == pytest.approx(0.1)


def test_confidence_near_one_keeps_its_order():
    logits = np.array([[80.0, 0.0], [60.0, 0.0], [1.0, 0.0]])
    assert np.all(np.diff(log_odds_of_error(logits)) > 0.0)
    assert log_odds_of_error(logits)[2] == pytest.approx(np.log(softmax(logits)[2, 1] / softmax(logits)[2, 0]))


def test_the_same_seed_gives_the_same_data():
    for kind in "gtb":
        one, two = load(kind, 1), load(kind, 1)
        np.testing.assert_array_equal(one.inputs, two.inputs)
        np.testing.assert_array_equal(one.labels, two.labels)
        assert not np.array_equal(one.labels, load(kind, 2).labels)


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.4, "met, ambitious too"), (0.7, "met"), (0.9, "**missed by 0.100**")]
)
def test_a_target_is_met_or_missed_by_a_number(value, verdict):
    assert Target("q", value, 0.8, 0.5, at_most=True).verdict() == verdict
