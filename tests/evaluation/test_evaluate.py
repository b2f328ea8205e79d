"""One evaluation from landing to stored rows, judged by scikit-learn and by arithmetic."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from scipy.special import softmax
from scipy.stats import beta
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluation import evaluate, list_results, load_result, load_scorer, remove_unbound, store
from mld_pipelines.evaluation._evaluate import compute
from mld_pipelines.evaluation._plan import plan
from mld_pipelines.exceptions import DuplicateResultError, InvalidInputError, UnknownResultError
from mld_pipelines.tables import CATEGORIES, EVALUATION_UNITS, OPS_PINS, TRACES_INPUTS
from tests.support.traced import (
    MODEL,
    START,
    toy_outputs,
    write_feedback,
    write_inferences,
    write_trace,
)

if TYPE_CHECKING:
    from mld_pipelines.evaluation import StoredResult
    from mld_pipelines.lake import Lake


@pytest.fixture(scope="module")
def result(shared_lake: Lake) -> StoredResult:
    return evaluate(shared_lake, MODEL, result_name="main")


def metric(result: StoredResult, dataset: str, name: str) -> float:
    rows = result.metrics().filter((pl.col("dataset_type") == dataset) & (pl.col("metric") == name))
    return float(rows["value"][0])


@pytest.mark.feature("H5", "H6", "H7", "H8")
def test_stored_metrics_are_those_of_scikit_learn(result: StoredResult) -> None:
    labels, _, logits = toy_outputs(900, seed=2, noise=1.4)
    p = softmax(logits.astype(np.float64), axis=1)
    one_hot = np.eye(4)[labels]
    assert metric(result, "val", "accuracy") == pytest.approx(float((p.argmax(axis=1) == labels).mean()))
    assert metric(result, "val", "auroc") == pytest.approx(roc_auc_score(one_hot, p, average="macro"))
    assert metric(result, "val", "auprc") == pytest.approx(average_precision_score(one_hot, p, average="macro"))
    assert metric(result, "val", "net_entropy_loss") == pytest.approx(log_loss(labels, p, normalize=False))


@pytest.mark.feature("H10", "H11")
def test_error_probability_is_ranked_against_errors(result: StoredResult) -> None:
    rows = result.units().filter(pl.col("dataset_type") == "val").collect()
    errors, risk = rows["is_error"].to_numpy(), rows["error_proba"].to_numpy()
    assert metric(result, "val", "error_proba_auroc") == pytest.approx(roc_auc_score(errors, risk))
    assert metric(result, "val", "error_proba_auprc") == pytest.approx(average_precision_score(errors, risk))


@pytest.mark.feature("H13", "H14", "H15", "H16", "H17", "H18", "H19")
def test_five_ratios_partition_and_aleatoric_overlays(result: StoredResult) -> None:
    ratios = result.metrics().filter(pl.col("scope") == "category_ratio")
    for dataset in ("train", "val"):
        rows = ratios.filter(pl.col("dataset_type") == dataset)
        value = dict(rows.select("metric", "value").iter_rows())
        n = rows["n"][0]
        assert sum(value[f"{category}_ratio"] for category in CATEGORIES) == pytest.approx(1.0, abs=1e-9)
        bad = sum(value[f"{name}_ratio"] for name in ("hotspot", "recessive_hotspot", "critical_hotspot"))
        assert value["aleatoric_hotspot_ratio"] <= bad + 1e-12
        assert all(abs(ratio * n - round(ratio * n)) < 1e-6 for ratio in value.values())


@pytest.mark.feature("H22", "H27", "H28")
def test_issues_count_the_units_and_carry_interval_reason_and_method(result: StoredResult) -> None:
    issues = result.issues()
    units = result.units().collect()
    for dataset in ("train", "val"):
        rows = issues.filter(pl.col("dataset") == dataset)
        assert rows["counts"].sum() == units.filter(pl.col("dataset_type") == dataset).height
        assert rows["share"].sum() == pytest.approx(1.0)
    busy = issues.filter(pl.col("counts") >= 10).row(0, named=True)
    n, k = busy["counts"], busy["errors"]
    assert busy["error_rate_high"] == pytest.approx(beta.ppf(0.975, k + 0.5, n - k + 0.5))
    assert issues["recommended_method"].null_count() == 0
    assert set(issues["reason"]) <= {"confirmed", "few_units", "between_tolerances", "unseen"}


def test_every_unit_has_the_category_of_its_code(result: StoredResult) -> None:
    verdicts = result.issues().filter(pl.col("dataset") == "val").select("error_code", expected="category")
    joined = result.units().collect().join(verdicts, on="error_code", how="left")
    assert (joined["category"] == joined["expected"]).all()


@pytest.mark.feature("G13")
def test_a_result_stores_what_it_was_computed_from(shared_lake: Lake, result: StoredResult) -> None:
    inputs = result.inputs
    assert inputs["table_versions"]["traces/inputs"] == shared_lake.version(TRACES_INPUTS)
    assert inputs["policy"] == json.loads(Policy().to_json())
    assert (inputs["seed"], inputs["code_version"]) == (0, shared_lake.code_version)
    pins = shared_lake.read(OPS_PINS, result_name="main")
    assert dict(pins.select("table", "version").iter_rows()) == inputs["table_versions"]


def test_evaluating_twice_gives_equal_rows_though_the_codebook_is_reused(
    shared_lake: Lake, result: StoredResult
) -> None:
    again = evaluate(shared_lake, MODEL)
    assert again.row["previous_codebook_ids"] == result.row["codebook_ids"] == again.row["codebook_ids"]
    own = ["evaluation_id", "result_name"]
    for rows in ("metrics", "issues"):
        assert getattr(again, rows)().drop(own).equals(getattr(result, rows)().drop(own))
    keys = ["dataset_type", "input_id"]
    assert again.units().drop(own).collect().sort(keys).equals(result.units().drop(own).collect().sort(keys))


def test_the_order_in_which_rows_arrive_changes_nothing(lake: Lake, shared_lake: Lake) -> None:
    for dataset, seed, noise in (("train", 1, 1.0), ("val", 2, 1.4)):
        order = np.random.default_rng(seed).permutation(900)
        write_trace(lake, dataset, 900, seed=seed, noise=noise, order=order)
    mine = evaluate(lake, MODEL).units().collect().sort("dataset_type", "input_id")
    theirs = load_result(shared_lake, "main").units().collect().sort("dataset_type", "input_id")
    for column in ("error_code", "category", "is_aleatoric", "error_proba"):
        assert mine[column].equals(theirs[column])


@pytest.mark.feature("G7", "G8", "B9")
def test_epochs_are_evaluated_apart(lake: Lake) -> None:
    for epoch, noise in ((3, 2.5), (5, 0.3)):
        write_trace(lake, "val", 200, seed=1, epoch=epoch, noise=noise, fingerprint=f"{epoch:064x}")
    three, five = evaluate(lake, MODEL, n_epoch=3), evaluate(lake, MODEL, n_epoch=5)
    assert metric(three, "val", "accuracy") < 0.8 < metric(five, "val", "accuracy")
    both = evaluate(lake, MODEL, n_epoch=None)
    assert both.row["epochs"] == [3, 5]
    assert sorted(both.metrics()["n_epoch"].unique()) == [3, 5]
    assert both.row["counts"] == 400
    assert len(set(both.row["codebook_ids"])) == 2
    assert evaluate(lake, MODEL).row["epochs"] == [5]


@pytest.mark.feature("G3")
def test_a_name_is_given_once(shared_lake: Lake, result: StoredResult) -> None:
    before = shared_lake.version(EVALUATION_UNITS)
    with pytest.raises(DuplicateResultError, match="'main' exists already"):
        evaluate(shared_lake, MODEL, result_name="main")
    assert shared_lake.version(EVALUATION_UNITS) == before


def test_a_racing_loser_of_an_automatic_name_takes_the_next_number(lake: Lake) -> None:
    write_trace(lake, "val", 100)
    prepared = compute(lake, plan(lake, MODEL))
    names = {store(lake, prepared).result_name, evaluate(lake, MODEL).result_name, evaluate(lake, MODEL).result_name}
    assert sorted(name.split("_")[3] for name in names) == ["v1", "v2", "v3"]


def test_rows_that_no_result_binds_are_invisible(lake: Lake) -> None:
    write_trace(lake, "val", 100)
    first = evaluate(lake, MODEL, result_name="a")
    orphan = first.units().collect().with_columns(pl.lit("0190-dead").alias("evaluation_id"))
    lake.append(EVALUATION_UNITS, orphan)
    assert load_result(lake, "a").units().collect().height == 100
    assert list_results(lake)["result_name"].to_list() == ["a"]


def test_an_unknown_result_is_an_error_that_names_the_known_ones(shared_lake: Lake, result: StoredResult) -> None:
    with pytest.raises(UnknownResultError, match=r"'nope'.*main"):
        load_result(shared_lake, "nope")


def test_training_data_alone_decides_with_a_warning(lake: Lake) -> None:
    write_trace(lake, "train", 400, noise=0.3)
    result = evaluate(lake, MODEL)
    assert any("optimistic" in note for note in result.row["warnings"])
    assert "train_only" in set(result.issues()["reason"])


def test_a_small_reference_has_no_codes_but_ratios_that_sum_to_one(lake: Lake) -> None:
    write_trace(lake, "val", 59, noise=2.0)
    result = evaluate(lake, MODEL)
    issue = result.issues().row(0, named=True)
    assert (issue["error_code"], issue["category"], issue["reason"]) == ("UNCODED", "recessive_hotspot", "few_units")
    assert metric(result, "val", "recessive_hotspot_ratio") == 1.0
    assert result.row["codebook_ids"] == [""]


def test_a_model_without_features_is_evaluated_without_codes(lake: Lake) -> None:
    write_trace(lake, "val", 300, features=False, noise=2.0)
    result = evaluate(lake, MODEL)
    assert result.issues()["reason"].to_list() == ["no_features"]
    assert result.units().collect()["error_proba"].null_count() == 0
    assert any("without features" in note for note in result.row["warnings"])


def test_one_class_only_gives_nulls_not_numbers(lake: Lake) -> None:
    labels = np.zeros(120, dtype=np.int64)
    write_trace(lake, "val", 120, labels=labels)
    result = evaluate(lake, MODEL)
    rows = result.metrics().filter(pl.col("metric").is_in(["auroc", "auprc"]))
    assert rows["value"].null_count() == 2


def test_labels_out_of_range_are_named(lake: Lake) -> None:
    labels = np.full(80, 9, dtype=np.int64)
    write_trace(lake, "val", 80, labels=labels)
    with pytest.raises(InvalidInputError, match="label 9"):
        evaluate(lake, MODEL)


def test_mixed_weights_are_reported(lake: Lake) -> None:
    write_trace(lake, "train", 100)
    write_trace(lake, "val", 100, fingerprint="b" * 64)
    result = evaluate(lake, MODEL)
    assert result.row["fingerprint"] == "b" * 64
    assert any("2 different sets of weights" in note for note in result.row["warnings"])


@pytest.mark.feature("B7")
def test_labelled_production_joins_as_a_dataset_and_never_decides(lake: Lake) -> None:
    write_trace(lake, "val", 200)
    requests, truth = write_inferences(lake, 120)
    assert evaluate(lake, MODEL).row["datasets"] == ["val"]
    write_feedback(lake, requests[:50], (truth[:50] + 1) % 4, at=START + timedelta(days=2))
    write_feedback(lake, requests[:50], truth[:50], at=START + timedelta(days=3))
    result = evaluate(lake, MODEL, trigger="feedback")
    assert (result.row["datasets"], result.row["decision_dataset"]) == (["val", "production"], "val")
    assert metric(result, "production", "counts") == 50
    right = float((toy_outputs(120, seed=7)[2].argmax(axis=1) == truth)[:50].mean())
    assert metric(result, "production", "accuracy") == pytest.approx(right)


def test_the_stored_scorer_gives_other_rows_what_the_evaluation_gave_them(
    shared_lake: Lake, result: StoredResult
) -> None:
    """Code and category are the evaluation's; train rows were scored by the full fit, too."""
    _, features, logits = toy_outputs(900, seed=1)
    scorer = load_scorer(shared_lake, "main")
    units = scorer.score(logits=logits, features=features, keys=[f"train/train-{i}" for i in range(900)])
    stored = result.units().filter(pl.col("dataset_type") == "train").collect()
    by_id = dict(zip(stored["input_id"], stored.select("error_code", "category", "error_proba").rows(), strict=True))
    expected = [by_id[f"train-{i}"] for i in range(900)]
    assert [(c, k) for c, k in zip(units.error_code, units.category, strict=True)] == [row[:2] for row in expected]
    np.testing.assert_array_equal(units.error_proba, np.array([row[2] for row in expected], dtype=np.float32))


