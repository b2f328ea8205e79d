"""Sensors: read the cursor and the new rows, let a pure function decide, turn the decision into requests.

Every cursor holds Delta versions. It is stored after the requests of a tick are launched, so a crash can repeat a tick
but not lose one; run keys make the repeat harmless.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from assets.automation import AUTOMATION_TAG
from assets.cursors import Cursor
from assets.evaluation import EVALUATION_TABLES, EvaluationConfig
from assets.jobs import EVALUATION_JOB, MONITORING_JOB, STRESS_JOB, STRESS_TRACES_JOB, TRACES_JOB
from assets.partitions import MODEL_PARTITIONS, MODELS, is_partition, range_tags
from assets.passes import finished_passes, mended_by, prevented_passes, report_passes
from assets.recovery import model_key_of
from mld_pipelines import settings
from mld_pipelines.tables import (
    CATALOGUE,
    EVALUATION_RESULTS,
    FIRST_EVENT_DAY,
    LANDING_FEEDBACK,
    LANDING_INFERENCES,
    LANDING_MODELS,
    LANDING_RECEIPTS,
    LANDING_REQUESTS,
    LANDING_STRESS,
    LANDING_TRACES,
    MONITORING_ALERTS,
    MONITORING_WINDOWS,
    OPS_PROMOTIONS,
    TableSpec,
)
from resources import ClockResource, LakeResource, asset_key, provenance

__all__ = ["MAX_REQUESTS", "SENSORS"]

MAX_REQUESTS = 25
"""Run requests of one tick; what is left waits in the cursor."""

_UNFINISHED = timedelta(seconds=60)
"""A trace without its receipt for this long is reported."""

_ALWAYS: dict[str, Any] = {
    "default_status": dg.DefaultSensorStatus.RUNNING,
    "minimum_interval_seconds": settings.sensor_interval_seconds(),
}


@dg.sensor(job=TRACES_JOB, description="A finished trace → the model's partition, promoted and checked.", **_ALWAYS)
def new_traces(context: dg.SensorEvaluationContext, lake: LakeResource, clock: ClockResource) -> dg.SensorResult:
    """Request the promotion of models whose traces were completed; report traces that never were."""
    opened = lake.open()
    read = {
        LANDING_RECEIPTS: ["model_key", "purpose"],
        LANDING_TRACES: ["model_key"],
        LANDING_MODELS: ["model_key"],  # reported only: a model alone starts nothing
    }
    rows, cursor = Cursor.read(context.cursor).new_rows(opened, read)
    finished = rows[LANDING_RECEIPTS.name].filter(pl.col("purpose") == "trace")["model_key"].unique().to_list()
    chosen, pending = _capped([*cursor.pending, *sorted(finished)])
    version, made = cursor.versions.get(LANDING_RECEIPTS.name), _made(opened, [LANDING_RECEIPTS])
    open_since = _watch(context, opened, cursor, rows[LANDING_TRACES.name]["model_key"].unique(), clock.now())
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=f"traces:{key}:v{version}:{made}", partition_key=key) for key in chosen],
        dynamic_partitions_requests=_add_models(context, chosen),
        asset_events=_landed(rows, cursor),
        cursor=replace(cursor, pending=pending, state={"open_since": open_since}).text,
    )


@dg.sensor(
    jobs=[STRESS_JOB, STRESS_TRACES_JOB],
    description="A finished trace of a registered model → its stress pass; a pass of a tracer → its promotion; a pass "
    "made in a user's process → a materialisation in Dagster's history.",
    **_ALWAYS,
)
def stress_passes(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """Request stress passes that no receipt covers yet, and the promotion of those that tracers have made.

    A pass that could not run is requested again when its cause may be mended: after a start of the platform or a new
    registration. Passes that no run has made are reported.
    """
    from mld_pipelines.tracing import is_stress_due

    opened = lake.open()
    read = {LANDING_RECEIPTS: ["model_key", "purpose", "source", "stream_id"], LANDING_STRESS: ["model_key"]}
    rows, cursor = Cursor.read(context.cursor).new_rows(opened, read)
    receipts = rows[LANDING_RECEIPTS.name]
    traced = receipts.filter((pl.col("purpose") == "trace") & pl.col("source").is_not_null())["model_key"].unique()
    finished = receipts.filter(pl.col("purpose") == "stress")
    landed = finished.filter(pl.col("source").is_null())["model_key"].unique()
    stamp = mended_by(opened)
    again = prevented_passes(context.instance, opened) if cursor.state.get("mended_by") != stamp else []
    wanted = [f"stress:{key}" for key in sorted({*traced, *again}) if is_stress_due(opened, key)]
    chosen, pending = _capped([*cursor.pending, *wanted, *(f"stress_traces:{key}" for key in sorted(landed))])
    known = cursor.state.get("passes")  # none in a cursor older than this: what was made until then is reported now
    streams = finished_passes(opened) if known is None else [*known, *finished["stream_id"].unique()]
    reported, later = report_passes(context.instance, lake, streams)
    version, made = cursor.versions.get(LANDING_RECEIPTS.name), _made(opened, [LANDING_RECEIPTS])
    split = [work.partition(":")[::2] for work in chosen]
    models = [*(key for _, key in split), *(event.partition or "" for event in reported)]
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"{job}:{key}:v{version}:{made}:{stamp}",
                job_name=job,
                partition_key=key,
                tags={AUTOMATION_TAG: "trace"},
            )
            for job, key in split
        ],
        dynamic_partitions_requests=_add_models(context, models),
        asset_events=[*_landed({LANDING_STRESS.name: rows[LANDING_STRESS.name]}, cursor), *reported],
        cursor=replace(cursor, pending=pending, state={"mended_by": stamp, "passes": later}).text,
    )


@dg.sensor(job=EVALUATION_JOB, description="A request row → one evaluation, once per request id.", **_ALWAYS)
def evaluation_requests(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """Launch requested evaluations."""
    opened = lake.open()
    rows, cursor = Cursor.read(context.cursor).new_rows(opened, {LANDING_REQUESTS: ["request_id"]})
    chosen, pending = _capped([*cursor.pending, *rows[LANDING_REQUESTS.name]["request_id"]])
    requests = opened.scan(LANDING_REQUESTS).filter(pl.col("request_id").is_in(list(chosen))).collect()
    models = requests["model_key"].unique().sort().to_list()
    return dg.SensorResult(
        run_requests=[
            _evaluation(
                row["request_id"],
                row["model_key"],
                EvaluationConfig(
                    result_name=row["result_name"] or "",
                    n_epoch=row["n_epoch_spec"],
                    policy=row["params"] or "",
                    trigger="request",
                ),
            )
            for row in requests.sort("requested_at", "request_id").iter_rows(named=True)
        ],
        dynamic_partitions_requests=_add_models(context, models),
        asset_events=_landed(rows, cursor),
        cursor=replace(cursor, pending=pending).text,
    )


@dg.sensor(description="A result made in a user's process → materialisations in Dagster's history.", **_ALWAYS)
def evaluation_results(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """Report results that no run made, so that Dagster's history and automation know them."""
    read = {EVALUATION_RESULTS: ["result_name", "model_key", "evaluation_id", "counts", "run_id", "created_at"]}
    opened = lake.open()
    rows, cursor = Cursor.read(context.cursor).new_rows(opened, read)
    made = rows[EVALUATION_RESULTS.name].filter(pl.col("run_id").is_null()).sort("created_at", "result_name")
    return dg.SensorResult(
        dynamic_partitions_requests=_add_models(context, made["model_key"].unique().sort().to_list()),
        asset_events=[event for row in made.iter_rows(named=True) for event in _reported(row, cursor.versions)],
        cursor=cursor.text,
    )


