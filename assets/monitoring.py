"""Production by event day: scored → windows, codes → alerts.

Every step reads only what is new (docs/storage.md#windows).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl

from assets.graph import RETRY, declare, writer_pool
from assets.partitions import DAYS, days_of
from assets.reports import detector_windows, drawings
from mld_pipelines.tables import MONITORING_ALERTS, MONITORING_CODES, MONITORING_SCORED, MONITORING_WINDOWS, TableSpec
from resources import LakeResource, numbers, preview, provenance

__all__ = ["monitoring_alerts", "monitoring_codes", "monitoring_scored", "monitoring_windows"]

_ONE_RUN = dg.BackfillPolicy.single_run()
_FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26))
"""A day and two hours: the closing run after midnight has had its chance."""


@dataclass(frozen=True, slots=True)
class _Day:
    """What the partition of one day shows.

    Attributes:
        rows: Rows of the table.
        sample: Some of them.
        shown: Pictures, tables and numbers.
    """

    rows: int
    sample: pl.DataFrame
    shown: Mapping[str, Any] = field(default_factory=dict)


_HOUR = pl.col("event_day").cast(pl.Datetime("us")) + pl.duration(hours=pl.col("hour"))


@dg.multi_asset(
    name="monitoring_scored",
    specs=[declare("monitoring/scored")],
    partitions_def=DAYS,
    backfill_policy=_ONE_RUN,
    pool=writer_pool("monitoring/scored"),
    retry_policy=RETRY,
)
def monitoring_scored(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Score the inferences of some days that the current results have not seen yet."""
    from mld_pipelines.figures import histogram
    from mld_pipelines.rollups import Scorers, score_days
    from mld_pipelines.windows import UNIT_EDGES

    opened, days = lake.open(), days_of(context)
    scorers = Scorers(opened)
    done = score_days(
        opened, days, current=scorers.current, score=scorers.score, provenance=provenance(context.run.run_id)
    )
    rows = opened.scan(MONITORING_SCORED, event_day=days)
    bins = (pl.col("error_proba").drop_nulls() * 20).floor().clip(0, 19).cast(pl.Int64)
    drawn = rows.filter(pl.col("result_name").is_in(list(scorers.current.values())))
    counts = drawn.group_by("event_day").agg(bins.alias("bin")).explode("bin").collect()
    by_day = dict(rows.group_by("event_day").len().collect().iter_rows())
    samples = pl.collect_all([rows.filter(pl.col("event_day") == day).head(10) for day in days])
    shown = {}
    for day, sample in zip(days, samples, strict=True):
        found = dict(counts.filter(pl.col("event_day") == day)["bin"].drop_nulls().value_counts().iter_rows())
        bars = [found.get(i, 0) for i in range(20)]
        chart = histogram(bars, edges=UNIT_EDGES, title=f"Error probability, {day}")
        shown[day] = _Day(by_day.get(day, 0), sample, drawings(chart, "error probability", bars))
    return _materialized(context, lake, MONITORING_SCORED, done, shown)