def test_reported_ranking_is_out_of_fold(shared_lake: Lake, result: StoredResult) -> None:
    """In-sample scores of the reference differ from the stored, cross-fitted ones."""
    _, features, logits = toy_outputs(900, seed=2, noise=1.4)
    scorer = load_scorer(shared_lake, "main")
    in_sample = scorer.score(logits=logits, features=features, keys=[f"val/val-{i}" for i in range(900)]).error_proba
    stored = result.units().filter(pl.col("dataset_type") == "val").collect()
    by_id = dict(zip(stored["input_id"], stored["error_proba"], strict=True))
    held_out = np.array([by_id[f"val-{i}"] for i in range(900)], dtype=np.float32)
    errors = toy_outputs(900, seed=2, noise=1.4)[0] != logits.argmax(axis=1)
    assert not np.array_equal(in_sample, held_out)
    assert roc_auc_score(errors, held_out) <= roc_auc_score(errors, in_sample) + 0.005


def test_maintenance_removes_old_unbound_rows_and_nothing_else(lake: Lake) -> None:
    write_trace(lake, "val", 100)
    first = evaluate(lake, MODEL, result_name="a")
    rows = first.units().collect()
    for attempt in ("019b0000-0000-7000-8000-000000000000", "ffffffff-ffff-7000-8000-000000000000"):
        lake.append(EVALUATION_UNITS, rows.with_columns(pl.lit(attempt).alias("evaluation_id")))
    removed = remove_unbound(lake, older_than=first.created_at)
    assert removed["evaluation/units"] == 100
    attempts = lake.read(EVALUATION_UNITS)["evaluation_id"].unique().to_list()
    assert sorted(attempts) == sorted([first.evaluation_id, "ffffffff-ffff-7000-8000-000000000000"])
