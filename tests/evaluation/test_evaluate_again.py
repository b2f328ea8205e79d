"""A result made once more after a stress pass: the same inputs, the same rows, and a window map."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from mld_pipelines.diagnosis import Policy
from mld_pipelines.evaluation import current_result, evaluate, evaluate_again
from mld_pipelines.exceptions import UnknownResultError
from mld_pipelines.tables import LANDING_RECEIPTS, TRACES_INPUTS, TRACES_STRESS
from tests.support.traced import MODEL, START, write_feedback, write_inferences, write_stress, write_trace

if TYPE_CHECKING:
    from mld_pipelines.evaluation import StoredResult
    from mld_pipelines.lake import Lake

ATTEMPT = ("evaluation_id", "result_name", "created_at")
LATER = START + timedelta(days=3)


def rows(result: StoredResult, name: str) -> pl.DataFrame:
    frame = getattr(result, name)()
    return (frame.collect() if isinstance(frame, pl.LazyFrame) else frame).drop(ATTEMPT, strict=False)


@pytest.fixture
def first(lake: Lake) -> StoredResult:
    """A result with labelled production and a policy of its own."""
    write_trace(lake, "train", 300, seed=1)
    write_trace(lake, "val", 400, seed=2, noise=1.4)
    requests, truth = write_inferences(lake, 60, seed=3)
    write_feedback(lake, requests[:30], truth[:30], at=START + timedelta(days=2))
    return evaluate(lake, MODEL, policy=Policy(units_per_code=40))


@pytest.fixture
def second(lake: Lake, first: StoredResult) -> StoredResult:
    """The same once more, after a stress pass and much else that is new."""
    write_stress(lake, "val", 250, seed=2, noise=1.4, at=LATER)
    write_trace(lake, "val", 500, seed=9, stream="traced again", at=LATER)
    write_trace(lake, "test", 100, seed=4, receipt=False, at=LATER)
    requests, truth = write_inferences(lake, 80, seed=5, stream="new", at=LATER)
    write_feedback(lake, requests, (truth + 1) % 4, at=LATER + timedelta(days=1))
    return evaluate_again(lake, first.result_name, run_id="run-7")


def test_only_the_window_map_differs(first: StoredResult, second: StoredResult) -> None:
    for name in ("units", "metrics", "issues", "codes"):
        assert rows(first, name).height > 0
        assert rows(second, name).equals(rows(first, name)), name
    artifacts = rows(second, "artifacts")
    assert artifacts.filter(pl.col("kind") != "window_map").equals(rows(first, "artifacts"))
    assert artifacts["kind"].to_list().count("window_map") == 1
    same = [
        "model_key", "task", "n_epoch_spec", "epochs", "datasets", "decision_dataset", "counts", "fingerprints",
        "codebook_ids", "policy", "seed", "warnings",
    ]  # fmt: skip
    assert {name: second.row[name] for name in same} == {name: first.row[name] for name in same}


def test_the_new_result_is_current_and_says_why_it_exists(first: StoredResult, second: StoredResult) -> None:
    assert second.result_name != first.result_name
    assert current_result(second.lake, MODEL) == second.result_name
    assert (second.row["trigger"], second.row["run_id"]) == ("stress", "run-7")


def test_it_names_what_it_read(first: StoredResult, second: StoredResult) -> None:
    before, after = (json.loads(result.row["input_versions"]) for result in (first, second))
    new = {LANDING_RECEIPTS.name, TRACES_STRESS.name}
    assert {name: version for name, version in after.items() if name not in new} == {
        name: version for name, version in before.items() if name not in new
    }
    assert after[TRACES_STRESS.name] == second.lake.version(TRACES_STRESS)
    assert after[LANDING_RECEIPTS.name] > before[LANDING_RECEIPTS.name]
    assert after[TRACES_INPUTS.name] == second.lake.version(TRACES_INPUTS), "new traces were not promoted"


def test_a_warning_about_an_unusable_pass_goes_when_a_usable_one_comes(lake: Lake) -> None:
    write_trace(lake, "val", 400, seed=2, noise=1.4)
    write_stress(lake, "val", 400, seed=2, noise=1.4, families=("noise",))
    before = evaluate(lake, MODEL)
    assert any("stress pass was not used" in text for text in before.row["warnings"])
    write_stress(lake, "val", 400, seed=2, noise=1.4, families=("shift", "scale"), stream="more", at=LATER)
    after = evaluate_again(lake, before.result_name)
    assert not any("stress pass was not used" in text for text in after.row["warnings"])
    facts = after.artifacts().filter(pl.col("kind") == "window_map")["parameters"][0]
    assert sorted(json.loads(facts)["families"]) == ["clean", "noise", "scale", "shift"]


def test_without_a_new_pass_the_same_result_is_made(lake: Lake, first: StoredResult) -> None:
    again = evaluate_again(lake, first.result_name)
    assert rows(again, "artifacts").equals(rows(first, "artifacts"))
    assert np.array_equal(rows(again, "units")["error_proba"], rows(first, "units")["error_proba"])


def test_an_unknown_result_is_refused(lake: Lake) -> None:
    with pytest.raises(UnknownResultError, match="'ghost'"):
        evaluate_again(lake, "ghost")