@dg.multi_asset(
    name="monitoring_windows",
    specs=[declare("monitoring/windows", freshness_policy=_FRESH)],
    partitions_def=DAYS,
    backfill_policy=_ONE_RUN,
    pool=writer_pool("monitoring/windows"),
    retry_policy=RETRY,
)
def monitoring_windows(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Add new inferences to the hourly states of some days; days with new labels are computed anew."""
    from mld_pipelines.figures import line_chart
    from mld_pipelines.rollups import Scorers, refresh_windows

    opened, days = lake.open(), days_of(context)
    names = set(opened.scan(MONITORING_SCORED, event_day=days).select("result_name").unique().collect()["result_name"])
    references = Scorers(opened).references(names)
    done = refresh_windows(
        opened,
        days,
        references=references.windows,
        has_maps=bool(references.maps),
        provenance=provenance(context.run.run_id),
    )
    states = opened.read(MONITORING_WINDOWS, event_day=days)
    judged = detector_windows(states.drop("schema_version"), references)
    shown = {}
    for day in days:
        sample = states.filter(pl.col("event_day") == day)
        basic = sample.filter(pl.col("result_name").is_null())
        hourly = basic.group_by(_HOUR.alias("at")).agg(pl.col("n").sum()).sort("at")
        title, label = f"Inferences per hour, {day}", ("inferences", "", "")
        chart = line_chart(hourly, x="at", y="n", title=title, names=label, is_share=False)
        counted = {"inferences": int(basic["n"].sum()), "labelled": int(sample["n_labelled"].sum())}
        pictures = drawings(chart, "inferences per hour", hourly["n"].to_list())
        shown[day] = _Day(sample.height, sample, {**pictures, **numbers(counted), **judged.get(day, {})})
    return _materialized(context, lake, MONITORING_WINDOWS, done, shown)


@dg.multi_asset(
    name="monitoring_codes",
    specs=[declare("monitoring/codes")],
    partitions_def=DAYS,
    backfill_policy=_ONE_RUN,
    pool=writer_pool("monitoring/codes"),
    retry_policy=RETRY,
)
def monitoring_codes(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Compare the error codes of some days with the reference of their result."""
    from mld_pipelines.figures import bar_chart
    from mld_pipelines.rollups import Scorers, refresh_codes

    opened, days = lake.open(), days_of(context)
    scorers = Scorers(opened)
    references = scorers.references(_result_names(opened.read(MONITORING_WINDOWS, event_day=days)))
    done = refresh_codes(opened, days, baselines=references.baselines, provenance=provenance(context.run.run_id))
    codes = opened.read(MONITORING_CODES, event_day=days)
    drawn = codes.filter(pl.col("result_name").is_in(list(scorers.current.values()))).sort("share", descending=True)
    shown = {}
    for day in days:
        largest = drawn.filter(pl.col("event_day") == day)
        sample = codes.filter(pl.col("event_day") == day)
        chart = bar_chart(largest, label="error_code", value="share", title=f"Codes of {day}", limit=10)
        pictures = drawings(chart, "codes of the day", largest["share"].head(10).to_list())
        shown[day] = _Day(sample.height, sample, pictures)
    return _materialized(context, lake, MONITORING_CODES, done, shown)


@dg.multi_asset(
    name="monitoring_alerts",
    specs=[declare("monitoring/alerts")],
    partitions_def=DAYS,
    backfill_policy=_ONE_RUN,
    pool=writer_pool("monitoring/alerts"),
    retry_policy=RETRY,
)
def monitoring_alerts(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
    """Judge the windows of some days: alerts are rows and a log line."""
    from mld_pipelines.figures import bar_chart
    from mld_pipelines.rollups import Scorers, alert_days, refresh_alerts

    opened, days = lake.open(), days_of(context)
    names = _result_names(opened.read(MONITORING_WINDOWS, event_day=alert_days(opened, days)))
    done, touched = refresh_alerts(
        opened, days, references=Scorers(opened).references(names), provenance=provenance(context.run.run_id)
    )
    for alert in touched.filter(pl.col("state") == "firing").iter_rows(named=True):
        context.log.warning(f"{alert['severity']} alert for {alert['model_key']}: {alert['message']}")
    alerts = opened.read(MONITORING_ALERTS).sort("last_seen", descending=True)
    states = alerts.group_by("state").agg(pl.len().alias("alerts")).sort("state")
    chart = bar_chart(states, label="state", value="alerts", title="Alerts by state", is_share=False)
    firing = {"firing": alerts.filter(pl.col("state") == "firing").height}
    return lake.result(
        MONITORING_ALERTS,
        version=done.version,
        rows=alerts.height,
        frame=alerts,
        metadata={
            **drawings(chart, "alerts by state", states["alerts"].to_list()),
            **numbers({**_counts(done, len(days)), **firing}),
        },
    )


def _result_names(states: pl.DataFrame) -> set[str]:
    return set(states["result_name"].drop_nulls())


def _materialized(
    context: dg.AssetExecutionContext, lake: LakeResource, spec: TableSpec, done: Any, shown: Mapping[date, _Day]
) -> dg.MaterializeResult[Any]:
    """Return the materialisation of a range of days; the partition of each shows that day and no other.

    Only what the run as a whole did (`rows_written`, `rows_read`, `rows_quarantined`, of so many `days`) is the same
    for all of them.
    """
    for day, one in shown.items():
        context.add_asset_metadata(
            {
                "rows": dg.MetadataValue.float(float(one.rows)),
                "dagster/partition_row_count": one.rows,
                "preview": preview(spec, one.sample),
                **one.shown,
            },
            partition_key=day.isoformat(),
        )
    rows = sum(one.rows for one in shown.values())
    metadata = numbers(_counts(done, len(shown)))
    return lake.result(spec, version=done.version, rows=rows, scope="range", metadata=metadata)


def _counts(done: Any, days: int) -> dict[str, float]:
    """Return what a run did."""
    return {"rows_written": done.rows, "rows_read": done.read, "rows_quarantined": done.quarantined, "days": days}
