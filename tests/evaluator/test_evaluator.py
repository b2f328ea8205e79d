from __future__ import annotations

import inspect
import re

import polars as pl
import pytest

from mld_pipelines.evaluator import Evaluator, Result
from mld_pipelines.exceptions import DuplicateResultError, InvalidInputError, UnknownModelError, UnknownResultError
from mld_pipelines.lake import Lake
from tests.support.traced import write_trace


@pytest.mark.feature("G1")
def test_the_signature_is_that_of_the_guides() -> None:
    assert list(inspect.signature(Evaluator).parameters) == ["model_name", "version_name"]
    requested = inspect.signature(Evaluator.request_evaluation).parameters
    assert list(requested)[1:3] == ["result_name", "n_epoch"]
    assert (requested["result_name"].default, requested["n_epoch"].default) == (None, "latest")


@pytest.mark.feature("G2", "G4", "H1")
def test_a_request_returns_a_result_with_an_automatic_name(evaluator: Evaluator) -> None:
    result = evaluator.request_evaluation()
    assert re.fullmatch(r"toy_v1_classification_v\d+_\d{8}", result.result_name)


@pytest.mark.feature("G3")
def test_a_name_can_be_chosen_once(evaluator: Evaluator, result: Result) -> None:
    assert result.result_name == "first"
    with pytest.raises(DuplicateResultError, match="'first'"):
        evaluator.request_evaluation(result_name="first")


@pytest.mark.feature("G9")
def test_past_results_are_listed(evaluator: Evaluator, result: Result) -> None:
    listed = evaluator.list_results()
    assert listed.columns[:7] == ["result_name", "task", "n_epoch", "status", "datasets", "counts", "created_at"]
    row = listed.row(by_predicate=pl.col("result_name") == "first", named=True)
    assert (row["task"], row["status"], row["counts"]) == ("classification", "finished", 1800)


@pytest.mark.feature("G10")
def test_a_past_result_has_the_same_content(evaluator: Evaluator, result: Result) -> None:
    again = evaluator.get_result(result_name="first")
    assert again.metrics_summary().equals(result.metrics_summary())
    assert again.issue_category_summary().equals(result.issue_category_summary())
    assert again.get_issues().equals(result.get_issues())
    assert again.inputs == result.inputs


@pytest.mark.feature("G13")
def test_a_result_says_what_it_was_computed_from(result: Result) -> None:
    assert set(result.inputs) >= {"table_versions", "code_version", "policy", "seed", "codebook_ids", "run_id"}
    assert result.run_id is None


@pytest.mark.feature("B3", "G12")
def test_unknown_names_are_errors_that_list_the_known_ones(evaluator: Evaluator, result: Result) -> None:
    with pytest.raises(UnknownModelError, match=r"'toy@v2'.*toy@v1"):
        Evaluator("toy", "v2").request_evaluation()
    with pytest.raises(UnknownModelError, match=r"'toy@v2'.*toy@v1"):
        Evaluator("toy", "v2").list_results()
    with pytest.raises(UnknownResultError, match=r"'nope'.*first"):
        evaluator.get_result("nope")


@pytest.mark.feature("B1", "B2")
@pytest.mark.parametrize(("name", "version"), [("", "v1"), ("m", ""), ("a@b", "v"), ("m", "v...1"), (3, "v")])
def test_illegal_names_are_refused(name: object, version: object) -> None:
    with pytest.raises(InvalidInputError):
        Evaluator(name, version)  # type: ignore[arg-type]


@pytest.mark.feature("A4", "A5")
def test_the_endpoint_is_read_at_use(tmp_path: object, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    evaluator = Evaluator("toy", "v1")
    other = f"{tmp_path}/other lake"
    write_trace(Lake.open(other), "val", 70)
    monkeypatch.setenv("MLD_API_ENDPOINT", other)
    assert evaluator.request_evaluation().metrics_summary()["counts"].to_list() == [70]


def test_the_same_lake_from_another_directory_shows_the_same_results(
    result: Result, endpoint: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert Evaluator("toy", "v1").get_result("first").metrics_summary().equals(result.metrics_summary())


def test_nothing_is_printed_off_a_terminal(evaluator: Evaluator, capsys: pytest.CaptureFixture[str]) -> None:
    evaluator.request_evaluation()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
