from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from mld_pipelines.tables.monitoring import MONITORING_CODES
from mld_pipelines.windows import Baseline, aggregate, compare_codes

Rows = Callable[..., pl.DataFrame]
REFERENCE = {"E001": 400, "E002": 300, "E003": 200, "E004": 60, "E005": 30, "E006": 10, "E007": 12, "UNSEEN": 8}


@pytest.fixture
def compared(make_rows: Rows, make_baseline: Callable[..., Baseline], result_name: str) -> pl.DataFrame:
    states = aggregate(make_rows(3000, days=3))
    return compare_codes(states, {result_name: make_baseline(REFERENCE, categories={"E001": "hotspot"})})


@pytest.mark.feature("K17")
def test_deltas_of_a_day_sum_to_zero(compared: pl.DataFrame) -> None:
    assert compared.group_by("event_day").agg(pl.col("delta").sum())["delta"].to_list() == pytest.approx(
        [0.0] * 3, abs=1e-9
    )


@pytest.mark.feature("K18")
def test_counts_of_a_day_sum_to_its_coded_units(compared: pl.DataFrame, make_rows: Rows) -> None:
    totals = compared.group_by("event_day").agg(pl.col("counts").sum(), pl.col("n").first()).sort("event_day")
    expected = make_rows(3000, days=3).group_by(pl.col("event_at").dt.date().alias("day")).len().sort("day")
    assert totals["counts"].to_list() == totals["n"].to_list() == expected["len"].to_list()


def test_shares_and_delta_follow_the_definition(compared: pl.DataFrame) -> None:
    row = compared.filter(pl.col("error_code") == "E001").row(0, named=True)
    assert row["reference_share"] == pytest.approx(400 / 1020)
    assert row["delta"] == pytest.approx(100 * (row["counts"] / row["n"] - 400 / 1020))
    assert row["delta_low"] < row["delta"] < row["delta_high"]
    assert row["category"] == "hotspot"


def test_error_rate_of_a_code_is_its_mean_error_probability(make_rows: Rows, compared: pl.DataFrame) -> None:
    rows = make_rows(3000, days=3).filter(pl.col("error_code") == "E002")
    day = compared.filter(pl.col("error_code") == "E002").row(0, named=True)
    mine = rows.filter(pl.col("event_at").dt.date() == day["event_day"])
    expected = mine.filter(~pl.col("is_invalid"))["error_proba"].cast(pl.Float64).sum() / len(mine)
    assert day["mean_error_proba"] == pytest.approx(expected, abs=1e-6)


def test_a_code_absent_on_one_side_is_listed_and_masked(compared: pl.DataFrame) -> None:
    gone = compared.filter(pl.col("error_code") == "E007")
    assert gone["counts"].to_list() == [0, 0, 0]
    assert gone["mean_error_proba"].null_count() == 3
    assert gone["is_masked"].all()


def test_cells_below_thirty_units_on_either_side_are_masked(compared: pl.DataFrame) -> None:
    expected = (compared["counts"] < 30) | (compared["reference_counts"] < 30)
    assert compared["is_masked"].to_list() == expected.to_list()
    assert 0 < expected.sum() < len(expected)


def test_a_result_without_baseline_has_no_differences(make_rows: Rows) -> None:
    compared = compare_codes(aggregate(make_rows(100)), {})
    assert compared["delta"].null_count() == len(compared)
    assert compared["is_masked"].all()
    assert compared["counts"].sum() == 100


def test_rows_fit_the_table(compared: pl.DataFrame) -> None:
    assert MONITORING_CODES.align(compared).schema == MONITORING_CODES.polars_schema


def test_basic_states_have_no_codes(make_rows: Rows) -> None:
    empty = compare_codes(aggregate(make_rows(50, result_name=None)), {})
    assert empty.is_empty()
    assert MONITORING_CODES.align(empty).is_empty()
