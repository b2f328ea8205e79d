"""A result as files: the right rows, clear refusals, the same bytes every time."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mld_pipelines.evaluation import evaluate, load_result
from mld_pipelines.evaluator import Result
from mld_pipelines.evaluator._export import EXPORT_TABLES, Exported, export_files
from mld_pipelines.exceptions import ExportError, InvalidInputError
from mld_pipelines.lake import Lake
from mld_pipelines.tables import (
    ESTIMATORS_MODELS,
    EVALUATION_CODES,
    EVALUATION_ISSUES,
    EVALUATION_METRICS,
    EVALUATION_UNITS,
)
from tests.support.traced import MODEL, write_trace

if TYPE_CHECKING:
    from pathlib import Path


def test_codes_carry_their_verdict_and_come_in_the_order_of_the_issues(result: Result) -> None:
    codes = result.get_codes()
    verdicts = dict(result.get_issues(dataset="val").select("error_code", "category").iter_rows())
    assert dict(codes.select("error_code", "category").iter_rows()) == verdicts
    assert codes["error_code"].to_list() == result.get_issues(dataset="val")["error_code"].to_list()
    assert codes["errors"].sum() == result.get_issues(dataset="val")["errors"].sum()


def test_codes_of_a_category(result: Result) -> None:
    wanted = result.get_codes()["category"][0]
    assert set(result.get_codes(category=wanted)["category"]) == {wanted}
    assert set(result.get_codes(category=[wanted])["category"]) == {wanted}


def test_codes_under_the_overlay(result: Result) -> None:
    flagged = result.get_issues(dataset="val", category="aleatoric_hotspot")["error_code"].sort()
    assert result.get_codes(category="aleatoric_hotspot")["error_code"].sort().equals(flagged)


def test_an_unknown_category_is_refused_with_those_that_exist(result: Result) -> None:
    with pytest.raises(InvalidInputError, match="stable_coverage"):
        result.get_codes(category="bad")


def test_a_folder_gets_every_table_and_the_facts(result: Result, tmp_path: Path) -> None:
    written = result.export(tmp_path / "out")
    assert sorted(path.name for path in written) == sorted(
        [*(f"{name}.parquet" for name in EXPORT_TABLES), "result.json"]
    )
    units = pl.read_parquet(tmp_path / "out" / "units.parquet")
    assert units.height == 1800
    assert units["risk_scores"].list.len().unique().to_list() == [10]
    assert pl.read_parquet(tmp_path / "out" / "issues.parquet").equals(pl.DataFrame(result.get_issues()))
    assert pl.read_parquet(tmp_path / "out" / "codes.parquet").equals(pl.DataFrame(result.get_codes()))
    facts = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (facts["result_name"], facts["decision_dataset"]) == ("first", "val")
    assert facts["inputs"]["table_versions"] == result.inputs["table_versions"]


@pytest.mark.parametrize("name", EXPORT_TABLES)
def test_a_file_named_after_a_table_holds_that_table(result: Result, tmp_path: Path, name: str) -> None:
    (path,) = result.export(tmp_path / f"{name}.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    (twin,) = result.export(tmp_path / f"{name}.parquet")
    frame = pl.read_parquet(twin)
    assert len(rows) == frame.height
    assert list(rows[0]) == frame.columns


def test_a_table_can_be_named_apart_from_the_file(result: Result, tmp_path: Path) -> None:
    (path,) = result.export(tmp_path / "mine.parquet", table="codes")
    assert pl.read_parquet(path).height == result.get_codes().height


def test_csv_and_parquet_hold_the_same_numbers(result: Result, tmp_path: Path) -> None:
    result.export(tmp_path / "issues.csv")
    back = pl.read_csv(tmp_path / "issues.csv")
    issues = result.get_issues()
    assert back["error_rate"].to_list() == issues["error_rate"].to_list()
    assert [json.loads(text) for text in back["top_classes"]] == issues["top_classes"].to_list()


def test_json_holds_everything_in_one_document(result: Result, tmp_path: Path) -> None:
    (path,) = result.export(tmp_path / "all.json")
    document = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert {*EXPORT_TABLES, "result_name", "inputs", "warnings", "created_at"} <= set(document)
    assert len(document["units"]) == 1800
    assert len(document["codes"]) == result.get_codes().height


@pytest.mark.parametrize("name", ["report.html", "all.json", "units.csv", "units.parquet"])
def test_the_same_result_gives_the_same_bytes(result: Result, tmp_path: Path, name: str) -> None:
    (first,) = result.export(tmp_path / "a" / name)
    (second,) = Result(result._stored).export(tmp_path / "b" / name)
    assert first.read_bytes() == second.read_bytes()


def test_compaction_changes_no_byte(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    write_trace(lake, "val", 300, noise=1.6)
    stored = evaluate(lake, MODEL, result_name="a")
    evaluate(lake, MODEL, result_name="b")
    before = {path.name: path.read_bytes() for path in _all_files(Result(stored), tmp_path / "before")}
    for spec in (EVALUATION_UNITS, EVALUATION_METRICS, EVALUATION_ISSUES, EVALUATION_CODES, ESTIMATORS_MODELS):
        lake.compact(spec)
    after = {path.name: path.read_bytes() for path in _all_files(Result(load_result(lake, "a")), tmp_path / "after")}
    assert before == after


def _all_files(result: Result, folder: Path) -> list[Path]:
    return [*result.export(folder), *result.export(folder / "all.json"), *result.export(folder / "page.html")]


def test_a_file_that_exists_is_kept_unless_overwriting_is_asked_for(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "codes.csv"
    path.write_text("mine")
    with pytest.raises(ExportError, match="overwrite=True"):
        result.export(path)
    assert path.read_text() == "mine"
    result.export(path, overwrite=True)
    assert path.read_text() != "mine"


def test_one_existing_file_stops_a_whole_folder(result: Result, tmp_path: Path) -> None:
    (tmp_path / "issues.parquet").write_text("mine")
    with pytest.raises(ExportError, match=r"issues\.parquet exists"):
        result.export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["issues.parquet"]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("x.xlsx", {}, "names no format"),
        ("x.csv", {"format": "parquet"}, "named like csv"),
        ("x.csv", {}, "'x' is no table"),
        ("x.csv", {"table": "rows"}, "'rows' is no table"),
        ("x.json", {"table": "units"}, "whole result"),
        ("x.html", {"table": "units"}, "whole result"),
        ("x", {"format": "pdf"}, "unknown format 'pdf'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    result: Result, tmp_path: Path, name: str, options: dict, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        result.export(tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_none_is_refused(result: Result) -> None:
    with pytest.raises(InvalidInputError, match="path is a int"):
        result.export(5)  # type: ignore[arg-type]


def test_a_path_that_cannot_be_written_is_named(result: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"cannot write .*codes\.csv"):
        result.export(tmp_path / "file" / "codes.csv")


def test_a_failure_leaves_the_earlier_file_and_no_rest(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = result.export(tmp_path / "codes.csv")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(ExportError, match="No space left"):
        result.export(path, overwrite=True)
    assert path.read_bytes() == before
    assert [left.name for left in tmp_path.iterdir()] == ["codes.csv"]


def test_text_that_a_spreadsheet_would_run_is_defused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"t": ["=1+1", "+x", "-x", "@sum", "-5", "+1.5e3", "\tx", "plain", None], "l": [["=1"]] * 9})
    content = Exported(facts=dict, tables={"units": lambda: frame}, report=str)
    (path,) = export_files(content, tmp_path / "units.csv")
    rows = list(csv.reader(io.StringIO(path.read_text(), newline="")))[1:]
    assert [row[0] for row in rows] == ["'=1+1", "'+x", "'-x", "'@sum", "-5", "+1.5e3", "'\tx", "plain", ""]
    assert {row[1] for row in rows} == {'["=1"]'}