@dg.sensor(
    job=MONITORING_JOB, description="New inferences or labels → runs over exactly the event days they touch.", **_ALWAYS
)
def new_logs(context: dg.SensorEvaluationContext, lake: LakeResource, clock: ClockResource) -> dg.SensorResult:
    """Request the touched event days, newest first, contiguous days as one run."""
    from mld_pipelines.rollups import labelled_days
    from mld_pipelines.windows import plan_days

    opened = lake.open()
    read = {LANDING_INFERENCES: ["event_day"], LANDING_FEEDBACK: ["request_id"]}
    rows, cursor = Cursor.read(context.cursor).new_rows(opened, read)
    touched = {date.fromisoformat(day) for day in cursor.pending}
    touched |= set(rows[LANDING_INFERENCES.name]["event_day"].unique())
    touched |= set(labelled_days(opened, rows[LANDING_FEEDBACK.name]["request_id"].unique()))
    if too_old := sorted(day for day in touched if day < FIRST_EVENT_DAY):
        context.log.warning(f"events before {FIRST_EVENT_DAY} stay in landing and are not monitored: {too_old}")
    ranges = plan_days([day for day in touched if is_partition(day, clock.now())], limit=MAX_REQUESTS)
    pending = sorted(
        day for day in touched if day >= FIRST_EVENT_DAY and not any(first <= day <= last for first, last in ranges)
    )
    return dg.SensorResult(
        run_requests=_ranged("monitoring", ranges, _stamp(opened, cursor.versions)),
        asset_events=_landed(rows, cursor),
        cursor=replace(cursor, pending=tuple(day.isoformat() for day in pending)).text,
    )


