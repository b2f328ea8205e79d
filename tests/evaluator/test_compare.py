"""`Result.compare`: only what both have in common, tested in pairs."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from mld_pipelines.evaluator import Comparison, Evaluator, Result
from mld_pipelines.evaluator._comparison import compare_sides
from mld_pipelines.evaluator._pairing import Side
from mld_pipelines.exceptions import InvalidInputError, UnknownEpochError
from mld_pipelines.lake import Lake
from tests.support.traced import toy_outputs, write_trace


@pytest.fixture(scope="module")
def comparison(result: Result, better: Result) -> Comparison:
    return result.compare(better)


def predictions(dataset: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and both models' predictions, straight from the outputs that were traced."""
    seed, noise = {"train": (1, 1.0), "val": (2, 1.6)}[dataset]
    labels, _, logits = toy_outputs(900, seed=seed, noise=noise)
    helped = logits + np.where(np.arange(4) == labels[:, None], 2.0, 0.0)
    keep = np.arange(900) != 7  # relabelled in the second result
    return labels[keep], logits.argmax(axis=1)[keep], helped.argmax(axis=1)[keep]


def test_only_inputs_of_equal_label_are_compared_and_the_others_counted(comparison: Comparison) -> None:
    assert comparison.common.columns == [
        "dataset", "units_before", "units_after", "common", "same_id", "other_content", "other_label", "unhashed",
    ]  # fmt: skip
    assert comparison.common.rows() == [("train", 900, 900, 899, 900, 0, 1, 0), ("val", 900, 900, 899, 900, 0, 1, 0)]
    assert comparison.n_common == 1798
    assert "2 inputs have another label and were left out." in comparison.notes


@pytest.mark.parametrize("dataset", ["train", "val"])
def test_the_counts_of_mcnemar_are_those_of_the_predictions(comparison: Comparison, dataset: str) -> None:
    labels, before, after = predictions(dataset)
    row = comparison.accuracy.filter(dataset=dataset).row(0, named=True)
    fixed, broken = ((before != labels) & (after == labels)).sum(), ((before == labels) & (after != labels)).sum()
    assert (row["fixed"], row["broken"]) == (fixed, broken)
    assert row["right_both"] + row["wrong_both"] + fixed + broken == 899
    statistic = (abs(int(fixed) - int(broken)) - 1) ** 2 / (fixed + broken)
    expected = (
        stats.chi2.sf(statistic, 1)
        if fixed + broken >= 25
        else stats.binomtest(int(min(fixed, broken)), int(fixed + broken)).pvalue
    )
    assert row["p_value"] == pytest.approx(expected)


def test_the_metrics_are_those_of_the_common_inputs(comparison: Comparison) -> None:
    labels, before, after = predictions("val")
    values = {row["metric"]: row for row in comparison.metrics.filter(dataset="val").iter_rows(named=True)}
    assert values["accuracy"]["before"] == pytest.approx((before == labels).mean())
    assert values["accuracy"]["after"] == pytest.approx((after == labels).mean())
    assert values["macro_f1"]["after"] == pytest.approx(f1_score(labels, after, average="macro"))
    assert (values["accuracy"]["n"], values["accuracy"]["verdict"]) == (899, "better")
    assert values["mean_loss"]["verdict"] == "better"
    assert values["mean_entropy"]["verdict"] in {"changed", "not enough evidence"}


def test_the_loss_agrees_with_the_summary_where_all_inputs_are_common(result: Result) -> None:
    same = result.compare(result, n_boot=100)
    summary = {row["dataset"]: row for row in result.metrics_summary().iter_rows(named=True)}
    for row in same.metrics.filter(metric="mean_loss").iter_rows(named=True):
        assert row["before"] == pytest.approx(summary[row["dataset"]]["mean_loss"], rel=1e-9)
    for row in same.metrics.filter(metric="error_proba_auroc").iter_rows(named=True):
        assert row["before"] == pytest.approx(summary[row["dataset"]]["error_proba_auroc"], abs=1e-6)


