from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from assets.definitions import defs as platform
from mld_pipelines.evaluation import evaluate
from mld_pipelines.lake import Lake
from resources import ClockResource, LakeResource, PoolResource
from tests.support.traced import MODEL, write_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def evaluated_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A lake with one traced and evaluated model, made once; tests work on copies."""
    root = tmp_path_factory.mktemp("evaluated") / "lake"
    made = Lake.open(str(root))
    write_trace(made, "train", 150, seed=1)
    write_trace(made, "val", 150, seed=2)
    return root, evaluate(made, MODEL).result_name


@pytest.fixture
def evaluated(lake: Lake, evaluated_template: tuple[Path, str]) -> str:
    """Fill the lake with a copy of the evaluated one and return the result's name."""
    root, result_name = evaluated_template
    shutil.copytree(root, lake.root)
    return result_name


@pytest.fixture
def resources(lake: Lake) -> dict[str, object]:
    return {
        "lake": LakeResource(root=lake.root),
        "pool": PoolResource(backend="inline"),
        "clock": ClockResource(fixed="2026-02-01T12:00:00+00:00"),
    }


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def materialize(resources: dict[str, object], instance: dg.DagsterInstance) -> Callable[..., dg.ExecuteInProcessResult]:
    """Materialise groups of assets with their checks, as a run of the platform would."""

    def run(*groups: str, checks: bool = True, **options: object) -> dg.ExecuteInProcessResult:
        selection = dg.AssetSelection.groups(*groups)
        key = options.get("partition_key")
        if isinstance(key, str) and "@" in key:
            instance.add_dynamic_partitions("model_key", [key])
        chosen = selection if checks else selection.without_checks()
        return dg.materialize(
            [*platform.assets, *platform.asset_checks],
            selection=chosen,
            instance=instance,
            resources=resources,
            **options,
        )

    return run


@pytest.fixture
def tick(resources: dict[str, object], instance: dg.DagsterInstance) -> Callable[[str, str | None], dg.SensorResult]:
    """Evaluate a sensor once, as the daemon would: partitions are added, the cursor comes back."""

    def once(name: str, cursor: str | None = None) -> dg.SensorResult:
        sensor = platform.resolve_sensor_def(name)
        used = {key: resources[key] for key in sensor.required_resource_keys}
        context = dg.build_sensor_context(instance=instance, cursor=cursor, resources=used, definitions=platform)
        result = sensor(context)
        for request in result.dynamic_partitions_requests or []:
            instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        for event in result.asset_events or []:
            instance.report_runless_asset_event(event)
        return result

    return once
