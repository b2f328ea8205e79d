from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mld_pipelines.evaluator import Evaluator, Result, ResultFrame
from mld_pipelines.exceptions import InvalidInputError, MissingDependencyError
from mld_pipelines.lake import Lake
from tests.support.traced import write_trace

if TYPE_CHECKING:
    from collections.abc import Callable

METRICS = [
    "dataset", "counts", "accuracy", "auroc", "auprc", "net_entropy_loss", "net_entropy", "error_proba_auroc",
    "error_proba_auprc",
]  # fmt: skip
CATEGORIES = [
    "dataset", "stable_coverage_ratio", "operational_coverage_ratio", "hotspot_ratio", "recessive_hotspot_ratio",
    "critical_hotspot_ratio", "aleatoric_hotspot_ratio",
]  # fmt: skip
ISSUES = [
    "error_code", "category", "is_aleatoric", "reason", "dataset", "counts", "errors", "error_rate", "error_rate_low",
    "error_rate_high", "q_value", "share", "unflagged_errors", "mean_confidence", "mean_error_proba", "net_entropy",
    "net_entropy_loss", "top_classes", "top_error_types", "gap_train_val", "example_input_ids", "recommended_method",
]  # fmt: skip


@pytest.mark.feature("H3", "H4", "H8", "H9", "H12")
def test_the_metrics_have_the_columns_of_the_guides_then_ours(result: Result) -> None:
    summary = result.metrics_summary()
    assert summary.columns[:9] == METRICS
    assert summary["dataset"].to_list() == ["train", "val"]
    assert summary["counts"].to_list() == [900, 900]


@pytest.mark.feature("H13", "H14", "H15", "H16", "H17", "H18", "H19")
def test_the_categories_have_the_columns_of_the_guides(result: Result) -> None:
    assert result.issue_category_summary().columns == CATEGORIES


@pytest.mark.feature("H2", "H20")
def test_a_printed_summary_is_aligned_with_three_decimals_and_without_index(result: Result) -> None:
    lines = str(result.metrics_summary()).splitlines()
    assert lines[0].split()[:9] == METRICS
    row = lines[2].split()
    assert (row[0], row[1]) == ("val", "900")
    assert all(len(value.split(".")[1]) == 3 for value in row[2:])
    assert len({len(line) for line in lines}) == 1


def test_values_keep_their_precision(result: Result) -> None:
    accuracy = result.metrics_summary()["accuracy"]
    assert (accuracy * 900 % 1 < 1e-9).all() or ((accuracy * 900).round() - accuracy * 900).abs().max() < 1e-9


@pytest.mark.feature("H22", "H27", "H28")
def test_the_issues_have_every_column_in_its_place(result: Result) -> None:
    issues = result.get_issues()
    assert issues.columns[: len(ISSUES)] == ISSUES
    assert issues.select("error_code", "dataset").is_unique().all()
    assert issues["dataset"][0] == "val"


def test_the_issues_with_most_errors_beyond_the_average_rate_come_first(result: Result) -> None:
    issues = result.get_issues(dataset="val")
    errors, counts = issues["errors"].to_numpy(), issues["counts"].to_numpy()
    excess = errors - counts * (errors.sum() / counts.sum())
    assert (excess[:-1] >= excess[1:] - 1e-9).all()
    assert excess[0] > 0.0


@pytest.mark.feature("H25")
def test_issues_can_be_filtered(result: Result) -> None:
    some = result.get_issues(dataset="val", filters="counts >= 20 and errors > 0")
    assert some["counts"].min() >= 20  # type: ignore[operator]
    assert set(result.get_issues(category="recessive_hotspot")["category"]) == {"recessive_hotspot"}
    with pytest.raises(InvalidInputError, match="'colour'"):
        result.get_issues(filters={"colour": 1})


