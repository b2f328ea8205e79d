from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import jensenshannon

from mld_pipelines.diagnosis import WindowReference
from mld_pipelines.windows import (
    DERIVED_SCHEMA,
    LATENCY_RELATIVE_ERROR,
    Baseline,
    aggregate,
    derive,
    empty_states,
    fit_baseline,
    roll_up,
)

Rows = Callable[..., pl.DataFrame]


def _reference(n_errors: int = 300) -> WindowReference:
    return WindowReference(
        n_ref=3000, n_errors=n_errors, threshold_ep=0.7, threshold_mc=0.4, temperature=1.0, unseen_ref=0.02
    )


@pytest.fixture
def day(make_rows: Rows) -> pl.DataFrame:
    return roll_up(aggregate(make_rows(2000)))


@pytest.mark.feature("I22", "K22")
def test_latency_quantiles_are_within_the_documented_error(day: pl.DataFrame, make_rows: Rows) -> None:
    row = derive(day).row(0, named=True)
    latency = make_rows(2000)["latency_ms"].to_numpy()
    for level in (50, 95, 99):
        exact = np.quantile(latency, level / 100, method="inverted_cdf")
        assert row[f"latency_p{level}_ms"] == pytest.approx(exact, rel=LATENCY_RELATIVE_ERROR)
    assert row["latency_mean_ms"] == pytest.approx(latency.mean())
    assert row["latency_max_ms"] == pytest.approx(latency.max(), abs=1e-6)


@pytest.mark.feature("I23", "K22")
def test_throughput_is_inferences_per_second_of_the_window(make_rows: Rows) -> None:
    states = aggregate(make_rows(2000))
    hours, days = derive(states), derive(roll_up(states))
    assert hours["throughput_per_s"].to_list() == pytest.approx([n / 3600 for n in states["n"]])
    assert days["throughput_per_s"][0] == pytest.approx(2000 / 86400)


def test_mean_batch_size_counts_calls_not_rows() -> None:
    """One call of 8 inputs and two of 1: ten rows, three calls."""
    rows = pl.DataFrame(
        {
            "event_at": pl.Series([datetime(2026, 5, 1, tzinfo=UTC)] * 10, dtype=pl.Datetime("us", "UTC")),
            "model_key": ["m@v1"] * 10,
            "batch_size": pl.Series([8] * 8 + [1] * 2, dtype=pl.Int32),
        }
    )
    row = derive(aggregate(rows)).row(0, named=True)
    assert row["calls"] == pytest.approx(3.0)
    assert row["batch_size_mean"] == pytest.approx(10 / 3)


def test_mixes_sum_to_one_and_match_the_rows(day: pl.DataFrame, make_rows: Rows) -> None:
    row, rows = derive(day).row(0, named=True), make_rows(2000)
    assert row["class_mix"] == pytest.approx((np.bincount(rows["prediction"]) / 2000).tolist())
    assert sum(row["category_mix"]) == pytest.approx(1.0)
    assert row["unseen_share"] == pytest.approx((rows["error_code"] == "UNSEEN").mean())
    covered = rows["category"].is_in(["stable_coverage", "operational_coverage"]).mean()
    assert row["coverage"] == pytest.approx(covered)


@pytest.mark.feature("M9")
def test_estimate_follows_the_window_rule_by_hand(
    day: pl.DataFrame, make_rows: Rows, limits: dict, result_name: str
) -> None:
    rows = make_rows(2000).filter(~pl.col("is_invalid"))
    states = roll_up(aggregate(make_rows(2000), references=limits))
    row = derive(states, references={result_name: _reference()}).row(0, named=True)
    risk = rows["error_proba"].cast(pl.Float64).to_numpy()
    mean, atc = risk.mean(), (risk > 0.7).mean()
    atc_mc = (rows["confidence_t"].cast(pl.Float64).to_numpy() < 0.4).mean()
    p, spread = max(mean, atc), max(mean, atc, atc_mc) - min(mean, atc, atc_mc)
    s = np.sqrt(p * (1 - p) * (1 / len(risk) + 1 / 3000) + (0.25 * spread) ** 2 + (0.2 * (p - 0.1)) ** 2 + 0.004**2)
    assert row["error_rate_estimated"] == pytest.approx(p, abs=1e-7)
    assert row["error_rate_low"] == pytest.approx(p - 2 * s, abs=1e-6)
    assert row["error_rate_high"] == pytest.approx(p + 2 * s, abs=1e-6)
    assert row["atc_error_proba"] == pytest.approx(atc)
    assert row["error_rate_reference"] == pytest.approx(0.1)


