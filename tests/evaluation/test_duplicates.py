"""Inputs that are in several datasets are found by the hash of their content and reported."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
from sklearn.metrics import roc_auc_score

from mld_pipelines.evaluation import estimate_units, evaluate, load_scorer
from mld_pipelines.evaluation._duplicates import content_keys, duplicate_warnings, repetition_warnings
from tests.support.traced import toy_logits, toy_outputs, write_feedback, write_inferences, write_trace

HASHES = [f"{i:064x}" for i in range(200)]


def units(*rows: tuple[str, str, str | None, int]) -> pl.DataFrame:
    schema = {"dataset_type": pl.String, "input_id": pl.String, "input_hash": pl.String, "label": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_an_input_of_two_datasets_is_counted_with_an_example():
    found = duplicate_warnings(
        units(("train", "a", "1", 0), ("train", "b", "2", 0), ("val", "x", "2", 0), ("val", "y", "3", 0))
    )
    assert len(found) == 1
    assert found[0].startswith("1 inputs are in 'train' and in 'val' alike (equal input_hash), e.g. train/b = val/x:")


def test_every_pair_of_datasets_has_its_own_warning():
    rows = [(name, "a", "1", 0) for name in ("train", "val", "test")]
    pairs = [("'test'", "'train'"), ("'test'", "'val'"), ("'train'", "'val'")]
    found = duplicate_warnings(units(*rows))
    assert [all(name in text for name in pair) for text, pair in zip(found, pairs, strict=True)] == [True] * 3


def test_different_labels_of_one_content_are_said():
    (found,) = duplicate_warnings(units(("train", "a", "1", 0), ("val", "x", "1", 3)))
    assert "1 of them with different labels" in found


def test_repeats_inside_one_dataset_and_production_are_no_duplicates_across_splits():
    rows = [("train", "a", "1", 0), ("train", "b", "1", 0), ("production", "r", "1", 0)]
    assert duplicate_warnings(units(*rows)) == ()


def test_inputs_without_a_hash_equal_nothing():
    assert duplicate_warnings(units(("train", "a", None, 0), ("val", "x", None, 0))) == ()


def test_an_evaluation_warns_of_duplicates_and_keeps_them(lake):
    write_trace(lake, "train", 200, seed=1, hashes=HASHES)
    write_trace(lake, "val", 150, seed=2, hashes=[*HASHES[:20], *(f"{i:064x}" for i in range(1000, 1130))])
    stored = evaluate(lake, "toy@v1")
    (found,) = [text for text in stored.row["warnings"] if "input_hash" in text]
    assert found.startswith("20 inputs are in 'train' and in 'val' alike")
    assert stored.units().collect().height == 350


def test_an_evaluation_of_separate_splits_warns_of_nothing(lake):
    write_trace(lake, "train", 200, seed=1)
    write_trace(lake, "val", 150, seed=2)
    requests, labels = write_inferences(lake, 40)
    write_feedback(lake, requests, labels, at=datetime(2026, 2, 1, tzinfo=UTC))
    stored = evaluate(lake, "toy@v1")
    assert [text for text in stored.row["warnings"] if "input_hash" in text] == []


def test_units_of_equal_content_share_the_key_of_the_first_banked_one():
    frame = units(
        ("train", "b", "1", 0), ("train", "a", "1", 0), ("holdout", "x", "1", 0), ("val", "y", "2", 0),
        ("val", "x", "2", 0), ("val", "n", None, 0), ("val", "m", None, 0),
    )  # fmt: skip
    keys = content_keys(frame, banked=frame["dataset_type"] == "train")
    assert keys == ["train/a", "train/a", "train/a", "val/x", "val/x", "val/n", "val/m"]


def test_a_reference_that_repeats_the_training_data_does_not_look_its_labels_up(lake):
    for dataset in ("train", "val"):
        write_trace(lake, dataset, 600, seed=1, noise=1.6, hashes=[f"{i:064x}" for i in range(600)])
    stored = evaluate(lake, "toy@v1")
    fresh, features, logits = toy_outputs(1500, seed=9, noise=1.6)
    estimate = estimate_units(load_scorer(lake, stored.result_name), logits=logits, features=features)
    wrong = float((toy_logits(features).argmax(axis=1) != fresh).mean())
    assert estimate.low <= wrong <= estimate.high
    rates = stored.units().filter(pl.col("dataset_type") == "val").select("is_error", "error_proba").collect()
    assert roc_auc_score(rates["is_error"], rates["error_proba"]) < 0.97


def test_a_content_is_in_the_bank_once(lake):
    write_trace(lake, "val", 200, seed=2, hashes=[f"{i // 2:064x}" for i in range(200)])
    scorer = load_scorer(lake, evaluate(lake, "toy@v1").result_name).estimator.scorer
    assert len(scorer.neighbours.hashes) == len(set(scorer.neighbours.hashes.tolist())) == 100


def test_a_dataset_that_repeats_itself_is_said():
    twice = units(*(("val", str(i), f"{i // 2}", 0) for i in range(10)))
    (found,) = repetition_warnings(twice, "val")
    assert found.startswith("5 of 10 inputs of 'val' repeat others of it (equal input_hash)")
    assert "too narrow" in found
    unhashed = twice.with_columns(pl.lit(None, pl.String).alias("input_hash"))
    assert repetition_warnings(unhashed, "val") == repetition_warnings(twice, "train") == ()
