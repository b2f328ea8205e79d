"""What happens by the clock: closing a day, nightly care."""

from datetime import timedelta

import dagster as dg

from assets.jobs import MAINTENANCE_JOB, MONITORING_JOB, QUALITY_JOB
from assets.partitions import range_tags

__all__ = ["SCHEDULES", "close_day"]

_RUNNING = dg.DefaultScheduleStatus.RUNNING


@dg.schedule(
    job=MONITORING_JOB,
    cron_schedule="15 0 * * *",
    execution_timezone="UTC",
    default_status=_RUNNING,
    description="Recomputes alerts of the day that has just ended: too little traffic shows only when the day is over.",
)
def close_day(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Refresh yesterday and today, whether or not anything new arrived."""
    today = context.scheduled_execution_time.date()
    yesterday = today - timedelta(days=1)
    return dg.RunRequest(run_key=f"close:{yesterday}", tags=range_tags(yesterday, today))


#: Maintenance runs when traffic is low, the suites after it.
SCHEDULES = [
    close_day,
    dg.ScheduleDefinition(
        "nightly_maintenance",
        job=MAINTENANCE_JOB,
        cron_schedule="30 2 * * *",
        execution_timezone="UTC",
        default_status=_RUNNING,
        description="Compacts, vacuums and profiles every table.",
    ),
    dg.ScheduleDefinition(
        "nightly_quality",
        job=QUALITY_JOB,
        cron_schedule="0 3 * * *",
        execution_timezone="UTC",
        default_status=_RUNNING,
        description="Runs every quality suite on the newest part of its table.",
    ),
]
