"""`mld tables`, `mld lake`, `mld quality`."""

from __future__ import annotations

import shutil

import pytest
from deltalake import DeltaTable

from mld_pipelines.cli._exits import Exit
from mld_pipelines.tables import SCHEMA_VERSION


def test_an_empty_lake_has_no_tables(mld):
    assert mld("tables", "list", "--json").document["tables"] == []


def test_list_counts_rows_and_versions(mld, evaluated):
    tables = {row["table"]: row for row in mld("tables", "list", "--json").document["tables"]}
    assert tables["landing/traces"]["rows"] == 600
    assert tables["evaluation/results"]["rows"] == 1


def test_show_prints_rows_without_vectors(mld, evaluated):
    done = mld("tables", "show", "landing/traces", "--rows", "3", "--json").document
    assert (len(done["rows"]), done["matching"]) == (3, 600)
    assert "feature" not in done["rows"][0]


def test_show_filters_by_typed_values(mld, evaluated):
    done = mld("tables", "show", "landing/traces", "--where", "dataset_type=val", "--where", "row=5", "--json").document
    assert done["matching"] == 1
    assert done["rows"][0]["input_id"] == "val-5"


@pytest.mark.parametrize(
    ("option", "value", "listed"),
    [("--where", "nope=1", "model_key"), ("--columns", "nope", "model_key"), ("--version", "99", "0 …")],
)
def test_what_does_not_exist_is_status_three_and_the_message_says_what_does(mld, evaluated, option, value, listed):
    done = mld("tables", "show", "landing/traces", option, value)
    assert done.exit == Exit.NOT_FOUND
    assert listed in done.stderr


def test_show_takes_an_earlier_version(mld, evaluated):
    assert mld("tables", "show", "landing/traces", "--version", "0", "--json").document["matching"] < 600


def test_show_refuses_a_condition_of_the_wrong_type(mld, evaluated):
    done = mld("tables", "show", "landing/traces", "--where", "row=five")
    assert done.exit == Exit.USAGE
    assert "Int32" in done.stderr


def test_show_of_a_table_nobody_wrote_names_its_writer(mld):
    done = mld("tables", "show", "landing/inferences")
    assert done.exit == Exit.NOT_FOUND
    assert "does not exist" in done.stderr


def test_history_shows_commits_newest_first(mld, evaluated):
    commits = mld("tables", "history", "landing/traces", "--json").document["commits"]
    versions = [commit["version"] for commit in commits]
    assert versions == sorted(versions, reverse=True)
    assert {commit["code_version"] for commit in commits if commit["operation"] == "WRITE"} == {"test"}


def test_compacting_nothing_is_told_apart(mld, lake):
    done = mld("tables", "compact", "--json")
    assert (done.exit, done.document["tables"]) == (Exit.NOTHING_TO_DO, [])


def test_compact_joins_small_files(mld, lake):
    from tests.support.traced import write_trace

    for seed in range(3):
        write_trace(lake, f"set{seed}", 5, seed=seed, receipt=False)
    done = mld("tables", "compact", "landing/traces", "--min-files", "2", "--json")
    assert done.exit == 0
    assert done.document["tables"] == [{"table": "landing/traces", "partitions": 1, "removed": 3, "added": 1}]
    assert mld("tables", "show", "landing/traces", "--json").document["matching"] == 15


def test_vacuum_refuses_less_than_a_week(mld, evaluated):
    assert mld("tables", "vacuum", "--retention-hours", "1").exit == Exit.USAGE


def test_vacuum_of_young_tables_finds_nothing(mld, evaluated):
    assert mld("tables", "vacuum", "--dry-run").exit == Exit.NOTHING_TO_DO


def test_migrate_of_a_current_lake_has_nothing_to_do(mld, evaluated):
    done = mld("lake", "migrate", "--json")
    assert done.exit == Exit.NOTHING_TO_DO
    assert "landing/traces" in done.document["tables"]


@pytest.fixture
def newer(evaluated, monkeypatch, tmp_path):
    """A copy of the evaluated lake in which newer code completed a table."""
    root = shutil.copytree(evaluated.root, tmp_path / "newer")
    monkeypatch.setenv("MLD_API_ENDPOINT", str(root))
    version = {"mld.schemaVersion": str(SCHEMA_VERSION + 1)}
    DeltaTable(str(root / "traces" / "inputs")).alter.set_table_properties(version, raise_if_not_exists=False)


def test_migrate_refuses_a_lake_of_newer_code(mld, newer):
    done = mld("lake", "migrate")
    assert done.exit == Exit.FAILED
    assert "traces/inputs" in done.stderr
    assert mld("results", "show", "first").exit == 0


def test_doctor_tells_that_newer_code_made_the_lake_read_only(mld, newer):
    (found,) = [check for check in mld("doctor", "--json").document["checks"] if check["check"] == "lake"]
    assert (found["status"], found["remedy"]) == ("warning", "upgrade mld_pipelines")


def test_quality_holds_on_what_we_wrote(mld, lake):
    from tests.support.traced import write_trace

    write_trace(lake, "val", 20)
    done = mld("quality", "run", "landing/traces", "--json")
    assert done.exit == 0
    assert done.document["judged"] > 0
    assert mld("tables", "show", "ops/quality", "--json").document["matching"] == done.document["judged"]


@pytest.fixture
def broken(evaluated, monkeypatch, tmp_path):
    """Missing data files of a copy of the evaluated lake."""
    root = shutil.copytree(evaluated.root, tmp_path / "broken")
    monkeypatch.setenv("MLD_API_ENDPOINT", str(root))
    gone = list((root / "evaluation" / "results").glob("*.parquet"))
    for file in gone:
        file.unlink()
    return gone


@pytest.mark.parametrize("command", [("results", "list"), ("results", "show", "first"), ("evaluate", "toy@v1")])
def test_a_missing_data_file_is_named_and_no_defect_of_the_program(mld, broken, command):
    done = mld(*command)
    assert done.exit == Exit.FAILED
    assert any(f"{file} is missing" in done.stderr for file in broken)


def test_doctor_finds_missing_data_files(mld, broken):
    done = mld("doctor", "--json")
    assert done.exit == Exit.CHECK_FAILED
    (found,) = [check for check in done.document["checks"] if check["check"] == "lake"]
    assert "evaluation/results: data file" in found["detail"]
