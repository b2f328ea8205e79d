"""A stress pass from trace to estimate, on real digits: the badge goes, and nothing but the window changes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from examples.registered import digits_dataset
from mld_pipelines.compute import PoolPolicy
from mld_pipelines.evaluator import Evaluator
from mld_pipelines.lake import Lake
from mld_pipelines.tables import ESTIMATORS_MODELS, EVALUATION_UNITS, TRACES_STRESS
from mld_pipelines.tracing import StressOptions, register_dataset, register_model, stress_run, trace_run

pytestmark = pytest.mark.timeout(600)

INLINE = PoolPolicy(backend="inline")
NAMES = ("before", "after")
UNVERIFIED = "not verified under shift"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return Lake.open(str(tmp_path_factory.mktemp("stress") / "lake"))


@pytest.fixture(scope="module")
def results(lake):
    """Trace, evaluate, stress, evaluate again, as the platform does for a registered model."""
    register_model(lake, "digits", factory="examples.registered:digits_model", model_name="digits", version_name="v1")
    register_dataset(lake, "val", factory="examples.registered:digits_dataset", params={"part": "val"})
    trace_run(lake, "digits", "val", dataset_type="val", pool=INLINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_API_ENDPOINT", lake.root)
        evaluator = Evaluator("digits", "v1")
        before = evaluator.request_evaluation(result_name="before")
        report = stress_run(lake, "digits@v1", options=StressOptions(severities=(1, 3, 5)), pool=INLINE)
        assert report.complete, report.summary
        after = evaluator.request_evaluation(result_name="after")
    return before, after


@pytest.fixture(scope="module")
def production():
    """Digits that nobody traced, clean and under noise that is no built-in corruption; outputs, features, truth."""
    from examples.registered import digits_model

    data = digits_dataset("production")
    images = torch.from_numpy(np.stack([data[i][0] for i in range(len(data))]))
    labels = np.array([data[i][1] for i in range(len(data))])
    model = digits_model()
    stripes = images.clone()
    stripes[:, :, ::2] = 1.0 - stripes[:, :, ::2]
    outputs = {}
    for name, inputs in {"clean": images, "stripes": stripes}.items():
        with torch.no_grad():
            features = model.body(inputs)
            logits = model.head(features)
        outputs[name] = logits.numpy(), features.numpy(), float((logits.argmax(1).numpy() != labels).mean())
    return outputs


def windows(result, production, name):
    logits, features, _ = production[name]
    return result.estimate_error_rate(logits=logits, features=features)


def test_before_the_pass_the_estimate_says_what_it_has_not_seen(results, production):
    assert UNVERIFIED in windows(results[0], production, "clean").badges


def test_after_the_pass_the_badge_is_gone_and_the_families_are_named(results, production, lake):
    estimate = windows(results[1], production, "clean")
    assert UNVERIFIED not in estimate.badges
    assert estimate.verified_families
    families = {*estimate.verified_families, *estimate.missed_families}
    assert families == {"noise", "blur", "light", "geometry", "digital"}
    kinds = lake.read(ESTIMATORS_MODELS).group_by("result_name").agg(pl.col("kind").sort())
    found = dict(kinds.iter_rows())
    assert "window_map" in found["after"]
    assert "window_map" not in found["before"]


def test_the_copies_are_those_of_four_hundred_inputs(results, lake):
    copies = lake.read(TRACES_STRESS)
    assert copies["input_id"].n_unique() == 400
    assert copies.height == 400 * copies.select("kind", "severity").n_unique() == 400 * 63


def test_the_clean_estimate_stays_near_the_truth(results, production):
    for result in results:
        estimate, truth = windows(result, production, "clean"), production["clean"][2]
        assert estimate.low <= truth <= estimate.high


def test_a_shift_that_was_in_no_family_is_not_missed(results, production):
    truth = production["stripes"][2]
    assert truth > 0.3, "the shift breaks the model"
    before, after = (windows(result, production, "stripes") for result in results)
    assert abs(after.error_rate - truth) <= abs(before.error_rate - truth) + 0.05


def test_nothing_but_the_window_reads_the_copies(results, lake):
    units = lake.read(EVALUATION_UNITS)
    columns = ["input_id", "error_proba", "error_code", "category", "is_aleatoric", "label", "prediction"]
    before, after = (units.filter(pl.col("result_name") == name).select(columns).sort("input_id") for name in NAMES)
    assert before.equals(after)
    assert results[0].metrics_summary().equals(results[1].metrics_summary())