def test_fixed_and_broken_name_the_inputs_with_both_predictions(comparison: Comparison) -> None:
    labels, before, after = predictions("val")
    names = np.array([f"val-{i}" for i in range(900) if i != 7])
    fixed = comparison.fixed.filter(dataset="val")
    assert set(fixed["input_id"]) == set(names[(before != labels) & (after == labels)])
    row = fixed.row(0, named=True)
    place = list(names).index(row["input_id"])
    assert (row["label"], row["prediction_before"], row["prediction_after"]) == (
        labels[place], before[place], after[place],
    )  # fmt: skip
    assert fixed["confidence_before"].to_list() == sorted(fixed["confidence_before"], reverse=True)
    assert set(comparison.broken.filter(dataset="val")["input_id"]) == set(
        names[(before == labels) & (after != labels)]
    )


def test_transitions_count_every_common_input_once(comparison: Comparison) -> None:
    moved = comparison.transitions
    assert moved["counts"].sum() == comparison.n_common
    errors = moved.group_by("dataset").agg(pl.col("errors_before", "errors_after").sum()).sort("dataset")
    for row in errors.iter_rows(named=True):
        labels, before, after = predictions(row["dataset"])
        assert (row["errors_before"], row["errors_after"]) == ((before != labels).sum(), (after != labels).sum())


def test_codes_of_other_weights_are_linked_by_the_inputs_they_share(comparison: Comparison) -> None:
    assert comparison.links.height > 0
    assert comparison.links["from_code"].is_unique().all()
    assert comparison.links["to_code"].is_unique().all()
    best = comparison.links.sort("jaccard", descending=True).row(0, named=True)
    union = best["units_before"] + best["units_after"] - best["shared"]
    assert best["jaccard"] == pytest.approx(best["shared"] / union)
    linked = set(comparison.links.select("from_code", "to_code").iter_rows())
    marked = set(comparison.transitions.filter("same_place").select("from_code", "to_code").iter_rows())
    assert marked == linked
    assert any("different codebooks" in note for note in comparison.notes)


def test_inside_one_lineage_names_compare(endpoint: str, result: Result) -> None:
    again = Evaluator("toy", "v1").request_evaluation()
    comparison = result.compare(again, n_boot=100)
    assert comparison.links.height == 0
    assert comparison.transitions["same_place"].all()
    assert (comparison.fixed.height, comparison.broken.height) == (0, 0)
    assert set(comparison.metrics["verdict"]) == {"not enough evidence"}
    assert any("same weights" in note for note in comparison.notes)


def test_a_seed_gives_the_same_comparison(result: Result, better: Result) -> None:
    one, two = (result.compare(better, dataset="val", n_boot=200, seed=5) for _ in range(2))
    assert one.metrics.equals(two.metrics)
    assert str(one) == str(two)
    assert not one.metrics.equals(result.compare(better, dataset="val", n_boot=200, seed=6).metrics)


def test_a_printed_comparison_says_on_how_many_inputs_it_rests(comparison: Comparison) -> None:
    text = str(comparison)
    assert "val: compared on 899 common inputs (99.9% / 99.9% of the results' units)" in text
    assert "not enough evidence" in text or "better" in text
    assert repr(comparison) == "Comparison('first' → 'second', 1798 common inputs)"


def test_one_dataset_can_be_asked_for(result: Result, better: Result) -> None:
    assert result.compare(better, dataset="val", n_boot=100).metrics["dataset"].unique().to_list() == ["val"]
    with pytest.raises(InvalidInputError, match="no common dataset 'test': 'first' has train, val"):
        result.compare(better, dataset="test")


def test_results_without_a_dataset_in_common_cannot_be_compared(endpoint: str, result: Result) -> None:
    write_trace(Lake.open(endpoint), "other", 40, seed=2, model_key="elsewhere@v1", fingerprint="d" * 64)
    elsewhere = Evaluator("elsewhere", "v1").request_evaluation()
    with pytest.raises(InvalidInputError, match=f"'first' has train, val, '{elsewhere.result_name}' has other"):
        result.compare(elsewhere)


