"""Reliability and windows of a stored result, recounted from its units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta

from mld_pipelines.diagnosis import WindowReference
from mld_pipelines.evaluation import (
    EVIDENCE_SCHEMA,
    estimate_units,
    evaluate,
    load_result,
    load_scorer,
    reliability_bins,
    window_evidence,
)
from mld_pipelines.tables import EVALUATION_UNITS
from tests.support.traced import MODEL, toy_outputs, write_stress, write_trace

if TYPE_CHECKING:
    from mld_pipelines.evaluation import StoredResult
    from mld_pipelines.lake import Lake


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StoredResult:
    from mld_pipelines.lake import Lake

    lake = Lake.open(str(tmp_path_factory.mktemp("evidence") / "lake"))
    for dataset, seed, noise in (("train", 1, 1.0), ("val", 2, 1.4), ("test", 3, 1.6)):
        write_trace(lake, dataset, 900, seed=seed, noise=noise)
    return evaluate(lake, MODEL, result_name="main")


@pytest.fixture(scope="module")
def evidence(result: StoredResult) -> pl.DataFrame:
    return window_evidence(result)


def test_reliability_bins_are_means_shares_and_jeffreys_intervals() -> None:
    bins = reliability_bins(
        pl.Series([0.0, 0.05, 0.05, 0.95, 1.0, None]), pl.Series([False, False, True, True, True, True])
    )
    assert bins.select("counts").to_series().to_list() == [3, 2]
    assert bins["predicted"].to_list() == [pytest.approx(0.1 / 3), pytest.approx(0.975)]
    assert bins["observed"].to_list() == [pytest.approx(1 / 3), pytest.approx(1.0)]
    assert bins["low"][0] == pytest.approx(beta.ppf(0.025, 1.5, 2.5))
    assert bins["high"][0] == pytest.approx(beta.ppf(0.975, 1.5, 2.5))


def test_windows_come_from_data_the_estimator_was_not_fitted_on(evidence: pl.DataFrame) -> None:
    assert dict(evidence.schema) == dict(EVIDENCE_SCHEMA)
    windows = evidence.filter(pl.col("kind") != "all")
    assert set(windows["dataset"]) == {"test"}
    assert not windows["is_reference"].any()
    assert sorted(evidence.filter(pl.col("kind") == "all")["dataset"]) == ["test", "val"]


def test_the_true_rate_and_the_opinions_are_those_of_the_units(result: StoredResult, evidence: pl.DataFrame) -> None:
    units = result.units().filter(pl.col("dataset_type") == "test").collect()
    (row,) = evidence.filter((pl.col("kind") == "all") & (pl.col("dataset") == "test")).to_dicts()
    artifact = result.artifacts().filter(pl.col("kind") == "window")["artifact"][0]
    reference = WindowReference.from_bytes(artifact)
    assert row["n"] == 900
    assert row["true"] == pytest.approx(units["is_error"].mean())
    assert row["mean_ep"] == pytest.approx(units["error_proba"].cast(pl.Float64).mean())
    assert row["msp_t"] == pytest.approx(1 - units["confidence_t"].cast(pl.Float64).mean())
    assert row["atc_mc"] == pytest.approx((units["confidence_t"].cast(pl.Float64) < reference.threshold_mc).mean())
    assert row["low"] <= row["estimated"] <= row["high"]
    assert row["estimated"] == pytest.approx(max(row["mean_ep"], row["atc_ep"]))


def test_windows_by_class_hold_the_units_of_that_class(result: StoredResult, evidence: pl.DataFrame) -> None:
    units = result.units().filter(pl.col("dataset_type") == "test").collect()
    for row in evidence.filter(pl.col("kind") == "predicted class").iter_rows(named=True):
        own = units.filter(pl.col("prediction") == int(row["name"].rsplit(" ", 1)[1]))
        assert row["n"] == own.height >= 50
        assert row["true"] == pytest.approx(own["is_error"].mean())


def test_random_windows_do_not_share_units(evidence: pl.DataFrame) -> None:
    random = evidence.filter(pl.col("kind") == "random")
    assert random.height == 12
    assert random["n"].sum() <= 900
    mean = np.average(random["true"], weights=random["n"])
    assert mean == pytest.approx(
        evidence.filter((pl.col("kind") == "all") & ~pl.col("is_reference"))["true"][0], abs=1e-9
    )


def test_the_sample_is_the_same_every_time(result: StoredResult, evidence: pl.DataFrame) -> None:
    assert window_evidence(result).equals(evidence)


def test_a_single_dataset_is_its_own_evidence_and_says_so(lake: Lake) -> None:
    write_trace(lake, "val", 300, noise=1.4)
    evidence = window_evidence(evaluate(lake, MODEL))
    assert evidence["is_reference"].all()
    assert set(evidence["kind"]) >= {"all", "random"}


def test_a_tiny_dataset_is_one_window(lake: Lake) -> None:
    write_trace(lake, "val", 300, noise=1.4)
    write_trace(lake, "test", 20, seed=5)
    evidence = window_evidence(evaluate(lake, MODEL)).filter(pl.col("dataset") == "test")
    assert evidence["kind"].to_list() == ["all"]
    assert "few units in the window" in evidence["badges"][0].to_list()


def test_without_features_there_is_no_opinion_by_code(lake: Lake) -> None:
    write_trace(lake, "val", 300, noise=1.4, features=False)
    evidence = window_evidence(evaluate(lake, MODEL))
    assert evidence.height > 1
    assert evidence["codes"].null_count() == evidence.height


def test_a_result_older_than_tempered_confidences_gives_no_rows(lake: Lake) -> None:
    write_trace(lake, "val", 100)
    stored = evaluate(lake, MODEL, result_name="a")
    rows = stored.units().with_columns(pl.lit(None, dtype=pl.Float32).alias("confidence_t")).collect()
    lake.remove(EVALUATION_UNITS, where={"evaluation_id": [stored.evaluation_id]})
    lake.append(EVALUATION_UNITS, rows)
    assert window_evidence(load_result(lake, "a")).is_empty()


def test_windows_of_a_result_with_a_stress_map_are_judged_by_it(lake: Lake) -> None:
    write_trace(lake, "train", 600, seed=1)
    write_trace(lake, "val", 900, seed=2, noise=1.4)
    write_trace(lake, "test", 600, seed=3, noise=1.8)
    plain = window_evidence(evaluate(lake, MODEL))
    write_stress(lake, "val", 250, seed=2, noise=1.4)
    stored = evaluate(lake, MODEL)
    evidence = window_evidence(stored)
    keys = ["dataset", "kind", "name", "n", "true", "mean_ep", "msp_t"]
    assert evidence.select(keys).equals(plain.select(keys))
    assert not evidence["estimated"].equals(plain["estimated"])
    scorer = load_scorer(lake, stored.result_name)
    _, features, logits = toy_outputs(600, seed=3, noise=1.8)
    expected = estimate_units(scorer, logits=logits, features=features)
    (row,) = evidence.filter((pl.col("dataset") == "test") & (pl.col("kind") == "all")).to_dicts()
    assert row["estimated"] == pytest.approx(expected.error_rate, abs=1e-6)
    assert (row["low"], row["high"]) == (pytest.approx(expected.low, abs=1e-6), pytest.approx(expected.high, abs=1e-6))
    assert not any("not verified" in badge for badges in evidence["badges"] for badge in badges)
