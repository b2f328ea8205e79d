"""Stress passes that the platform did not make, or could not: what a sensor reports and asks for again."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dagster as dg
import polars as pl

from assets.jobs import STRESS_JOB
from assets.stress import CANNOT_RUN, STRESS_PASSES, effects_of
from mld_pipelines.tables import LANDING_RECEIPTS, LANDING_STRESS, OPS_MODELS
from resources import LakeResource, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mld_pipelines.lake import Lake

__all__ = ["finished_passes", "mended_by", "prevented_passes", "report_passes"]

_MOST_EVENTS = 4
"""Passes reported by one tick: each is read and drawn, and a tick may take a minute."""

_MOST_RECORDS = 50
"""Materialisations of a partition among which a pass is looked for."""

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

_PROCESS = uuid4().hex
"""Another one in every code location that is started or loaded anew."""


def mended_by(lake: Lake) -> str:
    """Return what changes with everything that may let a pass run which could not: a start, or a registration.

    A start may bring another import path or other packages.
    """
    newest = lake.scan(OPS_MODELS).select(pl.col("registered_at").max()).collect().item()
    return hashlib.sha256(f"{_PROCESS}:{newest}".encode()).hexdigest()[:8]


def prevented_passes(instance: dg.DagsterInstance, lake: Lake) -> list[str]:
    """Return the models that the platform has traced and whose pass could not run when it was last tried."""
    traced = lake.scan(LANDING_RECEIPTS, purpose="trace").filter(pl.col("source").is_not_null())
    keys = traced.select(pl.col("model_key").unique().sort()).collect()["model_key"]
    return [key for key in keys if _last_state(instance, key) == CANNOT_RUN]


def _last_state(instance: dg.DagsterInstance, model_key: str) -> Any:
    for record in instance.fetch_observations(_of(model_key), limit=1).records:
        if (observation := record.asset_observation) is not None and "state" in observation.metadata:
            return observation.metadata["state"].value
    return None


def _of(model_key: str) -> dg.AssetRecordsFilter:
    return dg.AssetRecordsFilter(asset_key=STRESS_PASSES, asset_partitions=[model_key])


def finished_passes(lake: Lake) -> list[str]:
    """Return the streams of all finished passes."""
    receipts = lake.scan(LANDING_RECEIPTS, purpose="stress").select("stream_id").unique()
    return receipts.collect()["stream_id"].to_list()


def report_passes(
    instance: dg.DagsterInstance, lake: LakeResource, streams: Iterable[str]
) -> tuple[list[dg.AssetMaterialization], list[str]]:
    """Return the materialisations of passes that no run has shown, oldest first, and the streams still to look at.

    A pass whose model is being stressed by a run waits: the run may have written it and not yet said so.

    Args:
        instance: Where materialisations and runs are.
        lake: Where the passes are.
        streams: Streams of finished passes.
    """
    wanted = pl.col("stream_id").is_in(list(streams)) & (pl.col("state") != "discarded")
    receipts = lake.open().scan(LANDING_RECEIPTS, purpose="stress").filter(wanted).sort("completed_at").collect()
    events: list[dg.AssetMaterialization] = []
    later: list[str] = []
    for receipt in receipts.unique("stream_id", keep="last", maintain_order=True).iter_rows(named=True):
        if _is_shown(instance, receipt):
            continue
        if len(events) == _MOST_EVENTS or _is_running(instance, receipt["model_key"]):
            later.append(receipt["stream_id"])
        else:
            events.append(_materialization(lake, receipt))
    return events, later


def _is_shown(instance: dg.DagsterInstance, receipt: Mapping[str, Any]) -> bool:
    records = instance.fetch_materializations(_of(receipt["model_key"]), limit=_MOST_RECORDS).records
    shown = [one.asset_materialization.metadata for one in records if one.asset_materialization is not None]
    return any("stream_id" in one and one["stream_id"].value == receipt["stream_id"] for one in shown)


def _is_running(instance: dg.DagsterInstance, model_key: str) -> bool:
    wanted = dg.RunsFilter(statuses=_UNFINISHED, tags={"dagster/partition": model_key})
    return any(
        run.job_name == STRESS_JOB.name or STRESS_PASSES in (run.asset_selection or ())
        for run in instance.get_runs(filters=wanted)
    )


def _materialization(lake: LakeResource, receipt: Mapping[str, Any]) -> dg.AssetMaterialization:
    """Return what a run would have shown of a pass, but for its cost."""
    stream, dataset = receipt["stream_id"], receipt["dataset_type"]
    rows = lake.open().scan(LANDING_STRESS, stream_id=stream)
    told = rows.select(
        pl.col("family").unique(maintain_order=True).implode().alias("families"),
        pl.struct("kind", "severity").n_unique().alias("sets"),
        pl.col("input_id").n_unique().alias("inputs"),
        pl.col("task").first(),
        (pl.col("captured_at").max() - pl.col("captured_at").min()).dt.total_microseconds().alias("microseconds"),
    )
    found = told.collect().row(0, named=True)
    counts = {"sets": found["sets"], "inputs": found["inputs"], "rows": receipt["rows"], "missing": receipt["dropped"]}
    source = json.loads(receipt["source"] or "{}")
    version = {"stress_version": source["stress_version"]} if "stress_version" in source else {}
    return dg.AssetMaterialization(
        STRESS_PASSES,
        partition=receipt["model_key"],
        metadata={
            "families": ", ".join(found["families"]),
            "dataset_type": dataset,
            "fingerprint": receipt["fingerprint"],
            **version,
            "stream_id": stream,
            "summary": f"{counts['rows']} copies of {counts['inputs']} inputs of {dataset!r} in {counts['sets']} sets",
            "made_by": "a process outside Dagster",
            "dagster/uri": lake.uri(LANDING_STRESS),
            **(effects_of(lake, stream, task=found["task"], dataset_type=dataset) if found["task"] else {}),
            **numbers({**counts, "seconds": (found["microseconds"] or 0) / 1e6}),
        },
        tags={"dagster/data_version": stream},
    )
