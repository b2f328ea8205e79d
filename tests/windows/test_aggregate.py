from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from mld_pipelines.exceptions import ContractError
from mld_pipelines.tables import CATEGORIES, MONITORING_WINDOWS, check
from mld_pipelines.windows import STATE_SCHEMA, UNIT_EDGES, aggregate

Rows = Callable[..., pl.DataFrame]


@pytest.mark.feature("I21")
def test_every_inference_is_counted_in_its_utc_hour(make_rows: Rows) -> None:
    rows = make_rows(5000, days=3)
    states = aggregate(rows)
    expected = rows.group_by(pl.col("event_at").dt.truncate("1h").alias("start")).len().sort("start")
    assert states["n"].to_list() == expected["len"].to_list()
    assert states.select(
        pl.col("event_day").cast(pl.Datetime("us")) + pl.duration(hours="hour")
    ).to_series().to_list() == [start.replace(tzinfo=None) for start in expected["start"]]


def test_sums_equal_a_direct_computation(make_rows: Rows, limits: dict) -> None:
    rows = make_rows(4000)
    states = aggregate(rows, references=limits)
    valid = rows.filter(~pl.col("is_invalid"))
    total = states.select(pl.col(name).sum() for name in states.columns if states.schema[name].is_numeric()).row(
        0, named=True
    )
    assert total["n_invalid"] == rows["is_invalid"].sum()
    assert total["n_clock_skewed"] == rows["clock_skewed"].sum()
    assert total["n_scored"] == len(valid)
    assert total["error_proba_sum"] == pytest.approx(valid["error_proba"].cast(pl.Float64).sum(), abs=1e-6)
    assert total["confidence_t_sum"] == pytest.approx(valid["confidence_t"].cast(pl.Float64).sum(), abs=1e-6)
    assert total["latency_sum_ms"] == pytest.approx(rows["latency_ms"].sum(), abs=len(rows) * 2.0**-21)
    assert total["call_sum"] == pytest.approx((1 / rows["batch_size"]).sum(), abs=1e-6)
    assert total["n_over_threshold"] == (valid["error_proba"].cast(pl.Float64) > 0.7).sum()
    assert total["n_below_confidence"] == (valid["confidence_t"].cast(pl.Float64) < 0.4).sum()
    assert total["n_unseen"] == (rows["error_code"] == "UNSEEN").sum()


def test_histograms_equal_numpy(make_rows: Rows) -> None:
    rows = make_rows(3000)
    states = aggregate(rows)
    confidence = np.sum(states["confidence_histogram"].to_list(), axis=0)
    expected, _ = np.histogram(rows["confidence"].cast(pl.Float64), bins=np.array(UNIT_EDGES))
    assert confidence.tolist() == expected.tolist()
    classes = np.sum([np.pad(c, (0, 4 - len(c))) for c in states["class_counts"].to_list()], axis=0)
    assert classes.tolist() == np.bincount(rows["prediction"], minlength=4).tolist()


def test_estimate_and_truth_are_summed_over_the_same_labelled_units(make_rows: Rows) -> None:
    rows = make_rows(4000)
    states = aggregate(rows)
    labelled = rows.filter(pl.col("label").is_not_null())
    both = labelled.filter(~pl.col("is_invalid"))
    assert states["n_labelled"].sum() == len(labelled)
    assert states["n_label_errors"].sum() == (labelled["label"] != labelled["prediction"]).sum()
    assert states["n_labelled_scored"].sum() == len(both)
    assert states["n_labelled_scored_errors"].sum() == (both["label"] != both["prediction"]).sum()
    assert states["labelled_error_proba_sum"].sum() == pytest.approx(
        both["error_proba"].cast(pl.Float64).sum(), abs=1e-6
    )


def test_codes_and_categories_are_counted(make_rows: Rows) -> None:
    rows = make_rows(2000)
    states = aggregate(rows)
    counted = (
        states.select("codes", "code_counts").explode("codes", "code_counts").group_by("codes").sum().sort("codes")
    )
    expected = rows.group_by("error_code").len().sort("error_code")
    assert counted["codes"].to_list() == expected["error_code"].to_list()
    assert counted["code_counts"].to_list() == expected["len"].to_list()
    by_category = np.sum(states["category_counts"].to_list(), axis=0).tolist()
    assert by_category == [(rows["category"] == category).sum() for category in CATEGORIES]


