"""The other half of `run_failure`: an alert of a failed run ends when a later run has done the same work."""

import dagster as dg

from assets.partitions import partitions_of
from mld_pipelines import settings
from mld_pipelines.tables import MONITORING_ALERTS
from resources import ClockResource, LakeResource, provenance

__all__ = ["model_key_of", "run_recovery"]

_MOST_RUNS = 200
"""Failed runs of a job that are looked at, newest first."""


def model_key_of(run: dg.DagsterRun) -> str:
    """Return the model of a run's partition as its failure alert names it: `-@-` where it has none."""
    partition = run.tags.get("dagster/partition", "")
    return partition if "@" in partition else "-@-"


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    description="A run that does what a failed one did not → its alert is resolved.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=settings.sensor_interval_seconds(),
)
def run_recovery(context: dg.RunStatusSensorContext, lake: LakeResource, clock: ClockResource) -> None:
    """Resolve the alerts of earlier failed runs whose work this run covers."""
    from mld_pipelines.windows import resolve_run_failures

    opened = lake.open()
    firing = opened.read(MONITORING_ALERTS, rule="run_failure", state="firing")
    if firing.is_empty():
        return
    run = context.dagster_run
    repeated = [(model_key_of(failed), failed.run_id) for failed in _failed_before(context.instance, run)]
    resolved = resolve_run_failures(
        firing.drop("schema_version"), repeated, run_id=run.run_id, succeeded_at=clock.now()
    )
    if resolved.height:
        opened.upsert(MONITORING_ALERTS, resolved, provenance=provenance(run.run_id))
        context.log.info(f"run {run.run_id} of {run.job_name} resolves {resolved.height} alerts of failed runs")


def _failed_before(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterRun]:
    """Failed runs of the same job that were made earlier and asked for no more than this one did."""
    own = instance.get_run_record_by_id(run.run_id)
    wanted = dg.RunsFilter(job_name=run.job_name, statuses=[dg.DagsterRunStatus.FAILURE])
    records = instance.get_run_records(filters=wanted, limit=_MOST_RUNS)
    return [
        record.dagster_run
        for record in records
        if own is not None and record.storage_id < own.storage_id and _covers(run, record.dagster_run)
    ]


def _covers(run: dg.DagsterRun, failed: dg.DagsterRun) -> bool:
    done, asked = run.asset_selection, failed.asset_selection
    if done is not None and (asked is None or not asked <= done):
        return False
    made, missing = partitions_of(run.tags), partitions_of(failed.tags)
    return missing <= made if missing else not made
