"""The code location: complete, documented, cheap, and unchanged unless somebody meant it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import defs as platform
from assets.graph import SOURCES
from mld_pipelines.tables import CATALOGUE
from resources import asset_key, table_name

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "asset_graph.json"
SPECS = sorted(platform.resolve_all_asset_specs(), key=lambda spec: spec.key)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.key.to_user_string())
def test_every_asset_is_documented(spec):
    assert len(spec.description) > 20
    assert spec.group_name
    assert spec.owners == ["team:mld-pipelines"]
    assert spec.kinds
    assert spec.code_version
    assert spec.metadata["dagster/column_schema"].columns


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.key.to_user_string())
def test_the_columns_shown_are_those_of_the_table(spec):
    if (table := CATALOGUE.get(table_name(spec.key))) is not None:
        shown = spec.metadata["dagster/column_schema"].columns
        assert [(c.name, c.description, c.constraints.nullable) for c in shown] == [
            (c.name, c.description, not c.required) for c in table.columns
        ]


@pytest.mark.parametrize("table", sorted(SOURCES))
def test_column_lineage_points_at_columns_that_exist(table):
    spec = next(one for one in SPECS if one.key == asset_key(table))
    lineage = spec.metadata["dagster/column_lineage"].deps_by_column
    assert lineage
    for column, deps in lineage.items():
        assert column in CATALOGUE[table].column_names
        assert all(dep.column_name in CATALOGUE[table_name(dep.asset_key)].column_names for dep in deps)
        assert {table_name(dep.asset_key) for dep in deps} <= set(SOURCES[table])


def test_every_table_that_is_not_the_platforms_own_has_an_asset():
    expected = {name for name, spec in CATALOGUE.items() if spec.layer != "ops"}
    assert expected <= {table_name(spec.key) for spec in SPECS}


def graph() -> dict[str, object]:
    return {
        spec.key.to_user_string(): {
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "group": spec.group_name,
            "kinds": sorted(spec.kinds),
            "partitions": type(spec.partitions_def).__name__ if spec.partitions_def else None,
            "automation": spec.automation_condition.get_label() if spec.automation_condition else None,
        }
        for spec in SPECS
    } | {
        "jobs": sorted(job.name for job in platform.jobs),
        "schedules": {one.name: one.cron_schedule for one in platform.schedules},
        "sensors": sorted(one.name for one in platform.sensors),
        "checks": {
            table_name(key): sum(1 for one in platform.resolve_asset_graph().asset_check_keys if one.asset_key == key)
            for key in sorted({one.asset_key for one in platform.resolve_asset_graph().asset_check_keys})
        },
    }


def test_the_asset_graph_is_the_one_we_agreed_on():
    """After a wanted change: MLD_UPDATE_GOLDEN=1 python -m pytest tests/assets/test_definitions.py."""
    found = json.loads(json.dumps(graph()))
    if os.environ.get("MLD_UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_a_run_has_few_checks_because_each_is_two_fsynced_events():
    assert max(graph()["checks"].values()) <= 12  # one per kind of rule, whatever the number of columns


def test_no_expectation_is_left_without_a_check():
    from assets.checks import CHECKED_TABLES, check_groups
    from mld_pipelines.quality import expectations

    for table in CHECKED_TABLES:
        grouped = [one.name for group in check_groups(CATALOGUE[table]).values() for one in group]
        assert sorted(grouped) == sorted(one.name for one in expectations(CATALOGUE[table]))


def test_importing_the_code_location_loads_nothing_heavy():
    code = (
        "import sys, assets.definitions; "
        "heavy = {'torch', 'ray', 'great_expectations', 'pandas', 'sklearn', 'scipy', 'deltalake'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_only_the_public_dagster_api_is_used():
    sources = [*(ROOT / "assets").glob("*.py"), *(ROOT / "resources").glob("*.py")]
    assert sources
    private = [path.name for path in sources if "dagster._" in path.read_text(encoding="utf-8")]
    assert private == []


def test_schedules_run_from_the_start():
    assert {one.default_status for one in platform.schedules} == {dg.DefaultScheduleStatus.RUNNING}


def test_closing_a_day_refreshes_the_day_that_ended():
    from datetime import UTC, datetime

    schedule = next(one for one in platform.schedules if one.name == "close_day")
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 3, 1, 0, 15, tzinfo=UTC))
    request = schedule.evaluate_tick(context).run_requests[0]
    assert request.tags["dagster/asset_partition_range_start"] == "2026-02-28"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-03-01"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"], id="dagster validate"),
        pytest.param(["-c", "from dagster_dg_cli.cli import main; main()", "check", "defs"], id="dg check defs"),
        pytest.param(["-c", "from dagster_dg_cli.cli import main; main()", "list", "defs"], id="dg list defs"),
    ],
)
def test_the_tools_accept_the_project(command, tmp_path):
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "MLD_HOME": str(tmp_path), "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_days_begin_in_2020_and_include_today_while_it_fills():
    from datetime import UTC, date, datetime

    from assets.partitions import DAYS, is_partition

    noon = datetime(2026, 2, 1, 12, tzinfo=UTC)
    keys = DAYS.get_partition_keys(current_time=noon)
    assert (keys[0], keys[-1]) == ("2020-01-01", "2026-02-01")
    assert [
        is_partition(date.fromisoformat(day), noon) for day in ("2019-12-31", *keys[:1], *keys[-1:], "2026-02-02")
    ] == [
        False,
        True,
        True,
        False,
    ]
