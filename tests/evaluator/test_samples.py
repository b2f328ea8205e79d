"""`Result.get_samples`: single units, in a fixed order, with what names, explains and finds them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mld_pipelines.evaluation import load_result, load_scorer
from mld_pipelines.evaluator import Evaluator, Result
from mld_pipelines.exceptions import InvalidInputError, UnknownEpochError
from mld_pipelines.lake import Lake
from tests.support.traced import write_feedback, write_inferences, write_trace

COLUMNS = [
    "dataset", "n_epoch", "input_id", "input_uri", "label", "prediction", "is_error", "confidence", "error_proba",
    "error_code", "category", "is_aleatoric", "support_distance", "loss", "reasons",
]  # fmt: skip


@pytest.fixture(scope="module")
def units(endpoint: str, result: Result) -> pl.DataFrame:
    return load_result(Lake.open(endpoint), result.result_name).units().collect()


def test_samples_have_fixed_columns_then_the_metadata_keys(result: Result) -> None:
    samples = result.get_samples()
    assert samples.columns == [*COLUMNS, "lamp", "site"]
    assert samples.height == 1800
    assert samples.filter(pl.col("site") == "south")["lamp"].unique().to_list() == [2]


def test_samples_of_a_code_are_exactly_its_units(result: Result, units: pl.DataFrame) -> None:
    code = result.get_issues(dataset="val")["error_code"][0]
    samples = result.get_samples(code, dataset="val")
    expected = units.filter((pl.col("error_code") == code) & (pl.col("dataset_type") == "val"))
    assert sorted(samples["input_id"]) == sorted(expected["input_id"])
    assert (
        result.get_samples([code, "UNSEEN"]).height == units.filter(pl.col("error_code").is_in([code, "UNSEEN"])).height
    )


def test_samples_of_a_category_agree_with_its_ratio(result: Result) -> None:
    ratios = result.issue_category_summary().filter(pl.col("dataset") == "val").row(0, named=True)
    for name, ratio in ratios.items():
        if name.endswith("_ratio"):
            found = result.get_samples(category=name.removesuffix("_ratio"), dataset="val", reasons=False)
            assert found.height == round(ratio * 900)


def test_typical_units_lie_nearest_their_centroid(result: Result) -> None:
    code = result.get_issues(dataset="val")["error_code"][0]
    distances = result.get_samples(code, order="typical")["support_distance"].to_list()
    assert distances == sorted(distances)
    assert result.get_samples(code, order="atypical")["support_distance"].to_list() == sorted(distances, reverse=True)


@pytest.mark.parametrize("order", ["error_proba", "confidence", "loss"])
def test_other_orders_put_the_largest_first(result: Result, order: str) -> None:
    values = result.get_samples(dataset="val", order=order, limit=50, reasons=False)[order].to_list()
    assert values == sorted(result.get_samples(dataset="val", reasons=False)[order].to_list(), reverse=True)[:50]


def test_ties_go_by_dataset_and_input_whatever_the_storage(result: Result) -> None:
    by_confidence = result.get_samples(order="confidence", reasons=False)
    rows = list(by_confidence.select("confidence", "dataset", "input_id").iter_rows())
    assert rows == sorted(rows, key=lambda row: (-row[0], row[1], row[2]))


def test_a_limit_takes_the_first(result: Result) -> None:
    assert result.get_samples(limit=3).equals(result.get_samples().head(3))
    assert result.get_samples(limit=0).height == 0
    assert result.get_samples(limit=0).columns == [*COLUMNS, "lamp", "site"]


def test_filters_reach_metadata_and_units(result: Result) -> None:
    found = result.get_samples(filters=["site == 'south'", "is_error", "entropy > 0.1"], dataset="val")
    assert found["site"].unique().to_list() == ["south"]
    assert found["is_error"].all()
    assert found.height > 0


def test_where_an_input_lies_is_said_if_it_was_recorded(result: Result) -> None:
    uris = {row["input_id"]: row["input_uri"] for row in result.get_samples(dataset="val").iter_rows(named=True)}
    assert uris["val-3"] == "s3://raw/3.png"
    assert uris["val-4"] is None
    assert result.get_samples(dataset="train")["input_uri"].null_count() == 900


def test_reasons_are_the_three_largest_contributions(endpoint: str, result: Result, units: pl.DataFrame) -> None:
    samples = result.get_samples(dataset="val", order="error_proba", limit=40)
    estimator = load_scorer(Lake.open(endpoint), result.result_name).estimator
    scores = samples.select("input_id").join(
        units.filter(pl.col("dataset_type") == "val"), on="input_id", how="left", maintain_order="left"
    )["risk_scores"]
    expected = estimator.reasons(np.array(scores.to_list()))
    for row, reasons in zip(samples["reasons"].to_list(), expected, strict=True):
        assert [(r["score"], r["meaning"]) for r in row] == [(r.score, r.meaning) for r in reasons]
        assert [r["contribution"] for r in row] == pytest.approx([r.contribution for r in reasons])
    assert len(samples["reasons"][0]) == 3


def test_reasons_print_as_sentences(result: Result) -> None:
    sample = result.get_samples(dataset="val", order="error_proba", limit=1)
    first = sample["reasons"][0][0]
    assert f"{first['meaning']} {first['contribution']:+.2f}; " in str(sample)
    assert "contribution" not in str(sample)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"error_code": "E999"}, "'E999'; these exist: E001"),
        ({"error_code": 3}, "a name or several, got 3"),
        ({"category": "bad"}, "'bad'; these exist: stable_coverage"),
        ({"dataset": "test"}, "'test'; these exist: train, val"),
        ({"order": "random"}, "'random'; these exist: typical"),
        ({"limit": -1}, "-1"),
        ({"filters": {"colour": 1}}, "'colour'"),
    ],
)
def test_what_does_not_exist_is_an_error_that_names_what_does(
    result: Result, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        result.get_samples(**arguments)  # type: ignore[arg-type]


def test_an_epoch_that_the_result_lacks_is_an_error(result: Result) -> None:
    with pytest.raises(UnknownEpochError, match="without epoch"):
        result.get_samples(n_epoch=3)


def test_samples_of_one_epoch_among_several(endpoint: str) -> None:
    lake = Lake.open(endpoint)
    for epoch in (1, 2):
        write_trace(lake, "val", 120, seed=epoch, epoch=epoch, model_key="epochs@v1", fingerprint=str(epoch) * 64)
    every = Evaluator("epochs", "v1").request_evaluation(n_epoch=None)
    assert every.get_samples().height == 240
    one = every.get_samples(n_epoch=1, order="input_id")
    assert one["n_epoch"].unique().to_list() == [1]
    assert one["reasons"].null_count() == 0


def test_a_metadata_key_named_like_a_column_is_renamed(endpoint: str) -> None:
    write_trace(Lake.open(endpoint), "val", 30, seed=3, model_key="clash@v1", metadata=['{"label": "cat"}'] * 30)
    samples = Evaluator("clash", "v1").request_evaluation().get_samples()
    assert samples["metadata_label"].unique().to_list() == ["cat"]
    assert samples["label"].dtype == pl.Int64


def test_a_result_without_codes_has_samples_without_support(endpoint: str) -> None:
    write_trace(Lake.open(endpoint), "val", 90, seed=4, model_key="blind@v1", features=False)
    samples = Evaluator("blind", "v1").request_evaluation().get_samples("UNCODED", limit=5)
    assert samples["support_distance"].null_count() == 5
    assert samples["input_id"].to_list() == sorted(samples["input_id"])


def test_production_units_are_samples_too(endpoint: str) -> None:
    from datetime import UTC, datetime

    lake = Lake.open(endpoint)
    write_trace(lake, "val", 120, seed=5, model_key="live@v1")
    requests, labels = write_inferences(lake, 20, model_key="live@v1", stream="live-logger")
    write_feedback(lake, requests, labels, at=datetime(2026, 3, 1, tzinfo=UTC))
    samples = Evaluator("live", "v1").request_evaluation().get_samples(dataset="production")
    assert sorted(samples["input_id"]) == sorted(requests)
    assert samples["reasons"].null_count() == 0


@pytest.mark.platform
def test_samples_reach_pandas(result: Result) -> None:
    frame = result.get_samples(limit=5).to_pandas()
    assert list(frame.columns) == [*COLUMNS, "lamp", "site"]
    assert frame["reasons"][0] == result.get_samples(limit=5)["reasons"].to_list()[0]