@pytest.mark.feature("K21")
def test_basic_metrics_exist_without_a_result_and_error_columns_are_null(make_rows: Rows) -> None:
    states = aggregate(make_rows(500, result_name=None))
    assert states["n"].sum() == 500
    assert states["latency_sum_ms"].sum() > 0
    for name in list(STATE_SCHEMA)[list(STATE_SCHEMA).index("n_scored") :]:
        assert states[name].null_count() == len(states), name


def test_basic_metrics_of_scored_rows_ignore_the_result(make_rows: Rows) -> None:
    mixed = pl.concat([make_rows(100, seed=1), make_rows(100, seed=2, result_name=None)])
    states = aggregate(mixed, errors=False)
    assert states["result_name"].null_count() == len(states)
    assert states["n"].sum() == 200


def test_missing_optional_columns_count_as_null() -> None:
    rows = pl.DataFrame({"event_at": [datetime(2026, 5, 1, 3, tzinfo=UTC)], "model_key": ["m@v1"]})
    state = aggregate(rows.cast({"event_at": pl.Datetime("us", "UTC")})).row(0, named=True)
    assert (state["event_day"], state["hour"], state["n"]) == (date(2026, 5, 1), 3, 1)
    assert sum(state["latency_histogram"]) == 0
    assert state["class_counts"] == []
    assert state["latency_max_ms"] is None


def test_missing_event_time_is_refused() -> None:
    with pytest.raises(ContractError, match="event_at"):
        aggregate(pl.DataFrame({"model_key": ["m@v1"]}))


def test_no_rows_give_no_states(make_rows: Rows) -> None:
    states = aggregate(make_rows(0))
    assert states.is_empty()
    assert states.schema == STATE_SCHEMA


def test_nan_confidence_counts_as_invalid_and_enters_no_sum() -> None:
    rows = pl.DataFrame(
        {
            "event_at": pl.Series([datetime(2026, 5, 1, tzinfo=UTC)] * 2, dtype=pl.Datetime("us", "UTC")),
            "model_key": ["m@v1"] * 2,
            "result_name": ["r"] * 2,
            "confidence": pl.Series([float("nan"), 0.5], dtype=pl.Float32),
            "error_proba": pl.Series([float("nan"), 0.25], dtype=pl.Float32),
        }
    )
    state = aggregate(rows).row(0, named=True)
    assert (state["n"], state["n_invalid"], state["n_scored"]) == (2, 1, 1)
    assert (state["confidence_sum"], state["error_proba_sum"]) == (0.5, 0.25)
    assert sum(state["confidence_histogram"]) == sum(state["error_proba_histogram"]) == 1


def test_lazy_and_eager_rows_give_equal_states(make_rows: Rows) -> None:
    rows = make_rows(300)
    assert aggregate(rows.lazy()).equals(aggregate(rows))


@pytest.mark.parametrize("name", ["m_v1_classification_v1_20260501", None])
def test_states_obey_the_contract_of_their_table(make_rows: Rows, name: str | None) -> None:
    states = aggregate(make_rows(500, result_name=name))
    assert check(MONITORING_WINDOWS, MONITORING_WINDOWS.align(states)).counts == {}


def test_slices_are_windows_of_their_own(make_rows: Rows) -> None:
    rows = make_rows(100).with_columns(slice=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("even")))
    assert aggregate(rows).group_by("slice").agg(pl.col("n").sum()).sort("slice").rows() == [("all", 50), ("even", 50)]


def test_missing_tempered_confidence_falls_back_to_confidence(make_rows: Rows) -> None:
    rows = make_rows(200)
    plain = aggregate(rows.with_columns(confidence_t=pl.lit(None, pl.Float32)))
    same = aggregate(rows.with_columns(confidence_t=pl.col("confidence")))
    assert plain.equals(same)