@dg.sensor(
    job=EVALUATION_JOB,
    description="Enough labels, labels and drift, or a finished stress pass → a new result.",
    **_ALWAYS,
)
def reevaluate(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """Re-evaluate the models for which labels make it possible and production makes it worthwhile.

    After a stress pass the current result is made once more from what it read: only its window map is new.
    """
    from mld_pipelines.rollups import due_reevaluations

    opened = lake.open()
    cursor = Cursor.read(context.cursor)
    watched = (LANDING_FEEDBACK, LANDING_RECEIPTS, MONITORING_WINDOWS, EVALUATION_RESULTS, OPS_PROMOTIONS)
    versions = _versions(opened, watched)
    if versions == cursor.versions:
        return dg.SensorResult(skip_reason="no new label, receipt, window or result", cursor=cursor.text)
    decisions, made = due_reevaluations(opened, cursor.state), _made(opened, [EVALUATION_RESULTS])
    for model_key, decision in decisions.items():
        context.log.info(f"{model_key}: {decision.explanation}")
    # a model whose newest result has no window yet keeps its state: the cool-down starts with a request, not a window
    state = {**cursor.state, **{key: one.state.to_json() for key, one in decisions.items()}}
    return dg.SensorResult(
        run_requests=[
            _evaluation(f"{decision.run_key}:{made}", model_key, _repetition(opened, decision))
            for model_key, decision in decisions.items()
            if decision.is_due
        ],
        dynamic_partitions_requests=_add_models(context, [key for key, one in decisions.items() if one.is_due]),
        cursor=Cursor(versions, state=state).text,
    )


@dg.sensor(
    job=MONITORING_JOB, description="A new current result → the last week of production, scored by it.", **_ALWAYS
)
def rescore(context: dg.SensorEvaluationContext, lake: LakeResource, clock: ClockResource) -> dg.SensorResult:
    """Score the last seven event days of a model again when its current result changes."""
    from mld_pipelines.evaluation import current_results
    from mld_pipelines.rollups import is_scored_otherwise, recent_days
    from mld_pipelines.windows import plan_days

    opened = lake.open()
    cursor = Cursor.read(context.cursor)
    versions = _versions(opened, (EVALUATION_RESULTS, OPS_PROMOTIONS))
    if versions == cursor.versions:
        return dg.SensorResult(skip_reason="no new result", cursor=cursor.text)
    requests: list[dg.RunRequest] = []
    known = dict(cursor.state)
    for model_key, result in current_results(opened).items():
        if known.get(model_key) == result:
            continue
        replaced = model_key in known or is_scored_otherwise(opened, model_key, result)
        recent = recent_days(opened, model_key) if replaced else []  # a first result has nothing to score again
        days = [day for day in recent if is_partition(day, clock.now())]
        ranges = plan_days(days) if days else []
        if len(requests) + len(ranges) > MAX_REQUESTS:
            return dg.SensorResult(run_requests=requests, cursor=replace(cursor, state=known).text)
        requests += _ranged("rescore", ranges, f"{result}:{_stamp(opened, versions)}")  # switching back asks anew
        known[model_key] = result
    return dg.SensorResult(run_requests=requests, cursor=Cursor(versions, state=known).text)


@dg.run_failure_sensor(
    description="A failed run → an alert row.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=settings.sensor_interval_seconds(),
)
def run_failure(context: dg.RunFailureSensorContext, lake: LakeResource, clock: ClockResource) -> None:
    """Write one alert per failed run; the same run twice is the same alert."""
    from mld_pipelines.windows import run_failure_alert

    run = context.dagster_run
    alert = run_failure_alert(
        run_id=run.run_id,
        job=run.job_name,
        model_key=model_key_of(run),
        failed_at=clock.now(),
        message=context.failure_event.message or "no message",
    )
    lake.open().upsert(MONITORING_ALERTS, alert, provenance=provenance(run.run_id))
    context.log.error(alert["message"][0])


def _capped(work: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split distinct work into what this tick requests and what waits."""
    distinct = tuple(dict.fromkeys(work))
    return distinct[:MAX_REQUESTS], distinct[MAX_REQUESTS:]


def _add_models(
    context: dg.SensorEvaluationContext, model_keys: Iterable[str]
) -> list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    known = set(context.instance.get_dynamic_partitions(MODEL_PARTITIONS))
    new = [key for key in dict.fromkeys(model_keys) if key not in known]
    return [MODELS.build_add_request(new)] if new else []


def _evaluation(run_key: str | None, model_key: str, config: EvaluationConfig) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=run_key, partition_key=model_key, run_config=dg.RunConfig(ops={"evaluate_model": config})
    )  # fmt: skip


def _repetition(lake: Any, decision: Any) -> EvaluationConfig:
    """Return what makes the current result anew, by the policy that it was made by."""
    from mld_pipelines.diagnosis import ALGORITHM_VERSION, Policy
    from mld_pipelines.evaluation import load_result

    if decision.reason == "stress":
        return EvaluationConfig(trigger="stress", again=decision.state.result_name)
    policy = Policy.from_json(load_result(lake, decision.state.result_name).row["policy"])
    return EvaluationConfig(trigger="feedback", policy=replace(policy, algorithm_version=ALGORITHM_VERSION).to_json())


def _ranged(kind: str, ranges: Iterable[tuple[date, date]], stamp: str) -> list[dg.RunRequest]:
    return [
        dg.RunRequest(run_key=f"{kind}:{first}:{last}:{stamp}", tags=range_tags(first, last)) for first, last in ranges
    ]


def _stamp(lake: Any, versions: Mapping[str, int]) -> str:
    counted = ",".join(f"{name.split('/')[-1]}=v{version}" for name, version in sorted(versions.items()))
    return f"{counted}:{_made(lake, [CATALOGUE[name] for name in sorted(versions)])}"


def _made(lake: Any, specs: Iterable[TableSpec]) -> str:
    """What changes when a lake is deleted and made anew: its versions repeat, and no run key may."""
    from mld_pipelines.lake import table_id

    return hashlib.sha256(",".join(str(table_id(lake, spec)) for spec in specs).encode()).hexdigest()[:8]


def _versions(lake: Any, specs: Iterable[TableSpec]) -> dict[str, int]:
    found = {spec.name: lake.version(spec) for spec in specs}
    return {name: version for name, version in found.items() if version is not None}


def _landed(rows: Mapping[str, pl.DataFrame], cursor: Cursor) -> list[dg.AssetMaterialization]:
    """Report what landed: external assets get their history and eager downstream assets their news."""
    return [
        dg.AssetMaterialization(
            asset_key(name),
            metadata={"new_rows": frame.height, "delta_version": cursor.versions[name]},
            tags={"dagster/data_version": f"delta:{cursor.versions[name]}"},
        )
        for name, frame in rows.items()
        if frame.height
    ]


def _reported(row: Mapping[str, Any], versions: Mapping[str, int]) -> list[dg.AssetMaterialization]:
    metadata = {
        "result_name": row["result_name"],
        "evaluation_id": row["evaluation_id"],
        "units": dg.MetadataValue.float(float(row["counts"])),
        "delta_version": versions[EVALUATION_RESULTS.name],
        "made_by": "a process outside Dagster",
    }
    return [
        dg.AssetMaterialization(asset_key(CATALOGUE[table]), partition=row["model_key"], metadata=metadata)
        for table in EVALUATION_TABLES
    ]


def _watch(
    context: dg.SensorEvaluationContext, lake: Any, cursor: Cursor, models: Iterable[str], now: datetime
) -> dict[str, str]:
    """Report models whose traced rows have waited for a receipt; return those still to be watched."""
    from mld_pipelines.evaluation import unfinished_streams

    since = {model: now.isoformat() for model in models} | dict(cursor.state.get("open_since", {}))
    due = [model for model, seen in since.items() if now - datetime.fromisoformat(seen) >= _UNFINISHED]
    for model in due:
        for stream in unfinished_streams(lake, model):
            context.log.warning(
                f"{stream.rows} traced rows of {model} ({stream.dataset_type}, stream {stream.stream_id}) have no "
                "receipt: call wait_for_save(), or settle the stream with `mld trace accept|discard`"
            )
    return {model: seen for model, seen in since.items() if model not in due}


#: Every sensor of the code location, running from the start.
SENSORS = [
    new_traces,
    stress_passes,
    evaluation_requests,
    evaluation_results,
    new_logs,
    reevaluate,
    rescore,
    run_failure,
]