@pytest.mark.feature("H21")
def test_the_summary_is_printed_and_returned(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    summary = result.get_summary()
    printed = capsys.readouterr().out
    assert printed.rstrip("\n") == str(summary)
    assert summary.metrics.columns[:9] == METRICS
    assert summary.issue_categories.columns == CATEGORIES
    assert {"category", "error_code", "ratio"} <= set(summary.error_codes.columns)
    assert "first" in printed


@pytest.mark.feature("H23", "H24")
def test_a_view_divides_by_the_counts_of_the_adjusted_group(result: Result) -> None:
    view = result.get_view(groupby=["category", "error_code"], adjustby="category")
    assert view.columns[:5] == ["dataset", "category", "error_code", "counts", "ratio"]
    sums = view.group_by("dataset", "category").agg(pl.col("ratio").sum())
    assert sums["ratio"].to_list() == pytest.approx([1.0] * sums.height)


def test_without_adjustment_the_denominator_is_the_dataset(result: Result) -> None:
    view = result.get_view("prediction")
    assert view.group_by("dataset").agg(pl.col("ratio").sum())["ratio"].to_list() == pytest.approx([1.0, 1.0])
    assert view.group_by("dataset").agg(pl.col("counts").sum())["counts"].to_list() == [900, 900]


def test_aleatoric_units_count_twice_unless_exclusive(result: Result) -> None:
    overlaid = result.get_view("category")
    primary = result.get_view("category", exclusive=True)
    flagged = result.get_issues().filter("is_aleatoric")["counts"].sum()
    assert overlaid["counts"].sum() - primary["counts"].sum() == flagged
    assert "aleatoric_hotspot" not in primary["category"].to_list()


def test_the_aleatoric_overlay_is_a_category_of_issues_as_it_is_of_views(result: Result) -> None:
    view = result.get_view(["category", "error_code"], filters={"dataset": "val"})
    overlaid = view.filter(pl.col("category") == "aleatoric_hotspot")["error_code"].to_list()
    assert overlaid, "the fixture has ambiguous units"
    issues = result.get_issues(dataset="val", category="aleatoric_hotspot")
    assert sorted(issues["error_code"]) == sorted(overlaid)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"dataset": "test"}, "'test'; these exist: train, val"), ({"category": "bad"}, "'bad'; these exist: stable_")],
)
def test_issues_of_what_does_not_exist_are_an_error(result: Result, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        result.get_issues(**arguments)


@pytest.mark.parametrize("filters", ["label == 'x'", {"label": ["x"]}, "confidence", pl.col("label") == "x"])
def test_a_filter_of_the_wrong_type_is_an_error_of_ours(result: Result, filters: object) -> None:
    with pytest.raises(InvalidInputError, match="nothing was filtered"):
        result.get_view("category", filters=filters)  # type: ignore[arg-type]


def test_metadata_keys_are_groups(result: Result) -> None:
    view = result.get_view(["site", "lamp"])
    rows = {(row["dataset"], row["site"], row["lamp"]): row["counts"] for row in view.iter_rows(named=True)}
    assert rows == {
        (d, s, lamp): n for d in ("train", "val") for s, lamp, n in (("north", None, 600), ("south", 2, 300))
    }


def test_a_metadata_key_named_like_a_column_of_views_is_renamed(endpoint: str) -> None:
    metadata = ['{"counts": 1, "label": "cat"}'] * 30
    write_trace(Lake.open(endpoint), "val", 30, seed=3, model_key="named@v1", metadata=metadata)
    named = Evaluator("named", "v1").request_evaluation()
    assert named.get_view("metadata_counts")["counts"].to_list() == [30]
    assert named.get_view("metadata_label")["metadata_label"].to_list() == ["cat"]
    assert named.get_view("label")["label"].dtype == pl.Int64


def test_filters_reach_metadata_that_is_no_group(result: Result) -> None:
    lamps = result.get_view("site", filters="lamp == 2")
    assert lamps["site"].unique().to_list() == ["south"]
    assert lamps["counts"].sum() == 600


def test_numbers_and_booleans_in_metadata_compare_as_such(endpoint: str) -> None:
    metadata = [json.dumps({"hour": i, "night": i < 6, "dose": i / 2, "mixed": i or "none"}) for i in range(24)]
    write_trace(Lake.open(endpoint), "val", 24, seed=3, model_key="typed@v1", metadata=metadata)
    typed = Evaluator("typed", "v1").request_evaluation()
    assert typed.get_view("night", filters="hour > 9")["counts"].to_list() == [14]
    assert typed.get_view("night", filters={"night": True})["counts"].to_list() == [6]
    assert typed.get_view("hour", filters={"hour": [9, 10]}, sort="hour")["hour"].to_list() == [10, 9]
    assert typed.get_samples(filters="dose >= 11.5 and mixed == '23'")["hour"].to_list() == [23]


def test_error_types_are_confusions_and_right_units_have_none(result: Result) -> None:
    view = result.get_view("error_type", filters={"dataset": "val"})
    right = view.filter(pl.col("error_type").is_null())
    assert right["errors"].to_list() == [0]
    assert all("→" in name for name in view["error_type"].drop_nulls())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groupby": ["colour"]}, r"'colour'.*dataset, n_epoch, category"),
        ({"groupby": []}, "at least one"),
        ({"groupby": ["label"], "adjustby": "category"}, "must be part of groupby"),
        ({"groupby": ["label"], "sort": "nope"}, "cannot sort"),
        ({"groupby": ["label"], "filters": "__import__('os')"}, "not of the form"),
    ],
)
def test_a_view_that_makes_no_sense_is_refused_with_the_valid_names(
    result: Result, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        result.get_view(**arguments)  # type: ignore[arg-type]


def test_frames_are_polars(result: Result) -> None:
    assert isinstance(result.metrics_summary(), pl.DataFrame)
    assert isinstance(result.get_view("label"), ResultFrame)


def test_to_pandas_without_pandas_says_what_to_install(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        result.get_issues().to_pandas()


@pytest.mark.platform
@pytest.mark.parametrize(
    "narrow",
    [
        lambda frame: frame.filter(pl.col("counts") > 0),
        lambda frame: frame.sort("counts", descending=True),
        lambda frame: frame.select("dataset", "counts"),
        lambda frame: frame.with_columns(half=pl.col("counts") / 2),
        lambda frame: frame.drop("accuracy"),
        lambda frame: frame.head(1),
    ],
)
def test_a_narrowed_frame_still_reaches_pandas(result: Result, narrow: Callable[[ResultFrame], ResultFrame]) -> None:
    narrowed = narrow(result.metrics_summary())
    assert isinstance(narrowed, ResultFrame)
    assert narrowed.to_pandas()["counts"].to_list() == narrowed["counts"].to_list()


@pytest.mark.platform
def test_to_pandas_works_without_pyarrow(result: Result) -> None:
    frame = result.get_issues().to_pandas()
    assert list(frame.columns)[: len(ISSUES)] == ISSUES
    assert frame["counts"].sum() == 1800
