"""Alerts of failed runs end when a later run has done the same work."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.definitions import defs as platform
from mld_pipelines.tables import MONITORING_ALERTS

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dg.op(config_schema={"fails": bool})
def work(context) -> None:
    if context.op_config["fails"]:
        raise ValueError("the disk is full")


@dg.job
def nightly() -> None:
    work()


@dg.job
def hourly() -> None:
    work()


@pytest.fixture
def run(instance, resources):
    """Run a job, then let the sensors hear of it."""

    def once(*, fails, job=nightly, tags=None):
        config = {"ops": {"work": {"config": {"fails": fails}}}}
        done = job.execute_in_process(instance=instance, run_config=config, tags=tags, raise_on_error=False)
        name = "run_failure" if fails else "run_recovery"
        sensor = platform.resolve_sensor_def(name)
        event = done.get_run_failure_event() if fails else done.get_run_success_event()
        context = dg.build_run_status_sensor_context(
            sensor_name=name,
            dagster_instance=instance,
            dagster_run=done.dagster_run,
            dagster_event=event,
            resources={key: resources[key] for key in sensor.required_resource_keys},
        )
        sensor(context.for_run_failure() if fails else context)

    return once


def states(lake):
    return lake.read(MONITORING_ALERTS).sort("opened_at", "alert_id")["state"].to_list()


def days(first, last):
    return dict(zip(RANGE, (first, last), strict=True))


def test_a_later_run_of_the_same_job_resolves_the_alert(lake, run):
    run(fails=True)
    run(fails=True)
    assert states(lake) == ["firing", "firing"]
    run(fails=False)
    assert states(lake) == ["resolved", "resolved"]


def test_another_job_or_another_partition_resolves_nothing(lake, run):
    run(fails=True, tags={"dagster/partition": "m@v1"})
    run(fails=False, job=hourly, tags={"dagster/partition": "m@v1"})
    run(fails=False, tags={"dagster/partition": "other@v1"})
    run(fails=False)
    assert states(lake) == ["firing"]
    run(fails=False, tags={"dagster/partition": "m@v1"})
    assert states(lake) == ["resolved"]


def test_a_run_over_days_resolves_those_it_covers_whole(lake, run):
    run(fails=True, tags=days("2026-01-05", "2026-01-07"))
    run(fails=False, tags=days("2026-01-06", "2026-01-09"))
    assert states(lake) == ["firing"], "the fifth was not made again"
    run(fails=False, tags=days("2026-01-01", "2026-01-07"))
    assert states(lake) == ["resolved"]


def test_a_failure_after_the_success_stays(lake, run):
    run(fails=True)
    run(fails=False)
    run(fails=True)
    assert sorted(states(lake)) == ["firing", "resolved"]


def test_nothing_is_written_where_nothing_failed(lake, run):
    run(fails=False)
    assert lake.version(MONITORING_ALERTS) is None
