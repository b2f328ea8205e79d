"""Production by event day: scored → windows, codes → alerts.

Every step reads only what is new (docs/storage.md#windows).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
import polars as pl

from assets.graph import RETRY, declare, writer_pool
from assets.partitions import DAYS, days_of
from assets.reports import detector_windows, drawings
from mld_pipelines.tables import MONITORING_ALERTS, MONITORING_CODES, MONITORING_SCORED, MONITORING_WINDOWS, TableSpec
from resources import LakeResource, Scope, numbers, provenance

__all__ = ["monitoring_alerts", "monitoring_codes", "monitoring_scored", "monitoring_windows"]

_ONE_RUN = dg.BackfillPolicy.single_run()
_FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26))
"""A day and two hours: the closing run after midnight has had its chance."""


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
    counts = drawn.select(bins.alias("bin")).collect()["bin"].value_counts()
    by_bin = dict(counts.iter_rows())
    bars = [by_bin.get(i, 0) for i in range(20)]
    chart = histogram(bars, edges=UNIT_EDGES, title="Error probability")
    return _materialized(
        context, lake, MONITORING_SCORED, done, sample=rows.head(10).collect(), chart=(chart, "error probability", bars)
    )


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
    basic = states.filter(pl.col("result_name").is_null()).sort("event_day", "hour")
    hour = pl.col("event_day").cast(pl.Datetime("us")) + pl.duration(hours=pl.col("hour"))
    hourly = basic.group_by(hour.alias("at"), maintain_order=True).agg(pl.col("n").sum())
    title, label = "Inferences per hour", ("inferences", "", "")
    chart = line_chart(hourly, x="at", y="n", title=title, names=label, is_share=False)
    counted = {"inferences": int(basic["n"].sum()), "labelled": int(states["n_labelled"].sum())}
    return _materialized(
        context,
        lake,
        MONITORING_WINDOWS,
        done,
        sample=states,
        chart=(chart, "inferences per hour", hourly["n"].tail(24).to_list()),
        counted=counted,
        shown=detector_windows(states.drop("schema_version"), references),
    )


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
    drawn = codes.filter(pl.col("result_name").is_in(list(scorers.current.values())))
    newest = drawn.filter(pl.col("event_day") == pl.col("event_day").max()).sort("share", descending=True)
    chart = bar_chart(newest, label="error_code", value="share", title="Codes of the newest day", limit=10)
    return _materialized(
        context,
        lake,
        MONITORING_CODES,
        done,
        sample=codes,
        chart=(chart, "codes of the newest day", newest["share"].head(10).to_list()),
    )


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
    return _materialized(
        context,
        lake,
        MONITORING_ALERTS,
        done,
        sample=alerts,
        chart=(chart, "alerts by state", states["alerts"].to_list()),
        counted=firing,
    )


def _result_names(states: pl.DataFrame) -> set[str]:
    return set(states["result_name"].drop_nulls())


def _materialized(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    spec: TableSpec,
    done: Any,
    *,
    sample: pl.DataFrame,
    chart: tuple[str, str, Sequence[float | None]],
    counted: Mapping[str, float] | None = None,
    shown: Mapping[str, Any] | None = None,
) -> dg.MaterializeResult[Any]:
    """Return the materialisation of a range of days; every day of it gets its own row count."""
    days = days_of(context)
    scope: Scope = "table"
    rows = sample.height
    if "event_day" in spec.column_names:
        by_day = dict(lake.open().scan(spec, event_day=days).group_by("event_day").len().collect().iter_rows())
        rows, scope = sum(by_day.values()), "range"
        for day in days:
            context.add_asset_metadata(
                {"dagster/partition_row_count": by_day.get(day, 0)}, partition_key=day.isoformat()
            )
    counts = {
        "rows_written": done.rows,
        "rows_read": done.read,
        "rows_quarantined": done.quarantined,
        "days": len(days),
    }
    return lake.result(
        spec,
        version=done.version,
        rows=rows,
        scope=scope,
        frame=sample,
        metadata={**drawings(*chart), **numbers({**counts, **(counted or {})}), **(shown or {})},
    )
