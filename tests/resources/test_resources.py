"""Resources: what every materialisation of a table says."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest

from mld_pipelines.exceptions import ConfigurationError
from mld_pipelines.tables import CATALOGUE, EVALUATION_METRICS, OPS_PINS, TRACES_INPUTS
from resources import (
    ClockResource,
    LakeResource,
    PoolResource,
    asset_key,
    column_lineage,
    column_schema,
    numbers,
    preview,
    provenance,
    table_name,
)


@pytest.mark.parametrize("table", sorted(CATALOGUE))
def test_a_table_name_and_its_asset_key_are_the_same_words(table):
    key = asset_key(table)
    assert len(key.path) == 2, "AssetKey('a/b') would quietly have one part"
    assert table_name(key) == table
    assert asset_key(CATALOGUE[table]) == key


@pytest.mark.parametrize("table", sorted(CATALOGUE))
def test_the_column_schema_says_what_the_spec_says(table):
    spec = CATALOGUE[table]
    for shown, declared in zip(column_schema(spec).columns, spec.columns, strict=True):
        assert (shown.name, shown.type, shown.description) == (
            declared.name,
            str(declared.data_type),
            declared.description,
        )
        assert shown.constraints.nullable is not declared.required


def test_constraints_are_words_without_markdown_because_the_ui_shows_them_as_they_are():
    schemas = [column_schema(spec) for spec in CATALOGUE.values()]
    said = [text for schema in schemas for text in schema.constraints.other]
    said += [text for schema in schemas for column in schema.columns for text in column.constraints.other]
    assert any("model_key" in text for text in said)
    assert [text for text in said if "`" in text] == []


def test_lineage_follows_equal_names_and_leaves_out_what_is_computed():
    lineage = column_lineage(EVALUATION_METRICS, [TRACES_INPUTS]).deps_by_column
    assert {dep.column_name for dep in lineage["model_key"]} == {"model_key"}
    assert "value" not in lineage
    assert "schema_version" not in lineage


def test_numbers_are_floats_and_undefined_ones_are_left_out():
    found = numbers({"a": 1, "b": 0.5, "c": None, "d": float("nan"), "e": float("inf")})
    assert {name: value.value for name, value in found.items()} == {"a": 1.0, "b": 0.5}
    assert all(isinstance(value, dg.FloatMetadataValue) for value in found.values())


def test_a_preview_cannot_break_its_table():
    frame = pl.DataFrame({"result_name": ["a|b\nc", "x" * 500], "table": ["t", None], "version": [1, 2]})
    lines = preview(OPS_PINS, frame).value.splitlines()
    assert lines[0] == "| result_name | table | version |"
    assert len(lines) == 4
    assert lines[2] == "| a\\|b c | t | 1 |"
    assert len(lines[3]) < 90
    assert preview(OPS_PINS, frame.clear()).value == "no rows"


def test_the_run_is_in_the_commit_and_the_version_in_the_materialisation(tmp_path):
    resource = LakeResource(root=str(tmp_path / "lake"))
    pins = pl.DataFrame(
        {"result_name": ["r"], "table": ["t"], "version": [3], "pinned_at": [datetime(2026, 1, 1, tzinfo=UTC)]},
        schema_overrides={"pinned_at": pl.Datetime("us", "UTC")},
    )
    commit = resource.open().upsert(OPS_PINS, pins, provenance=provenance("run-7"))
    made = resource.result(OPS_PINS, version=commit.version, rows=1, frame=pins)
    assert resource.open().history(OPS_PINS)["run_id"][0] == "run-7"
    assert made.asset_key == asset_key("ops/pins")
    assert made.data_version == dg.DataVersion(f"delta:{commit.version}")
    assert made.metadata["delta_version"].value == commit.version
    assert made.metadata["dagster/row_count"] == 1
    assert made.metadata["dagster/uri"] == resource.open().uri(OPS_PINS)


@pytest.mark.parametrize(
    ("scope", "counts"),
    [("table", {"dagster/row_count"}), ("partition", {"dagster/partition_row_count"}), ("range", set())],
)
def test_row_counts_say_what_they_count(tmp_path, scope, counts):
    made = LakeResource(root=str(tmp_path)).result(OPS_PINS, version=None, rows=2, scope=scope)
    assert {name for name in made.metadata if name.endswith("row_count")} == counts
    assert made.metadata["rows"].value == 2.0
    assert made.data_version is None, "nothing was ever written"


def test_without_a_root_the_lake_is_the_endpoints(monkeypatch, tmp_path):
    monkeypatch.setenv("MLD_API_ENDPOINT", str(tmp_path / "elsewhere"))
    assert LakeResource().open().root == str(tmp_path / "elsewhere")


def test_the_root_can_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MLD_TEST_ROOT", str(tmp_path / "named"))
    seen = []

    @dg.asset
    def reader(lake: LakeResource) -> None:
        seen.append(lake.open().root)

    assert dg.materialize([reader], resources={"lake": LakeResource(root=dg.EnvVar("MLD_TEST_ROOT"))}).success
    assert seen == [str(tmp_path / "named")]


def test_a_server_as_root_is_refused_in_words():
    with pytest.raises(ConfigurationError, match="ingestion server"):
        LakeResource(root="https://example.org").open()


def test_the_pool_resource_is_a_policy():
    policy = PoolResource(backend="inline", size=2, num_gpus=0.5, max_attempts=1, batch_timeout_s=9).policy()
    assert (policy.backend, policy.size, policy.num_gpus) == ("inline", 2, 0.5)
    assert (policy.max_attempts, policy.batch_timeout_s) == (1, 9.0)


def test_the_pool_resource_sizes_the_workers_behind_a_model_by_themselves():
    policy = PoolResource(size=8, num_gpus=0.5, post_size=2, post_cpus=0.5).policy()
    assert (policy.size, policy.post_size, policy.post_cpus) == (8, 2, 0.5)


def test_the_pool_resource_reaches_a_cluster(tmp_path):
    policy = PoolResource(backend="cluster", start_timeout_s=30, working_dir=str(tmp_path)).policy()
    assert (policy.backend, policy.start_timeout_s, policy.working_dir) == ("cluster", 30.0, str(tmp_path))


def test_a_clock_can_stand_still_and_otherwise_runs():
    fixed = ClockResource(fixed="2026-02-01T12:00:00+01:00")
    assert fixed.now() == datetime(2026, 2, 1, 11, tzinfo=UTC)
    assert abs((ClockResource().now() - datetime.now(UTC)).total_seconds()) < 5