def test_equal_ids_of_other_content_are_not_common(endpoint: str, result: Result) -> None:
    hashes = [f"{i:064x}" for i in range(40)]
    write_trace(Lake.open(endpoint), "val", 40, seed=2, model_key="drawn@v1", hashes=hashes, fingerprint="c" * 64)
    drawn = Evaluator("drawn", "v1").request_evaluation()
    with pytest.raises(InvalidInputError, match="40 equal ids, 40 with other content, 0 with another label"):
        result.compare(drawn)


def test_inputs_without_a_hash_are_compared_by_id_and_said(endpoint: str, result: Result) -> None:
    write_trace(
        Lake.open(endpoint), "val", 60, seed=2, noise=1.6, model_key="unhashed@v1", hashes=[None] * 60,
        fingerprint="e" * 64,
    )  # fmt: skip
    other = Evaluator("unhashed", "v1").request_evaluation()
    comparison = result.compare(other, n_boot=100)
    assert comparison.common.select("dataset", "common", "unhashed").rows() == [("val", 60, 60)]
    assert any("60 inputs carry no input_hash" in note for note in comparison.notes)


def test_two_epochs_of_one_result_compare(endpoint: str) -> None:
    lake = Lake.open(endpoint)
    for epoch, noise in ((1, 2.0), (2, 1.0)):
        write_trace(
            lake, "val", 200, seed=9, epoch=epoch, noise=noise, model_key="growing@v1", fingerprint=str(epoch) * 64
        )
    every = Evaluator("growing", "v1").request_evaluation(n_epoch=None)
    comparison = every.compare(every, n_epoch=1, other_epoch=2)
    gained = comparison.metrics.filter(metric="accuracy").row(0, named=True)
    assert gained["verdict"] == "better"
    assert comparison.before.endswith("epoch 1")
    with pytest.raises(UnknownEpochError, match="it has: 1, 2"):
        every.compare(every, n_epoch=7)


def test_few_units_give_no_bootstrap_interval(endpoint: str, result: Result) -> None:
    write_trace(Lake.open(endpoint), "val", 20, seed=2, noise=1.6, model_key="few@v1", fingerprint="f" * 64)
    few = Evaluator("few", "v1").request_evaluation()
    comparison = result.compare(few)
    loss = comparison.metrics.filter(metric="mean_loss").row(0, named=True)
    assert (loss["low"], loss["p_value"], loss["verdict"]) == (None, None, "not enough evidence")
    assert any("no error codes" in note for note in comparison.notes)


def test_a_name_is_no_result(result: Result) -> None:
    with pytest.raises(InvalidInputError, match=r"other is a str, not a Result.*get_result"):
        result.compare("second")  # type: ignore[arg-type]


def test_a_hundred_thousand_units_take_seconds() -> None:
    """Two seconds of one quiet core are usual; the bound only catches what is not vectorised."""

    def side(name: str, seed: int) -> Side:
        rng = np.random.default_rng(seed)
        n = 100_000
        label = np.random.default_rng(0).integers(0, 10, n)
        wrong = rng.random(n) < 0.1
        units = pl.DataFrame(
            {
                "dataset_type": ["val"] * n,
                "input_id": [str(i) for i in range(n)],
                "input_hash": [f"{i:064x}" for i in range(n)],
                "label": label,
                "prediction": np.where(wrong, (label + 1) % 10, label),
                "is_error": wrong,
                "confidence": rng.random(n).astype(np.float32),
                "entropy": rng.random(n),
                "loss": rng.random(n),
                "error_proba": rng.random(n).astype(np.float32),
                "error_code": [f"E{k:03d}" for k in rng.integers(1, 500, n)],
                "category": ["hotspot"] * n,
            }
        )
        return Side(name, units, name)

    began = time.process_time()
    found = compare_sides(side("a", 1), side("b", 2), dataset=None, n_boot=200, seed=0, level=0.95)
    assert found.n_common == 100_000
    assert time.process_time() - began < 30.0
