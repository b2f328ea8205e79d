"""The instance configuration that `mld init` writes is one that Dagster accepts and that means what it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import defs as platform

TEMPLATE = Path(__file__).parents[2] / "mld_pipelines" / "cli" / "templates" / "dagster.yaml"


@pytest.fixture
def home(tmp_path: Path):
    shutil.copy(TEMPLATE, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def test_telemetry_is_off_and_tables_have_one_writer(home):
    assert home.telemetry_enabled is False
    concurrency = home.get_concurrency_config()
    assert concurrency.pool_config.default_pool_limit == 1
    assert concurrency.run_queue_config.max_concurrent_runs == 2


def test_every_writing_asset_names_its_pool():
    pools = {node.pool for assets in platform.assets if isinstance(assets, dg.AssetsDefinition) for node in [assets.op]}
    assert None not in pools
    assert len(pools) == 9, "traces, stress passes and their promotion, evaluation, four of monitoring, maintenance"


def test_a_run_is_stored_on_disk(home, resources):
    result = dg.materialize(
        platform.assets,
        selection=dg.AssetSelection.assets(["maintenance", "compact"]),
        instance=home,
        resources=resources,
    )
    assert result.success
    assert home.get_run_by_id(result.run_id).is_finished