def test_realised_rate_stands_beside_the_estimate_for_the_same_units(day: pl.DataFrame, make_rows: Rows) -> None:
    row, rows = derive(day).row(0, named=True), make_rows(2000).filter(pl.col("label").is_not_null())
    assert row["n_labelled"] == len(rows)
    assert row["error_rate_realised"] == pytest.approx((rows["label"] != rows["prediction"]).mean())
    assert row["error_rate_realised_low"] < row["error_rate_realised"] < row["error_rate_realised_high"]
    scored = rows.filter(~pl.col("is_invalid"))
    assert row["error_rate_estimated_labelled"] == pytest.approx(
        scored["error_proba"].cast(pl.Float64).mean(), abs=1e-7
    )


def test_drift_columns_equal_scipy_and_stay_below_their_threshold_without_drift(
    make_rows: Rows, result_name: str
) -> None:
    baseline = fit_baseline(
        make_rows(3000, seed=5).with_columns(is_error=pl.lit(value=False)), model_key="m@v1", result_name=result_name
    )
    rows = make_rows(1000, seed=6)
    row = derive(roll_up(aggregate(rows)), {result_name: baseline}).row(0, named=True)
    names = sorted(baseline.codes)
    observed = [(rows["error_code"] == name).sum() for name in names]
    assert row["drift_codes"] == pytest.approx(jensenshannon(observed, [baseline.codes[n] for n in names], base=2))
    for name in ("drift_codes", "drift_classes", "drift_confidence"):
        assert 0 < row[name] < row[f"{name}_threshold"]


def test_a_window_below_thirty_is_too_few_for_drift(
    make_rows: Rows, make_baseline: Callable[..., Baseline], result_name: str
) -> None:
    row = derive(roll_up(aggregate(make_rows(29))), {result_name: make_baseline({"E001": 500})}).row(0, named=True)
    assert row["too_few"]
    assert row["drift_codes"] is None
    assert not derive(roll_up(aggregate(make_rows(30))))["too_few"][0]


def test_basic_windows_have_no_error_numbers(make_rows: Rows) -> None:
    row = derive(roll_up(aggregate(make_rows(200, result_name=None)))).row(0, named=True)
    assert row["latency_p50_ms"] > 0
    assert row["error_proba_mean"] is row["coverage"] is row["n_labelled"] is None


def test_windows_without_scores_have_no_estimate(make_rows: Rows, result_name: str) -> None:
    rows = make_rows(50).with_columns(pl.lit(None, pl.Float32).alias("error_proba"))
    row = derive(roll_up(aggregate(rows)), references={result_name: _reference()}).row(0, named=True)
    assert row["n_scored"] == 0
    assert row["error_rate_estimated"] is None


def test_no_states_derive_to_no_rows() -> None:
    assert derive(empty_states()).schema == DERIVED_SCHEMA


def test_baseline_survives_json(make_baseline: Callable[..., Baseline]) -> None:
    baseline = make_baseline({"E001": 5, "UNSEEN": 1}, categories={"E001": "hotspot"}, code_names=("E001",))
    assert Baseline.from_json(baseline.to_json()) == baseline


def test_bad_share_is_judged_against_the_upper_bound_of_the_reference(
    make_rows: Rows, make_baseline: Callable[..., Baseline], result_name: str
) -> None:
    from scipy import stats

    baseline = make_baseline({"E001": 900, "E002": 100}, categories={"E001": "stable_coverage", "E002": "hotspot"})
    rows = make_rows(1000)
    row = derive(roll_up(aggregate(rows)), {result_name: baseline}).row(0, named=True)
    bad = int((rows["category"] == "hotspot").sum())
    assert row["bad_share"] == pytest.approx(bad / 1000)
    assert row["bad_low"] == pytest.approx(stats.binomtest(bad, 1000).proportion_ci(0.9, method="wilson").low)
    assert row["bad_threshold"] == pytest.approx(stats.binomtest(100, 1000).proportion_ci(0.9, method="wilson").high)
