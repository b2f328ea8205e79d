"""The edge cases of docs/method.md#edge-cases through an evaluation: each has a result, none a confident number."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from mld_pipelines.evaluation import estimate_units, evaluate, load_scorer
from mld_pipelines.exceptions import InvalidInputError
from mld_pipelines.lake import Batch
from mld_pipelines.tables import OPS_QUARANTINE
from tests.support.traced import MODEL, START, toy_outputs, write_feedback, write_inferences, write_receipt, write_trace

if TYPE_CHECKING:
    from mld_pipelines.diagnosis import WindowEstimate
    from mld_pipelines.evaluation import StoredResult
    from mld_pipelines.lake import Lake


def predictions(n: int, seed: int) -> np.ndarray:
    return toy_outputs(n, seed=seed)[2].argmax(axis=1)


def estimate(lake: Lake, result: StoredResult, n: int = 300) -> WindowEstimate:
    _, features, logits = toy_outputs(n, seed=77)
    return estimate_units(load_scorer(lake, result.result_name), logits=logits, features=features)


def traced(lake: Lake, n: int, labels: np.ndarray, **changes: object) -> StoredResult:
    write_trace(lake, "val", n, seed=2, labels=labels, **changes)  # type: ignore[arg-type]
    return evaluate(lake, MODEL)


def metric(result: StoredResult, name: str) -> float | None:
    rows = result.metrics().filter((pl.col("dataset_type") == "val") & (pl.col("metric") == name))
    value: float | None = rows["value"].item()
    return value


def test_no_errors_give_an_interval_from_zero(lake: Lake) -> None:
    result = traced(lake, 200, predictions(200, 2))
    found = estimate(lake, result)
    assert (metric(result, "accuracy"), found.low) == (1.0, 0.0)
    assert found.high > 0.0
    assert "no errors seen" in found.badges


def test_all_wrong_gives_an_interval_up_to_one(lake: Lake) -> None:
    result = traced(lake, 200, (predictions(200, 2) + 1) % 4)
    found = estimate(lake, result)
    assert (metric(result, "accuracy"), found.high) == (0.0, 1.0)
    assert "no successes seen" in found.badges


def test_one_predicted_class_gives_at_least_fifteen_points(lake: Lake) -> None:
    logits = toy_outputs(200, seed=2)[2]
    logits[:, 0] = logits.max(axis=1) + 1.0
    result = traced(lake, 200, np.arange(200) % 4, logits=logits)
    found = estimate(lake, result)
    assert found.high - found.low >= 0.29


def test_one_present_class_gives_a_result(lake: Lake) -> None:
    result = traced(lake, 200, np.zeros(200, dtype=np.int64))
    assert metric(result, "auroc") is None
    assert estimate(lake, result).error_rate is not None


def test_two_units_per_class_give_no_codes_and_a_wide_interval(lake: Lake) -> None:
    result = traced(lake, 8, np.repeat(np.arange(4), 2))
    found = estimate(lake, result)
    assert found.high - found.low >= 0.15
    assert set(result.units().collect()["error_code"]) == {"UNCODED"}


def test_a_single_dataset_is_its_own_bank_without_its_own_rows(lake: Lake) -> None:
    """Held-out units of the same kind score like the cross-fitted reference."""
    result = traced(lake, 600, toy_outputs(600, seed=2)[0])
    fresh = estimate(lake, result, n=2000)
    rate = float((toy_outputs(2000, seed=77)[2].argmax(axis=1) != toy_outputs(2000, seed=77)[0]).mean())
    assert fresh.low <= rate <= fresh.high


def test_the_same_input_traced_many_times_counts_every_time(lake: Lake) -> None:
    truth, _, logits = toy_outputs(40, seed=3)
    result = traced(lake, 400, np.tile(truth, 10), logits=np.tile(logits, (10, 1)), features=False)
    assert metric(result, "counts") == 400
    assert estimate_units(load_scorer(lake, result.result_name), logits=logits).n == 40


def test_new_labels_refit_the_estimator_and_keep_the_codebook(lake: Lake) -> None:
    truth = toy_outputs(400, seed=2)[0]
    first = traced(lake, 400, truth)
    before = load_scorer(lake, first.result_name)
    changed = np.where(np.arange(400) % 4 == 0, (truth + 1) % 4, truth)
    second = traced(lake, 400, changed, stream="relabelled", at=START + timedelta(hours=1))
    after = load_scorer(lake, second.result_name)
    assert second.row["codebook_ids"] == first.row["codebook_ids"]
    assert after.estimator_version != before.estimator_version
    assert load_scorer(lake, first.result_name).estimator_version == before.estimator_version
    assert metric(second, "accuracy") < metric(first, "accuracy")


def test_outputs_that_are_not_finite_are_in_no_metric(lake: Lake) -> None:
    truth, _, logits = toy_outputs(300, seed=2)
    logits[:7] = np.nan
    result = traced(lake, 300, truth, logits=logits)
    assert metric(result, "counts") == 293


@pytest.mark.parametrize("scale", [1e30, 1e-42])
def test_logits_of_any_scale_are_evaluated(lake: Lake, scale: float) -> None:
    truth, _, logits = toy_outputs(200, seed=2)
    result = traced(lake, 200, truth, logits=(logits.astype(np.float64) * scale).astype(np.float32))
    found = estimate(lake, result)
    assert 0.0 <= found.low <= found.high <= 1.0


def with_gaps(n: int, seed: int, every: int) -> np.ndarray:
    logits = toy_outputs(n, seed=seed)[2]
    logits[::every, 1] = np.nan
    return logits


def test_refused_rows_are_in_no_number_and_the_result_says_how_many(lake: Lake) -> None:
    result = traced(lake, 210, predictions(210, 2), logits=with_gaps(210, 2, 7))
    assert metric(result, "counts") == 180.0
    (said,) = [text for text in result.row["warnings"] if "refused" in text]
    assert said.startswith("30 traced rows were refused (")
    assert "logits" in said
    assert evaluate(lake, MODEL).row["warnings"] == result.row["warnings"]


def test_rows_that_were_refused_before_the_inputs_were_traced_again_are_not_brought_up(lake: Lake) -> None:
    write_trace(lake, "val", 210, seed=2, logits=with_gaps(210, 2, 7), stream="broken")
    result = traced(lake, 210, predictions(210, 2), at=START + timedelta(hours=1))
    assert metric(result, "counts") == 210.0
    assert not [text for text in result.row["warnings"] if "refused" in text]


def test_a_dataset_of_which_every_row_was_refused_is_not_passed_over(lake: Lake) -> None:
    write_trace(lake, "val", 210, seed=2)
    write_trace(lake, "test", 40, seed=3, logits=with_gaps(40, 3, 1))
    (said,) = [text for text in evaluate(lake, MODEL).row["warnings"] if "refused" in text]
    assert said.startswith("40 traced rows were refused (")
    assert "; test/test-0, test/test-1, test/test-2, …)" in said


def test_refused_rows_of_another_epoch_are_not_brought_up(lake: Lake) -> None:
    write_trace(lake, "val", 210, seed=2, epoch=1, logits=with_gaps(210, 2, 7))
    write_trace(lake, "val", 210, seed=2, epoch=2)
    assert not [text for text in evaluate(lake, MODEL).row["warnings"] if "refused" in text]
    assert [text for text in evaluate(lake, MODEL, n_epoch=1).row["warnings"] if text.startswith("30 traced rows")]


def test_an_input_whose_last_write_was_refused_is_said_although_an_earlier_one_counts(lake: Lake) -> None:
    write_trace(lake, "val", 210, seed=2, stream="twice", receipt=False)
    write_trace(lake, "val", 3, seed=2, stream="twice", seq=1, logits=with_gaps(3, 2, 1))
    (said,) = [text for text in evaluate(lake, MODEL).row["warnings"] if "refused" in text]
    assert said.startswith("3 traced rows were refused (")


def test_thousands_of_refused_rows_are_counted_without_the_payload_they_share(lake: Lake) -> None:
    write_trace(lake, "val", 210, seed=2, stream="sound")
    write_trace(lake, "test", 1200, seed=3, stream="broken", logits=with_gaps(1200, 3, 1))
    (said,) = [text for text in evaluate(lake, MODEL).row["warnings"] if "refused" in text]
    assert said.startswith("1200 traced rows were refused (")


def test_refused_rows_of_a_discarded_trace_are_not_brought_up(lake: Lake) -> None:
    write_trace(lake, "val", 210, seed=2)
    write_trace(lake, "test", 20, seed=3, stream="gone", receipt=False, logits=with_gaps(20, 3, 2))
    write_receipt(lake, "gone", "test", 20, state="discarded")
    assert not [text for text in evaluate(lake, MODEL).row["warnings"] if "refused" in text]


def test_a_batch_that_a_later_attempt_brought_in_is_refused_no_more(lake: Lake) -> None:
    refused = {"stream_id": "val", "seq": 0, "row": -1, "table": "landing/traces", "model_key": MODEL,
               "rule": "batch|worker", "reason": "items 0 to 209 of 'val', given up after 3 attempts",
               "quarantined_at": START, "ingest_day": START.date()}  # fmt: skip
    schema = {name: OPS_QUARANTINE.column(name).data_type for name in refused}
    lake.commit_once(
        OPS_QUARANTINE, [Batch("val#batches", 0, OPS_QUARANTINE.align(pl.DataFrame([refused], schema=schema)))]
    )
    write_trace(lake, "val", 210, seed=2, stream="val")
    assert not [text for text in evaluate(lake, MODEL).row["warnings"] if "refused" in text]


def test_a_trace_without_a_usable_row_is_an_error_that_says_so(lake: Lake) -> None:
    with pytest.raises(
        InvalidInputError, match="no traced row of 'toy@v1' can be evaluated: 70 traced rows were refused"
    ):
        traced(lake, 70, predictions(70, 2), logits=with_gaps(70, 2, 1))


def labelled(lake: Lake, n: int, *, stream: str, label: int | None = None, **changes: object) -> None:
    requests, truth = write_inferences(lake, n, stream=stream, **changes)  # type: ignore[arg-type]
    labels = truth if label is None else np.full(n, label)
    write_feedback(lake, requests, labels, at=START + timedelta(days=2), stream=f"labels of {stream}")


def test_a_production_label_out_of_range_costs_its_own_inference_only(lake: Lake) -> None:
    labelled(lake, 40, stream="right")
    labelled(lake, 3, stream="wrong", label=77)
    result = traced(lake, 200, predictions(200, 2))
    assert result.units().filter(pl.col("dataset_type") == "production").collect().height == 40
    (said,) = [text for text in result.row["warnings"] if "labelled inferences" in text]
    assert said.startswith("3 labelled inferences were left out")
    assert "3 labels are out of range (largest 77, classes 0 … 3)" in said


def test_production_rows_without_features_do_not_cost_the_result_its_codes(lake: Lake) -> None:
    labelled(lake, 40, stream="right")
    labelled(lake, 10, stream="bare", features=False)
    result = traced(lake, 200, predictions(200, 2))
    assert result.row["codebook_ids"] != [None]
    assert result.units().filter(pl.col("dataset_type") == "production").collect().height == 40
    assert any(text.startswith("10 labelled inferences were left out") for text in result.row["warnings"])


def test_production_rows_with_features_join_a_model_that_was_traced_without(lake: Lake) -> None:
    labelled(lake, 40, stream="right")
    result = traced(lake, 200, predictions(200, 2), features=False)
    assert result.units().filter(pl.col("dataset_type") == "production").collect().height == 40
    assert [text for text in result.row["warnings"] if "features" in text] == [
        "the model was traced without features: no error codes, error probability from confidence."
    ]  # fmt: skip
